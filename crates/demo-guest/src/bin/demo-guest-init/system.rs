//! What an operating system's first program must do: file systems, kernel modules, the clock, and
//! the end.

use std::fs::{self, File};
use std::io;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use demo_guest::protocol::Ending;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::Failure;

static PROBLEMS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Mounts what the program and a shell need.
pub fn mount_file_systems() -> io::Result<()> {
    for (kind, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None)?;
    }
    Ok(())
}

/// Loads the modules in the order of their file names. One that does not load (its device may not
/// be in this machine) is no reason to stop.
pub fn load_modules() -> io::Result<()> {
    let mut modules = fs::read_dir("/modules")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    modules.sort();
    for path in modules {
        let loaded = File::open(&path).and_then(|file| Ok(finit_module(file, c"", 0)?));
        if let Err(error) = loaded
            && let Ok(mut problems) = PROBLEMS.lock()
        {
            problems.push(format!("{}: {error}", path.display()));
        }
    }
    Ok(())
}

/// Lets Ctrl-Alt-Del be keys like others, instead of an instant restart by the kernel.
pub fn keep_ctrl_alt_del() -> io::Result<()> {
    Ok(reboot(RebootCommand::CadOff)?)
}

/// What went wrong before the console was open.
pub fn take_problems() -> Vec<String> {
    PROBLEMS
        .lock()
        .map(|mut problems| std::mem::take(&mut *problems))
        .unwrap_or_default()
}

/// Tells this boot from others: nanoseconds since 1970.
pub fn boot_stamp() -> Result<u64, Failure> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos(),
    )?)
}

/// A figure of `/proc/meminfo` in bytes.
pub fn memory_figure(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(':')?;
            rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        })
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {name}")))
}

/// Ends the machine.
pub fn end(ending: Ending) -> io::Result<()> {
    rustix::fs::sync();
    Ok(reboot(match ending {
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Reboot => RebootCommand::Restart,
    })?)
}
