//! Live snapshots, saving and restoring, and what can go wrong on the way.

use crate::machine::*;
use qemu::Process;
use qemu::live::{Captured, LiveError, PauseWatch, Switch, capture};
use qemu::memory_image::RestoreError;
use qemu::process::RunState;
use qemu::receiver::{ReceiveError, Receiver};
use qemu::spec::*;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// New overlays for both data disks, on the layers called `below`.
async fn overlays(machine: &Machine, round: usize) -> Vec<(Id, Layer)> {
    let mut disks = Vec::new();
    for disk in ["one", "two"] {
        let (below, format) = match round {
            1 => (machine.path(disk), Format::Raw),
            n => (
                machine.path(&format!("{disk}-{}.qcow2", n - 1)),
                Format::Qcow2,
            ),
        };
        let path = machine.path(&format!("{disk}-{round}.qcow2"));
        machine
            .img()
            .create_overlay(&path, &below, format)
            .await
            .unwrap();
        let frozen = id(&format!("{disk}-{}", round - 1));
        let node = format!("{disk}-{round}");
        disks.push((frozen, layer(&node, Format::Qcow2, &path)));
    }
    disks
}

/// The chain of a data disk up to a frozen layer, with a fresh overlay for one more guest.
pub async fn copy_on(machine: &Machine, disk: &str, round: usize, name: &str) -> Vec<Layer> {
    let mut layers = vec![layer(
        &format!("{disk}-0"),
        Format::Raw,
        &machine.path(disk),
    )];
    for n in 1..round {
        let path = machine.path(&format!("{disk}-{n}.qcow2"));
        layers.push(layer(&format!("{disk}-{n}"), Format::Qcow2, &path));
    }
    let below = layers.last().unwrap();
    let path = machine.path(&format!("{name}-{disk}.qcow2"));
    machine
        .img()
        .create_overlay(&path, &below.path, below.format)
        .await
        .unwrap();
    layers.push(layer(&format!("{disk}-new"), Format::Qcow2, &path));
    layers
}

pub async fn snapshot(machine: &Machine, process: &Process, round: usize) -> Captured {
    let disks = overlays(machine, round).await;
    let config = machine.receiver(&format!("memory-{round}"));
    capture(process, &disks, config, PATIENCE).await.unwrap()
}

struct Restored {
    process: Process,
    counters: (u32, u32),
    serial: std::path::PathBuf,
}

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some(handle) = self.process.identity().open() {
            let _ = qemu::identity::kill(&handle);
        }
    }
}

/// Starts one more guest from a snapshot, and reads its counters before it runs.
async fn restore(machine: &Machine, round: usize, name: &str, backing: Backing) -> Restored {
    let one = copy_on(machine, "one", round, name).await;
    let two = copy_on(machine, "two", round, name).await;
    let mut spec = machine.clone_with(name, one, two);
    spec.memory.backing = backing;
    let process = Process::launch(&machine.installation, &spec).await.unwrap();
    let image = open_image(&machine.path(&format!("memory-{round}")));
    process.load_image(&image, PATIENCE).await.unwrap();
    assert_eq!(process.status().await.unwrap(), RunState::Paused);
    Restored {
        counters: (
            memory_at(&process, 0x20000).await,
            memory_at(&process, 0x30000).await,
        ),
        process,
        serial: machine.path(&format!("{name}.serial")),
    }
}

#[tokio::test]
async fn memory_and_disks_of_a_live_snapshot_show_one_instant() {
    let machine = Machine::new(WRITING).await;
    let process = machine.launch().await;
    let mut seen = 0;
    for round in 1..=10 {
        seen = machine.counts_beyond(seen + 20).await;
        let captured = snapshot(&machine, &process, round).await;
        let received = &captured.received;
        println!(
            "pause {:?}, durable after {:?}, {} KiB",
            captured.pause.unwrap(),
            received.timings.durable,
            received.stored_bytes / 1024
        );
        let restored = restore(
            &machine,
            round,
            &format!("copy{round}"),
            Backing::Transparent,
        )
        .await;
        let (a, b) = restored.counters;
        let frozen = |disk| match round {
            1 => layer("x", Format::Raw, &machine.path(disk)),
            n => layer(
                "x",
                Format::Qcow2,
                &machine.path(&format!("{disk}-{}.qcow2", n - 1)),
            ),
        };
        let one = number_on_disk(&machine, &frozen("one")).await;
        let two = number_on_disk(&machine, &frozen("two")).await;
        assert!(
            b <= two && two <= one && one <= a && a <= b + 1,
            "{a} {one} {two} {b}"
        );
        assert!(a >= seen, "the snapshot is older than the call");
        restored.process.cont().await.unwrap();
        counts_beyond(&restored.serial, a).await;
    }
    machine.counts_beyond(seen).await;
    let devices = process.block_devices().await.unwrap();
    let one = devices.iter().find(|d| d.drive == id("one")).unwrap();
    assert_eq!(one.layers.len(), 11);
    assert_eq!(one.active().unwrap().node, "one-10");
    assert_eq!(one.active().unwrap().path, machine.path("one-10.qcow2"));
    // What a start after a crash would read from the headers is the same chain.
    let top = &one.active().unwrap().path;
    let chain = machine.img().chain(top, Format::Qcow2).await.unwrap();
    let from_headers: Vec<_> = chain.iter().rev().map(|i| i.path.clone()).collect();
    let from_process: Vec<_> = one.layers.iter().map(|n| n.path.clone()).collect();
    assert_eq!(from_headers, from_process);
}

#[tokio::test]
async fn an_image_restores_any_number_of_times_and_never_changes() {
    let mut machine = Machine::new(SLOW).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(1).await;
    snapshot(&machine, &process, 1).await;
    let path = machine.path("memory-1");
    let before = std::fs::read(&path).unwrap();
    assert!(before.len() > 32 << 20);
    let first = restore(&machine, 1, "a", Backing::Transparent).await;
    first.process.cont().await.unwrap();
    counts_beyond(&first.serial, first.counters.0).await;
    let second = restore(&machine, 1, "b", Backing::Transparent).await;
    assert_eq!(first.counters, second.counters);
    assert!(std::fs::read(&path).unwrap() == before);
    verify(&open_image(&path));
    // A restored guest can be captured again.
    let config = machine.receiver("again");
    capture(&first.process, &[], config, PATIENCE)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_guest_that_stands_still_is_captured_and_stays_so() {
    let machine = Machine::new(WRITING).await;
    let process = machine.launch().await;
    machine.counts_beyond(5).await;
    process.stop().await.unwrap();
    let stood = memory_at(&process, 0x20000).await;
    let captured = snapshot(&machine, &process, 1).await;
    assert_eq!(captured.pause, None);
    assert_eq!(process.status().await.unwrap(), RunState::Paused);
    let restored = restore(&machine, 1, "copy", Backing::Transparent).await;
    assert_eq!(restored.counters.0, stood);
}

#[tokio::test]
async fn the_wrong_order_is_torn_and_refused() {
    let mut machine = Machine::new(WRITING).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(5).await;
    let disks = overlays(&machine, 1).await;
    for (_, overlay) in &disks {
        process.add_overlay(overlay).await.unwrap();
    }
    let switches: Vec<Switch> = disks
        .iter()
        .map(|(node, overlay)| Switch {
            node: node.clone(),
            overlay: overlay.node.clone(),
        })
        .collect();
    let receiver = Receiver::listen(machine.receiver("torn")).unwrap();
    process.prepare_background_snapshot().await.unwrap();
    let watch = PauseWatch::new(process.qmp());
    process.stop().await.unwrap();
    process.switch_overlays(&switches).await.unwrap();
    // Too early: the disks are frozen, the memory is not. (Between here and the counting of pages
    // QEMU would sometimes be quick enough.)
    process.cont().await.unwrap();
    process
        .begin_background_snapshot(receiver.socket())
        .await
        .unwrap();
    process.wait_migration(PATIENCE).await.unwrap();
    let verdict = watch.judge(true).await;
    assert!(
        matches!(verdict, Err(LiveError::Torn { .. })),
        "{verdict:?}"
    );
    receiver.cancel().await;
    assert!(!machine.path("torn").exists() && !machine.path("torn.tmp").exists());
    machine.counts_beyond(10).await;
}

#[tokio::test]
async fn all_disks_switch_or_none() {
    let machine = Machine::new(WRITING).await;
    let process = machine.launch().await;
    let disks = overlays(&machine, 1).await;
    for (_, overlay) in &disks {
        process.add_overlay(overlay).await.unwrap();
    }
    let switch = |node: &str, overlay: &str| Switch {
        node: id(node),
        overlay: id(overlay),
    };
    let switches = [switch("one-0", "one-1"), switch("no-such-node", "two-1")];
    assert!(process.switch_overlays(&switches).await.is_err());
    let active = async || {
        let devices = process.block_devices().await.unwrap();
        let nodes = devices.iter().filter_map(|d| d.active());
        nodes.map(|n| n.node.clone()).collect::<Vec<_>>()
    };
    assert!(!active().await.contains(&"one-1".to_owned()));
    process.remove_node(&id("one-1")).await.unwrap();
    process.remove_node(&id("two-1")).await.unwrap();
}

/// A machine whose memory takes long to send.
async fn slowly_sending(machine: &mut Machine) -> (Process, Receiver) {
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(0).await;
    let receiver = Receiver::listen(machine.receiver("slow")).unwrap();
    process.prepare_background_snapshot().await.unwrap();
    let slow = json!({"max-bandwidth": 1 << 20});
    process
        .qmp()
        .execute("migrate-set-parameters", slow)
        .await
        .unwrap();
    process
        .begin_background_snapshot(receiver.socket())
        .await
        .unwrap();
    process.wait_until_captured(PATIENCE).await.unwrap();
    eventually("bytes come", || async {
        (receiver.progress().received > 1 << 18).then_some(())
    })
    .await;
    (process, receiver)
}

#[tokio::test]
async fn a_capture_is_cancelled_within_a_second_and_the_guest_runs_on() {
    let mut machine = Machine::new(SLOW).await;
    let (process, receiver) = slowly_sending(&mut machine).await;
    let progress = process.migration().await.unwrap();
    assert!(progress.transferred > 0 && progress.transferred < progress.total);
    let began = Instant::now();
    process.cancel_migration().await.unwrap();
    receiver.cancel().await;
    let took = began.elapsed();
    println!("cancelled in {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!machine.path("slow.tmp").exists() && !machine.path("slow.sock").exists());
    let seen = machine.counts_beyond(0).await;
    machine.counts_beyond(seen).await;
    snapshot(&machine, &process, 1).await;
}

#[tokio::test]
async fn a_receiver_that_gives_up_does_not_stop_the_guest() {
    let mut machine = Machine::new(SLOW).await;
    let (process, receiver) = slowly_sending(&mut machine).await;
    drop(receiver);
    let error = process.wait_migration(PATIENCE).await.unwrap_err();
    assert!(
        matches!(error, LiveError::MigrationFailed { .. }),
        "{error}"
    );
    eventually("the temporary file goes", || async {
        (!machine.path("slow.tmp").exists()).then_some(())
    })
    .await;
    let seen = machine.counts_beyond(0).await;
    machine.counts_beyond(seen).await;
}

#[tokio::test]
async fn a_killed_sender_leaves_no_file() {
    let mut machine = Machine::new(SLOW).await;
    let (process, receiver) = slowly_sending(&mut machine).await;
    process.kill().await.unwrap();
    assert!(process.migration().await.is_err());
    // The end of the stream looks like a good one; nobody says that it is.
    receiver.cancel().await;
    assert!(!machine.path("slow.tmp").exists() && !machine.path("slow").exists());
}

#[tokio::test]
async fn a_full_disk_fails_the_snapshot_and_not_the_guest() {
    let Some(small) = SmallDisk::mount(8) else {
        return;
    };
    let mut machine = Machine::new(SLOW).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(0).await;
    let mut config = machine.receiver("memory-1");
    config.temporary = small.0.path().join("memory.tmp");
    config.path = small.0.path().join("memory");
    let error = capture(&process, &[], config, PATIENCE).await.unwrap_err();
    let qemu::live::CaptureError::Receive(cause @ ReceiveError::File { path, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(cause.raw_os_error(), Some(28), "ENOSPC");
    assert_eq!(*path, small.0.path().join("memory.tmp"));
    assert_eq!(std::fs::read_dir(small.0.path()).unwrap().count(), 0);
    assert_eq!(process.status().await.unwrap(), RunState::Running);
    snapshot(&machine, &process, 1).await;
    // A file system without direct I/O or with little room is as good, if there is room enough.
    let Some(large) = SmallDisk::mount(128) else {
        return;
    };
    let mut config = machine.receiver("memory-2");
    config.temporary = large.0.path().join("memory.tmp");
    config.path = large.0.path().join("memory");
    config.ring_limit = 0;
    let path = config.path.clone();
    capture(&process, &[], config, PATIENCE).await.unwrap();
    verify(&open_image(&path));
}

#[tokio::test]
async fn a_guest_is_saved_and_goes_on_where_it_was() {
    let machine = Machine::new(WRITING).await;
    let process = machine.launch().await;
    machine.counts_beyond(5).await;
    let receiver = Receiver::listen(machine.receiver("memory-1")).unwrap();
    process.stop().await.unwrap();
    let stood = memory_at(&process, 0x20000).await;
    process.begin_save(receiver.socket()).await.unwrap();
    process.wait_migration(PATIENCE).await.unwrap();
    receiver.publish().await.unwrap();
    process.quit(PATIENCE).await.unwrap();

    let restored = restore(&machine, 1, "copy", Backing::Transparent).await;
    assert_eq!(restored.counters.0, stood);
    restored.process.cont().await.unwrap();
    counts_beyond(&restored.serial, stood).await;
}

#[tokio::test]
async fn a_save_that_is_cancelled_lets_the_guest_run_on() {
    let mut machine = Machine::new(SLOW).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(0).await;
    process.stop().await.unwrap();
    let receiver = Receiver::listen(machine.receiver("save")).unwrap();
    process.begin_save(receiver.socket()).await.unwrap();
    process.cancel_migration().await.unwrap();
    receiver.cancel().await;
    process.cont().await.unwrap();
    let seen = machine.counts_beyond(0).await;
    machine.counts_beyond(seen).await;
}

#[tokio::test]
async fn qemu_says_why_it_does_not_take_an_image() {
    let machine = Machine::new(SLOW).await;
    let process = machine.launch().await;
    machine.counts_beyond(1).await;
    snapshot(&machine, &process, 1).await;
    // Another machine: twice the memory.
    let one = copy_on(&machine, "one", 1, "copy").await;
    let two = copy_on(&machine, "two", 1, "copy").await;
    let mut spec = machine.clone_with("copy", one, two);
    spec.memory.mib *= 2;
    let other = Process::launch(&machine.installation, &spec).await.unwrap();
    let image = open_image(&machine.path("memory-1"));
    let error = other.load_image(&image, PATIENCE).await.unwrap_err();
    assert!(matches!(error, RestoreError::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("mismatch"), "{error}");
    other.kill().await.unwrap();
}

#[tokio::test]
async fn a_receiver_says_why_it_cannot_listen_or_write() {
    let machine = Machine::new(SLOW).await;
    let mut config = machine.receiver("x");
    config.socket = Path::new("/nonexistent/folder/socket").into();
    let error = Receiver::listen(config).err().unwrap();
    assert!(matches!(error, ReceiveError::Listen { .. }));
    let mut config = machine.receiver("x");
    config.temporary = Path::new("/nonexistent/folder/file").into();
    let receiver = Receiver::listen(config).unwrap();
    let error = receiver.failed().await;
    assert!(matches!(error, ReceiveError::File { .. }), "{error}");
    assert!(receiver.publish().await.is_err());

    // A peer that connects and goes has sent nothing.
    let receiver = Receiver::listen(machine.receiver("x")).unwrap();
    drop(std::os::unix::net::UnixStream::connect(receiver.socket()).unwrap());
    let error = receiver.publish().await.unwrap_err();
    assert!(matches!(error, ReceiveError::Nothing), "{error}");
    assert!(!machine.path("x").exists() && !machine.path("x.tmp").exists());
}
