//! The check before a snapshot, and rehearsals after it.

use crate::site::*;
use machines::Error;
use machines::Machines;
use machines::SnapshotId;
use machines::forecast::Basis;
use machines::model::{Job, State};
use machines::rehearsal::{Outcome, Rehearsal};
use machines::request::StateRequest as Ask;
use qemu::identity::Identity;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

async fn begin(machines: &Machines, id: SnapshotId, seconds: u64) -> machines::JobId {
    machines
        .rehearse_snapshot(&actor(), id, Duration::from_secs(seconds))
        .await
        .unwrap()
}

async fn rehearse(machines: &Machines, id: SnapshotId) -> (Arc<Job>, Arc<Rehearsal>) {
    let job = completed(machines, begin(machines, id, 30).await).await;
    (job, machines.rehearsal(id).unwrap())
}

/// The run folders of clones.
fn clones(site: &Site) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(site.data().join("run")).into_iter();
    let paths = runs.flatten().flatten().map(|e| e.path());
    paths
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("rehearsal-")
        })
        .collect()
}

fn nothing_is_left(site: &Site) {
    assert_eq!(clones(site), Vec::<PathBuf>::new());
    let folders = std::fs::read_dir(site.data().join("rehearsals"));
    assert_eq!(folders.into_iter().flatten().count(), 0);
}

#[tokio::test]
async fn a_snapshot_is_rehearsed_while_the_machine_runs_on() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "play").await;
    let cold = snapshot(&machines, id).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("play", 5).await;
    let live = snapshot(&machines, id).await;
    let (job, seen) = rehearse(&machines, live).await;
    assert_eq!(job.snapshot, Some(live));
    assert_eq!(seen.outcome, Outcome::Lived, "{seen:?}");
    assert_eq!(seen.sign.as_deref(), Some("wrote to serial port 1"));
    let (loaded, running) = (seen.loaded_micros.unwrap(), seen.running_micros.unwrap());
    assert!(running <= seen.sign_micros.unwrap());
    assert!(loaded > 0 && seen.took_micros > running.max(loaded));
    nothing_is_left(&site);
    assert_eq!(state(&machines, id), State::Running);
    site.counts_on("play").await;
    // One without memory is booted.
    let (_, seen) = rehearse(&machines, cold).await;
    assert_eq!(seen.outcome, Outcome::Lived, "{seen:?}");
    sound(&machines).await;
    // It is kept across a restart, and changed nothing.
    machines.close().await;
    drop(machines);
    let machines = site.open().await;
    assert_eq!(machines.rehearsal(cold), Some(seen));
    bring(&machines, id, Ask::TurnOff).await;
    apply(&machines, id, live).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("play").await;
    // Gone with its snapshot.
    remove(&machines, cold).await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_clone_that_does_not_run_is_told_and_thrown_away() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "broken").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("broken", 5).await;
    let live = snapshot(&machines, id).await;
    // Its memory cannot be loaded.
    let image = site.data().join("machines").join(id.to_string());
    let image = image
        .join("snapshots")
        .join(live.to_string())
        .join("memory.img");
    let good = std::fs::read(&image).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad.truncate(middle);
    std::fs::write(&image, &bad).unwrap();
    let job = begin(&machines, live, 5).await;
    assert_eq!(failed(&machines, job).await.code, "DamagedImage");
    let seen = machines.rehearsal(live).unwrap();
    assert_eq!((seen.outcome, seen.running_micros), (Outcome::Failed, None));
    nothing_is_left(&site);
    // A page of it is not what it was, wherever it is.
    let mut bad = good.clone();
    let page = bad.len() / 2;
    bad[page] ^= 1;
    std::fs::write(&image, &bad).unwrap();
    let job = begin(&machines, live, 5).await;
    assert_eq!(failed(&machines, job).await.code, "RehearsalFailed");
    let seen = machines.rehearsal(live).unwrap();
    assert_eq!(seen.outcome, Outcome::Failed);
    assert!(seen.what.contains("cannot be read"), "{}", seen.what);
    nothing_is_left(&site);
    std::fs::write(&image, &good).unwrap();
    assert_eq!(rehearse(&machines, live).await.1.outcome, Outcome::Lived);
    sound(&machines).await;
}

#[tokio::test]
async fn a_rehearsal_can_be_cancelled_and_its_clone_can_die() {
    let site = Site::new();
    let machines = site.open().await;
    // A disk that does not boot: the firmware waits for ever, and prints nothing.
    let id = define(&machines, "mute").await;
    let disk = site.disk("mute.img", &[0; 512], 1);
    add_disk(&machines, id, machines::DeviceId(IDE[0].into()), "0", &disk).await;
    machines
        .modify_resources(&actor(), id, vec![memory(64)])
        .await
        .unwrap();
    let cold = snapshot(&machines, id).await;
    let clone = || async {
        let identity = clones(&site).first().and_then(|run| Identity::read(run));
        identity.filter(Identity::is_alive)
    };
    let job = begin(&machines, cold, 60).await;
    let identity = eventually("the clone runs", clone).await;
    // While it runs, no layer may go.
    let busy = machines.remove_snapshot(&actor(), cold).await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    machines.cancel(&actor(), job).await.unwrap();
    assert!(!identity.is_alive());
    assert_eq!(machines.rehearsal(cold), None);
    nothing_is_left(&site);

    let job = begin(&machines, cold, 60).await;
    let identity = eventually("the clone runs", clone).await;
    qemu::identity::kill(&identity.open().unwrap()).unwrap();
    failed(&machines, job).await;
    assert_eq!(machines.rehearsal(cold).unwrap().outcome, Outcome::Failed);
    nothing_is_left(&site);

    // A guest that sleeps runs, too: the firmware has found nothing to boot, and waits.
    bring(&machines, id, Ask::Run).await;
    let process = site.process(id).await;
    eventually("the firmware waits", || async {
        let ask = serde_json::json!({"command-line": "info registers"});
        let said = process.qmp().execute("human-monitor-command", ask).await;
        said.unwrap()
            .as_str()
            .unwrap()
            .contains("HLT=1")
            .then_some(())
    })
    .await;
    let asleep = snapshot(&machines, id).await;
    let job = begin(&machines, asleep, 1).await;
    completed(&machines, job).await;
    let seen = machines.rehearsal(asleep).unwrap();
    assert_ne!(seen.outcome, Outcome::Failed, "{seen:?}");
    bring(&machines, id, Ask::TurnOff).await;

    // A service that closes does not leave one behind.
    begin(&machines, cold, 60).await;
    let identity = eventually("the clone runs", clone).await;
    machines.close().await;
    assert!(!identity.is_alive());
    nothing_is_left(&site);
}

#[tokio::test]
async fn the_check_before_says_what_a_snapshot_needs_and_what_is_against_it() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "asked").await;
    let who = actor();
    let ask = || machines.check_snapshot(&who, id);
    let cold = ask().await.unwrap();
    assert_eq!((cold.state, cold.with_memory), (State::Off, false));
    assert_eq!(cold.refusals, vec![]);
    assert_eq!((cold.host_memory_mib.0, cold.chain_depth), (0, 1));
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("asked", 5).await;
    let first = ask().await.unwrap();
    assert!(first.with_memory && first.refusals.is_empty());
    assert_eq!(
        (first.expected.basis, first.expected.samples),
        (Basis::Nothing, 0)
    );
    assert_eq!(first.expected.pause, None);
    assert!(first.expected.memory_bytes <= 64 << 20);
    let space = &first.space[0];
    assert!(space.needed > 64 << 20 && space.there > space.needed);
    assert!(space.expected > 0 && space.expected < space.needed);
    let taken = snapshot(&machines, id).await;
    let taken = machines.snapshot(taken).unwrap().1;
    let second = ask().await.unwrap();
    assert_eq!(
        (second.expected.basis, second.expected.samples),
        (Basis::ThisMachine, 1)
    );
    assert_eq!(second.expected.pause, taken.pause);
    assert_eq!(second.expected.memory_bytes, taken.stored_bytes);
    assert_eq!(second.chain_depth, 2);
    bring(&machines, id, Ask::Pause).await;
    let paused = ask().await.unwrap();
    assert_eq!(paused.refusals[0].code, "WrongState");
    bring(&machines, id, Ask::TurnOff).await;

    // What the real one says; all of it.
    std::fs::rename(site.path("asked-one.img"), site.path("gone.img")).unwrap();
    let refused = ask().await.unwrap();
    let codes: Vec<_> = refused.refusals.iter().map(|r| r.code.as_str()).collect();
    assert_eq!(codes, ["LayerFileMissing"]);
    let real = machines.create_snapshot(&actor(), id).await.unwrap_err();
    assert_eq!(real.what(), refused.refusals[0].what);
    std::fs::rename(site.path("gone.img"), site.path("asked-one.img")).unwrap();
    machines.close().await;
    drop(machines);

    let mut config = site.config();
    config.memory_headroom_mib = 1 << 40;
    let machines = Machines::open(config).await.unwrap();
    let snapshots = machines.machine(id).unwrap().snapshots.clone();
    let refused = machines
        .rehearse_snapshot(&actor(), snapshots[0].id, Duration::from_secs(5))
        .await;
    assert!(
        matches!(refused, Err(Error::InsufficientMemory { .. })),
        "{refused:?}"
    );
}
