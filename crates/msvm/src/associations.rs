//! Every association, as one table of rows: a class, its two roles, and a function each way.
//!
//! The order of the rows matters: a client that asks for all associators of a machine takes the
//! first configuration for the active one, so the row that leads to it stands first. Nothing else
//! may lead to the active configuration, for each link shows its far end once more.

use crate::host::Host;
use crate::resource_types::{Bound, ResourceClass, ResourceType};
use crate::subject::{
    self, BIOS, CAPABILITIES, COMPUTER_SYSTEM, Configuration, DEVICE_CLASSES, GLOBAL_SETTINGS, JOB,
    Logical, MANAGEMENT_CAPABILITIES, PROCESSOR_POOL, Part, RESOURCE_POOL, SERVICE,
    SERVICE_SETTINGS, SETTINGS, SNAPSHOT_SERVICE, SYSTEM_CAPABILITIES, SYSTEM_SNAPSHOT_SERVICE,
    Subject, VIDEO_HEAD,
};
use crate::version::Version;
use cim::{CimType, Name, ObjectPath, Property, Type};
use cim_broker::Association;
use machines::model::{DeviceKind, JobKind, Machine};
use std::sync::Arc;

type Links = fn(&Host, &Subject) -> Vec<Subject>;
type Facts = fn(&Host, &ObjectPath, &ObjectPath) -> Vec<Property>;
/// The same with the host in it.
type FactsOfLink = Box<dyn Fn(&ObjectPath, &ObjectPath) -> Vec<Property> + Send + Sync>;

/// One association.
pub(crate) struct Row {
    pub(crate) class: &'static str,
    roles: (&'static str, &'static str),
    pub(crate) first: Vec<&'static str>,
    second: Vec<&'static str>,
    pub(crate) forward: Links,
    backward: Links,
    /// Properties besides the references.
    facts: Option<Facts>,
}

/// The table, ready for the broker.
pub(crate) fn associations(host: &Arc<Host>) -> Vec<Association> {
    rows(host.version)
        .into_iter()
        .map(|row| row.bind(host))
        .collect()
}

impl Row {
    fn bind(self, host: &Arc<Host>) -> Association {
        let names = |classes: Vec<&str>| classes.into_iter().map(Name::new).collect();
        let traverse = |links: Links| -> cim_broker::provider::Traverse {
            let host = host.clone();
            Box::new(move |_, from| {
                let found = host.resolve(from).map(|subject| links(&host, &subject));
                let found = found.unwrap_or_default();
                Ok(found.iter().map(|subject| host.path(subject)).collect())
            })
        };
        let host_of_facts = host.clone();
        Association {
            class: Name::new(self.class),
            roles: (Name::new(self.roles.0), Name::new(self.roles.1)),
            end_classes: (names(self.first), names(self.second)),
            forward: traverse(self.forward),
            backward: traverse(self.backward),
            properties: self.facts.map(|facts| -> FactsOfLink {
                Box::new(move |first, second| facts(&host_of_facts, first, second))
            }),
        }
    }
}

fn resource_classes(version: Version) -> Vec<&'static str> {
    let classes = ResourceClass::all(version).iter();
    classes.map(|class| class.name()).collect()
}

/// The rows between objects of one machine: from a copy of the machine alone, forward finds all of
/// their links.
pub(crate) fn machine_rows(version: Version) -> Vec<Row> {
    let mut rows = settings_rows(version);
    rows.extend(device_rows());
    rows
}

fn rows(version: Version) -> Vec<Row> {
    let mut rows = settings_rows(version);
    rows.extend(system_rows(version));
    rows.extend(job_rows());
    rows.extend(pool_rows(version));
    rows.extend(device_rows());
    rows
}

fn settings_rows(version: Version) -> Vec<Row> {
    let mut defined = vec![COMPUTER_SYSTEM];
    defined.extend(DEVICE_CLASSES);
    let mut defining = vec![SETTINGS];
    defining.extend(resource_classes(version));
    let mut rows = vec![Row {
        class: "Msvm_SettingsDefineState",
        roles: MANAGED,
        first: defined,
        second: defining,
        forward: settings_of_state,
        backward: state_of_settings,
        facts: None,
    }];
    rows.extend(match version {
        Version::V1 => snapshot_rows_v1(),
        Version::V2 => snapshot_rows_v2(),
    });
    rows.extend([
        Row {
            class: "Msvm_ParentChildSettingData",
            roles: ("Antecedent", "Dependent"),
            first: vec![SETTINGS],
            second: vec![SETTINGS],
            forward: |_, from| match from {
                Subject::Settings(of) => of.children().into_iter().map(Subject::Settings).collect(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Settings(of) => of.parent().map(Subject::Settings).into_iter().collect(),
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_VirtualSystemSettingDataComponent",
            roles: ("GroupComponent", "PartComponent"),
            first: vec![SETTINGS],
            second: resource_classes(version),
            forward: |host, from| match from {
                Subject::Settings(of) => of
                    .parts(host.version)
                    .map(|part| Subject::Resource(of.clone(), part))
                    .collect(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Resource(of, _) => vec![Subject::Settings(of.clone())],
                _ => Vec::new(),
            },
            facts: None,
        },
    ]);
    rows
}

/// The roles of settings and what they are of.
const MANAGED: (&str, &str) = ("ManagedElement", "SettingData");

/// How a machine leads to its snapshots: in V1 they are settings of the machine among others.
fn snapshot_rows_v1() -> Vec<Row> {
    vec![
        Row {
            class: "Msvm_ElementSettingData",
            roles: MANAGED,
            first: vec![COMPUTER_SYSTEM, SERVICE],
            second: vec![SETTINGS, GLOBAL_SETTINGS, SERVICE_SETTINGS],
            forward: element_settings,
            backward: element_of_settings,
            facts: Some(element_setting_facts),
        },
        Row {
            class: "Msvm_PreviousSettingData",
            roles: MANAGED,
            first: vec![COMPUTER_SYSTEM],
            second: vec![SETTINGS],
            forward: |host, from| pointed_at(host, from, |machine| machine.parent),
            backward: |host, from| pointing_at(host, from, |machine| machine.parent),
            facts: Some(element_setting_facts),
        },
        Row {
            class: "Msvm_LastAppliedSettingData",
            roles: MANAGED,
            first: vec![COMPUTER_SYSTEM],
            second: vec![SETTINGS],
            forward: |host, from| pointed_at(host, from, |machine| machine.last_applied),
            backward: |host, from| pointing_at(host, from, |machine| machine.last_applied),
            facts: Some(element_setting_facts),
        },
    ]
}

/// In V2 they have associations of their own.
fn snapshot_rows_v2() -> Vec<Row> {
    vec![
        Row {
            class: "Msvm_SnapshotOfVirtualSystem",
            roles: ("Antecedent", "Dependent"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![SETTINGS],
            forward: |_, from| match from {
                Subject::Machine(machine) => snapshots_of(machine).collect(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Settings(Configuration::Snapshot(machine, _)) => {
                    vec![Subject::Machine(machine.clone())]
                }
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_MostCurrentSnapshotInBranch",
            roles: ("Antecedent", "Dependent"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![SETTINGS],
            forward: |host, from| pointed_at(host, from, |machine| machine.parent),
            backward: |host, from| pointing_at(host, from, |machine| machine.parent),
            facts: None,
        },
        Row {
            // The other way round than the other two.
            class: "Msvm_LastAppliedSnapshot",
            roles: ("Antecedent", "Dependent"),
            first: vec![SETTINGS],
            second: vec![COMPUTER_SYSTEM],
            forward: |host, from| pointing_at(host, from, |machine| machine.last_applied),
            backward: |host, from| pointed_at(host, from, |machine| machine.last_applied),
            facts: None,
        },
        Row {
            class: "Msvm_ElementSettingData",
            roles: MANAGED,
            first: vec![SERVICE],
            second: vec![SERVICE_SETTINGS],
            forward: element_settings,
            backward: element_of_settings,
            facts: Some(element_setting_facts),
        },
    ]
}

fn system_rows(version: Version) -> Vec<Row> {
    let mut services = vec![SERVICE];
    if version == Version::V2 {
        services.push(SYSTEM_SNAPSHOT_SERVICE);
    }
    vec![
        Row {
            class: "Msvm_HostedDependency",
            roles: ("Antecedent", "Dependent"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![COMPUTER_SYSTEM],
            forward: |host, from| match from {
                Subject::Host => host
                    .all_machines()
                    .into_iter()
                    .map(Subject::Machine)
                    .collect(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Machine(_) => vec![Subject::Host],
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_HostedService",
            roles: ("Antecedent", "Dependent"),
            first: vec![COMPUTER_SYSTEM],
            second: services,
            forward: |host, from| match (host.version, from) {
                (Version::V1, Subject::Host) => vec![Subject::Service],
                (Version::V2, Subject::Host) => {
                    vec![Subject::Service, Subject::SystemSnapshotService]
                }
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Service | Subject::SystemSnapshotService => vec![Subject::Host],
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Rootvirt_HostedService",
            roles: ("Antecedent", "Dependent"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![SNAPSHOT_SERVICE],
            forward: |_, from| match from {
                Subject::Host => vec![Subject::SnapshotService],
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::SnapshotService => vec![Subject::Host],
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_ServiceAffectsElement",
            roles: ("AffectedElement", "AffectingElement"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![SERVICE],
            forward: |_, from| match from {
                Subject::Machine(_) => vec![Subject::Service],
                _ => Vec::new(),
            },
            backward: |host, from| match from {
                Subject::Service => host
                    .all_machines()
                    .into_iter()
                    .map(Subject::Machine)
                    .collect(),
                _ => Vec::new(),
            },
            // 5: the service makes what it affects.
            facts: Some(|_, _, _| vec![uint16s("ElementEffects", &[5])]),
        },
        Row {
            class: "Msvm_SystemBIOS",
            roles: ("GroupComponent", "PartComponent"),
            first: vec![COMPUTER_SYSTEM],
            second: vec![BIOS],
            forward: |_, from| match from {
                Subject::Machine(machine) => vec![Subject::Bios(machine.clone())],
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Bios(machine) => vec![Subject::Machine(machine.clone())],
                _ => Vec::new(),
            },
            facts: None,
        },
    ]
}

fn job_rows() -> Vec<Row> {
    vec![Row {
        class: "Msvm_AffectedJobElement",
        roles: ("AffectedElement", "AffectingElement"),
        first: vec![COMPUTER_SYSTEM, SETTINGS],
        second: vec![JOB],
        forward: jobs_of_element,
        backward: elements_of_job,
        facts: Some(|_, element, _| {
            // Exclusive use of the machine; the snapshot is created.
            let effect = if element.class.is(SETTINGS) { 5 } else { 2 };
            vec![uint16s("ElementEffects", &[effect])]
        }),
    }]
}

fn pool_rows(version: Version) -> Vec<Row> {
    let pools = || vec![RESOURCE_POOL, PROCESSOR_POOL];
    let (mut able, mut capabilities) = (pools(), vec![CAPABILITIES]);
    if version == Version::V2 {
        able.extend([COMPUTER_SYSTEM, SERVICE]);
        capabilities.extend([SYSTEM_CAPABILITIES, MANAGEMENT_CAPABILITIES]);
    }
    vec![
        Row {
            class: "Msvm_ElementCapabilities",
            roles: ("ManagedElement", "Capabilities"),
            first: able,
            second: capabilities,
            forward: |host, from| match (host.version, from) {
                (_, Subject::Pool(row, pool)) => vec![Subject::Capabilities(row, pool)],
                (Version::V2, Subject::Machine(_)) => vec![Subject::SystemCapabilities],
                (Version::V2, Subject::Service) => vec![Subject::ManagementCapabilities],
                _ => Vec::new(),
            },
            backward: |host, from| match from {
                Subject::Capabilities(row, pool) => vec![Subject::Pool(row, pool)],
                Subject::SystemCapabilities => {
                    let machines = host.all_machines().into_iter();
                    machines.map(Subject::Machine).collect()
                }
                Subject::ManagementCapabilities => vec![Subject::Service],
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_SettingsDefineCapabilities",
            roles: ("GroupComponent", "PartComponent"),
            first: vec![CAPABILITIES],
            second: resource_classes(version),
            forward: |_, from| match from {
                Subject::Capabilities(row, pool) => Bound::ALL
                    .map(|bound| Subject::Template(row, pool, bound))
                    .to_vec(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Template(row, pool, _) => vec![Subject::Capabilities(row, pool)],
                _ => Vec::new(),
            },
            facts: Some(template_facts),
        },
        Row {
            class: "Msvm_ResourceAllocationFromPool",
            roles: ("Antecedent", "Dependent"),
            first: pools(),
            second: resource_classes(version),
            forward: resources_from_pool,
            backward: |_, from| match from {
                Subject::Resource(of @ Configuration::Active(_), part) => {
                    pool_of(of.part_type(*part))
                }
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_ElementAllocatedFromPool",
            roles: ("Antecedent", "Dependent"),
            first: pools(),
            second: DEVICE_CLASSES.to_vec(),
            forward: devices_from_pool,
            backward: |_, from| match from {
                Subject::Device(machine, logical) => part_of(machine, *logical)
                    .map_or_else(Vec::new, |(of, part)| pool_of(of.part_type(part))),
                _ => Vec::new(),
            },
            facts: None,
        },
    ]
}

fn device_rows() -> Vec<Row> {
    vec![
        Row {
            class: "Msvm_SystemDevice",
            roles: ("GroupComponent", "PartComponent"),
            first: vec![COMPUTER_SYSTEM],
            second: DEVICE_CLASSES.to_vec(),
            forward: |_, from| match from {
                Subject::Machine(machine) => subject::logical_devices(machine)
                    .into_iter()
                    .map(|logical| Subject::Device(machine.clone(), logical))
                    .collect(),
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Device(machine, _) => vec![Subject::Machine(machine.clone())],
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_ControlledBy",
            roles: ("Antecedent", "Dependent"),
            first: vec!["Msvm_IDEController", "Msvm_DisketteController"],
            second: vec!["Msvm_DiskDrive", "Msvm_DVDDrive", "Msvm_DisketteDrive"],
            forward: devices_below,
            backward: |host, from| {
                device_above(
                    host,
                    from,
                    &[DeviceKind::IdeController, DeviceKind::DisketteController],
                )
            },
            facts: None,
        },
        Row {
            class: "Msvm_ProtocolControllerForUnit",
            roles: ("Antecedent", "Dependent"),
            first: vec!["Msvm_SCSIProtocolController"],
            second: vec!["Msvm_DiskDrive", "Msvm_DVDDrive"],
            forward: devices_below,
            backward: |host, from| device_above(host, from, &[DeviceKind::ScsiController]),
            facts: None,
        },
        Row {
            class: "Msvm_MediaPresent",
            roles: ("Antecedent", "Dependent"),
            first: vec!["Msvm_DiskDrive", "Msvm_DVDDrive"],
            second: vec!["Msvm_LogicalDisk"],
            forward: devices_below,
            backward: |host, from| {
                device_above(host, from, &[DeviceKind::DiskDrive, DeviceKind::DvdDrive])
            },
            facts: None,
        },
        Row {
            class: "Msvm_VideoHeadOnController",
            roles: ("Antecedent", "Dependent"),
            first: vec!["Msvm_S3DisplayController"],
            second: vec![VIDEO_HEAD],
            forward: |_, from| match from {
                Subject::Device(machine, Logical::Device(display)) => {
                    let heads = subject::logical_devices(machine).into_iter();
                    heads
                        .filter(|head| *head == Logical::VideoHead(*display))
                        .map(|head| Subject::Device(machine.clone(), head))
                        .collect()
                }
                _ => Vec::new(),
            },
            backward: |_, from| match from {
                Subject::Device(machine, Logical::VideoHead(display)) => {
                    vec![Subject::Device(machine.clone(), Logical::Device(*display))]
                }
                _ => Vec::new(),
            },
            facts: None,
        },
        Row {
            class: "Msvm_SerialPortOnSerialController",
            roles: ("Antecedent", "Dependent"),
            first: vec!["Msvm_SerialController"],
            second: vec!["Msvm_SerialPort"],
            forward: devices_below,
            backward: |host, from| device_above(host, from, &[DeviceKind::SerialController]),
            facts: None,
        },
    ]
}

fn uint16(name: &str, number: u16) -> Property {
    Property {
        name: Name::new(name),
        ty: Type::scalar(CimType::Uint16),
        value: number.into(),
        origin: None,
    }
}

fn uint16s(name: &str, numbers: &[u16]) -> Property {
    Property {
        name: Name::new(name),
        ty: Type::array(CimType::Uint16),
        value: numbers.into(),
        origin: None,
    }
}

/// 0, "unknown", for all five: Hyper-V's classes document nothing else.
fn element_setting_facts(host: &Host, _: &ObjectPath, _: &ObjectPath) -> Vec<Property> {
    let mut names = vec!["IsDefault", "IsCurrent", "IsNext"];
    if host.version == Version::V1 {
        names.extend(["IsMaximum", "IsMinimum"]);
    }
    names.into_iter().map(|name| uint16(name, 0)).collect()
}

fn template_facts(host: &Host, _: &ObjectPath, template: &ObjectPath) -> Vec<Property> {
    match host.resolve(template) {
        Some(Subject::Template(_, _, bound)) => {
            let (role, range) = bound.role_and_range();
            vec![
                uint16("PropertyPolicy", 0),
                uint16("ValueRole", role),
                uint16("ValueRange", range),
            ]
        }
        _ => Vec::new(),
    }
}

/// A machine's active configuration; a running device's setting in it.
fn settings_of_state(_: &Host, from: &Subject) -> Vec<Subject> {
    match from {
        Subject::Machine(machine) => {
            vec![Subject::Settings(Configuration::Active(machine.clone()))]
        }
        Subject::Device(machine, logical) => part_of(machine, *logical)
            .map(|(of, part)| Subject::Resource(of, part))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

fn state_of_settings(_: &Host, from: &Subject) -> Vec<Subject> {
    match from {
        Subject::Settings(Configuration::Active(machine)) => {
            vec![Subject::Machine(machine.clone())]
        }
        Subject::Resource(Configuration::Active(machine), part) => devices_of(machine, *part)
            .into_iter()
            .map(|logical| Subject::Device(machine.clone(), logical))
            .collect(),
        _ => Vec::new(),
    }
}

/// The resource setting that a device is made from. What the guest's agent does for has none.
fn part_of(machine: &Arc<Machine>, logical: Logical) -> Option<(Configuration, Part)> {
    let part = match logical {
        Logical::Memory => Part::Memory,
        Logical::Processor(_) => Part::Processor,
        Logical::Device(index) => Part::Device(index),
        Logical::Shutdown | Logical::Heartbeat | Logical::KeyValues | Logical::VideoHead(_) => {
            return None;
        }
    };
    Some((Configuration::Active(machine.clone()), part))
}

fn devices_of(machine: &Arc<Machine>, part: Part) -> Vec<Logical> {
    subject::logical_devices(machine)
        .into_iter()
        .filter(|logical| {
            part_of(machine, *logical).is_some_and(|(_, made_from)| made_from == part)
        })
        .collect()
}

fn snapshots_of(machine: &Arc<Machine>) -> impl Iterator<Item = Subject> {
    machine.snapshots.iter().map(|snapshot| {
        Subject::Settings(Configuration::Snapshot(machine.clone(), snapshot.clone()))
    })
}

fn element_settings(_: &Host, from: &Subject) -> Vec<Subject> {
    match from {
        Subject::Machine(machine) => snapshots_of(machine)
            .chain([Subject::Global(machine.clone())])
            .collect(),
        Subject::Service => vec![Subject::ServiceSettings],
        _ => Vec::new(),
    }
}

fn element_of_settings(_: &Host, from: &Subject) -> Vec<Subject> {
    match from {
        Subject::Settings(Configuration::Snapshot(machine, _)) | Subject::Global(machine) => {
            vec![Subject::Machine(machine.clone())]
        }
        Subject::ServiceSettings => vec![Subject::Service],
        _ => Vec::new(),
    }
}

type Pointer = fn(&Machine) -> Option<machines::SnapshotId>;

fn pointed_at(host: &Host, from: &Subject, pointer: Pointer) -> Vec<Subject> {
    let Subject::Machine(machine) = from else {
        return Vec::new();
    };
    pointer(machine)
        .and_then(|id| host.snapshot_of(machine, id))
        .map(Subject::Settings)
        .into_iter()
        .collect()
}

fn pointing_at(_: &Host, from: &Subject, pointer: Pointer) -> Vec<Subject> {
    match from {
        Subject::Settings(Configuration::Snapshot(machine, snapshot))
            if pointer(machine) == Some(snapshot.id) =>
        {
            vec![Subject::Machine(machine.clone())]
        }
        _ => Vec::new(),
    }
}

/// What a job works on: its machine, and the snapshot that it made. A job that applies or removes
/// a snapshot is not linked to it: clients take the configuration they find here for a new one.
fn elements_of_job(host: &Host, from: &Subject) -> Vec<Subject> {
    let Subject::Job(job) = from else {
        return Vec::new();
    };
    let machine = host.machines.machine(job.machine).map(Subject::Machine);
    let made = match (job.kind, job.snapshot) {
        (JobKind::CreateSnapshot, Some(id)) => host.machines.snapshot(id),
        _ => None,
    };
    let made = made
        .map(|(machine, snapshot)| Subject::Settings(Configuration::Snapshot(machine, snapshot)));
    machine.into_iter().chain(made).collect()
}

fn jobs_of_element(host: &Host, from: &Subject) -> Vec<Subject> {
    let (machine, made) = match from {
        Subject::Machine(machine) => (machine, None),
        Subject::Settings(Configuration::Snapshot(machine, snapshot)) => {
            (machine, Some(snapshot.id))
        }
        _ => return Vec::new(),
    };
    let mut jobs = host.machines.jobs_of(machine.id);
    jobs.sort_by_key(|job| (job.created, job.id));
    jobs.into_iter()
        .filter(|job| {
            made.is_none_or(|id| job.kind == JobKind::CreateSnapshot && job.snapshot == Some(id))
        })
        .map(Subject::Job)
        .collect()
}

fn pool_of(row: &'static ResourceType) -> Vec<Subject> {
    row.pool
        .as_ref()
        .map(|pool| Subject::Pool(row, pool))
        .into_iter()
        .collect()
}

/// What the active configurations of all machines allocate from a pool.
fn resources_from_pool(host: &Host, from: &Subject) -> Vec<Subject> {
    let Subject::Pool(row, _) = from else {
        return Vec::new();
    };
    let of_machine = |machine: Arc<Machine>| {
        let of = Configuration::Active(machine);
        of.parts(host.version)
            .filter(|part| of.part_type(*part).resource == row.resource)
            .map(|part| Subject::Resource(of.clone(), part))
            .collect::<Vec<_>>()
    };
    host.all_machines()
        .into_iter()
        .flat_map(of_machine)
        .collect()
}

fn devices_from_pool(host: &Host, from: &Subject) -> Vec<Subject> {
    resources_from_pool(host, from)
        .iter()
        .flat_map(|resource| state_of_settings(host, resource))
        .collect()
}

fn device_at(machine: &Machine, logical: Logical) -> Option<&machines::model::Device> {
    match logical {
        Logical::Device(index) => machine.settings.devices.get(index),
        _ => None,
    }
}

/// The devices that sit on a device.
fn devices_below(_: &Host, from: &Subject) -> Vec<Subject> {
    let Subject::Device(machine, logical) = from else {
        return Vec::new();
    };
    let Some(this) = device_at(machine, *logical) else {
        return Vec::new();
    };
    let devices = machine.settings.devices.iter().enumerate();
    devices
        .filter(|(_, device)| device.parent.as_ref() == Some(&this.id))
        .map(|(index, _)| Subject::Device(machine.clone(), Logical::Device(index)))
        .collect()
}

/// The device that a device sits on, if it is of one of `kinds`.
fn device_above(_: &Host, from: &Subject, kinds: &[DeviceKind]) -> Vec<Subject> {
    let Subject::Device(machine, logical) = from else {
        return Vec::new();
    };
    let parent = device_at(machine, *logical).and_then(|device| device.parent.as_ref());
    let found = parent.and_then(|parent| {
        machine
            .settings
            .devices
            .iter()
            .position(|device| device.id == *parent && kinds.contains(&device.kind))
    });
    found
        .map(|index| Subject::Device(machine.clone(), Logical::Device(index)))
        .into_iter()
        .collect()
}
