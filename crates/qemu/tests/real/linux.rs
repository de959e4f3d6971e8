//! A whole Linux guest, on both kinds of memory. Its disk image is named by `ROOTVIRT_TEST_GUEST`
//! (`cargo xtask guest FILE` makes one); without it these tests are skipped, and say so.

use crate::machine::*;
use qemu::live::capture;
use qemu::memory_backing::{self, Policy, Pool, PoolLimit, Prepared};
use qemu::memory_image::{Compression, ImageId, Origin};
use qemu::process::RunState;
use qemu::receiver;
use qemu::spec::*;
use qemu::{Installation, LaunchSpec, Process};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

fn guest() -> Option<PathBuf> {
    let guest = std::env::var_os("ROOTVIRT_TEST_GUEST").map(PathBuf::from);
    let guest = guest.filter(|g| g.exists());
    if guest.is_none() {
        println!("skipped: ROOTVIRT_TEST_GUEST names no guest image");
    }
    guest
}

fn spec(dir: &Path, name: &str, disk: Layer, backing: Backing, mib: u64) -> LaunchSpec {
    let mut spec = LaunchSpec::new("linux", Uuid::new_v4(), dir.join(name));
    spec.memory = Memory {
        mib,
        backing,
        prealloc: true,
    };
    spec.ide = vec![IdeDrive {
        channel: 0,
        unit: 0,
        drive: Drive {
            id: id("disk"),
            medium: Medium::Disk(Chain { layers: vec![disk] }),
        },
    }];
    spec.serial_ports = vec![SerialPort {
        index: 0,
        connection: SerialConnection::File(dir.join(format!("{name}.serial"))),
    }];
    spec
}

/// How much has come out of the guest's serial port.
fn printed(dir: &Path, name: &str) -> u64 {
    std::fs::metadata(dir.join(format!("{name}.serial"))).map_or(0, |m| m.len())
}

/// Waits until the guest prints once a second and no longer boots: 3 s in which it printed, but
/// little.
async fn booted(dir: &Path, name: &str) {
    let began = Instant::now();
    loop {
        assert!(
            began.elapsed() < Duration::from_secs(180),
            "the guest does not boot"
        );
        let before = printed(dir, name);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let more = printed(dir, name) - before;
        if before > 0 && (1..400).contains(&more) {
            return;
        }
    }
}

async fn snapshots_on(backing: Backing, mib: u64, guest: &Path, pool: Option<Prepared>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    std::fs::copy(guest, &disk).unwrap();
    let installation = Installation::find().await.unwrap();
    let began = Instant::now();
    let layer_0 = layer("disk-0", Format::Raw, &disk);
    let spec_0 = spec(dir.path(), "run", layer_0, backing, mib);
    let process = Process::launch(&installation, &spec_0).await.unwrap();
    pool.into_iter().for_each(Prepared::taken);
    println!(
        "{} {mib} MiB: process ready after {:?}",
        backing.as_str(),
        began.elapsed()
    );
    let _end = Ending(&process);
    booted(dir.path(), "run").await;
    let img = qemu::img::Img::new(&installation);
    let (mut below, mut format) = (disk, Format::Raw);
    for round in 1..=3 {
        let path = dir.path().join(format!("disk-{round}.qcow2"));
        img.create_overlay(&path, &below, format).await.unwrap();
        (below, format) = (path, Format::Qcow2);
        let disks = [(
            id(&format!("disk-{}", round - 1)),
            layer(&format!("disk-{round}"), Format::Qcow2, &below),
        )];
        let config = receiver::Config {
            socket: dir.path().join("memory.sock"),
            temporary: dir.path().join("memory.tmp"),
            path: dir.path().join(format!("memory-{round}")),
            id: ImageId(Uuid::new_v4().as_u128()),
            parent: None,
            compression: Compression::None,
            expected: 0,
            origin: Origin {
                qemu: installation.version.into(),
                machine_type: MACHINE_TYPE.into(),
                ram_mib: mib,
            },
            ring_limit: receiver::RING_LIMIT,
        };
        let captured = capture(&process, &disks, config, PATIENCE).await.unwrap();
        let (r, t) = (&captured.received, captured.received.timings);
        println!(
            "{} {mib} MiB, snapshot {round}: pause {:?}, first byte {:?}, received {:?}, written \
             {:?}, durable {:?}, {} MiB, ring {} MiB, QEMU waited {:?}",
            backing.as_str(),
            captured.pause.unwrap(),
            t.first_byte,
            t.received,
            t.written,
            t.durable,
            r.stored_bytes >> 20,
            r.ring_high_water >> 20,
            r.stalled,
        );
        let before = printed(dir.path(), "run");
        eventually("the guest prints on", || async {
            (printed(dir.path(), "run") > before).then_some(())
        })
        .await;
    }
    // The last instant, on the other kind of memory.
    let fresh = dir.path().join("fresh.qcow2");
    img.create_overlay(&fresh, &dir.path().join("disk-2.qcow2"), Format::Qcow2)
        .await
        .unwrap();
    let chain = [
        ("disk-0", Format::Raw, "disk.raw"),
        ("disk-1", Format::Qcow2, "disk-1.qcow2"),
        ("disk-2", Format::Qcow2, "disk-2.qcow2"),
        ("new", Format::Qcow2, "fresh.qcow2"),
    ];
    let layers = chain.map(|(node, format, file)| layer(node, format, &dir.path().join(file)));
    let mut again = spec(
        dir.path(),
        "again",
        layers[0].clone(),
        Backing::Transparent,
        mib,
    );
    again.ide[0].drive.medium = Medium::Disk(Chain {
        layers: layers.to_vec(),
    });
    again.start = Start::Incoming;
    let began = Instant::now();
    let copy = Process::launch(&installation, &again).await.unwrap();
    let _end = Ending(&copy);
    let image = open_image(&dir.path().join("memory-3"));
    copy.load_image(&image, PATIENCE).await.unwrap();
    copy.cont().await.unwrap();
    println!("restored and running after {:?}", began.elapsed());
    eventually("the copy prints", || async {
        (printed(dir.path(), "again") > 10).then_some(())
    })
    .await;
    assert_eq!(copy.status().await.unwrap(), RunState::Running);
    verify(&image);
}

struct Ending<'a>(&'a Process);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.0.identity().open() {
            let _ = qemu::identity::kill(&handle);
        }
    }
}

fn ram_mib() -> u64 {
    let wanted = std::env::var("ROOTVIRT_TEST_RAM_MIB").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(512)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linux_guest_is_captured_and_restored_on_transparent_huge_pages() {
    if let Some(guest) = guest() {
        snapshots_on(Backing::Transparent, ram_mib(), &guest, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linux_guest_is_captured_on_hugetlb_and_restored_elsewhere() {
    let Some(guest) = guest() else { return };
    let Ok(before) = Pool::read() else {
        println!("skipped: the host has no pool of huge pages");
        return;
    };
    let mib = ram_mib();
    let prepared = memory_backing::prepare(mib, Policy::new(PoolLimit::Auto));
    println!("{}", prepared.decision.reason);
    if prepared.decision.backing != Backing::Hugetlb {
        println!("skipped: no huge pages");
        return;
    }
    snapshots_on(Backing::Hugetlb, mib, &guest, Some(prepared)).await;
    eventually("the pages go back", || async {
        (Pool::read().unwrap().kept() <= before.kept()).then_some(())
    })
    .await;
}
