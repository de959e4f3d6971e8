//! With a real operating system in the guest: the demo guest's disk, named by
//! `ROOTVIRT_TEST_GUEST` (`cargo xtask test` sets it).

use crate::site::*;
use machines::model::{DeviceKind, Health, State};
use machines::request::StateRequest as Ask;
use machines::{DeviceId, MachineId, Machines};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Booting under emulation on a busy host.
pub const BOOT: Duration = Duration::from_secs(240);

pub fn guest_image() -> Option<PathBuf> {
    let guest = std::env::var_os("ROOTVIRT_TEST_GUEST").map(PathBuf::from);
    if !guest.as_ref().is_some_and(|path| path.is_file()) {
        println!("skipped: ROOTVIRT_TEST_GUEST names no guest image");
        return None;
    }
    guest
}

async fn says(site: &Site, from: usize, word: &str) -> usize {
    let serial = site.path("linux.serial");
    let began = Instant::now();
    loop {
        let bytes = std::fs::read(&serial).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
        if text.contains(word) {
            return bytes.len();
        }
        assert!(
            began.elapsed() < BOOT,
            "the guest does not say {word:?}: {text}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn linux(site: &Site, machines: &Machines, image: &std::path::Path) -> MachineId {
    let boot = site.path("linux.raw");
    std::fs::copy(image, &boot).unwrap();
    let data = site.disk("linux-data.img", b"", 64);
    let id = define(machines, "linux").await;
    let ide = DeviceId(IDE[0].into());
    add_disk(machines, id, ide.clone(), "0", &boot).await;
    add_disk(machines, id, ide, "1", &data).await;
    let port = first(&machines.machine(id).unwrap(), DeviceKind::SerialPort);
    let changes = vec![memory(256), connect(port, &site.path("linux.serial"))];
    machines
        .modify_resources(&actor(), id, changes)
        .await
        .unwrap();
    id
}

#[tokio::test]
async fn linux_is_snapshotted_goes_back_and_shuts_down() {
    let Some(image) = guest_image() else { return };
    let site = Site::new();
    let machines = site.open().await;
    let id = linux(&site, &machines, &image).await;
    bring(&machines, id, Ask::Run).await;
    let at = says(&site, 0, "rootvirt-guest ready").await;
    let at = says(&site, at, "tick").await;
    let taken = snapshot(&machines, id).await;
    let at = says(&site, at, "tick").await;
    sound(&machines).await;

    let began = Instant::now();
    let mut patient = machines
        .request_state(&actor(), id, Ask::ShutDown)
        .await
        .unwrap();
    loop {
        // The patience of these tests is short; a busy host's guest may need more.
        let job = machines.wait(patient).await.unwrap();
        if job.state == machines::model::JobState::Completed {
            break;
        }
        assert!(began.elapsed() < BOOT, "{job:?}");
        if state(&machines, id) == State::Off {
            break;
        }
        patient = match machines.request_state(&actor(), id, Ask::ShutDown).await {
            Ok(job) => job,
            Err(_) => break,
        };
    }
    eventually("the machine is off", || async {
        (state(&machines, id) == State::Off).then_some(())
    })
    .await;
    assert_eq!(machines.machine(id).unwrap().health, Health::Ok);
    says(&site, at, "poweroff").await;
    sound(&machines).await;

    apply(&machines, id, taken).await;
    assert_eq!(state(&machines, id), State::Saved);
    let at = std::fs::metadata(site.path("linux.serial")).unwrap().len() as usize;
    bring(&machines, id, Ask::Run).await;
    let at = says(&site, at, "tick").await;
    says(&site, at, "errors 0").await;
    bring(&machines, id, Ask::TurnOff).await;
    remove(&machines, taken).await;
    sound(&machines).await;
}
