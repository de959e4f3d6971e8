//! What the kernel tells of a process or thread in `/proc/PID/stat` (`proc_pid_stat(5)`).

use std::path::Path;
use std::time::Duration;

/// The kernel counts processor and start times in hundredths of a second, on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A span that the kernel counted.
pub(crate) fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// What is used of it. Times are in ticks.
pub(crate) struct Stat {
    pub name: String,
    pub state: char,
    /// Processor time, user and kernel.
    pub used: u64,
    /// The part of it in which a guest ran, where the kernel tells.
    pub guest: Option<u64>,
    /// Start, since the host was booted.
    pub started: u64,
}

impl Stat {
    pub fn read(path: impl AsRef<Path>) -> Option<Stat> {
        Stat::parse(&std::fs::read_to_string(path).ok()?)
    }

    /// The name may hold anything, so the last parenthesis ends it.
    pub fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Field 3 is the first here.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            name: name.into(),
            state: fields.first()?.chars().next()?,
            used: number(14)?.saturating_add(number(15)?),
            guest: number(43),
            started: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_the_fields() {
        let text = "7 (a) R 1 (b)) S 1 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 1 0 77 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.used, stat.started), ('S', 11, 77));
        assert_eq!(stat.guest, None);
        assert!(Stat::parse("7 (a").is_none() && Stat::parse("").is_none());
    }
}
