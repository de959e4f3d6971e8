//! Snapshots: taken live, off and saved; applied, removed, branched; cancelled and failed.

use crate::site::*;
use machines::model::{DeviceKind, Health, JobState, Snapshot, State};
use machines::request::{SettingsChange, StateRequest as Ask};
use machines::{Error, MachineId, Machines, SnapshotId};
use std::sync::Arc;

fn parent_of(machines: &Machines, id: SnapshotId) -> Option<SnapshotId> {
    machines.snapshot(id).unwrap().1.parent
}

fn shown(machines: &Machines, id: SnapshotId) -> Arc<Snapshot> {
    machines.snapshot(id).unwrap().1
}

/// The files that the disks of the active configuration name.
fn connections(machines: &Machines, id: MachineId) -> Vec<String> {
    let machine = machines.machine(id).unwrap();
    let images = of_kind(&machine, DeviceKind::HardDiskImage);
    images.iter().map(|d| d.connection[0].clone()).collect()
}

/// Memory and disks of a machine that stands still are of one instant.
async fn one_instant(site: &Site, machines: &Machines, id: MachineId) -> u32 {
    let [a, one, two, b] = site.numbers(machines, id).await;
    let (low, high) = (one.min(two), one.max(two));
    assert!(
        b <= low && high <= a && a <= b + 1,
        "A {a} disks {one} {two} B {b}"
    );
    a
}

#[tokio::test]
async fn a_live_snapshot_is_of_one_instant_and_the_guest_goes_on() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "live").await;
    let before = connections(&machines, id);
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("live", 5).await;
    let job = machines.create_snapshot(&actor(), id).await.unwrap();
    assert!(machines.job(job).unwrap().snapshot.is_none());
    let busy = machines.create_snapshot(&actor(), id).await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    let job = completed(&machines, job).await;
    let first = job.snapshot.unwrap();
    let taken = shown(&machines, first);
    assert!(taken.has_memory && taken.pause.is_some() && taken.pause == job.pause);
    assert!(taken.stored_bytes > 1 << 16 && taken.durable > taken.pause.unwrap());
    assert!(
        taken.settings.name.starts_with("live - ("),
        "{}",
        taken.settings.name
    );
    assert_eq!(taken.parent, None);
    let machine = machines.machine(id).unwrap();
    assert_eq!(
        (machine.state, machine.parent),
        (State::Running, Some(first))
    );
    // The snapshot keeps the files from before; the machine writes to new ones.
    let kept: Vec<_> = taken
        .settings
        .devices
        .iter()
        .filter(|d| d.kind == DeviceKind::HardDiskImage)
        .map(|d| d.connection[0].clone())
        .collect();
    assert_eq!(kept, before);
    for path in connections(&machines, id) {
        assert!(path.ends_with(".avhd") && path.contains("live-"), "{path}");
    }
    assert_eq!(taken.settings.devices.len(), machine.settings.devices.len());
    site.counts_on("live").await;
    sound(&machines).await;

    // A second one becomes its child; then back to the first.
    let second = snapshot(&machines, id).await;
    assert_eq!(parent_of(&machines, second), Some(first));
    let far = site
        .counts_beyond("live", last_number(&site.path("live.serial")).unwrap() + 20)
        .await;
    let refused = machines.apply_snapshot(&actor(), id, first).await;
    assert!(matches!(
        refused,
        Err(Error::WrongState {
            state: State::Running,
            ..
        })
    ));
    bring(&machines, id, Ask::TurnOff).await;
    apply(&machines, id, first).await;
    let machine = machines.machine(id).unwrap();
    assert_eq!(machine.state, State::Saved);
    assert_eq!(
        (machine.parent, machine.last_applied),
        (Some(first), Some(first))
    );
    assert_eq!(machine.settings.name, "live");
    sound(&machines).await;

    std::fs::write(site.path("live.serial"), b"").unwrap();
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Pause).await;
    let back = one_instant(&site, &machines, id).await;
    assert!(back < far, "{back} is not before {far}");
    bring(&machines, id, Ask::Run).await;
    site.counts_on("live").await;
    // A branch: the next snapshot is a second child of the first.
    let third = snapshot(&machines, id).await;
    assert_eq!(parent_of(&machines, third), Some(first));
    sound(&machines).await;
}

#[tokio::test]
async fn ten_live_snapshots_are_each_of_one_instant() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "ten").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("ten", 5).await;
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(snapshot(&machines, id).await);
        site.counts_on("ten").await;
    }
    bring(&machines, id, Ask::TurnOff).await;
    let mut last = 0;
    for id_of_snapshot in taken {
        apply(&machines, id, id_of_snapshot).await;
        // Restored, but looked at before the guest gets far: paused at once.
        bring(&machines, id, Ask::Run).await;
        bring(&machines, id, Ask::Pause).await;
        let now = one_instant(&site, &machines, id).await;
        assert!(now > last, "{now} is not after {last}");
        last = now;
        bring(&machines, id, Ask::TurnOff).await;
    }
    sound(&machines).await;
}

#[tokio::test]
async fn snapshots_of_machines_that_are_off_or_saved() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "still").await;
    let off = snapshot(&machines, id).await;
    assert!(!shown(&machines, off).has_memory && shown(&machines, off).pause.is_none());
    assert_eq!(state(&machines, id), State::Off);
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("still", 5).await;
    bring(&machines, id, Ask::Save).await;
    let saved = snapshot(&machines, id).await;
    assert!(shown(&machines, saved).has_memory);
    assert_eq!(state(&machines, id), State::Saved);
    sound(&machines).await;
    // The saved state is shared: started and gone for the machine, still there for the snapshot.
    let at = last_number(&site.path("still.serial")).unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("still", at + 10).await;
    bring(&machines, id, Ask::TurnOff).await;
    sound(&machines).await;
    apply(&machines, id, saved).await;
    assert_eq!(state(&machines, id), State::Saved);
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Pause).await;
    one_instant(&site, &machines, id).await;
    bring(&machines, id, Ask::TurnOff).await;
    apply(&machines, id, off).await;
    assert_eq!(state(&machines, id), State::Off);
    sound(&machines).await;
    remove(&machines, saved).await;
    sound(&machines).await;
}

#[tokio::test]
async fn removing_reparents_merges_and_changes_nothing_the_guest_sees() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "trim").await;
    let before = connections(&machines, id);
    bring(&machines, id, Ask::Run).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        site.counts_on("trim").await;
        taken.push(snapshot(&machines, id).await);
    }
    // Live: from the middle, from the end (its layer is pulled into the active one), the first.
    remove(&machines, taken[1]).await;
    assert_eq!(parent_of(&machines, taken[2]), Some(taken[0]));
    sound(&machines).await;
    site.counts_on("trim").await;
    remove(&machines, taken[3]).await;
    assert_eq!(machines.machine(id).unwrap().parent, Some(taken[2]));
    sound(&machines).await;
    site.counts_on("trim").await;
    // What could not be merged live is merged when the machine is off.
    bring(&machines, id, Ask::TurnOff).await;
    eventually("everything is merged", || async {
        let machine = machines.machine(id).unwrap();
        (machine.activity.is_none() && layer_files(&site, id) == 6).then_some(())
    })
    .await;
    merged(&machines, id).await;
    sound(&machines).await;
    // The one that is left still shows its instant.
    apply(&machines, id, taken[2]).await;
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Pause).await;
    one_instant(&site, &machines, id).await;
    bring(&machines, id, Ask::TurnOff).await;
    let job = machines
        .remove_snapshot_tree(&actor(), taken[0])
        .await
        .unwrap();
    completed(&machines, job).await;
    let machine = machines.machine(id).unwrap();
    assert!(machine.snapshots.is_empty() && machine.parent.is_none());
    assert!(machine.last_applied.is_none());
    // Nothing lies over the client's disks any more.
    eventually("everything is merged", || async {
        (layer_files(&site, id) == 0).then_some(())
    })
    .await;
    merged(&machines, id).await;
    assert_eq!(connections(&machines, id), before);
    sound(&machines).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("trim").await;
    bring(&machines, id, Ask::TurnOff).await;
    let job = machines.destroy(&actor(), id).await.unwrap();
    completed(&machines, job).await;
    assert!(!site.data().join("machines").join(id.to_string()).exists());
}

/// Layers of ours, all three disks together.
fn layer_files(site: &Site, id: MachineId) -> usize {
    let disks = site
        .data()
        .join("machines")
        .join(id.to_string())
        .join("disks");
    std::fs::read_dir(disks).into_iter().flatten().count()
}

#[tokio::test]
async fn a_snapshot_is_renamed_and_nothing_else() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "names").await;
    let taken = snapshot(&machines, id).await;
    let rename = |change: SettingsChange| {
        let machines = machines.clone();
        async move { machines.modify_snapshot(&actor(), taken, change).await }
    };
    let change = SettingsChange {
        name: Some("before the upgrade".into()),
        notes: Some("one\r\ntwo".into()),
        ..Default::default()
    };
    rename(change).await.unwrap();
    assert_eq!(shown(&machines, taken).settings.name, "before the upgrade");
    assert_eq!(shown(&machines, taken).settings.notes, "one\ntwo");
    assert_eq!(machines.machine(id).unwrap().settings.name, "names");
    let change = SettingsChange {
        boot_order: Some([3, 2, 1, 0]),
        ..Default::default()
    };
    assert!(matches!(
        rename(change).await,
        Err(Error::NotChangeable { .. })
    ));
    sound(&machines).await;
    machines.close().await;
    drop(machines);
    let machines = site.open().await;
    assert_eq!(shown(&machines, taken).settings.name, "before the upgrade");
}

#[tokio::test]
async fn a_cancelled_snapshot_leaves_nothing_behind() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "cancel").await;
    // Enough memory that there is time to cancel.
    machines
        .modify_resources(&actor(), id, vec![memory(1024)])
        .await
        .unwrap();
    let before = connections(&machines, id);
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("cancel", 5).await;
    fill_memory(&site, id).await;
    let job = machines.create_snapshot(&actor(), id).await.unwrap();
    eventually("memory is being written", || async {
        let job = machines.job(job).unwrap();
        assert!(job.finished.is_none(), "too late: {job:?}");
        (job.bytes.0 > 0 && job.cancellable).then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    machines.cancel(&actor(), job).await.unwrap();
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
    let job = machines.job(job).unwrap();
    assert!(matches!(&job.state, JobState::Cancelled(cause) if cause.code == "Cancelled"));
    assert!(job.percent < 100 && job.snapshot.is_none());
    assert!(machines.machine(id).unwrap().snapshots.is_empty());
    assert_eq!(connections(&machines, id), before);
    site.counts_on("cancel").await;
    sound(&machines).await;
    snapshot(&machines, id).await;
    sound(&machines).await;
}

/// Noise in a running guest's memory, so that there is something to write.
pub async fn fill_memory(site: &Site, id: MachineId) {
    fill_memory_up_to(site, id, 1000).await;
}

/// The same, up to this address in MiB.
pub async fn fill_memory_up_to(site: &Site, id: MachineId, end: u64) {
    let mut noise = vec![0u8; 1 << 20];
    let mut state = 1u64;
    for chunk in noise.chunks_mut(8) {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    fill_memory_with(site, id, end, &noise).await;
}

/// The same, with this MiB over and over.
pub async fn fill_memory_with(site: &Site, id: MachineId, end: u64, mib: &[u8]) {
    // The guest counts below 1 MiB; the rest of its memory is ours.
    let process = site.process(id).await;
    let devices = std::fs::read(format!("/proc/{}/maps", process.pid())).unwrap();
    let largest = String::from_utf8_lossy(&devices)
        .lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let from = u64::from_str_radix(from, 16).ok()?;
            let to = u64::from_str_radix(to, 16).ok()?;
            rest.starts_with("rw").then_some((to - from, from))
        })
        .max()
        .unwrap();
    assert!(largest.0 >= 1 << 30, "guest memory was not found");
    let memory = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{}/mem", process.pid()))
        .unwrap();
    for at in 16..end {
        use std::os::unix::fs::FileExt;
        memory.write_all_at(mib, largest.1 + (at << 20)).unwrap();
    }
}

#[tokio::test]
async fn a_guest_killed_while_its_memory_is_written() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "killed").await;
    machines
        .modify_resources(&actor(), id, vec![memory(1024)])
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("killed", 5).await;
    fill_memory(&site, id).await;
    let job = machines.create_snapshot(&actor(), id).await.unwrap();
    eventually("memory is being written", || async {
        (machines.job(job).unwrap().bytes.0 > 0).then_some(())
    })
    .await;
    site.process(id).await.kill().await.unwrap();
    let cause = failed(&machines, job).await;
    assert!(
        ["GuestDied", "Qemu"].contains(&cause.code.as_str()),
        "{cause:?}"
    );
    eventually("the machine is off", || async {
        (state(&machines, id) == State::Off).then_some(())
    })
    .await;
    assert!(machines.machine(id).unwrap().snapshots.is_empty());
    sound(&machines).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("killed").await;
}

/// A small file system in memory; `None`, with the reason printed, where none may be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: mounting a small file system needs root");
            return None;
        }
        Some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_under_the_memory_image() {
    let Some(small) = SmallDisk::mount(1200) else {
        return;
    };
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "full").await;
    let place = machines::request::GlobalChange {
        snapshot_data_root: Some(small.0.path().into()),
        ..Default::default()
    };
    machines.modify_global(&actor(), id, place).await.unwrap();
    machines
        .modify_resources(&actor(), id, vec![memory(1024)])
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("full", 5).await;
    fill_memory(&site, id).await;
    // The room is the snapshot's before the guest is touched: nobody takes it away meanwhile.
    let job = machines.create_snapshot(&actor(), id).await.unwrap();
    eventually("memory is being written", || async {
        (machines.job(job).unwrap().bytes.0 > 0).then_some(())
    })
    .await;
    let _ = std::fs::write(small.0.path().join("other"), vec![1u8; 300 << 20]);
    let first = completed(&machines, job).await.snapshot.unwrap();
    site.counts_on("full").await;
    sound(&machines).await;
    // Refused before the guest is touched.
    let refused = machines.create_snapshot(&actor(), id).await;
    assert!(
        matches!(refused, Err(Error::InsufficientSpace { .. })),
        "{refused:?}"
    );
    assert_eq!(state(&machines, id), State::Running);
    std::fs::remove_file(small.0.path().join("other")).unwrap();
    remove(&machines, first).await;
    snapshot(&machines, id).await;
    sound(&machines).await;
    bring(&machines, id, Ask::TurnOff).await;
    let job = machines.destroy(&actor(), id).await.unwrap();
    completed(&machines, job).await;
    assert_eq!(std::fs::read_dir(small.0.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_full_disk_under_an_overlay() {
    let Some(small) = SmallDisk::mount(200) else {
        return;
    };
    let site = Site::new();
    let machines = site.open().await;
    let place = machines::request::GlobalChange {
        name: Some("thin".into()),
        external_data_root: Some(small.0.path().into()),
        snapshot_data_root: Some(site.dir.path().into()),
        ..Default::default()
    };
    let id = machines
        .define(
            &actor(),
            place,
            SettingsChange::default(),
            vec![],
            vec![],
            None,
        )
        .await
        .unwrap();
    site.fill_counter(&machines, id, "thin").await;
    snapshot(&machines, id).await;
    let filling = small.0.path().join("other");
    // Every byte: the guest's first write to its disk needs a new cluster, and finds none.
    let _ = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filling.display()))
        .stderr(std::process::Stdio::null())
        .status();
    bring(&machines, id, Ask::Run).await;
    let why = eventually("it is seen", || async {
        match &machines.machine(id).unwrap().health {
            Health::Critical(why) => Some(why.clone()),
            Health::Ok => None,
        }
    })
    .await;
    assert!(why.contains("space") && why.contains("thin"), "{why}");
    assert!(why.contains("goes on by itself"), "{why}");
    match machines.create_snapshot(&actor(), id).await {
        Err(Error::GuestStandsStill { reason }) => assert_eq!(reason, why),
        other => panic!("{other:?}"),
    }
    // A service that comes anew finds it so, and does not let it go on.
    machines.close().await;
    drop(machines);
    let machines = site.open().await;
    let shown = machines.machine(id).unwrap().health.clone();
    assert_eq!(shown, Health::Critical(why));
    let status = site.process(id).await.status().await.unwrap();
    assert_eq!(status, qemu::process::RunState::IoError);
    std::fs::remove_file(&filling).unwrap();
    eventually("the guest goes on by itself", || async {
        (machines.machine(id).unwrap().health == Health::Ok).then_some(())
    })
    .await;
    site.counts_on("thin").await;
    sound(&machines).await;
}

#[tokio::test]
async fn what_the_catalog_does_not_know_is_not_frozen() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "other").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("other", 3).await;
    // Somebody else puts a layer over the last disk.
    let process = site.process(id).await;
    let devices = process.block_devices().await.unwrap();
    let active = devices.last().unwrap().active().unwrap().clone();
    let foreign = qemu::spec::Layer {
        node: qemu::spec::Id::new("foreign").unwrap(),
        format: qemu::spec::Format::Qcow2,
        path: site.path("foreign.qcow2"),
    };
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&foreign.path)
        .arg("64M")
        .status();
    assert!(made.unwrap().success());
    process.add_overlay(&foreign).await.unwrap();
    let switch = qemu::live::Switch {
        node: qemu::spec::Id::new(active.node).unwrap(),
        overlay: foreign.node.clone(),
    };
    process.switch_overlays(&[switch]).await.unwrap();
    match machines.create_snapshot(&actor(), id).await {
        Err(Error::ChainDiffers { recorded, actual }) => {
            assert_eq!(recorded, active.path);
            assert!(actual.contains(&foreign.path));
        }
        other => panic!("{other:?}"),
    }
    site.counts_on("other").await;
    bring(&machines, id, Ask::TurnOff).await;
}

#[tokio::test]
async fn a_lost_catalog_is_rebuilt_from_the_manifests() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "lost").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("lost", 3).await;
    let first = snapshot(&machines, id).await;
    let second = snapshot(&machines, id).await;
    site.counts_on("lost").await;
    bring(&machines, id, Ask::TurnOff).await;
    let before = machines.machine(id).unwrap();
    machines.close().await;
    drop(machines);
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(site.data().join(name));
    }
    let refused = Machines::open(site.config()).await;
    assert!(matches!(refused, Err(Error::CatalogLost(_))), "{refused:?}");
    let machines = Machines::rebuild(site.config()).await.unwrap();
    let after = machines.machine(id).unwrap();
    assert_eq!(after.snapshots, before.snapshots);
    assert_eq!(after.parent, Some(second));
    assert_eq!(after.settings.name, "lost");
    assert_eq!(after.settings.devices, before.settings.devices);
    sound(&machines).await;
    apply(&machines, id, first).await;
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Pause).await;
    one_instant(&site, &machines, id).await;
}
