//! Guests that run from a saved state before their memory is there, and what may happen meanwhile.

use crate::crashes::{die, die_after};
use crate::site::*;
use crate::snapshots::fill_memory_up_to;
use machines::model::{Health, Restoration, State};
use machines::request::StateRequest as Ask;
use machines::{MachineId, Machines, SnapshotId};
use qemu::identity::Identity;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn restored(machines: &Machines, id: MachineId) -> Option<Restoration> {
    machines.machine(id).unwrap().restored.clone()
}

async fn resident(machines: &Machines, id: MachineId) -> Restoration {
    eventually("all memory is there", || async {
        let restored = restored(machines, id)?;
        restored.resident.is_some().then_some(restored)
    })
    .await
}

/// A machine that is off after a snapshot of it was taken.
async fn snapshotted(site: &Site, machines: &Machines) -> (MachineId, SnapshotId) {
    snapshotted_with(site, machines, 0).await
}

/// The same, with as many MiB of noise in its memory.
async fn snapshotted_with(site: &Site, machines: &Machines, noise: u64) -> (MachineId, SnapshotId) {
    let id = site.counter(machines, "guest").await;
    if noise > 0 {
        let change = vec![memory(1024)];
        let changed = machines.modify_resources(&actor(), id, change).await;
        changed.unwrap();
    }
    bring(machines, id, Ask::Run).await;
    site.counts_beyond("guest", 20).await;
    if noise > 0 {
        fill_memory_up_to(site, id, 16 + noise).await;
    }
    let taken = snapshot(machines, id).await;
    bring(machines, id, Ask::TurnOff).await;
    (id, taken)
}

/// The files of memory images.
fn images(site: &Site, id: MachineId) -> Vec<PathBuf> {
    let folder = site.data().join("machines").join(id.to_string());
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "img") {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_restored_guest_can_be_snapshotted_and_saved_at_once() {
    let site = Site::new();
    let machines = site.open().await;
    let (id, taken) = snapshotted(&site, &machines).await;
    apply(&machines, id, taken).await;
    bring(&machines, id, Ask::Run).await;
    let running = restored(&machines, id).unwrap();
    assert_eq!(running.whole_because, None);
    assert!(running.running.is_some());
    // Both wait for its memory.
    let second = snapshot(&machines, id).await;
    println!("{:?}", resident(&machines, id).await);
    bring(&machines, id, Ask::Save).await;
    assert_eq!(restored(&machines, id), None);
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Save).await;
    for snapshot in [taken, second] {
        apply(&machines, id, snapshot).await;
        bring(&machines, id, Ask::Run).await;
        site.counts_on("guest").await;
        // The image stays as long as memory comes from it.
        remove(&machines, snapshot).await;
        resident(&machines, id).await;
        site.counts_on("guest").await;
        bring(&machines, id, Ask::TurnOff).await;
    }
    assert_eq!(images(&site, id), Vec::<PathBuf>::new());
    sound(&machines).await;
}

#[tokio::test]
async fn where_memory_cannot_come_on_demand_it_is_loaded_whole() {
    let site = Site::new();
    let mut config = site.config();
    config.restore_on_demand = false;
    let machines = Machines::open(config).await.unwrap();
    let (id, taken) = snapshotted(&site, &machines).await;
    apply(&machines, id, taken).await;
    bring(&machines, id, Ask::Run).await;
    let restored = restored(&machines, id).unwrap();
    assert!(restored.whole_because.is_some());
    assert_eq!(restored.running, restored.resident);
    site.counts_on("guest").await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_guest_outlives_every_service_that_serves_it_memory() {
    let site = Site::new();
    let machines = site.open().await;
    let (id, taken) = snapshotted_with(&site, &machines, 200).await;
    machines.close().await;
    drop(machines);
    let mut unfinished = 0;
    for (round, point) in ["start.run", "start.running", "start.done"]
        .into_iter()
        .enumerate()
    {
        if round > 0 {
            let machines = site.open().await;
            bring(&machines, id, Ask::TurnOff).await;
            machines.close().await;
        }
        let machines = site.open().await;
        apply(&machines, id, taken).await;
        machines.close().await;
        drop(machines);
        assert!(die(&site, &format!("start {id}"), point).await);
        // Again and again, at any time.
        for millis in [40, 90, 140, 60] {
            die_after(&site, Duration::from_millis(millis)).await;
        }
        let machines = site.open().await;
        assert_eq!(state(&machines, id), State::Running, "{point}");
        assert_eq!(machines.machine(id).unwrap().health, Health::Ok, "{point}");
        let shown = restored(&machines, id).unwrap();
        unfinished += u32::from(shown.resident.is_none());
        println!("{point}: {:?}", resident(&machines, id).await);
        site.counts_on("guest").await;
        bring(&machines, id, Ask::Pause).await;
        let [a, one, two, b] = site.numbers(&machines, id).await;
        assert!(b <= two && two <= one && one <= a && a <= b + 1);
        sound(&machines).await;
        machines.close().await;
    }
    println!("{unfinished} of 3 restores were finished by the last service");
}

/// How many guests are turned off soon after their start.
const TURN_OFFS_VARIABLE: &str = "MACHINES_TEST_TURN_OFFS";

#[tokio::test]
async fn a_machine_turned_off_before_its_memory_is_there_is_off_however_qemu_ends() {
    let site = Site::new();
    let machines = site.open().await;
    let (id, taken) = snapshotted_with(&site, &machines, 400).await;
    let rounds = std::env::var(TURN_OFFS_VARIABLE).map_or(6, |n| n.parse::<u64>().unwrap());
    apply(&machines, id, taken).await;
    bring(&machines, id, Ask::Run).await;
    // Until all of it is there, and just after that, QEMU has most to end.
    let window = resident(&machines, id).await.resident.unwrap().mul_f64(1.3);
    let window = u64::try_from(window.as_micros()).unwrap();
    bring(&machines, id, Ask::TurnOff).await;
    let (mut early, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for round in 0..rounds {
        apply(&machines, id, taken).await;
        let begun = Instant::now();
        bring(&machines, id, Ask::Run).await;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_micros(random % window.max(1));
        tokio::time::sleep(moment.saturating_sub(begun.elapsed())).await;
        let process = site.process(id).await;
        // Now and then, QEMU is gone before it can do as it is told.
        if round % 3 == 1 {
            let identity = Identity::read(&site.data().join("run").join(id.to_string()))
                .and_then(|i| i.open());
            let actor = actor();
            let ask = machines.request_state(&actor, id, Ask::TurnOff);
            let (job, ()) = tokio::join!(ask, async {
                identity.iter().for_each(|i| drop(qemu::identity::kill(i)));
            });
            // It may be known already that it has ended: then it is off.
            if let Ok(job) = job {
                completed(&machines, job).await;
            }
        } else {
            let restored = restored(&machines, id).unwrap();
            early += u64::from(restored.resident.is_none());
            bring(&machines, id, Ask::TurnOff).await;
        }
        eventually("the machine is off", || async {
            (state(&machines, id) == State::Off).then_some(())
        })
        .await;
        process.exited().await;
        assert!(machines.machine(id).unwrap().process.is_none());
    }
    println!("{early} of {rounds} were turned off before all of their memory was there");
    sound(&machines).await;
    apply(&machines, id, taken).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("guest").await;
    resident(&machines, id).await;
}

#[tokio::test]
async fn a_guest_that_may_not_run_keeps_its_saved_state() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "guest").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("guest", 20).await;
    bring(&machines, id, Ask::Save).await;
    let disk = machines
        .machine(id)
        .unwrap()
        .settings
        .devices
        .iter()
        .filter_map(|d| d.connection.first().cloned())
        .find(|file| file.ends_with(".img"))
        .unwrap();
    // Somebody else holds the disk when the guest is to run.
    let mut other = tokio::process::Command::new("qemu-io")
        .args(["-f", "raw", "-c", "sleep 600000"])
        .arg(&disk)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let job = machines
        .request_state(&actor(), id, Ask::Run)
        .await
        .unwrap();
    let error = failed(&machines, job).await;
    println!("{error:?}");
    assert_eq!(state(&machines, id), State::Saved);
    assert_eq!(images(&site, id).len(), 1);
    sound(&machines).await;
    other.kill().await.unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_on("guest").await;
    resident(&machines, id).await;
    sound(&machines).await;
}
