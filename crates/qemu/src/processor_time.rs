//! How long each processor of a guest has run: QEMU has a thread for each, which the kernel times.
//!
//! Not here: what else QEMU's threads do.

use crate::identity::Identity;
use crate::proc_stat::{Stat, ticks};
use std::time::Duration;

/// More threads than a guest has processors are not looked at.
const MOST_THREADS: usize = 4096;
/// CIM's unit of processor time.
const UNIT: Duration = Duration::from_nanos(100);

/// A guest's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorTime {
    /// From 0.
    pub number: u32,
    /// Time that its thread has run, in units of 100 ns.
    pub total: u64,
    /// The part of it in which the guest itself ran (KVM); nothing where it is emulated.
    pub guest: Option<u64>,
}

/// The processors of the guest that a process runs, by number; none where it has ended, and where one
/// thread runs all processors.
pub fn of_process(process: &Identity) -> Vec<ProcessorTime> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.pid));
    // Looked at behind: until then the number may have been given to another process.
    let mut found: Vec<_> = threads
        .into_iter()
        .flatten()
        .flatten()
        .take(MOST_THREADS)
        .filter_map(|thread| of_thread(&Stat::read(thread.path().join("stat"))?))
        .collect();
    if !process.is_alive() {
        return Vec::new();
    }
    found.sort_by_key(|processor| processor.number);
    found
}

/// The name of the thread of a processor is `CPU <number>/<accelerator>`.
fn of_thread(stat: &Stat) -> Option<ProcessorTime> {
    let (number, accelerator) = stat.name.strip_prefix("CPU ")?.split_once('/')?;
    Some(ProcessorTime {
        number: number.parse().ok()?,
        total: units(stat.used),
        guest: stat.guest.filter(|_| accelerator == "KVM").map(units),
    })
}

/// Units of 100 ns in so many ticks.
fn units(count: u64) -> u64 {
    let units = ticks(count).as_nanos() / UNIT.as_nanos();
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units of 100 ns in a second.
    const SECOND: u64 = 10_000_000;

    #[test]
    fn threads_of_processors_are_told_by_their_names() {
        let told = |name: &str| {
            let mut fields = vec!["0"; 50];
            (fields[11], fields[12], fields[40]) = ("250", "50", "200");
            let stat = format!("77 ({name}) {}", fields.join(" "));
            of_thread(&Stat::parse(&stat).unwrap())
        };
        let expected = ProcessorTime {
            number: 3,
            total: 3 * SECOND,
            guest: None,
        };
        assert_eq!(told("CPU 3/TCG"), Some(expected));
        let guest = Some(2 * SECOND);
        assert_eq!(told("CPU 3/KVM"), Some(ProcessorTime { guest, ..expected }));
        for strange in ["qemu-system-x86", "CPU x/KVM", "CPU 1", ") (CPU 1/"] {
            assert_eq!(told(strange), None, "{strange}");
        }
    }

    #[test]
    fn another_process_of_the_same_number_is_not_looked_at() {
        let own = Identity::of(std::process::id(), uuid::Uuid::nil()).unwrap();
        let started = own.started + 1;
        let name = std::thread::Builder::new().name("CPU 5/TCG".into());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let wait = move || {
            let _ = ended.recv();
        };
        let thread = name.spawn(wait).unwrap();
        // A thread gives itself its name.
        let numbers = loop {
            let found = of_process(&own);
            match found.is_empty() {
                true => std::thread::yield_now(),
                false => break found.iter().map(|p| p.number).collect::<Vec<_>>(),
            }
        };
        assert_eq!(numbers, [5]);
        assert_eq!(of_process(&Identity { started, ..own }), []);
        drop(end);
        thread.join().unwrap();
    }
}
