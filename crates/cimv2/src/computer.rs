//! What the kernel tells of this computer. Where a file is missing or says something else than it
//! should, the figure is absent: reading never fails.

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The lines `key: value` or `key=value` of a text.
fn pairs(text: &str, separator: char) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .map(|(key, value)| {
            (
                key.trim().to_owned(),
                value.trim().trim_matches('"').to_owned(),
            )
        })
        .collect()
}

/// A small file's text without white space around it; `None` where it is missing or empty.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Memory, in KiB.
pub(crate) struct Memory(BTreeMap<String, String>);

impl Memory {
    pub(crate) fn read() -> Memory {
        Memory(pairs(
            &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            ':',
        ))
    }

    pub(crate) fn kib(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.split_whitespace().next()?.parse().ok()
    }
}

/// The distribution, as `/etc/os-release` names it.
pub(crate) struct Distribution {
    pub pretty_name: String,
    pub vendor: String,
}

impl Distribution {
    pub(crate) fn read() -> Distribution {
        let text = line("/etc/os-release").or_else(|| line("/usr/lib/os-release"));
        let facts = pairs(&text.unwrap_or_default(), '=');
        let fact = |key: &str| facts.get(key).filter(|value| !value.is_empty()).cloned();
        let name = fact("NAME");
        Distribution {
            pretty_name: fact("PRETTY_NAME")
                .or(name.clone())
                .unwrap_or("Linux".into()),
            vendor: name.unwrap_or("Linux".into()),
        }
    }
}

/// One physical processor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Socket {
    pub facts: BTreeMap<String, String>,
    pub threads: u32,
}

impl Socket {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        let text = self.text(key)?;
        text.split(['.', ' ']).next()?.parse().ok()
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.text("flags")
            .is_some_and(|flags| flags.split_whitespace().any(|known| known == flag))
    }
}

/// The sockets with processors that are in use, in the order of their numbers; at least one.
pub(crate) fn sockets() -> Vec<Socket> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    sockets_in(&text)
}

fn sockets_in(text: &str) -> Vec<Socket> {
    let mut sockets: BTreeMap<u32, Socket> = BTreeMap::new();
    for thread in text.split("\n\n").filter(|part| part.contains("processor")) {
        let facts = pairs(thread, ':');
        let id = facts.get("physical id").and_then(|id| id.parse().ok());
        let socket = sockets.entry(id.unwrap_or(0)).or_default();
        socket.threads += 1;
        if socket.facts.is_empty() {
            socket.facts = facts;
        }
    }
    if sockets.is_empty() {
        sockets.insert(
            0,
            Socket {
                threads: 1,
                ..Socket::default()
            },
        );
    }
    sockets.into_values().collect()
}

/// A mounted file system.
pub(crate) struct Mount {
    pub folder: String,
    pub device: String,
    pub file_system: String,
    pub size: u64,
    pub free: u64,
    pub read_only: bool,
    pub longest_name: u32,
}

/// The file systems that have a device of their own, each once (the first folder it is mounted at).
/// File systems on the network are left out: asking them for their size may wait for ever.
pub(crate) fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut seen = Vec::new();
    let mut mounts = Vec::new();
    for entry in text.lines() {
        let mut fields = entry.split(' ').map(unescaped);
        let (Some(device), Some(folder), Some(file_system)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if !device.starts_with("/dev/") || seen.contains(&device) {
            continue;
        }
        let Ok(stat) = rustix::fs::statvfs(folder.as_str()) else {
            continue;
        };
        seen.push(device.clone());
        mounts.push(Mount {
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            longest_name: u32::try_from(stat.f_namemax).unwrap_or(u32::MAX),
            folder,
            device,
            file_system,
        });
    }
    mounts
}

/// White space in `/proc/self/mounts` is written in octal (`proc(5)`).
fn unescaped(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (code, meaning)| {
        text.replace(code, meaning)
    })
}

/// What the firmware says (`/sys/class/dmi/id`); absent where there is no such firmware.
pub(crate) fn firmware(fact: &str) -> Option<String> {
    line(&format!("/sys/class/dmi/id/{fact}"))
}

/// Identifies this computer: the firmware's identifier, else the one of the installed system.
pub(crate) fn uuid() -> Option<String> {
    let text = firmware("product_uuid").or_else(|| line("/etc/machine-id"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut groups = Vec::new();
    let mut rest = digits.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (group, after) = rest.split_at_checked(length)?;
        groups.push(group);
        rest = after;
    }
    rest.is_empty().then(|| groups.join("-").to_uppercase())
}

/// When the computer was started, in microseconds since 1970.
pub(crate) fn boot_time_micros() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    seconds.trim().parse::<i64>().ok()?.checked_mul(1_000_000)
}

/// When the system was set up: the age of its identifier, as far as the file system tells.
pub(crate) fn install_time_micros() -> Option<i64> {
    let made: SystemTime = fs::metadata("/etc/machine-id").ok()?.modified().ok()?;
    let since = made.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

/// Processes there are.
pub(crate) fn processes() -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?;
    let numbers = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    u32::try_from(numbers.count()).ok()
}

/// Load of all processors over the last minute in percent: the kernel keeps no shorter one, and a
/// reader does not wait.
pub(crate) fn load_percent(threads: u32) -> Option<u16> {
    let text = line("/proc/loadavg")?;
    let load: f64 = text.split(' ').next()?.parse().ok()?;
    let percent = (load * 100.0 / f64::from(threads.max(1)))
        .clamp(0.0, 100.0)
        .round();
    (0..=100).find(|whole| f64::from(*whole) >= percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_by_socket() {
        let text = "processor: 0\nphysical id: 1\ncpu cores: 2\n\nprocessor: 1\nphysical id: 0\n\n\
                    processor: 2\nphysical id: 1\n";
        let sockets = sockets_in(text);
        let threads: Vec<u32> = sockets.iter().map(|socket| socket.threads).collect();
        assert_eq!(threads, [1, 2]);
        assert_eq!(
            sockets.get(1).and_then(|socket| socket.number("cpu cores")),
            Some(2)
        );
        assert_eq!(sockets_in("").len(), 1);
    }

    #[test]
    fn folders_with_white_space_are_read() {
        assert_eq!(unescaped("/mnt/two\\040words"), "/mnt/two words");
    }
}
