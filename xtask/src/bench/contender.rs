//! What takes part in a benchmark. Each contender sets up and runs the guest as its own users would.

mod domain;
mod libvirtd;
mod qmp;
mod rootvirt;
mod virsh;

use std::path::PathBuf;
use std::process::Child;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::disk;
use super::guest::Guest;
use super::plan::Plan;
use crate::{Failure, Outcome};

/// The names, as they are in results; this program's first.
pub const NAMES: &[&str] = &[
    rootvirt::LIVE,
    rootvirt::SAVE,
    virsh::Kind::Internal.name(),
    virsh::Kind::External.name(),
    virsh::Kind::ExternalLive.name(),
    virsh::Kind::Save.name(),
    qmp::NAME,
];

/// Live snapshots of this program: what everything else is compared with.
pub const OURS: &str = rootvirt::LIVE;

/// Whether it is this program.
pub fn is_ours(name: &str) -> bool {
    [rootvirt::LIVE, rootvirt::SAVE].contains(&name)
}

/// Whether it takes part where nobody was asked for by name: what shows how this program compares.
pub fn is_usual(name: &str) -> bool {
    name != rootvirt::SAVE
}

/// Whether a contender lets the guest run while it writes its memory.
pub fn keeps_running(name: &str) -> bool {
    [rootvirt::LIVE, virsh::Kind::ExternalLive.name()].contains(&name)
}

/// Whether a contender's snapshot is the end of the guest, until it is restored.
pub fn ends_guest(name: &str) -> bool {
    [rootvirt::SAVE, virsh::Kind::Save.name()].contains(&name)
}

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// What a contender says of a snapshot by itself.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Claims {
    pub pause_ms: Option<f64>,
    pub durable_ms: Option<f64>,
    pub stored_bytes: Option<f64>,
}

/// Something that takes snapshots and restores them. It has at most one guest at a time. Snapshots
/// have numbers, from 1 on.
pub trait Contender {
    fn name(&self) -> &'static str;
    /// Starts the guest; returns when QEMU runs.
    fn start(&mut self, guest: &Guest) -> Outcome;
    /// What it says of the memory that the guest runs on.
    fn memory(&mut self) -> Option<String> {
        None
    }
    /// Takes a snapshot of memory, devices and all disks; returns when the user's command does.
    fn snapshot(&mut self, number: usize, limit: &Limit) -> Outcome;
    /// What it says of that.
    fn claims(&mut self, _number: usize) -> Result<Claims, Failure> {
        Ok(Claims::default())
    }
    /// Brings the guest to where a user would be who has lost it.
    fn end_guest(&mut self) -> Outcome;
    /// Restores a snapshot and lets the guest run; returns when the user's last command does, with
    /// the time at which that began.
    fn restore(&mut self, number: usize, limit: &Limit) -> Result<Instant, Failure>;
    /// Deletes a snapshot.
    fn delete(&mut self, number: usize, limit: &Limit) -> Outcome;
    /// Ends the guest and forgets it and its snapshots, whatever has become of it.
    fn discard(&mut self) -> Outcome;
}

/// When to give a command up: some never end under some loads, and some fill the disk.
#[derive(Debug, Clone)]
pub struct Limit {
    time: Duration,
    bytes: u64,
    folder: PathBuf,
    before: u64,
    began: Instant,
}

impl Limit {
    /// From now on, for a guest of that size whose files are below `folder`.
    pub fn new(ram_mib: u64, folder: PathBuf) -> Result<Self, Failure> {
        let before = disk::allocated_bytes(&folder)?;
        Ok(Self {
            time: Duration::from_secs(90 + ram_mib / 1024 * 20),
            bytes: ram_mib << 22,
            folder,
            before,
            began: Instant::now(),
        })
    }

    /// Why it is too much, if it is.
    pub fn exceeded(&self) -> Option<String> {
        if self.began.elapsed() > self.time {
            return Some(format!("it took more than {} s", self.time.as_secs()));
        }
        let grown = disk::allocated_bytes(&self.folder).unwrap_or(0);
        let grown = grown.saturating_sub(self.before);
        (grown > self.bytes).then(|| format!("it wrote more than {} MiB", self.bytes >> 20))
    }
}

/// Those that the plan asks for. This program is the first: what runs its guest runs the others'
/// guests, too.
pub fn wanted(plan: &Plan) -> Result<Vec<Box<dyn Contender>>, Failure> {
    let wants = |name: &str| plan.contenders.iter().any(|wanted| wanted == name);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if wants_program(plan) {
        let service = Rc::new(rootvirt::Service::start(plan)?);
        if wants(rootvirt::LIVE) {
            contenders.push(Box::new(rootvirt::Live::new(&service)));
        }
        if wants(rootvirt::SAVE) {
            contenders.push(Box::new(rootvirt::Save::new(&service)));
        }
    }
    let daemon = Rc::new(libvirtd::Libvirtd::new(&plan.scratch)?);
    for kind in virsh::Kind::ALL {
        if wants(kind.name()) {
            contenders.push(Box::new(virsh::Virsh::new(kind, &daemon)));
        }
    }
    if wants(qmp::NAME) {
        contenders.push(Box::new(qmp::Qmp::default()));
    }
    Ok(contenders)
}

/// Whether the program must be built for it.
pub fn wants_program(plan: &Plan) -> bool {
    plan.contenders.iter().any(|name| is_ours(name))
}

/// A process that ends with its owner.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where QEMU is.
fn emulator() -> Result<String, Failure> {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "command -v \"$1\"", "sh", EMULATOR]);
    Ok(crate::process::quiet(&mut command)?.trim().to_owned())
}

const EMULATOR: &str = "qemu-system-x86_64";
/// The machine that rootvirt makes.
const MACHINE_TYPE: &str = "pc-i440fx-9.0";
