//! Disks in the formats VHD and VHDX, which another process serves to QEMU: everything that can
//! be done to other disks can be done to them, and no server stays behind.

use crate::machine::*;
use qemu::Process;
use qemu::identity::Identity;
use qemu::live::{Captured, capture};
use qemu::process::{ProcessError, RunState};
use qemu::spec::*;
use uuid::Uuid;

/// The counting machine with a VHD and a VHDX disk for data.
async fn served(guest: Guest) -> Machine {
    let mut machine = Machine::new(guest).await;
    for (node, name, format) in [
        ("one-0", "one.vhd", Format::Vhd),
        ("two-0", "two.vhdx", Format::Vhdx),
    ] {
        let path = machine.path(name);
        machine.img().create(&path, format, 16 << 20).await.unwrap();
        let chain = Chain {
            layers: vec![layer(node, format, &path)],
        };
        match format {
            Format::Vhd => machine.spec.ide[1].drive.medium = Medium::Disk(chain),
            _ => machine.spec.scsi[0].drives[0].drive.medium = Medium::Disk(chain),
        }
    }
    machine
}

fn alive(servers: &[Identity]) -> usize {
    servers.iter().filter(|s| s.is_alive()).count()
}

fn servers_of(process: &Process) -> Vec<Identity> {
    process.servers()
}

/// The layers of a data disk, the oldest first, when `rounds` snapshots have been taken.
fn layers(machine: &Machine, disk: &str, rounds: usize) -> Vec<Layer> {
    let base = match disk {
        "one" => (Format::Vhd, machine.path("one.vhd")),
        _ => (Format::Vhdx, machine.path("two.vhdx")),
    };
    let mut all = vec![layer(&format!("{disk}-0"), base.0, &base.1)];
    for n in 1..=rounds {
        let path = machine.path(&format!("{disk}-{n}.qcow2"));
        all.push(layer(&format!("{disk}-{n}"), Format::Qcow2, &path));
    }
    all
}

async fn snapshot(machine: &Machine, process: &Process, round: usize) -> Captured {
    let mut disks = Vec::new();
    for disk in ["one", "two"] {
        let all = layers(machine, disk, round);
        let [.., below, overlay] = all.as_slice() else {
            panic!("no overlay");
        };
        let img = machine.img();
        img.create_overlay(&overlay.path, &below.path, below.format)
            .await
            .unwrap();
        disks.push((below.node.clone(), overlay.clone()));
    }
    let config = machine.receiver(&format!("memory-{round}"));
    capture(process, &disks, config, PATIENCE).await.unwrap()
}

/// The files of the disk `one`, as QEMU has them open.
async fn open_files(process: &Process, disk: &str) -> Vec<std::path::PathBuf> {
    let devices = process.block_devices().await.unwrap();
    let device = devices.into_iter().find(|d| d.drive == id(disk)).unwrap();
    device.layers.into_iter().map(|l| l.path).collect()
}

fn files(layers: &[Layer]) -> Vec<std::path::PathBuf> {
    layers.iter().map(|l| l.path.clone()).collect()
}

#[tokio::test]
async fn memory_and_served_disks_are_captured_at_one_instant_and_restored() {
    let mut machine = served(WRITING).await;
    let process = machine.launch().await;
    let servers = servers_of(&process);
    assert_eq!(alive(&servers), 2);
    machine.counts_beyond(20).await;
    let blockers = process.migration_blockers(PATIENCE).await.unwrap();
    assert!(blockers.is_empty(), "{blockers:?}");
    let shown: Vec<_> = process.block_nodes().await.unwrap();
    let drivers = |name: &str| {
        shown
            .iter()
            .find(|n| n.node == name)
            .unwrap()
            .driver
            .clone()
    };
    assert_eq!(
        (drivers("one-0"), drivers("two-0")),
        ("vpc".into(), "vhdx".into())
    );

    // So many that a description of everything below the newest would not fit into a file's name.
    const ROUNDS: usize = 30;
    let mut seen = 0;
    for round in 1..=ROUNDS {
        seen = machine.counts_beyond(seen).await;
        let captured = snapshot(&machine, &process, round).await;
        assert!(captured.pause.is_some());
        for disk in ["one", "two"] {
            let known = files(&layers(&machine, disk, round));
            assert_eq!(open_files(&process, disk).await, known);
        }
    }
    // Found again by somebody else, who knows nothing but the folder.
    drop(process);
    let process = Process::reconnect(&machine.spec.run_dir, machine.spec.uuid)
        .await
        .unwrap();
    assert_eq!(servers_of(&process), servers);
    let known = files(&layers(&machine, "one", ROUNDS));
    assert_eq!(open_files(&process, "one").await, known);
    machine.counts_beyond(seen + 5).await;

    // A killed QEMU takes its servers along, and the disks can be opened again at once.
    process.kill().await.unwrap();
    assert_eq!(alive(&servers), 0);
    machine.spec.start = Start::Incoming;
    for round in [1, 2, ROUNDS] {
        let mut frozen = Vec::new();
        for disk in ["one", "two"] {
            let mut chain = layers(&machine, disk, round - 1);
            frozen.push(number_on_disk(&machine, chain.last().unwrap()).await);
            let path = machine.path(&format!("copy{round}-{disk}"));
            let below = chain.last().unwrap();
            let img = machine.img();
            img.create_overlay(&path, &below.path, below.format)
                .await
                .unwrap();
            chain.push(layer(&format!("{disk}-new"), Format::Qcow2, &path));
            let medium = Medium::Disk(Chain { layers: chain });
            match disk {
                "one" => machine.spec.ide[1].drive.medium = medium,
                _ => machine.spec.scsi[0].drives[0].drive.medium = medium,
            }
        }
        let process = machine.launch().await;
        let image = open_image(&machine.path(&format!("memory-{round}")));
        process.load_image(&image, PATIENCE).await.unwrap();
        let a = memory_at(&process, 0x20000).await;
        let b = memory_at(&process, 0x30000).await;
        let (one, two) = (frozen[0], frozen[1]);
        assert!(
            b <= two && two <= one && one <= a && a <= b + 1,
            "{a} {one} {two} {b}"
        );
        // The served files are the ones that nobody writes now.
        let nodes = process.block_nodes().await.unwrap();
        let base = nodes.iter().find(|n| n.node == "one-0").unwrap();
        assert!(base.read_only && base.path == machine.path("one.vhd"));
        process.cont().await.unwrap();
        machine.counts_beyond(a).await;
        let servers = servers_of(&process);
        assert_eq!(alive(&servers), 2);
        process.quit(PATIENCE).await.unwrap();
        assert_eq!(alive(&servers), 0);
    }
}

#[tokio::test]
async fn layers_are_merged_onto_served_disks() {
    let machine = served(WRITING).await;
    let process = machine.launch().await;
    for round in 1..=3 {
        machine.counts_beyond(5).await;
        snapshot(&machine, &process, round).await;
    }
    // 0 <- 1 <- 2 <- 3: 1 goes, and 2 then stands on the served file.
    for disk in ["one", "two"] {
        let name = |n: usize| id(&format!("{disk}-{n}"));
        let merge = process.pull(&id("pull"), &name(2), Some(&name(0))).await;
        merge.unwrap().wait(PATIENCE).await.unwrap();
        process.remove_node(&name(1)).await.unwrap();
        std::fs::remove_file(machine.path(&format!("{disk}-1.qcow2"))).unwrap();
        let mut known = files(&layers(&machine, disk, 3));
        known.remove(1);
        assert_eq!(open_files(&process, disk).await, known);
    }
    // The active layer goes down into the one below.
    let merge = process
        .commit(&id("commit"), &id("two-3"), &id("two-3"), &id("two-2"))
        .await;
    merge.unwrap().wait(PATIENCE).await.unwrap();
    process.stop().await.unwrap();
    let stood = memory_at(&process, 0x20000).await;
    process.quit(PATIENCE).await.unwrap();
    let img = machine.img();
    // Off: the rest, down into the files themselves.
    let (one, two) = (layers(&machine, "one", 3), layers(&machine, "two", 3));
    img.check(&one[3].path, Format::Qcow2).await.unwrap();
    img.commit(&one[3].path, &one[2].path).await.unwrap();
    img.commit(&one[2].path, &one[0].path).await.unwrap();
    img.commit(&two[2].path, &two[0].path).await.unwrap();
    for base in [&one[0], &two[0]] {
        let number = number_on_disk(&machine, base).await;
        assert!(number + 1 >= stood && number <= stood, "{number} {stood}");
        img.check(&base.path, base.format).await.unwrap();
    }
    let above = img.info(&one[2].path, Format::Qcow2).await.unwrap();
    assert_eq!(above.backing.unwrap().format, Some(Format::Vhd));
}

#[tokio::test]
async fn a_served_disk_that_cannot_be_opened_is_refused_and_nothing_is_left() {
    let machine = served(SLOW).await;
    let process = machine.launch().await;
    let mut other = machine.spec.clone();
    other.uuid = Uuid::new_v4();
    other.run_dir = machine.path("other");
    let refused = Process::launch(&machine.installation, &other).await;
    let Err(ProcessError::DiskInUse { path }) = refused else {
        panic!("two processes write one disk");
    };
    assert_eq!(path, machine.path("one.vhd"));
    process.quit(PATIENCE).await.unwrap();

    // The first of the two is opened, the second cannot be; then both can, but QEMU fails.
    std::fs::rename(machine.path("two.vhdx"), machine.path("away")).unwrap();
    let refused = Process::launch(&machine.installation, &machine.spec).await;
    let Err(ProcessError::DiskNotServed { path, said, .. }) = refused else {
        panic!("started without a disk");
    };
    assert!(path == machine.path("two.vhdx") && said.contains("No such file"));
    std::fs::rename(machine.path("away"), machine.path("two.vhdx")).unwrap();
    let mut wrong = machine.spec.clone();
    wrong.cpu_model = "no-such-processor".into();
    let failed = Process::launch(&machine.installation, &wrong).await;
    assert!(matches!(failed, Err(ProcessError::LaunchFailed { .. })));
    let mut without = machine.installation.clone();
    without.nbd = None;
    let failed = Process::launch(&without, &machine.spec).await;
    assert!(matches!(failed, Err(ProcessError::NoNbd)));
    // No server is left that would hold a file, so this starts.
    let process = machine.launch().await;
    machine.counts_beyond(0).await;
    process.kill().await.unwrap();
}

/// The served disk is on SCSI. On IDE, QEMU 10.0 can lose a write of a guest that polls the drive
/// instead of waiting for its interrupt, as firmware does: while a failed write waits to be tried
/// again, the drive looks ready, and a guest that is let go on may see that before the write has
/// been tried again.
#[tokio::test]
async fn the_death_of_a_server_stops_the_guest_until_it_is_there_again() {
    let mut machine = served(WRITING).await;
    let raw = layer("one-0", Format::Raw, &machine.path("one"));
    machine.spec.ide[1].drive.medium = Medium::Disk(Chain { layers: vec![raw] });
    let base = layer("two-0", Format::Vhd, &machine.path("one.vhd"));
    machine.spec.scsi[0].drives[0].drive.medium = Medium::Disk(Chain {
        layers: vec![base.clone()],
    });
    let process = machine.launch().await;
    machine.counts_beyond(5).await;
    let servers = servers_of(&process);
    qemu::identity::kill(&servers[0].open().unwrap()).unwrap();
    eventually("the guest stands still", || async {
        let status = process.status().await.unwrap();
        (status == RunState::IoError).then_some(())
    })
    .await;
    let troubles = process.disk_troubles().await.unwrap();
    assert_eq!(troubles.len(), 1);
    assert_eq!(troubles[0].path.as_ref(), Some(&base.path));
    assert!(!troubles[0].no_space);
    let a = memory_at(&process, 0x20000).await;
    let b = memory_at(&process, 0x30000).await;
    let n = number_on_disk(&machine, &base).await;
    assert!(b <= n && n <= a, "A {a} disk {n} B {b}");

    let revive = async || process.revive_servers(&machine.installation).await.unwrap();
    assert!(revive().await);
    assert!(!revive().await);
    eventually("QEMU finds the server", || async {
        let found = process.reaches_servers().await.unwrap();
        found.then_some(())
    })
    .await;
    // What has failed is tried again, and the guest notices nothing.
    process.cont().await.unwrap();
    let on = eventually("the guest counts on", || async {
        assert_eq!(process.status().await.unwrap(), RunState::Running);
        last_number(&machine.path("serial")).filter(|n| *n > a + 20)
    })
    .await;
    process.stop().await.unwrap();
    let n = number_on_disk(&machine, &base).await;
    assert!(n >= on, "disk {n} printed {on}");
    let servers = servers_of(&process);
    assert_eq!(alive(&servers), 1);
    process.quit(PATIENCE).await.unwrap();
    assert_eq!(alive(&servers), 0);
    machine.img().check(&base.path, base.format).await.unwrap();
}
