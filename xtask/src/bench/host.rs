//! The machine that measures: what it is, and warming it up.

use std::fs;
use std::process::Command;

use serde::Serialize;

use super::contender::Accelerator;
use crate::{Failure, process};

const PAGE: usize = 4096;
const MIB: u64 = 1 << 20;

/// What results depend on.
#[derive(Debug, Serialize)]
pub struct Host {
    pub processor: String,
    pub cores: usize,
    pub ram_mib: u64,
    pub kernel: String,
    pub qemu: String,
    pub libvirt: String,
    pub accelerator: Accelerator,
    pub transparent_huge_pages: String,
    /// How many processes wanted a processor before the run, in the mean of a minute.
    pub load_average: f64,
}

impl Host {
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
            load_average,
        })
    }
}

/// How busy the machine is: others' work shows in every figure.
pub fn load_average() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Touches more memory than any guest and its image will take, and gives it back: where this machine
/// is itself virtual, memory costs much more when it is used for the first time.
pub fn warm_up(guest_mib: u64) -> Result<(), Failure> {
    let mib = (guest_mib * 6).min(memory_mib("MemAvailable")? / 2);
    let mut memory = vec![0_u8; usize::try_from(mib * MIB)?];
    for byte in memory.iter_mut().step_by(PAGE) {
        *byte = 1;
    }
    std::hint::black_box(&memory);
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
