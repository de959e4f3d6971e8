//! What a path of this namespace can name, and how names are written and read.
//!
//! A [`Subject`] is an object that exists, with the published copy of what it shows. Paths become
//! subjects through [`Host::resolve`], in any spelling clients use; subjects become paths through
//! [`Host::path`], in one spelling.

use crate::host::Host;
use crate::resource_types::{Bound, Naming, Pool, Resource, ResourceClass, ResourceType};
use crate::version::Version;
use cim::{KeyValue, Name, ObjectPath};
use machines::integrity::Verification;
use machines::model::{Device, DeviceKind, Job, Machine, Settings, Snapshot, State};
use machines::rehearsal::Rehearsal;
use machines::{DeviceId, JobId, MachineId, SnapshotId};
use std::sync::Arc;
use uuid::Uuid;

/// Where the memory of a configuration stands among its resources; fixed on every Hyper-V.
pub(crate) const MEMORY: &str = "4764334d-e001-4176-82ee-5594ec9b530e";
/// Where the processors stand.
pub(crate) const PROCESSORS: &str = "b637f346-6a0e-4dec-af52-bd70cb80a21d";
/// The device through which a guest is asked to shut down.
const HEARTBEAT: &str = "57164f39-9115-4e78-ab55-382f3bd5422d";
const KEY_VALUES: &str = "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6";
const SHUTDOWN: &str = "9f8233ac-be49-4c79-8ee3-e7e1985b2077";

/// The name of the management service.
pub(crate) const SERVICE_NAME: &str = "vmms";

pub(crate) const COMPUTER_SYSTEM: &str = "Msvm_ComputerSystem";
pub(crate) const SERVICE: &str = "Msvm_VirtualSystemManagementService";
pub(crate) const SERVICE_SETTINGS: &str = "Msvm_VirtualSystemManagementServiceSettingData";
pub(crate) const SETTINGS: &str = "Msvm_VirtualSystemSettingData";
pub(crate) const GLOBAL_SETTINGS: &str = "Msvm_VirtualSystemGlobalSettingData";
pub(crate) const JOB: &str = "Msvm_ConcreteJob";
pub(crate) const RESOURCE_POOL: &str = "Msvm_ResourcePool";
pub(crate) const PROCESSOR_POOL: &str = "Msvm_ProcessorPool";
pub(crate) const CAPABILITIES: &str = "Msvm_AllocationCapabilities";
/// V2: what can be done with a machine.
pub(crate) const SYSTEM_CAPABILITIES: &str = "Msvm_VirtualSystemCapabilities";
/// V2: what the management service can do.
pub(crate) const MANAGEMENT_CAPABILITIES: &str = "Msvm_VirtualSystemManagementCapabilities";
pub(crate) const BIOS: &str = "Msvm_BIOSElement";
pub(crate) const VIDEO_HEAD: &str = "Msvm_VideoHead";
/// V2's service for snapshots.
pub(crate) const SYSTEM_SNAPSHOT_SERVICE: &str = "Msvm_VirtualSystemSnapshotService";
pub(crate) const SYSTEM_SNAPSHOT_SERVICE_NAME: &str = "vssnapsvc";
pub(crate) const SNAPSHOT_STATISTICS: &str = "Rootvirt_SnapshotStatistics";
pub(crate) const JOB_STATISTICS: &str = "Rootvirt_JobStatistics";
pub(crate) const PROCESS: &str = "Rootvirt_Process";
pub(crate) const RESTORE_STATISTICS: &str = "Rootvirt_RestoreStatistics";
pub(crate) const SNAPSHOT_SERVICE: &str = "Rootvirt_SnapshotService";
pub(crate) const SNAPSHOT_FILE: &str = "Rootvirt_SnapshotFile";
pub(crate) const SNAPSHOT_REHEARSAL: &str = "Rootvirt_SnapshotRehearsal";

/// The name of the snapshot service.
pub(crate) const SNAPSHOT_SERVICE_NAME: &str = "snapshots";

/// A configuration: the active one of a machine, or a snapshot's.
#[derive(Clone, Debug)]
pub(crate) enum Configuration {
    Active(Arc<Machine>),
    Snapshot(Arc<Machine>, Arc<Snapshot>),
}

impl Configuration {
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        match self {
            Configuration::Active(machine) | Configuration::Snapshot(machine, _) => machine,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        match self {
            Configuration::Active(machine) => &machine.settings,
            Configuration::Snapshot(_, snapshot) => &snapshot.settings,
        }
    }

    /// `Microsoft:<GUID>`: of the machine for its active configuration, of the snapshot else.
    pub(crate) fn instance_id(&self) -> String {
        match self {
            Configuration::Active(machine) => format!("Microsoft:{}", machine.id),
            Configuration::Snapshot(_, snapshot) => format!("Microsoft:{}", snapshot.id),
        }
    }

    /// Every resource setting, in the order in which clients see them. In V2 a network port that
    /// leads somewhere has one more, for where it leads.
    pub(crate) fn parts(&self, version: Version) -> impl Iterator<Item = Part> + use<> {
        let devices = &self.settings().devices;
        let connections: Vec<Part> = match version {
            Version::V1 => Vec::new(),
            Version::V2 => devices
                .iter()
                .enumerate()
                .filter(|(_, device)| is_connected(device))
                .map(|(index, _)| Part::Connection(index))
                .collect(),
        };
        [Part::Memory, Part::Processor]
            .into_iter()
            .chain((0..devices.len()).map(Part::Device))
            .chain(connections)
    }

    /// The device at `index` of this configuration.
    pub(crate) fn device(&self, index: usize) -> Option<&Device> {
        self.settings().devices.get(index)
    }

    pub(crate) fn part_class(&self, version: Version, part: Part) -> ResourceClass {
        self.part_naming(version, part).class
    }

    pub(crate) fn part_naming(&self, version: Version, part: Part) -> &'static Naming {
        self.part_type(part).naming(version)
    }

    pub(crate) fn part_type(&self, part: Part) -> &'static ResourceType {
        match part {
            Part::Memory => ResourceType::of(Resource::Memory),
            Part::Processor => ResourceType::of(Resource::Processor),
            Part::Connection(_) => ResourceType::of(Resource::EthernetConnection),
            Part::Device(index) => ResourceType::of_device(
                self.device(index)
                    .map_or(DeviceKind::Keyboard, |device| device.kind),
            ),
        }
    }

    /// The part of a resource's `InstanceID` after the configuration's.
    pub(crate) fn part_id(&self, part: Part) -> String {
        match part {
            Part::Memory => MEMORY.to_owned(),
            Part::Processor => format!("{PROCESSORS}\\0"),
            Part::Device(index) => self
                .device(index)
                .map(|device| device.id.0.clone())
                .unwrap_or_default(),
            Part::Connection(index) => self
                .device(index)
                .map(|device| format!("{}\\C", device.id.0))
                .unwrap_or_default(),
        }
    }

    fn find_part(&self, version: Version, id: &str) -> Option<Part> {
        self.parts(version)
            .find(|part| self.part_id(*part).eq_ignore_ascii_case(id))
    }

    /// The place of the device called `id`.
    pub(crate) fn find_device(&self, id: &DeviceId) -> Option<Part> {
        self.settings()
            .devices
            .iter()
            .position(|device| device.id == *id)
            .map(Part::Device)
    }
}

/// A resource within a configuration; devices by their place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Memory,
    Processor,
    Device(usize),
    /// V2: where the network port at this place leads.
    Connection(usize),
}

/// Whether a device is a network port that leads somewhere.
fn is_connected(device: &Device) -> bool {
    device.kind == DeviceKind::EthernetPort && !device.connection.is_empty()
}

/// A device that a running machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    Memory,
    Processor(u32),
    Shutdown,
    Heartbeat,
    KeyValues,
    /// The screen of the display at this place in the active configuration.
    VideoHead(usize),
    /// By its place in the active configuration.
    Device(usize),
}

/// An object of the namespace.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Host,
    Service,
    ServiceSettings,
    /// V2: what takes, applies and removes snapshots.
    SystemSnapshotService,
    Machine(Arc<Machine>),
    Settings(Configuration),
    Global(Arc<Machine>),
    Resource(Configuration, Part),
    Template(&'static ResourceType, &'static Pool, Bound),
    Job(Arc<Job>),
    Pool(&'static ResourceType, &'static Pool),
    Capabilities(&'static ResourceType, &'static Pool),
    /// V2: the same for every machine.
    SystemCapabilities,
    /// V2.
    ManagementCapabilities,
    Device(Arc<Machine>, Logical),
    Bios(Arc<Machine>),
    SnapshotStatistics(Arc<Snapshot>),
    JobStatistics(Arc<Job>),
    /// The process of a machine that has one.
    Process(Arc<Machine>),
    /// How a machine was started from a saved state.
    RestoreStatistics(Arc<Machine>),
    /// What checks, verifies and rehearses snapshots.
    SnapshotService,
    /// A file of a snapshot, by its place in the last verification.
    SnapshotFile(Arc<Snapshot>, Arc<Verification>, usize),
    /// What the last rehearsal of a snapshot came to.
    SnapshotRehearsal(Arc<Snapshot>, Arc<Rehearsal>),
}

/// The class of the logical device that a kind of device is.
pub(crate) const fn device_class(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Keyboard => "Msvm_Keyboard",
        DeviceKind::Ps2Mouse => "Msvm_Ps2Mouse",
        DeviceKind::S3Display => "Msvm_S3DisplayController",
        DeviceKind::DisketteDrive => "Msvm_DisketteDrive",
        DeviceKind::DisketteController => "Msvm_DisketteController",
        DeviceKind::SerialController => "Msvm_SerialController",
        DeviceKind::SerialPort => "Msvm_SerialPort",
        DeviceKind::IdeController => "Msvm_IDEController",
        DeviceKind::ScsiController => "Msvm_SCSIProtocolController",
        DeviceKind::DiskDrive => "Msvm_DiskDrive",
        DeviceKind::DvdDrive => "Msvm_DVDDrive",
        DeviceKind::HardDiskImage | DeviceKind::IsoImage => "Msvm_LogicalDisk",
        DeviceKind::SyntheticMouse => "Msvm_SyntheticMouse",
        DeviceKind::SyntheticDisplay => "Msvm_SyntheticDisplayController",
        DeviceKind::EthernetPort => "Msvm_SyntheticEthernetPort",
    }
}

/// Every class of logical devices.
pub(crate) const DEVICE_CLASSES: [&str; 21] = [
    "Msvm_Memory",
    "Msvm_Processor",
    "Msvm_ShutdownComponent",
    "Msvm_HeartbeatComponent",
    "Msvm_KvpExchangeComponent",
    "Msvm_Keyboard",
    "Msvm_Ps2Mouse",
    "Msvm_S3DisplayController",
    "Msvm_DisketteDrive",
    "Msvm_DisketteController",
    "Msvm_SerialController",
    "Msvm_SerialPort",
    "Msvm_IDEController",
    "Msvm_SCSIProtocolController",
    "Msvm_DiskDrive",
    "Msvm_DVDDrive",
    "Msvm_LogicalDisk",
    "Msvm_SyntheticMouse",
    "Msvm_SyntheticDisplayController",
    "Msvm_VideoHead",
    "Msvm_SyntheticEthernetPort",
];

/// Whether the machine has devices that a guest sees.
pub(crate) fn has_devices(machine: &Machine) -> bool {
    !matches!(machine.state, State::Off | State::Saved)
}

/// The devices of a machine that runs; none of another.
pub(crate) fn logical_devices(machine: &Arc<Machine>) -> Vec<Logical> {
    if !has_devices(machine) {
        return Vec::new();
    }
    let mut found = vec![Logical::Memory];
    found.extend((0..machine.settings.processor.count).map(Logical::Processor));
    // A guest that is asked to shut down can be asked again: whether it has heard is not known.
    if matches!(machine.state, State::Running | State::Stopping) {
        found.extend([Logical::Shutdown, Logical::Heartbeat, Logical::KeyValues]);
    }
    found.extend((0..machine.settings.devices.len()).map(Logical::Device));
    // The guest has one display, the emulated one.
    let mut devices = machine.settings.devices.iter();
    let display = devices.position(|device| device.kind == DeviceKind::S3Display);
    found.extend(display.map(Logical::VideoHead));
    found
}

pub(crate) fn logical_class(machine: &Machine, logical: Logical) -> &'static str {
    match logical {
        Logical::Memory => "Msvm_Memory",
        Logical::Processor(_) => "Msvm_Processor",
        Logical::Shutdown => "Msvm_ShutdownComponent",
        Logical::Heartbeat => "Msvm_HeartbeatComponent",
        Logical::KeyValues => "Msvm_KvpExchangeComponent",
        Logical::VideoHead(_) => VIDEO_HEAD,
        Logical::Device(index) => machine
            .settings
            .devices
            .get(index)
            .map_or("Msvm_Keyboard", |device| device_class(device.kind)),
    }
}

pub(crate) fn logical_id(machine: &Machine, logical: Logical) -> String {
    let device = |index: usize| {
        let device = machine.settings.devices.get(index);
        device.map(|device| device.id.0.clone()).unwrap_or_default()
    };
    let own = match logical {
        Logical::Memory => MEMORY.to_owned(),
        Logical::Processor(number) => format!("{PROCESSORS}\\{number}"),
        Logical::Shutdown => SHUTDOWN.to_owned(),
        Logical::Heartbeat => HEARTBEAT.to_owned(),
        Logical::KeyValues => KEY_VALUES.to_owned(),
        Logical::VideoHead(index) => format!("{}\\0", device(index)),
        Logical::Device(index) => device(index),
    };
    format!("Microsoft:{}\\{own}", machine.id)
}

/// `Microsoft:Definition\<type>\<bound>`.
pub(crate) fn template_id(pool: &Pool, bound: Bound) -> String {
    format!("Microsoft:Definition\\{}\\{}", pool.guid, bound.name())
}

/// `InstanceID` of the capabilities of a pool.
pub(crate) fn capabilities_id(pool: &Pool) -> String {
    format!("Microsoft:{}\\Capabilities", pool.guid)
}

pub(crate) const SYSTEM_CAPABILITIES_ID: &str = "Microsoft:Virtual System\\Capabilities";
pub(crate) const MANAGEMENT_CAPABILITIES_ID: &str = "Microsoft:vmms\\Capabilities";

/// `InstanceID` of global settings.
pub(crate) fn global_id(machine: MachineId) -> String {
    format!("Microsoft:{machine}\\Global")
}

/// `InstanceID` of the service's settings.
pub(crate) fn service_settings_id(host: &str) -> String {
    format!("Microsoft:{host}")
}

impl Subject {
    pub(crate) fn class(&self, version: Version) -> &'static str {
        match self {
            Subject::Host | Subject::Machine(_) => COMPUTER_SYSTEM,
            Subject::Service => SERVICE,
            Subject::SystemSnapshotService => SYSTEM_SNAPSHOT_SERVICE,
            Subject::ServiceSettings => SERVICE_SETTINGS,
            Subject::Settings(_) => SETTINGS,
            Subject::Global(_) => GLOBAL_SETTINGS,
            Subject::Resource(of, part) => of.part_class(version, *part).name(),
            Subject::Template(row, ..) => row.naming(version).class.name(),
            Subject::Job(_) => JOB,
            Subject::Pool(row, _) => pool_class(row),
            Subject::Capabilities(..) => CAPABILITIES,
            Subject::SystemCapabilities => SYSTEM_CAPABILITIES,
            Subject::ManagementCapabilities => MANAGEMENT_CAPABILITIES,
            Subject::Device(machine, logical) => logical_class(machine, *logical),
            Subject::Bios(_) => BIOS,
            Subject::SnapshotStatistics(_) => SNAPSHOT_STATISTICS,
            Subject::JobStatistics(_) => JOB_STATISTICS,
            Subject::Process(_) => PROCESS,
            Subject::RestoreStatistics(_) => RESTORE_STATISTICS,
            Subject::SnapshotService => SNAPSHOT_SERVICE,
            Subject::SnapshotFile(..) => SNAPSHOT_FILE,
            Subject::SnapshotRehearsal(..) => SNAPSHOT_REHEARSAL,
        }
    }

    /// The path within the namespace.
    pub(crate) fn relative_path(&self, version: Version, host: &str) -> ObjectPath {
        let class = self.class(version);
        match self {
            Subject::Host => computer_system(host),
            Subject::Machine(machine) => computer_system(&machine.id.to_string()),
            Subject::Service | Subject::SystemSnapshotService | Subject::SnapshotService => {
                let name = match self {
                    Subject::Service => SERVICE_NAME,
                    Subject::SystemSnapshotService => SYSTEM_SNAPSHOT_SERVICE_NAME,
                    _ => SNAPSHOT_SERVICE_NAME,
                };
                ObjectPath::of_instance(
                    class,
                    [
                        ("SystemCreationClassName", COMPUTER_SYSTEM),
                        ("SystemName", host),
                        ("CreationClassName", class),
                        ("Name", name),
                    ],
                )
            }
            Subject::ServiceSettings => by_instance_id(class, service_settings_id(host)),
            Subject::Settings(of) => by_instance_id(class, of.instance_id()),
            Subject::Global(machine) => by_instance_id(class, global_id(machine.id)),
            Subject::Resource(of, part) => {
                let id = format!("{}\\{}", of.instance_id(), of.part_id(*part));
                by_instance_id(class, id)
            }
            Subject::Template(_, pool, bound) => by_instance_id(class, template_id(pool, *bound)),
            Subject::Job(job) | Subject::JobStatistics(job) => {
                by_instance_id(class, job.id.to_string())
            }
            Subject::SnapshotStatistics(snapshot) | Subject::SnapshotRehearsal(snapshot, _) => {
                by_instance_id(class, format!("Microsoft:{}", snapshot.id))
            }
            Subject::SnapshotFile(snapshot, _, index) => {
                by_instance_id(class, format!("Microsoft:{}\\{index}", snapshot.id))
            }
            Subject::Process(machine) | Subject::RestoreStatistics(machine) => {
                ObjectPath::of_instance(class, [("SystemName", machine.id.to_string())])
            }
            Subject::Pool(_, pool) => by_instance_id(class, pool.id.to_owned()),
            Subject::Capabilities(_, pool) => by_instance_id(class, capabilities_id(pool)),
            Subject::SystemCapabilities => by_instance_id(class, SYSTEM_CAPABILITIES_ID.to_owned()),
            Subject::ManagementCapabilities => {
                by_instance_id(class, MANAGEMENT_CAPABILITIES_ID.to_owned())
            }
            Subject::Device(machine, logical) => ObjectPath::of_instance(
                class,
                [
                    ("SystemCreationClassName", COMPUTER_SYSTEM.to_owned()),
                    ("SystemName", machine.id.to_string()),
                    ("CreationClassName", class.to_owned()),
                    ("DeviceID", logical_id(machine, *logical)),
                ],
            ),
            Subject::Bios(machine) => {
                let text = |text: &str| KeyValue::String(text.to_owned());
                ObjectPath::of_instance(
                    class,
                    [
                        ("Name", text(BIOS_NAME)),
                        ("Version", text(BIOS_VERSION)),
                        (
                            "SoftwareElementState",
                            KeyValue::Unsigned(BIOS_STATE.into()),
                        ),
                        (
                            "SoftwareElementID",
                            text(&format!("Microsoft:{}", machine.id)),
                        ),
                        ("TargetOperatingSystem", KeyValue::Unsigned(0)),
                    ],
                )
            }
        }
    }
}

pub(crate) const BIOS_NAME: &str = "BIOS";
pub(crate) const BIOS_VERSION: &str = "8.02.00";
/// Executable.
pub(crate) const BIOS_STATE: u16 = 2;

pub(crate) fn pool_class(row: &ResourceType) -> &'static str {
    match row.resource {
        Resource::Processor => PROCESSOR_POOL,
        _ => RESOURCE_POOL,
    }
}

fn computer_system(name: &str) -> ObjectPath {
    ObjectPath::of_instance(
        COMPUTER_SYSTEM,
        [("CreationClassName", COMPUTER_SYSTEM), ("Name", name)],
    )
}

fn by_instance_id(class: &str, id: String) -> ObjectPath {
    ObjectPath::of_instance(class, [("InstanceID", id)])
}

/// An identity as it stands in `InstanceID`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InstanceId<'a> {
    /// `Microsoft:<GUID>`.
    Configuration(Uuid),
    /// `Microsoft:<GUID>\<rest>`.
    Within(Uuid, &'a str),
    /// `Microsoft:Definition\<GUID>\<bound>`.
    Template(&'a str, Bound),
}

/// `text` with one backslash for each run of slashes and backslashes: clients double them, halve
/// them and turn them round.
pub(crate) fn single_backslashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | '\\' if out.ends_with('\\') => {}
            '/' | '\\' => out.push('\\'),
            c => out.push(c),
        }
    }
    out
}

impl<'a> InstanceId<'a> {
    /// Reads an identity with single backslashes.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        const PREFIX: &str = "Microsoft:";
        let head = text.get(..PREFIX.len())?;
        if !head.eq_ignore_ascii_case(PREFIX) {
            return None;
        }
        let rest = text.get(PREFIX.len()..)?;
        let Some((first, rest)) = rest.split_once('\\') else {
            return Some(InstanceId::Configuration(Uuid::parse_str(rest).ok()?));
        };
        if first.eq_ignore_ascii_case("Definition") {
            let (guid, bound) = rest.split_once('\\')?;
            let bound = Bound::ALL
                .into_iter()
                .find(|known| known.name().eq_ignore_ascii_case(bound))?;
            return Some(InstanceId::Template(guid, bound));
        }
        Some(InstanceId::Within(Uuid::parse_str(first).ok()?, rest))
    }
}

impl Host {
    /// The object that `path` names, if it exists. Keys may be unnamed or incomplete as long as
    /// what is there names one object.
    pub(crate) fn resolve(&self, path: &ObjectPath) -> Option<Subject> {
        if path
            .namespace
            .as_ref()
            .is_some_and(|n| *n != self.namespace)
        {
            return None;
        }
        let class = path.class.as_str();
        let subject = if path.class.is(COMPUTER_SYSTEM) {
            self.resolve_system(path.key_str("Name")?)
        } else if path.class.is(SERVICE) {
            path.key_str("Name")?
                .eq_ignore_ascii_case(SERVICE_NAME)
                .then_some(Subject::Service)
        } else if path.class.is(SYSTEM_SNAPSHOT_SERVICE) {
            path.key_str("Name")?
                .eq_ignore_ascii_case(SYSTEM_SNAPSHOT_SERVICE_NAME)
                .then_some(Subject::SystemSnapshotService)
        } else if path.class.is(SNAPSHOT_SERVICE) {
            path.key_str("Name")?
                .eq_ignore_ascii_case(SNAPSHOT_SERVICE_NAME)
                .then_some(Subject::SnapshotService)
        } else if path.class.is(JOB) || path.class.is(JOB_STATISTICS) {
            let id: JobId = path.key_str("InstanceID")?.parse().ok()?;
            let job = self.machines.job(id)?;
            Some(if path.class.is(JOB) {
                Subject::Job(job)
            } else {
                Subject::JobStatistics(job)
            })
        } else if path.class.is(PROCESS) {
            let id: MachineId = path.key_str("SystemName")?.parse().ok()?;
            let machine = self.machines.machine(id)?;
            machine
                .process
                .is_some()
                .then_some(Subject::Process(machine))
        } else if path.class.is(RESTORE_STATISTICS) {
            let id: MachineId = path.key_str("SystemName")?.parse().ok()?;
            let machine = self.machines.machine(id)?;
            let restored = machine.restored.is_some();
            restored.then_some(Subject::RestoreStatistics(machine))
        } else if path.class.is(BIOS) {
            let id = single_backslashes(path.key_str("SoftwareElementID")?);
            match InstanceId::parse(&id)? {
                InstanceId::Configuration(guid) => {
                    self.machines.machine(MachineId(guid)).map(Subject::Bios)
                }
                _ => None,
            }
        } else if DEVICE_CLASSES.iter().any(|known| path.class.is(known)) {
            self.resolve_device(class, path.key_str("DeviceID")?)
        } else {
            self.resolve_instance_id(class, path.key_str("InstanceID")?)
        };
        subject.filter(|found| {
            path.class.is(found.class(self.version)) && self.keys_agree(path, found)
        })
    }

    /// Whether the keys that `path` gives are those of `found`.
    fn keys_agree(&self, path: &ObjectPath, found: &Subject) -> bool {
        path.keys_cover(&found.relative_path(self.version, &self.name))
            || matches!(path.keys, cim::Keys::Unnamed(_))
    }

    fn resolve_system(&self, name: &str) -> Option<Subject> {
        if name.eq_ignore_ascii_case(&self.name) {
            return Some(Subject::Host);
        }
        let id: MachineId = name.parse().ok()?;
        self.machines.machine(id).map(Subject::Machine)
    }

    fn resolve_device(&self, class: &str, id: &str) -> Option<Subject> {
        let id = single_backslashes(id);
        let InstanceId::Within(guid, _) = InstanceId::parse(&id)? else {
            return None;
        };
        let machine = self.machines.machine(MachineId(guid))?;
        let logical = logical_devices(&machine).into_iter().find(|logical| {
            logical_class(&machine, *logical).eq_ignore_ascii_case(class)
                && logical_id(&machine, *logical).eq_ignore_ascii_case(&id)
        })?;
        Some(Subject::Device(machine, logical))
    }

    /// The object of `class` that `id` names.
    pub(crate) fn resolve_instance_id(&self, class: &str, id: &str) -> Option<Subject> {
        let id = single_backslashes(id);
        let class = Name::new(class);
        if class.is(SERVICE_SETTINGS) {
            return id
                .eq_ignore_ascii_case(&service_settings_id(&self.name))
                .then_some(Subject::ServiceSettings);
        }
        if class.is(RESOURCE_POOL) || class.is(PROCESSOR_POOL) {
            return ResourceType::pooled(self.version)
                .find(|(row, pool)| class.is(pool_class(row)) && pool.id.eq_ignore_ascii_case(&id))
                .map(|(row, pool)| Subject::Pool(row, pool));
        }
        if class.is(SYSTEM_CAPABILITIES) {
            return id
                .eq_ignore_ascii_case(SYSTEM_CAPABILITIES_ID)
                .then_some(Subject::SystemCapabilities);
        }
        if class.is(MANAGEMENT_CAPABILITIES) {
            return id
                .eq_ignore_ascii_case(MANAGEMENT_CAPABILITIES_ID)
                .then_some(Subject::ManagementCapabilities);
        }
        if class.is(CAPABILITIES) {
            return ResourceType::pooled(self.version)
                .find(|(_, pool)| capabilities_id(pool).eq_ignore_ascii_case(&id))
                .map(|(row, pool)| Subject::Capabilities(row, pool));
        }
        let found = match InstanceId::parse(&id)? {
            InstanceId::Configuration(guid) if class.is(SNAPSHOT_STATISTICS) => {
                Subject::SnapshotStatistics(self.machines.snapshot(SnapshotId(guid))?.1)
            }
            InstanceId::Configuration(guid) if class.is(SNAPSHOT_REHEARSAL) => {
                let (_, snapshot) = self.machines.snapshot(SnapshotId(guid))?;
                let seen = self.machines.rehearsal(snapshot.id)?;
                Subject::SnapshotRehearsal(snapshot, seen)
            }
            InstanceId::Within(guid, index) if class.is(SNAPSHOT_FILE) => {
                let (_, snapshot) = self.machines.snapshot(SnapshotId(guid))?;
                let report = self.machines.verification(snapshot.id)?;
                let index = index.parse().ok().filter(|i| *i < report.files.len())?;
                Subject::SnapshotFile(snapshot, report, index)
            }
            InstanceId::Configuration(guid) => Subject::Settings(self.configuration(guid)?),
            InstanceId::Within(guid, rest) if class.is(GLOBAL_SETTINGS) => {
                if !rest.eq_ignore_ascii_case("Global") {
                    return None;
                }
                Subject::Global(self.machines.machine(MachineId(guid))?)
            }
            InstanceId::Within(guid, rest) => {
                let of = self.configuration(guid)?;
                let part = of.find_part(self.version, rest)?;
                Subject::Resource(of, part)
            }
            InstanceId::Template(guid, bound) => {
                let (row, pool) = ResourceType::pooled(self.version)
                    .find(|(_, pool)| pool.guid.eq_ignore_ascii_case(guid))?;
                Subject::Template(row, pool, bound)
            }
        };
        class.is(found.class(self.version)).then_some(found)
    }

    /// The configuration with this GUID: a machine's own, or a snapshot's.
    pub(crate) fn configuration(&self, guid: Uuid) -> Option<Configuration> {
        if let Some(machine) = self.machines.machine(MachineId(guid)) {
            return Some(Configuration::Active(machine));
        }
        let (machine, snapshot) = self.machines.snapshot(SnapshotId(guid))?;
        Some(Configuration::Snapshot(machine, snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "3755DA23-3B95-4B27-BE7B-B6C617FE1F04";

    #[test]
    fn instance_ids_come_apart_in_any_spelling() {
        let guid = Uuid::parse_str(GUID).expect("a GUID");
        let parse = |text: &str| {
            let text = single_backslashes(text);
            format!("{:?}", InstanceId::parse(&text))
        };
        let expected = format!("{:?}", Some(InstanceId::Within(guid, "A\\0\\D")));
        for spelling in [
            format!("Microsoft:{GUID}\\A\\0\\D"),
            format!("microsoft:{}\\\\A\\\\0\\\\D", GUID.to_lowercase()),
            format!("Microsoft:{GUID}//A//0//D"),
            format!("MICROSOFT:{GUID}/A/0/D"),
        ] {
            assert_eq!(parse(&spelling), expected, "{spelling}");
        }
        assert_eq!(
            parse(&format!("Microsoft:{GUID}")),
            format!("{:?}", Some(InstanceId::Configuration(guid)))
        );
        assert_eq!(
            InstanceId::parse("Microsoft:Definition\\X\\default"),
            Some(InstanceId::Template("X", Bound::Default))
        );
    }

    #[test]
    fn what_is_not_an_instance_id_is_refused() {
        for text in [
            "",
            "Microsoft",
            "Microsoft:",
            "Microsoft:x",
            "Other:1",
            "Microsoft:Definition\\X",
            "Microsöft:1",
        ] {
            assert_eq!(InstanceId::parse(text), None, "{text}");
        }
    }
}
