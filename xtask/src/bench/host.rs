//! The machine that measures: what it is, and warming it up.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::contender::Accelerator;
use super::plan::Plan;
use super::{disk, isolation};
use crate::{Failure, Outcome, process};

const PAGE: usize = 4096;
const MIB: u64 = 1 << 20;
/// Memory is touched in such pieces.
const CHUNK_MIB: u64 = 256;
/// More is not touched even where there is more.
const MOST_WARM_UP_MIB: u64 = 40 << 10;
/// Left to other programs.
const LEFT_FREE_MIB: u64 = 1536;
/// What our service takes to receive a guest's memory.
const RECEIVER_MIB: u64 = 1024;

/// What results depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub processor: String,
    pub cores: usize,
    pub ram_mib: u64,
    pub kernel: String,
    pub qemu: String,
    pub libvirt: String,
    pub accelerator: Accelerator,
    pub transparent_huge_pages: String,
    /// In the host's pool before the run.
    pub huge_pages: u64,
    /// How many processes wanted a processor before the run, in the mean of a minute.
    pub load_average: f64,
}

impl Host {
    /// Whether figures of both may be put into one table.
    pub fn is_like(&self, other: &Self) -> bool {
        let same = Self {
            load_average: other.load_average,
            huge_pages: other.huge_pages,
            ..self.clone()
        };
        same == *other
    }

    /// `load_average` is what [`load_average`] gave before the run.
    pub fn describe(accelerator: Accelerator, load_average: f64) -> Result<Self, Failure> {
        let version = |program: &str| -> Result<String, Failure> {
            let text = process::quiet(Command::new(program).arg("--version"))?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        let file = |name: &str| fs::read_to_string(name).unwrap_or_default();
        Ok(Self {
            processor: field(&file("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            ram_mib: memory_mib("MemTotal")?,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            qemu: version("qemu-system-x86_64")?
                .trim_start_matches("QEMU emulator version ")
                .to_owned(),
            libvirt: version("virsh")?,
            accelerator,
            transparent_huge_pages: chosen(&file("/sys/kernel/mm/transparent_hugepage/enabled")),
            huge_pages: file("/proc/sys/vm/nr_hugepages")
                .trim()
                .parse()
                .unwrap_or(0),
            load_average,
        })
    }
}

/// How busy the machine is: others' work shows in every figure.
pub fn load_average() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Touches memory of the host and gives it back: where the machine is itself virtual, memory costs
/// ten times as much when it is used for the first time. As much as can be had without harm is
/// touched, since nobody knows which of it the guests will get.
pub fn warm_up(plan: &Plan) -> Outcome {
    let available = memory_mib("MemAvailable")?.saturating_sub(LEFT_FREE_MIB);
    let mib = plan.warm_up_mib.unwrap_or(MOST_WARM_UP_MIB).min(available);
    eprintln!("warming up {mib} MiB of the machine's memory");
    let mut kept = Vec::new();
    for _ in 0..mib / CHUNK_MIB {
        let mut memory = vec![0_u8; usize::try_from(CHUNK_MIB * MIB)?];
        for byte in memory.iter_mut().step_by(PAGE) {
            *byte = 1;
        }
        kept.push(std::hint::black_box(memory));
        if memory_mib("MemAvailable")? < LEFT_FREE_MIB {
            break;
        }
    }
    Ok(())
}

/// Refuses a plan that this machine has no room for.
pub fn check_room(plan: &Plan) -> Outcome {
    let largest = plan.rams_mib.iter().copied().max().unwrap_or(0);
    // Our receiver takes memory in while the guest runs; the rest is for all other programs.
    let needed = largest + RECEIVER_MIB + LEFT_FREE_MIB;
    let there = memory_mib("MemAvailable")?;
    if there < needed {
        return Err(format!(
            "a guest of {largest} MiB needs {needed} MiB of free memory, and there are {there}: \
             end other programs, or ask for a smaller guest with --ram"
        )
        .into());
    }
    let images = plan.snapshots.max(plan.rounds) as u64 + 4;
    // Half full, and some more; a service refuses when there is no room for a full one.
    let needed = images * (largest * 6 / 10 + 64) + largest + LEFT_FREE_MIB;
    let there = disk::free_bytes(Path::new(isolation::PLACE))? / MIB;
    if there < needed {
        return Err(format!(
            "{images} snapshots of a guest of {largest} MiB need {needed} MiB in {}, and there are \
             {there}: delete something, or ask for fewer with --snapshots and --rounds, or for a \
             smaller guest with --ram",
            isolation::PLACE
        )
        .into());
    }
    Ok(())
}

fn memory_mib(name: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let value = field(&text, name).ok_or_else(|| format!("/proc/meminfo has no {name}"))?;
    Ok(value.trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The word in brackets.
fn chosen(text: &str) -> String {
    let word = |text: &str| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned());
    word(text).unwrap_or_default()
}
