//! What taking a snapshot would need and cost, from what is there and what was measured before:
//! plain data, and the model behind it.
//!
//! The model is simple on purpose. What a snapshot costs depends on the guest's memory, on how it
//! is backed and on the host's disks, so earlier snapshots of the same machine are the best guess,
//! then those of machines with equal backing and half to twice the memory, then those of any with
//! equal backing. Of those, the median is expected and the worst is told with it, and how many
//! there were. Without any, nothing is promised.

use crate::error::Error;
use crate::ids::MachineId;
use crate::model::{JobError, State, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How many of the newest samples are looked at.
const NEWEST: usize = 20;

/// What taking one snapshot of a running machine cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// When.
    pub at: Timestamp,
    /// Of which machine.
    pub machine: MachineId,
    /// Its memory in MiB.
    pub ram_mib: u64,
    /// How its memory was backed, in a word.
    pub backing: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Bytes of its memory image.
    pub stored_bytes: u64,
    /// How long the guest stood still, in microseconds.
    pub pause_micros: u64,
    /// From the call to durable, in microseconds.
    pub durable_micros: u64,
}

/// Which earlier snapshots an expectation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Basis {
    /// There are none: nothing is promised.
    Nothing,
    /// Of this machine, as it is.
    ThisMachine,
    /// Of machines with equally backed memory of about this size.
    SimilarMachines,
    /// Of machines with equally backed memory of any size; scaled by size.
    OtherMachines,
}

impl Basis {
    /// A phrase for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Basis::Nothing => "nothing was measured yet",
            Basis::ThisMachine => "earlier snapshots of this machine",
            Basis::SimilarMachines => "snapshots of similar machines",
            Basis::OtherMachines => "snapshots of machines of other sizes, scaled",
        }
    }
}

/// What to expect of a snapshot of a running machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// What this rests on.
    pub basis: Basis,
    /// How many earlier snapshots.
    pub samples: usize,
    /// The median pause.
    pub pause: Option<Duration>,
    /// The longest pause.
    pub longest_pause: Option<Duration>,
    /// The median time until everything is durable.
    pub durable: Option<Duration>,
    /// Bytes of the memory image.
    pub memory_bytes: u64,
}

/// Space on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// A folder on it that will be written to.
    pub path: PathBuf,
    /// What must be free for the snapshot to be begun: the most that it can take.
    pub needed: u64,
    /// What it is expected to take.
    pub expected: u64,
    /// What is free.
    pub there: u64,
}

/// What taking a snapshot now would need and cost, and what is against it.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The machine's state.
    pub state: State,
    /// Whether memory would be part of it.
    pub with_memory: bool,
    /// Why it would be refused; empty if it would be taken.
    pub refusals: Vec<JobError>,
    /// What is not as good as it could be.
    pub warnings: Vec<String>,
    /// Each file system once.
    pub space: Vec<Space>,
    /// Host memory in MiB: needed, and there. Needed is 0 without memory.
    pub host_memory_mib: (u64, u64),
    /// How the guest's memory is backed, and why; while it runs.
    pub backing: Option<(String, String)>,
    /// The longest of the disks' chains, in layers.
    pub chain_depth: usize,
    /// What it would cost. A snapshot without memory takes no time worth telling.
    pub expected: Expectation,
}

impl Forecast {
    /// Adds a reason why it would be refused.
    pub(crate) fn refuse(&mut self, cause: &Error) {
        self.refusals.push(JobError::from(cause));
    }
}

/// What to expect of a machine with this memory, `resident` bytes of which the host holds.
pub(crate) fn expect(
    all: &[Measurement],
    machine: MachineId,
    ram_mib: u64,
    backing: &str,
    accelerator: &str,
    resident: Option<u64>,
) -> Expectation {
    let alike = |m: &&Measurement| m.backing == backing && m.accelerator == accelerator;
    let own = |m: &&Measurement| m.machine == machine && m.ram_mib == ram_mib;
    let near =
        |m: &&Measurement| m.ram_mib <= ram_mib * 2 && ram_mib <= m.ram_mib.saturating_mul(2);
    let newest = |pick: &dyn Fn(&&Measurement) -> bool| -> Vec<&Measurement> {
        all.iter().rev().filter(pick).take(NEWEST).collect()
    };
    let choices = [
        (Basis::ThisMachine, newest(&|m| alike(m) && own(m))),
        (Basis::SimilarMachines, newest(&|m| alike(m) && near(m))),
        (Basis::OtherMachines, newest(&|m| alike(m))),
    ];
    let chosen = choices.into_iter().find(|(_, found)| !found.is_empty());
    let (basis, found) = chosen.unwrap_or((Basis::Nothing, Vec::new()));
    let ram = ram_mib.saturating_mul(1 << 20);
    // QEMU itself is in what is resident, which does not matter for an estimate.
    let at_most = resident.map_or(ram, |resident| resident.min(ram));
    let memory_bytes = match basis {
        Basis::ThisMachine => {
            median(found.iter().map(|m| m.stored_bytes)).map_or(at_most, |b| b.min(ram))
        }
        _ => at_most,
    };
    let scaled = |micros: u64, of: u64, to: u64| match basis {
        Basis::ThisMachine | Basis::SimilarMachines => micros,
        _ if of == 0 => micros,
        _ => {
            u64::try_from(u128::from(micros) * u128::from(to) / u128::from(of)).unwrap_or(u64::MAX)
        }
    };
    let pauses = || {
        found
            .iter()
            .map(|m| scaled(m.pause_micros, m.ram_mib, ram_mib))
    };
    let durable = found
        .iter()
        .map(|m| scaled(m.durable_micros, m.stored_bytes, memory_bytes));
    Expectation {
        basis,
        samples: found.len(),
        pause: median(pauses()).map(Duration::from_micros),
        longest_pause: pauses().max().map(Duration::from_micros),
        durable: median(durable).map(Duration::from_micros),
        memory_bytes,
    }
}

fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(machine: MachineId, ram_mib: u64, pause: u64, durable: u64) -> Measurement {
        Measurement {
            at: Timestamp(0),
            machine,
            ram_mib,
            backing: "hugetlb".into(),
            accelerator: "kvm".into(),
            stored_bytes: ram_mib << 19,
            pause_micros: pause,
            durable_micros: durable,
        }
    }

    #[test]
    fn the_nearest_samples_are_taken_and_counted() {
        let (one, two, three) = (MachineId::new(), MachineId::new(), MachineId::new());
        let all = [
            sample(one, 1024, 2000, 100_000),
            sample(one, 1024, 9000, 300_000),
            sample(one, 1024, 3000, 200_000),
            sample(two, 4096, 5000, 1_000_000),
        ];
        let ask = |machine, ram| expect(&all, machine, ram, "hugetlb", "kvm", None);
        let own = ask(one, 1024);
        assert_eq!((own.basis, own.samples), (Basis::ThisMachine, 3));
        assert_eq!(own.pause, Some(Duration::from_millis(3)));
        assert_eq!(own.longest_pause, Some(Duration::from_millis(9)));
        assert_eq!(own.memory_bytes, 512 << 20);
        let near = ask(three, 3000);
        assert_eq!((near.basis, near.samples), (Basis::SimilarMachines, 1));
        let far = ask(three, 16384);
        assert_eq!((far.basis, far.samples), (Basis::OtherMachines, 4));
        assert_eq!(far.longest_pause, Some(Duration::from_micros(9000 * 16)));
        let none = expect(&all, one, 1024, "transparent huge pages", "kvm", Some(7));
        assert_eq!((none.basis, none.samples), (Basis::Nothing, 0));
        assert_eq!(
            (none.pause, none.durable, none.memory_bytes),
            (None, None, 7)
        );
    }
}
