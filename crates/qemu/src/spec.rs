//! What a machine is made of, as QEMU needs to know it: plain data, checked by
//! [`LaunchSpec::validate`] and turned into a command line by `command_line`.
//!
//! Everything that a guest can see (slots on the PCI bus, units, LUNs, names of memory blocks) is
//! fixed by the spec alone, so that a memory image taken from one process starts in another that
//! was launched from an equal spec, whatever order the devices were added in.

use crate::process::{LOADING_SOCKET_NAMES, SOCKET_NAMES};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The machine type. Fixed, because a memory image starts only on the type it was taken from.
pub const MACHINE_TYPE: &str = "pc-i440fx-9.0";

/// How many SCSI controllers a machine can have.
pub const MAX_SCSI_CONTROLLERS: u8 = 8;
/// How many drives a SCSI controller can have.
pub const MAX_SCSI_LUNS: u16 = 64;
/// How many network cards a machine can have.
pub const MAX_NICS: u8 = 16;
/// How many serial ports a machine can have.
pub const MAX_SERIAL_PORTS: u8 = 4;
/// The longest path of a Unix socket.
pub const MAX_SOCKET_PATH: usize = 107;

/// A machine to launch.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchSpec {
    /// Shown by QEMU (`query-name`); no meaning otherwise.
    pub name: String,
    /// The machine's identity: SMBIOS UUID, and proof of identity on reconnection.
    pub uuid: Uuid,
    /// Folder for sockets, pid file and log of this process; made if missing (0700). One process
    /// at a time. Its path must be short enough for Unix sockets ([`MAX_SOCKET_PATH`]).
    pub run_dir: PathBuf,
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// `-cpu`, for example `qemu64` or `host`.
    pub cpu_model: String,
    /// Guest memory.
    pub memory: Memory,
    /// Virtual processors, 1 to 255.
    pub vcpus: u32,
    /// What the guest's firmware tells about the machine.
    pub smbios: Smbios,
    /// In which order the firmware tries the kinds of devices.
    pub boot_order: Vec<BootClass>,
    /// Serial ports, by number.
    pub serial_ports: Vec<SerialPort>,
    /// Drives on the two IDE channels.
    pub ide: Vec<IdeDrive>,
    /// SCSI controllers with their drives.
    pub scsi: Vec<ScsiController>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Whether the guest has a channel for an agent ([`crate::agent`]). The guest sees its device, so
    /// a memory image starts only with what it was taken with.
    pub agent_channel: bool,
    /// What the guest does once the process is there.
    pub start: Start,
    /// More arguments for QEMU, after all others. For tests only (debug ports and the like):
    /// nothing checks them.
    pub test_arguments: Vec<String>,
}

impl LaunchSpec {
    /// A machine with nothing but processor and memory; the rest is added to its fields.
    pub fn new(name: impl Into<String>, uuid: Uuid, run_dir: impl Into<PathBuf>) -> Self {
        LaunchSpec {
            name: name.into(),
            uuid,
            run_dir: run_dir.into(),
            accelerator: Accelerator::Tcg,
            cpu_model: "qemu64".into(),
            memory: Memory {
                mib: 512,
                backing: Backing::Transparent,
                prealloc: true,
            },
            vcpus: 1,
            smbios: Smbios::default(),
            boot_order: vec![BootClass::Cd, BootClass::Disk],
            serial_ports: Vec::new(),
            ide: Vec::new(),
            scsi: Vec::new(),
            nics: Vec::new(),
            agent_channel: false,
            start: Start::Running,
            test_arguments: Vec::new(),
        }
    }

    /// All drives, IDE first.
    pub fn drives(&self) -> impl Iterator<Item = &Drive> {
        self.ide.iter().map(|d| &d.drive).chain(
            self.scsi
                .iter()
                .flat_map(|c| c.drives.iter().map(|d| &d.drive)),
        )
    }
}

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Accelerator {
    /// The processor itself, through `/dev/kvm`.
    Kvm,
    /// QEMU's translator: any host, slower.
    Tcg,
}

impl Accelerator {
    /// QEMU's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// Guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Size in MiB.
    pub mib: u64,
    /// What backs it.
    pub backing: Backing,
    /// Whether huge pages are filled at start. Otherwise they are only reserved, so that no touch
    /// can fail, and each is filled when it is first touched: for memory that comes from elsewhere.
    pub prealloc: bool,
}

/// What backs guest memory. Invisible to the guest: an image taken on one starts on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Backing {
    /// 2 MiB pages of the host's pool, all set aside at start.
    Hugetlb,
    /// Anonymous memory, made of huge pages where the kernel finds them.
    Transparent,
}

impl Backing {
    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Backing::Hugetlb => "hugetlb",
            Backing::Transparent => "transparent huge pages",
        }
    }
}

/// SMBIOS strings; empty ones are left to QEMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Smbios {
    pub manufacturer: String,
    pub product: String,
    pub version: String,
    pub serial_number: String,
    pub base_board_serial_number: String,
    pub chassis_serial_number: String,
    pub chassis_asset_tag: String,
}

/// A kind of device to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BootClass {
    Cd,
    Disk,
    Network,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// 0 is the guest's COM1.
    pub index: u8,
    /// Where it leads.
    pub connection: SerialConnection,
}

/// Where a serial port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialConnection {
    /// Nowhere; what the guest writes is dropped.
    Nothing,
    /// A Unix socket that QEMU listens on; the guest does not wait for a peer.
    Socket(PathBuf),
    /// A file, appended to.
    File(PathBuf),
}

/// A drive on an IDE channel.
#[derive(Clone, Debug, PartialEq)]
pub struct IdeDrive {
    /// 0 or 1.
    pub channel: u8,
    /// 0 or 1.
    pub unit: u8,
    /// What is there.
    pub drive: Drive,
}

/// A SCSI controller (virtio).
#[derive(Clone, Debug, PartialEq)]
pub struct ScsiController {
    /// QEMU's id of the device.
    pub id: Id,
    /// Which controller of the machine, 0 to 7: fixes its PCI slot, so keep it.
    pub index: u8,
    /// Its drives.
    pub drives: Vec<ScsiDrive>,
}

/// A drive on a SCSI controller.
#[derive(Clone, Debug, PartialEq)]
pub struct ScsiDrive {
    /// 0 to 63.
    pub lun: u16,
    /// What is there.
    pub drive: Drive,
}

/// A drive.
#[derive(Clone, Debug, PartialEq)]
pub struct Drive {
    /// QEMU's id of the device, the name that verbs on a [`crate::Process`] use.
    pub id: Id,
    /// What kind it is, and what is in it.
    pub medium: Medium,
}

/// What kind of drive, and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Medium {
    /// A hard disk.
    Disk(Chain),
    /// A CD drive, empty or with an image (never written).
    Cd(Option<Layer>),
}

/// The files of a disk, the oldest (base) first. The last is the active layer, the only one that
/// is written; the others are opened read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// At least one.
    pub layers: Vec<Layer>,
}

impl Chain {
    /// The layer that is written.
    pub fn active(&self) -> Option<&Layer> {
        self.layers.last()
    }
}

/// One file of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name within the process.
    pub node: Id,
    /// Its format, decided when the file was attached and never guessed again.
    pub format: Format,
    /// The file; absolute.
    pub path: PathBuf,
}

/// A format of disk image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Format {
    Raw,
    Qcow2,
    /// Virtual PC and Hyper-V's older format (`.vhd`).
    Vhd,
    /// Hyper-V's newer format (`.vhdx`).
    Vhdx,
}

impl Format {
    /// QEMU's driver for it.
    pub fn driver(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vhd => "vpc",
            Format::Vhdx => "vhdx",
        }
    }

    /// The format that QEMU calls `driver`, if it is one of ours.
    pub fn from_driver(driver: &str) -> Option<Format> {
        [Format::Raw, Format::Qcow2, Format::Vhd, Format::Vhdx]
            .into_iter()
            .find(|f| f.driver() == driver)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vhd => "VHD",
            Format::Vhdx => "VHDX",
        })
    }
}

/// A network card without a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// QEMU's id of the device.
    pub id: Id,
    /// Which card of the machine, 0 to 15: fixes its PCI slot, so keep it.
    pub index: u8,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// What the guest does once the process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It runs.
    Running,
    /// It stands before its first instruction until [`crate::Process::cont`].
    Paused,
    /// It waits for a memory image (`Process::load_image`).
    Incoming,
}

/// A name inside a QEMU process, of a device or a block node: a letter, then letters, digits,
/// `-`, `.` or `_`, at most 31 in all (QEMU's limit for block nodes).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text that cannot be a name inside QEMU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" cannot name anything in QEMU: it takes a letter, then letters, digits, '-', '.' or \
     '_', at most 31 in all."
)]
pub struct BadId(pub String);

impl Id {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Id, BadId> {
        let text = text.into();
        let good = text.len() <= 31
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if good { Ok(Id(text)) } else { Err(BadId(text)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        Id::new(text)
    }
}

impl TryFrom<&str> for Id {
    type Error = BadId;
    fn try_from(text: &str) -> Result<Self, BadId> {
        Id::new(text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}

/// Why a spec is refused before anything is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SpecError {
    #[error("The path {path} is not absolute. Give the whole path.")]
    RelativePath { path: PathBuf },
    #[error("The path {path:?} is not UTF-8, which QEMU's monitor cannot carry. Rename the file.")]
    PathNotUtf8 { path: PathBuf },
    #[error(
        "The socket {path} would have a path of {length} bytes; Unix sockets take {MAX_SOCKET_PATH}. \
         Use a shorter folder."
    )]
    SocketPathTooLong { path: PathBuf, length: usize },
    #[error("{count} processors cannot be given; 1 to 255 can.")]
    Processors { count: u32 },
    #[error("{mib} MiB of memory cannot be given; 1 MiB to 16 TiB can.")]
    MemorySize { mib: u64 },
    #[error("{mib} MiB of memory is not a whole number of 2 MiB pages, which hugetlb needs.")]
    MemoryNotHugePages { mib: u64 },
    #[error("Two {what} have the place {place}.")]
    PlaceTaken { what: &'static str, place: String },
    #[error("There is no place {place} for {what}.")]
    NoSuchPlace { what: &'static str, place: String },
    #[error("Two things in the machine are named {id}.")]
    NameTaken { id: Id },
    #[error("The disk {id} has no layers.")]
    EmptyChain { id: Id },
    #[error("The file {path} appears twice in the machine where one use writes to it.")]
    FileTwice { path: PathBuf },
    #[error("The text for {what} holds a control character or is longer than 255 bytes.")]
    BadText { what: &'static str },
}

impl LaunchSpec {
    /// Refuses what QEMU would refuse later with less to say.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_size()?;
        self.validate_texts()?;
        self.validate_places()?;
        self.validate_names()?;
        self.validate_paths()
    }

    fn validate_size(&self) -> Result<(), SpecError> {
        if !(1..=255).contains(&self.vcpus) {
            return Err(SpecError::Processors { count: self.vcpus });
        }
        let mib = self.memory.mib;
        if !(1..=16 * 1024 * 1024).contains(&mib) {
            return Err(SpecError::MemorySize { mib });
        }
        if self.memory.backing == Backing::Hugetlb && !mib.is_multiple_of(2) {
            return Err(SpecError::MemoryNotHugePages { mib });
        }
        Ok(())
    }

    fn validate_texts(&self) -> Result<(), SpecError> {
        let smbios = &self.smbios;
        let texts = [
            ("name", &self.name),
            ("processor model", &self.cpu_model),
            ("manufacturer", &smbios.manufacturer),
            ("product", &smbios.product),
            ("version", &smbios.version),
            ("serial number", &smbios.serial_number),
            ("base board serial number", &smbios.base_board_serial_number),
            ("chassis serial number", &smbios.chassis_serial_number),
            ("chassis asset tag", &smbios.chassis_asset_tag),
        ];
        match texts
            .iter()
            .find(|(_, text)| text.len() > 255 || text.chars().any(char::is_control))
        {
            Some((what, _)) => Err(SpecError::BadText { what }),
            None => Ok(()),
        }
    }

    fn validate_places(&self) -> Result<(), SpecError> {
        let mut ide = Places::new("IDE drives");
        for d in &self.ide {
            let place = format!("{}:{}", d.channel, d.unit);
            ide.take(place, d.channel < 2 && d.unit < 2)?;
        }
        let mut controllers = Places::new("SCSI controllers");
        for c in &self.scsi {
            controllers.take(c.index.to_string(), c.index < MAX_SCSI_CONTROLLERS)?;
            let mut luns = Places::new("SCSI drives");
            for d in &c.drives {
                luns.take(d.lun.to_string(), d.lun < MAX_SCSI_LUNS)?;
            }
        }
        let mut nics = Places::new("network cards");
        for n in &self.nics {
            nics.take(n.index.to_string(), n.index < MAX_NICS)?;
        }
        let mut ports = Places::new("serial ports");
        for p in &self.serial_ports {
            ports.take(p.index.to_string(), p.index < MAX_SERIAL_PORTS)?;
        }
        Ok(())
    }

    fn validate_names(&self) -> Result<(), SpecError> {
        let mut devices = std::collections::HashSet::new();
        let mut nodes = std::collections::HashSet::new();
        let own = self.scsi.iter().map(|c| &c.id);
        for id in own.chain(self.nics.iter().map(|n| &n.id)) {
            if !devices.insert(id) {
                return Err(SpecError::NameTaken { id: id.clone() });
            }
        }
        for drive in self.drives() {
            if !devices.insert(&drive.id) {
                return Err(SpecError::NameTaken {
                    id: drive.id.clone(),
                });
            }
            for layer in drive.medium.layers() {
                if !nodes.insert(&layer.node) {
                    return Err(SpecError::NameTaken {
                        id: layer.node.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn validate_paths(&self) -> Result<(), SpecError> {
        let mut read = std::collections::HashSet::new();
        let mut written = std::collections::HashSet::new();
        for drive in self.drives() {
            let layers = drive.medium.layers();
            if let (Medium::Disk(_), true) = (&drive.medium, layers.is_empty()) {
                return Err(SpecError::EmptyChain {
                    id: drive.id.clone(),
                });
            }
            for (at, layer) in layers.iter().enumerate() {
                let path = layer.path.as_path();
                check_path(path)?;
                let writes = matches!(drive.medium, Medium::Disk(_)) && at + 1 == layers.len();
                let clash = if writes {
                    read.contains(path) || !written.insert(path)
                } else {
                    read.insert(path);
                    written.contains(path)
                };
                if clash {
                    return Err(SpecError::FileTwice {
                        path: path.to_path_buf(),
                    });
                }
            }
        }
        for port in &self.serial_ports {
            match &port.connection {
                SerialConnection::Nothing => {}
                SerialConnection::File(path) => check_path(path)?,
                SerialConnection::Socket(path) => check_socket_path(path)?,
            }
        }
        let agent = self.agent_channel.then_some(crate::agent::SOCKET_NAME);
        let monitors = SOCKET_NAMES.into_iter().chain(LOADING_SOCKET_NAMES);
        for name in monitors.chain(agent) {
            check_socket_path(&self.run_dir.join(name))?;
        }
        for export in crate::nbd::exports(self) {
            check_socket_path(&export.socket)?;
        }
        Ok(())
    }
}

impl Medium {
    /// The files in the drive, the oldest first.
    pub fn layers(&self) -> &[Layer] {
        match self {
            Medium::Disk(chain) => &chain.layers,
            Medium::Cd(layer) => layer.as_slice(),
        }
    }
}

/// Refuses a path that QEMU could not be given.
pub(crate) fn check_path(path: &Path) -> Result<(), SpecError> {
    if !path.is_absolute() {
        return Err(SpecError::RelativePath { path: path.into() });
    }
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(()),
        _ => Err(SpecError::PathNotUtf8 { path: path.into() }),
    }
}

/// Refuses a path that a Unix socket could not have.
pub(crate) fn check_socket_path(path: &Path) -> Result<(), SpecError> {
    check_path(path)?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(SpecError::SocketPathTooLong {
            path: path.into(),
            length,
        });
    }
    Ok(())
}

/// Places already taken by one kind of device.
struct Places {
    what: &'static str,
    taken: std::collections::HashSet<String>,
}

impl Places {
    fn new(what: &'static str) -> Self {
        Places {
            what,
            taken: Default::default(),
        }
    }

    fn take(&mut self, place: String, exists: bool) -> Result<(), SpecError> {
        let what = self.what;
        if !exists {
            return Err(SpecError::NoSuchPlace { what, place });
        }
        if self.taken.contains(&place) {
            return Err(SpecError::PlaceTaken { what, place });
        }
        self.taken.insert(place);
        Ok(())
    }
}
