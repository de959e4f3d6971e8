//! The lines on the serial port, as values: what the guest formats and the host parses.
//!
//! Parsing is strict about what it needs and indifferent to keys it does not know. A line that is
//! not of the kind asked for gives `None`: the port also carries the kernel's messages.

use std::fmt;
use std::str::FromStr;

/// The longest line either side takes.
pub const MAXIMUM_LINE: usize = 4096;

/// The counter of one disk as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// The kernel's name, such as `sdb`.
    pub name: String,
    /// How it is attached: `ide`, `virtio` or `other`.
    pub bus: String,
    /// The last counter that was written to it, or found on it at the start.
    pub counter: u64,
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.bus, self.counter)
    }
}

impl FromStr for DiskState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(bus), Some(counter), None) => Ok(Self {
                name: name.to_owned(),
                bus: bus.to_owned(),
                counter: counter.parse().map_err(drop)?,
            }),
            _ => Err(()),
        }
    }
}

/// The guest's first line: it counts from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// This boot: nanoseconds since 1970 by the guest's clock, so later boots are greater.
    pub boot: u64,
    /// The counter before the first round.
    pub start: u64,
    /// Pages of the ring.
    pub ring: u64,
    /// Memory in MiB, as the guest's kernel counts it.
    pub memory: u64,
    /// Processors.
    pub cpus: u64,
    /// Disks the guest counts on.
    pub disks: Vec<DiskState>,
    /// Disks that it leaves alone.
    pub ignored: Vec<String>,
}

const READY: &str = "rootvirt-guest ready ";

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            start,
            ring,
            memory,
            cpus,
            disks,
            ignored,
        } = self;
        write!(
            f,
            "{READY}boot={boot:016x} start={start} ring={ring} memory={memory} cpus={cpus}"
        )?;
        write!(f, " disks={} ignored={}", list(disks), list(ignored))
    }
}

impl Ready {
    /// The line as a value, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let fields = line.strip_prefix(READY)?;
        Some(Self {
            boot: hexadecimal(fields, "boot")?,
            start: number(fields, "start")?,
            ring: number(fields, "ring")?,
            memory: number(fields, "memory")?,
            cpus: number(fields, "cpus")?,
            disks: parse_list(field(fields, "disks")?)?,
            ignored: parse_list(field(fields, "ignored")?)?,
        })
    }
}

/// The line of every second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Seconds since the guest's program started, by the guest's clock.
    pub seconds: u64,
    /// Counter A.
    pub ram: u64,
    /// The lowest counter of all data disks; none without a data disk.
    pub disk: Option<u64>,
    /// Read and write errors so far.
    pub errors: u64,
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seconds,
            ram,
            disk,
            errors,
        } = self;
        write!(f, "tick {seconds} ram {ram} disk ")?;
        match disk {
            Some(disk) => write!(f, "{disk}")?,
            None => write!(f, "-")?,
        }
        write!(f, " errors {errors}")
    }
}

impl Tick {
    /// The line as a value, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            "tick",
            seconds,
            "ram",
            ram,
            "disk",
            disk,
            "errors",
            errors,
            ..,
        ] = words.as_slice()
        else {
            return None;
        };
        Some(Self {
            seconds: seconds.parse().ok()?,
            ram: ram.parse().ok()?,
            disk: match *disk {
                "-" => None,
                disk => Some(disk.parse().ok()?),
            },
            errors: errors.parse().ok()?,
        })
    }
}

/// The answer to `report`: taken at the end of a round, so A = B = D of every disk when all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// As in [`Ready::boot`].
    pub boot: u64,
    /// Counter A.
    pub a: u64,
    /// Counter B.
    pub b: u64,
    /// The counter before the first round of this boot.
    pub start: u64,
    /// Pages of the ring.
    pub ring: u64,
    /// Ring pages that do not hold what they must.
    pub ring_wrong: u64,
    /// Blocks that could not be read back, or read back wrong.
    pub read_errors: u64,
    /// Blocks that could not be written.
    pub write_errors: u64,
    /// MiB of pages dirtied by `dirty` so far.
    pub dirtied: u64,
    /// The data disks.
    pub disks: Vec<DiskState>,
}

const REPORT: &str = "report ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            a,
            b,
            start,
            ring,
            ring_wrong,
            read_errors,
            write_errors,
            ..
        } = self;
        let Self { dirtied, disks, .. } = self;
        write!(
            f,
            "{REPORT}boot={boot:016x} a={a} b={b} start={start} ring={ring}"
        )?;
        write!(f, " ring-wrong={ring_wrong} read-errors={read_errors}")?;
        write!(
            f,
            " write-errors={write_errors} dirtied={dirtied} disks={}",
            list(disks)
        )
    }
}

impl Report {
    /// The line as a value, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let fields = line.strip_prefix(REPORT)?;
        Some(Self {
            boot: hexadecimal(fields, "boot")?,
            a: number(fields, "a")?,
            b: number(fields, "b")?,
            start: number(fields, "start")?,
            ring: number(fields, "ring")?,
            ring_wrong: number(fields, "ring-wrong")?,
            read_errors: number(fields, "read-errors")?,
            write_errors: number(fields, "write-errors")?,
            dirtied: number(fields, "dirtied")?,
            disks: parse_list(field(fields, "disks")?)?,
        })
    }

    /// Whether counters, ring and disks are all in step and nothing went wrong in this boot.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.a == self.b
            && self.ring_wrong == 0
            && self.read_errors == 0
            && self.write_errors == 0
            && self.disks.iter().all(|disk| disk.counter == self.a)
    }
}

/// A key of a keyboard was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// Linux's code of the key; for the main keys the same as in scan code set 1.
    pub code: u16,
}

const KEY: &str = "rootvirt-guest key ";

impl fmt::Display for KeyPress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY}{}", self.code)
    }
}

impl KeyPress {
    /// The line as a value, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        Some(Self {
            code: line.strip_prefix(KEY)?.parse().ok()?,
        })
    }
}

/// How the guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Powers itself off.
    PowerOff,
    /// Restarts.
    Reboot,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "rootvirt-guest poweroff",
            Self::Reboot => "rootvirt-guest reboot",
        })
    }
}

fn field<'a>(fields: &'a str, key: &str) -> Option<&'a str> {
    fields
        .split(' ')
        .find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
}

fn number(fields: &str, key: &str) -> Option<u64> {
    field(fields, key)?.parse().ok()
}

fn hexadecimal(fields: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(field(fields, key)?, 16).ok()
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn parse_list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    match text {
        "-" => Some(Vec::new()),
        text => text.split(',').map(|item| item.parse().ok()).collect(),
    }
}
