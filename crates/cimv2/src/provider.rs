//! The instances, made anew for each reader.

use crate::WINDOWS_VERSION;
use crate::computer::{self, Distribution, Memory, Mount, Socket};
use crate::counters::{self, VirtualProcessors};
use async_trait::async_trait;
use cim::instance::InstanceBuilder;
use cim::mof::Repository;
use cim::{CimError, CimStatus, Class, DateTime, Instance, Name, Namespace, ObjectPath};
use cim_broker::{Association, Context, Equality, Provider, Role};
use std::collections::HashMap;
use std::sync::Arc;

const OPERATING_SYSTEM: &str = "Win32_OperatingSystem";
const COMPUTER_SYSTEM: &str = "Win32_ComputerSystem";
const PRODUCT: &str = "Win32_ComputerSystemProduct";
const PROCESSOR: &str = "Win32_Processor";
const LOGICAL_DISK: &str = "Win32_LogicalDisk";

/// Windows' language identifier of English (United States).
const ENGLISH: u32 = 0x409;

/// The computer, as the namespace shows it.
pub(crate) struct Host {
    name: String,
    namespace: Namespace,
    classes: HashMap<Name, Arc<Class>>,
    virtual_processors: VirtualProcessors,
}

impl Host {
    pub(crate) fn new(
        repository: &Repository,
        name: &str,
        virtual_processors: VirtualProcessors,
    ) -> Host {
        Host {
            virtual_processors,
            name: name.to_owned(),
            namespace: Namespace::new(crate::NAMESPACE),
            classes: repository
                .classes()
                .map(|class| (class.name.clone(), class.clone()))
                .collect(),
        }
    }

    fn instances(&self, class: &Name, filter: &[Equality]) -> Result<Vec<Instance>, CimError> {
        if class.is(OPERATING_SYSTEM) {
            Ok(vec![self.operating_system()?])
        } else if class.is(COMPUTER_SYSTEM) {
            Ok(vec![self.computer_system()?])
        } else if class.is(PRODUCT) {
            Ok(vec![self.product()?])
        } else if class.is(PROCESSOR) {
            let sockets = computer::sockets();
            let threads = sockets.iter().map(|socket| socket.threads).sum();
            (0_u32..)
                .zip(&sockets)
                .map(|(number, socket)| self.processor(number, socket, threads))
                .collect()
        } else if class.is(LOGICAL_DISK) {
            computer::mounts()
                .iter()
                .map(|mount| self.disk(mount))
                .collect()
        } else if class.is(counters::CLASS) {
            let machine = counters::machine_asked_for(filter);
            (self.virtual_processors)(machine)
                .iter()
                .map(|counted| self.named(counters::CLASS, |new| counters::fill(counted, new)))
                .collect()
        } else {
            Ok(Vec::new())
        }
    }

    fn operating_system(&self) -> Result<Instance, CimError> {
        let distribution = Distribution::read();
        let memory = Memory::read();
        let system = rustix::system::uname();
        let kernel = system.release().to_string_lossy().into_owned();
        let swap = memory.kib("SwapTotal");
        let free = memory.kib("MemAvailable").or(memory.kib("MemFree"));
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        let build = WINDOWS_VERSION.rsplit('.').next().unwrap_or_default();
        self.named(OPERATING_SYSTEM, |builder| {
            builder
                .set("CreationClassName", OPERATING_SYSTEM)
                .set("CSCreationClassName", COMPUTER_SYSTEM)
                .set("CSName", self.name.as_str())
                .set("Name", distribution.pretty_name.as_str())
                .set("Caption", distribution.pretty_name.as_str())
                .set(
                    "Description",
                    format!("{}, kernel {kernel}", distribution.pretty_name),
                )
                .set("Manufacturer", distribution.vendor.as_str())
                .set("Status", "OK")
                .set("OSType", 36_u16)
                .set("OtherTypeDescription", format!("Linux {kernel}"))
                .set("Version", WINDOWS_VERSION)
                .set("BuildNumber", build)
                .set("BuildType", "Multiprocessor Free")
                .set("CSDVersion", "")
                .set("ServicePackMajorVersion", 0_u16)
                .set("ServicePackMinorVersion", 0_u16)
                .set("ProductType", 3_u32)
                .set("OSArchitecture", "64-bit")
                .set("OSLanguage", ENGLISH)
                .set("Locale", "0409")
                .set("MUILanguages", ["en-US"])
                .set("Primary", true)
                .set("Debug", false)
                .set("Distributed", false)
                .set("CurrentTimeZone", 0_i16)
                .set("LocalDateTime", DateTime::now())
                .set(
                    "LastBootUpTime",
                    computer::boot_time_micros().map(DateTime::from_unix_micros),
                )
                .set(
                    "InstallDate",
                    computer::install_time_micros().map(DateTime::from_unix_micros),
                )
                .set("NumberOfProcesses", computer::processes())
                .set("SystemDirectory", "/")
                .set("SystemDrive", "/")
                .set("WindowsDirectory", "/")
                .set("TotalVisibleMemorySize", memory.kib("MemTotal"))
                .set("FreePhysicalMemory", free)
                .set("SizeStoredInPagingFiles", swap)
                .set("FreeSpaceInPagingFiles", memory.kib("SwapFree"))
                .set("TotalVirtualMemorySize", sum(memory.kib("MemTotal"), swap))
                .set("FreeVirtualMemory", sum(free, memory.kib("SwapFree")))
        })
    }

    fn computer_system(&self) -> Result<Instance, CimError> {
        let sockets = computer::sockets();
        let threads: u32 = sockets.iter().map(|socket| socket.threads).sum();
        let memory = Memory::read()
            .kib("MemTotal")
            .map(|kib| kib.saturating_mul(1024));
        self.named(COMPUTER_SYSTEM, |builder| {
            builder
                .set("CreationClassName", COMPUTER_SYSTEM)
                .set("Name", self.name.as_str())
                .set("Caption", self.name.as_str())
                .set("DNSHostName", self.name.as_str())
                .set("Description", "AT/AT COMPATIBLE")
                .set("Status", "OK")
                .set("Roles", ["LM_Workstation", "LM_Server"])
                .set("PowerState", 0_u16)
                .set("BootupState", "Normal boot")
                .set("Workgroup", "WORKGROUP")
                .set("Domain", "WORKGROUP")
                .set("DomainRole", 2_u16)
                .set("PartOfDomain", false)
                .set("HypervisorPresent", true)
                .set("Manufacturer", computer::firmware("sys_vendor"))
                .set("Model", computer::firmware("product_name"))
                .set("NumberOfProcessors", u32::try_from(sockets.len()).ok())
                .set("NumberOfLogicalProcessors", threads)
                .set("AutomaticManagedPagefile", false)
                .set("CurrentTimeZone", 0_i16)
                .set("PauseAfterReset", -1_i64)
                .set("ResetCount", -1_i16)
                .set("ResetLimit", -1_i16)
                .set("SystemType", "x64-based PC")
                .set("TotalPhysicalMemory", memory)
        })
    }

    fn product(&self) -> Result<Instance, CimError> {
        let known = |fact: &str| computer::firmware(fact).unwrap_or("Unknown".to_owned());
        self.named(PRODUCT, |builder| {
            builder
                .set("Caption", "Computer System Product")
                .set("Description", "Computer System Product")
                .set("IdentifyingNumber", known("product_serial"))
                .set("Name", known("product_name"))
                .set("Vendor", known("sys_vendor"))
                .set("Version", known("product_version"))
                .set("UUID", computer::uuid())
        })
    }

    fn processor(&self, number: u32, socket: &Socket, all: u32) -> Result<Instance, CimError> {
        let narrow = |key: &str| {
            socket
                .number(key)
                .and_then(|value| u16::try_from(value).ok())
        };
        let (family, model, stepping) = (narrow("cpu family"), narrow("model"), narrow("stepping"));
        let caption = match (family, model, stepping) {
            (Some(family), Some(model), Some(stepping)) => Some(format!(
                "x64 Family {family} Model {model} Stepping {stepping}"
            )),
            _ => None,
        };
        let revision = model.zip(stepping).and_then(|(model, stepping)| {
            model
                .checked_mul(256)
                .and_then(|high| high.checked_add(stepping))
        });
        let cores = socket.number("cpu cores").unwrap_or(socket.threads);
        let virtualization = socket.has("vmx") || socket.has("svm");
        self.named(PROCESSOR, |builder| {
            builder
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", self.name.as_str())
                .set("CreationClassName", PROCESSOR)
                .set("DeviceID", format!("CPU{number}"))
                .set("SocketDesignation", format!("CPU {number}"))
                .set("Name", socket.text("model name"))
                .set("Caption", caption.clone())
                .set("Description", caption)
                .set("Manufacturer", socket.text("vendor_id"))
                .set("Status", "OK")
                .set("StatusInfo", 3_u16)
                .set("Availability", 3_u16)
                .set("CpuStatus", 1_u16)
                .set("Role", "CPU")
                .set("ProcessorType", 3_u16)
                .set("Architecture", 9_u16)
                .set("AddressWidth", 64_u16)
                .set("DataWidth", 64_u16)
                .set("Family", 2_u16)
                .set("Level", family)
                .set("Revision", revision)
                .set("Stepping", stepping.map(|stepping| stepping.to_string()))
                .set("CurrentClockSpeed", socket.number("cpu MHz"))
                .set("MaxClockSpeed", socket.number("cpu MHz"))
                .set("LoadPercentage", computer::load_percent(all))
                .set("NumberOfCores", cores)
                .set("NumberOfEnabledCore", cores)
                .set("NumberOfLogicalProcessors", socket.threads)
                .set("ThreadCount", socket.threads)
                .set("VirtualizationFirmwareEnabled", virtualization)
                .set("VMMonitorModeExtensions", virtualization)
                .set(
                    "SecondLevelAddressTranslationExtensions",
                    socket.has("ept") || socket.has("npt"),
                )
        })
    }

    fn disk(&self, mount: &Mount) -> Result<Instance, CimError> {
        self.named(LOGICAL_DISK, |builder| {
            builder
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", self.name.as_str())
                .set("CreationClassName", LOGICAL_DISK)
                .set("DeviceID", mount.folder.as_str())
                .set("Name", mount.folder.as_str())
                .set("Caption", mount.folder.as_str())
                .set("Description", "Local Fixed Disk")
                .set("DriveType", 3_u32)
                .set("MediaType", 12_u32)
                .set("Access", if mount.read_only { 1_u16 } else { 3 })
                .set("FileSystem", mount.file_system.as_str())
                .set("MaximumComponentLength", mount.longest_name)
                .set("ProviderName", mount.device.as_str())
                .set("Size", mount.size)
                .set("FreeSpace", mount.free)
        })
    }

    fn named(
        &self,
        class: &str,
        fill: impl FnOnce(InstanceBuilder<'_>) -> InstanceBuilder<'_>,
    ) -> Result<Instance, CimError> {
        let failed = |text: String| {
            tracing::error!("{text}");
            CimError::new(CimStatus::Failed, text)
        };
        let class = self
            .classes
            .get(&Name::new(class))
            .ok_or_else(|| failed(format!("The schema has no class {class}.")))?;
        let mut instance = fill(Instance::builder(class))
            .build_named()
            .map_err(|error| failed(format!("An instance could not be made: {error}.")))?;
        instance.path = instance
            .path
            .take()
            .map(|path| path.located(self.name.clone(), self.namespace.clone()));
        Ok(instance)
    }

    fn paths(&self, class: &str) -> Result<Vec<ObjectPath>, CimError> {
        let instances = self.instances(&Name::new(class), &[])?;
        Ok(instances
            .into_iter()
            .filter_map(|instance| instance.path)
            .collect())
    }
}

#[async_trait]
impl Provider for Host {
    fn classes(&self) -> Vec<Name> {
        [
            OPERATING_SYSTEM,
            COMPUTER_SYSTEM,
            PRODUCT,
            PROCESSOR,
            LOGICAL_DISK,
            counters::CLASS,
        ]
        .into_iter()
        .map(Name::new)
        .collect()
    }

    fn enumerate(
        &self,
        _: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        self.instances(class, filter)
    }

    fn required_role(&self, _: &Name, _: &Name) -> Role {
        Role::Administrator
    }
}

/// The host stands at the first end of every row, so a row needs only the class at the other.
pub(crate) fn associations(host: &Arc<Host>) -> Vec<Association> {
    [
        ("Win32_ComputerSystemProcessor", PROCESSOR),
        ("Win32_SystemOperatingSystem", OPERATING_SYSTEM),
    ]
    .into_iter()
    .map(|(class, part)| {
        let (whole_host, part_host) = (Arc::clone(host), Arc::clone(host));
        Association {
            class: Name::new(class),
            roles: (Name::new("GroupComponent"), Name::new("PartComponent")),
            end_classes: (vec![Name::new(COMPUTER_SYSTEM)], vec![Name::new(part)]),
            forward: Box::new(move |_, _| part_host.paths(part)),
            backward: Box::new(move |_, _| whole_host.paths(COMPUTER_SYSTEM)),
            properties: None,
        }
    })
    .collect()
}
