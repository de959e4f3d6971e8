//! How long each processor of a guest has run: QEMU has a thread for each, which the kernel times.
//!
//! Not here: what else QEMU's threads do.

use std::fs;
use std::path::Path;

/// Units of 100 ns in a second.
const UNITS: u64 = 10_000_000;
/// The kernel's ticks in a second as `/proc` counts them: fixed on x86 (`USER_HZ`).
const TICKS: u64 = 100;
/// More threads than a guest has processors are not looked at.
const MOST_THREADS: usize = 4096;

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

/// The processors of the guest that the process `pid` runs, by number; none where there is no such
/// process, and where one thread runs all processors.
pub fn of_process(pid: u32) -> Vec<ProcessorTime> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = threads
        .flatten()
        .take(MOST_THREADS)
        .filter_map(|thread| of_thread(&thread.path()))
        .collect();
    found.sort_by_key(|processor| processor.number);
    found
}

fn of_thread(thread: &Path) -> Option<ProcessorTime> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    parse(&stat)
}

/// Takes apart a line of `proc(5)`'s `stat`: `id (name) state ...`. The name of the thread of a
/// processor is `CPU <number>/<accelerator>`.
fn parse(stat: &str) -> Option<ProcessorTime> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let (number, accelerator) = name.strip_prefix("CPU ")?.split_once('/')?;
    // The field after the name has number 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let time = |field: usize| -> Option<u64> {
        let ticks: u64 = fields.get(field.checked_sub(3)?)?.parse().ok()?;
        ticks.checked_mul(UNITS / TICKS)
    };
    let (user, system, guest) = (time(14)?, time(15)?, time(43));
    Some(ProcessorTime {
        number: number.parse().ok()?,
        total: user.checked_add(system)?,
        guest: guest.filter(|_| accelerator == "KVM"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_processors_are_told_by_their_names() {
        let fields = |name: &str| {
            let mut fields = vec!["0"; 50];
            (fields[11], fields[12], fields[40]) = ("250", "50", "200");
            format!("77 ({name}) {}", fields.join(" "))
        };
        let expected = ProcessorTime {
            number: 3,
            total: 3 * UNITS,
            guest: None,
        };
        assert_eq!(parse(&fields("CPU 3/TCG")), Some(expected));
        let guest = Some(2 * UNITS);
        assert_eq!(
            parse(&fields("CPU 3/KVM")),
            Some(ProcessorTime { guest, ..expected })
        );
        for strange in ["qemu-system-x86", "CPU x/KVM", "CPU 1", ") (CPU 1/"] {
            assert_eq!(parse(&fields(strange)), None, "{strange}");
        }
        assert_eq!(parse("77 (CPU 1/KVM) S 1"), None);
        assert_eq!(of_process(u32::MAX), []);
    }
}
