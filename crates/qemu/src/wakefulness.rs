//! Processors that do not sleep deeply for a short time.
//!
//! A restore, and the silence after a snapshot's pause, are made of hundreds of turns of QEMU's
//! threads, the guest's and ours, each of which wakes a processor that has just gone to sleep. How
//! long that takes is up to the host: microseconds, or, in a virtual machine, until its own host
//! has found it a processor again. Linux keeps its processors from sleeping more deeply than
//! somebody can bear who has `/dev/cpu_dma_latency` open (`Documentation/power/pm_qos_interface.rst` of Linux).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Where the kernel is told how many microseconds a processor may take to wake.
const DEVICE: &str = "/dev/cpu_dma_latency";
/// Who chooses how deeply a processor sleeps.
const GOVERNOR: &str = "/sys/devices/system/cpu/cpuidle/current_governor";
/// The governor of virtual machines: it leaves only the choice between sleeping and not sleeping.
const HALTPOLL: &[u8] = b"haltpoll";
/// Microseconds that do not matter beside the turns themselves; the lightest sleep stays allowed,
/// and with it most of what sleeping saves.
const BEARABLE: i32 = 10;
/// The longest that processors are kept awake for one purpose: what comes later is not urgent.
const LIMIT: Duration = Duration::from_secs(5);

/// As long as it lives, but for five seconds at most, processors wake quickly.
#[derive(Debug)]
pub struct Awake(Option<JoinHandle<()>>);

impl Awake {
    /// Begins. Without the right to it, or on a kernel that does not know it, nothing changes. Called
    /// within a tokio runtime.
    pub fn hold() -> Awake {
        match request(Path::new(DEVICE), Path::new(GOVERNOR)) {
            Ok(request) => Awake(Some(tokio::spawn(async move {
                tokio::time::sleep(LIMIT).await;
                drop(request);
            }))),
            Err(error) => {
                tracing::debug!(%error, "processors sleep as they like");
                Awake(None)
            }
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.abort();
        }
    }
}

/// Tells the kernel; it holds until the file is closed.
fn request(device: &Path, governor: &Path) -> std::io::Result<File> {
    let governor = std::fs::read(governor).unwrap_or_default();
    let bearable = match governor.trim_ascii() {
        HALTPOLL => 0,
        _ => BEARABLE,
    };
    let mut request = OpenOptions::new().write(true).open(device)?;
    request.write_all(&bearable.to_ne_bytes())?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(governor: &str) -> i32 {
        let folder = tempfile::tempdir().unwrap();
        let [device, file] = ["latency", "governor"].map(|name| folder.path().join(name));
        std::fs::write(&device, "").unwrap();
        std::fs::write(&file, governor).unwrap();
        request(&device, &file).unwrap();
        i32::from_ne_bytes(std::fs::read(&device).unwrap().try_into().unwrap())
    }

    #[test]
    fn light_sleep_is_allowed_where_there_is_such_a_thing() {
        assert_eq!(asked_for("menu\n"), BEARABLE);
        assert_eq!(asked_for("haltpoll\n"), 0);
    }
}
