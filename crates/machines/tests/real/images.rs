//! Memory images on each other: what a history takes, and what stays when its beginning goes.

use crate::crashes::{close, die, reopen};
use crate::site::*;
use crate::snapshots::{fill_memory_up_to, fill_memory_with};
use machines::model::State;
use machines::request::StateRequest as Ask;
use machines::{MachineId, Machines, SnapshotId};
use qemu::memory_image::Compression;
use std::path::PathBuf;

/// The memory images of a machine, and the bytes that they take.
fn images(site: &Site, id: MachineId) -> Vec<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let folder = site.data().join("machines").join(id.to_string());
    let folders = std::fs::read_dir(folder.join("snapshots")).unwrap();
    let paths = folders.map(|f| f.unwrap().path().join("memory.img"));
    let there = paths.filter_map(|path| {
        let blocks = path.metadata().ok()?.blocks();
        Some((path, blocks * 512))
    });
    there.collect()
}

fn stored(machines: &Machines, id: MachineId) -> Vec<u64> {
    let machine = machines.machine(id).unwrap();
    machine.snapshots.iter().map(|s| s.stored_bytes).collect()
}

/// Waits until no image is kept that only another one needs: besides those of snapshots, `shared`
/// ones stay, which several stand on.
async fn shortened(site: &Site, machines: &Machines, id: MachineId, shared: usize) {
    eventually("unnamed images are taken in", || async {
        let named = machines.machine(id).unwrap().snapshots.len();
        (images(site, id).len() == named + shared).then_some(())
    })
    .await;
    sound(machines).await;
}

async fn comes_back(site: &Site, machines: &Machines, id: MachineId, to: SnapshotId, name: &str) {
    bring(machines, id, Ask::TurnOff).await;
    merged(machines, id).await;
    apply(machines, id, to).await;
    bring(machines, id, Ask::Run).await;
    site.counts_on(name).await;
    assert_eq!(state(machines, id), State::Running);
}

#[tokio::test]
async fn a_history_of_an_idle_guest_takes_little_more_than_one_image() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "history").await;
    let resources = vec![memory(1024)];
    machines
        .modify_resources(&actor(), id, resources)
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("history", 3).await;
    fill_memory_up_to(&site, id, 80).await;
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(snapshot(&machines, id).await);
    }
    let bytes = stored(&machines, id);
    println!("stored: {bytes:?}");
    assert!(bytes[0] > 60 << 20);
    assert!(bytes.iter().sum::<u64>() < bytes[0] * 3 / 2);
    let on_disk = images(&site, id);
    assert_eq!(
        on_disk.iter().map(|(_, b)| b).sum::<u64>(),
        bytes.iter().sum::<u64>()
    );

    // The image of a snapshot that goes is taken in by the only one that stands on it.
    remove(&machines, taken[4]).await;
    shortened(&site, &machines, id, 0).await;
    // The first is what two stand on: the second, and the ninth, whose chain was made short.
    remove(&machines, taken[0]).await;
    shortened(&site, &machines, id, 1).await;
    let on_disk = images(&site, id);
    let all: u64 = on_disk.iter().map(|(_, b)| b).sum();
    assert!(all < bytes[0] * 3 / 2, "{on_disk:?}");
    comes_back(&site, &machines, id, taken[9], "history").await;
    comes_back(&site, &machines, id, taken[1], "history").await;
    // A branch, and a saved state on it.
    snapshot(&machines, id).await;
    bring(&machines, id, Ask::Save).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("history").await;
    sound(&machines).await;
}

#[tokio::test]
async fn images_are_compressed_in_the_background_and_run_as_before() {
    let site = Site::new();
    let config = machines::Config {
        memory_compression: Compression::Zstd,
        ..site.config()
    };
    let machines = Machines::open(config).await.unwrap();
    let id = site.counter(&machines, "small").await;
    let resources = vec![memory(1024)];
    machines
        .modify_resources(&actor(), id, resources)
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("small", 3).await;
    let text: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    fill_memory_with(&site, id, 80, &text).await;
    let first = snapshot(&machines, id).await;
    site.counts_on("small").await;
    let second = snapshot(&machines, id).await;
    eventually("images are small", || async {
        let bytes = stored(&machines, id);
        (bytes[0] < 48 << 20 && bytes[1] < 400 << 10).then_some(())
    })
    .await;
    eventually("all are as the catalog says", || async {
        machines.check().await.unwrap().is_empty().then_some(())
    })
    .await;
    for taken in [first, second] {
        comes_back(&site, &machines, id, taken, "small").await;
    }
    // The next stands on a compressed one; a saved state is compressed, too.
    snapshot(&machines, id).await;
    bring(&machines, id, Ask::Save).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("small").await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_service_that_dies_while_it_replaces_an_image() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "images").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("images", 3).await;
    snapshot(&machines, id).await;
    close(machines).await;
    for point in ["image.rename", "image.renamed", "image.recorded"] {
        let machines = site.open().await;
        let before = machines.machine(id).unwrap().snapshots[0].id;
        let last = snapshot(&machines, id).await;
        close(machines).await;
        let task = format!("remove_and_shorten {id} {before}");
        assert!(die(&site, &task, point).await, "{point}");
        let machines = reopen(&site, point).await;
        shortened(&site, &machines, id, 0).await;
        assert_eq!(machines.machine(id).unwrap().snapshots.len(), 1, "{point}");
        comes_back(&site, &machines, id, last, "images").await;
        close(machines).await;
    }
}
