//! That the proof of one instant can fail: the same guest, snapshotted in two wrong orders, finds
//! out that its disks are not of the instant of its memory; in the right order it does not.

use crate::machine::RATE;
use crate::site::{PATIENCE, blank_file};
use demo_guest::serial::SerialClient;
use qemu::identity;
use qemu::img::Img;
use qemu::live::{LiveError, PauseWatch, Switch};
use qemu::memory_image::{Compression, ImageId, MemoryImage, Origin, no_parents};
use qemu::receiver::{self, RING_LIMIT, Receiver};
use qemu::spec::{
    Chain, Drive, Format, Id, IdeDrive, Layer, MACHINE_TYPE, Medium, ScsiController, ScsiDrive,
    SerialConnection, SerialPort, Start,
};
use qemu::{Installation, LaunchSpec, Process};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DATA_DISKS: [&str; 2] = ["ide", "scsi"];

/// In which order memory and disks are frozen.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Stop, disks, memory, wait until it is captured, go on.
    Right,
    /// The disks while the guest runs, then memory, for which QEMU stops by itself.
    DisksWhileRunning,
    /// As the right one, but going on before memory is captured.
    NoWaitForMemory,
}

/// A wrong order may come out whole by luck, so it is tried a few times.
const TRIES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_snapshots_are_noticed() {
    let mut bench = Bench::boot().await;
    let (judged, read_errors) = bench.try_order(Order::Right).await;
    judged.unwrap();
    assert_eq!(read_errors, 0);

    // QEMU's events look all right here: only the guest can tell.
    let (judged, read_errors) = bench.try_order(Order::DisksWhileRunning).await;
    judged.unwrap();
    assert!(read_errors > 0);

    let mut noticed = false;
    for _ in 0..TRIES {
        let (judged, read_errors) = bench.try_order(Order::NoWaitForMemory).await;
        noticed = matches!(judged, Err(LiveError::Torn { .. }));
        if noticed {
            break;
        }
        // What is taken for whole is whole.
        judged.unwrap();
        assert_eq!(read_errors, 0);
    }
    assert!(noticed, "whole {TRIES} times over");
}

struct Bench {
    folder: tempfile::TempDir,
    installation: Installation,
    spec: LaunchSpec,
    process: Guard,
    serial: SerialClient,
    /// Snapshots taken so far.
    rounds: usize,
}

/// A process that ends with the test.
struct Guard(Process);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(handle) = self.0.identity().open() {
            let _ = identity::kill(&handle);
        }
    }
}

impl Bench {
    async fn boot() -> Bench {
        let folder = tempfile::Builder::new()
            .prefix("rootvirt-torn-")
            .tempdir()
            .unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::copy(demo_guest::image::boot_disk().unwrap(), path("boot-0")).unwrap();
        for disk in DATA_DISKS {
            blank_file(&path(&format!("{disk}-0")), 16 << 20);
        }
        let layers = |disk: &str| vec![layer(folder.path(), disk, 0)];
        let mut spec = spec(&path("run"), &path("com1"));
        set_disks(&mut spec, layers("boot"), layers("ide"), layers("scsi"));
        let installation = Installation::find().await.unwrap();
        let process = Guard(Process::launch(&installation, &spec).await.unwrap());
        let mut serial = SerialClient::connect(&path("com1"), PATIENCE).unwrap();
        let ready = serial.wait_ready(PATIENCE).unwrap();
        assert_eq!(ready.disks.len(), DATA_DISKS.len());
        serial.set_rate(RATE, PATIENCE).unwrap();
        Bench {
            folder,
            installation,
            spec,
            process,
            serial,
            rounds: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn img(&self) -> Img {
        Img::new(&self.installation)
    }

    /// Takes a snapshot in an order: what QEMU's events say of it, and how many blocks of another
    /// instant a guest meets that goes on from it.
    async fn try_order(&mut self, order: Order) -> (Result<Option<Duration>, LiveError>, u64) {
        let round = self.rounds;
        self.rounds += 1;
        let judged = self.freeze(round, order).await;
        let read_errors = self.read_errors_after_restore(round).await;
        println!("{order:?}: pause {judged:?}, {read_errors} blocks of another instant");
        (judged, read_errors)
    }

    /// Freezes layer `round` of each data disk, and memory, in an order; gives what the events
    /// say of it.
    async fn freeze(&mut self, round: usize, order: Order) -> Result<Option<Duration>, LiveError> {
        // Enough rounds that the guest knows what must be on its disks.
        let begun = self.serial.report(PATIENCE).unwrap().a;
        while self.serial.report(PATIENCE).unwrap().a < begun + 50 {}
        let process = &self.process.0;
        let mut switches = Vec::new();
        for disk in DATA_DISKS {
            let below = layer(self.folder.path(), disk, round);
            let overlay = layer(self.folder.path(), disk, round + 1);
            let img = self.img();
            let made = img.create_overlay(&overlay.path, &below.path, below.format);
            made.await.unwrap();
            process.add_overlay(&overlay).await.unwrap();
            switches.push(Switch {
                node: below.node,
                overlay: overlay.node,
            });
        }
        let receiver = Receiver::listen(self.receiver(round)).unwrap();
        process.prepare_background_snapshot().await.unwrap();
        let watch = PauseWatch::new(process.qmp());
        if !matches!(order, Order::DisksWhileRunning) {
            process.stop().await.unwrap();
        }
        process.switch_overlays(&switches).await.unwrap();
        if matches!(order, Order::DisksWhileRunning) {
            // The more it writes now, the further apart disks and memory are.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let begun = process.begin_background_snapshot(receiver.socket());
        begun.await.unwrap();
        match order {
            Order::Right => {
                process.wait_until_captured(PATIENCE).await.unwrap();
                process.cont().await.unwrap();
            }
            Order::NoWaitForMemory => process.cont().await.unwrap(),
            Order::DisksWhileRunning => {}
        }
        process.wait_migration(PATIENCE).await.unwrap();
        let judged = watch.judge(true).await;
        receiver.publish().await.unwrap();
        judged
    }

    fn receiver(&self, round: usize) -> receiver::Config {
        receiver::Config {
            socket: self.path("mem.sock"),
            temporary: self.path("memory.tmp"),
            path: self.path(&format!("memory-{round}")),
            id: ImageId(uuid::Uuid::new_v4().as_u128()),
            parent: None,
            compression: Compression::None,
            expected: 0,
            origin: Origin {
                qemu: self.installation.version.into(),
                machine_type: MACHINE_TYPE.into(),
                ram_mib: self.spec.memory.mib,
            },
            ring_limit: RING_LIMIT,
        }
    }

    /// One more guest goes on from the frozen disks and memory, on layers of its own.
    async fn read_errors_after_restore(&self, round: usize) -> u64 {
        let mut spec = spec(&self.path(&format!("run-{round}")), &self.path("restored"));
        spec.uuid = self.spec.uuid;
        spec.start = Start::Incoming;
        // Nobody writes to the boot disk, but the first guest has it open.
        let boot = Layer {
            path: self.path(&format!("boot-copy-{round}")),
            ..layer(self.folder.path(), "boot", 0)
        };
        std::fs::copy(self.path("boot-0"), &boot.path).unwrap();
        let ide = self.chain_copy("ide", round, round).await;
        let scsi = self.chain_copy("scsi", round, round).await;
        set_disks(&mut spec, vec![boot], ide, scsi);
        let process = Guard(Process::launch(&self.installation, &spec).await.unwrap());
        let path = self.path(&format!("memory-{round}"));
        let image = Arc::new(MemoryImage::open(&path, &no_parents).unwrap());
        process.0.load_image(&image, PATIENCE).await.unwrap();
        process.0.cont().await.unwrap();
        let mut serial = SerialClient::connect(&self.path("restored"), PATIENCE).unwrap();
        let first = serial.report(PATIENCE).unwrap();
        loop {
            let report = serial.report(PATIENCE).unwrap();
            if report.a >= first.a + 8 {
                assert_eq!(report.a, report.b);
                assert_eq!(report.ring_wrong, 0);
                return report.read_errors;
            }
        }
    }

    /// The layers of a disk up to a frozen one, with a new one on top.
    async fn chain_copy(&self, disk: &str, newest: usize, round: usize) -> Vec<Layer> {
        let mut layers: Vec<Layer> = (0..=newest)
            .map(|number| layer(self.folder.path(), disk, number))
            .collect();
        let below = layers.last().unwrap();
        let overlay = Layer {
            node: id(&format!("{disk}-copy")),
            format: Format::Qcow2,
            path: self.path(&format!("{disk}-copy-{round}")),
        };
        let img = self.img();
        let made = img.create_overlay(&overlay.path, &below.path, below.format);
        made.await.unwrap();
        layers.push(overlay);
        layers
    }
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn layer(folder: &Path, disk: &str, number: usize) -> Layer {
    Layer {
        node: id(&format!("{disk}-{number}")),
        format: match number {
            0 => Format::Raw,
            _ => Format::Qcow2,
        },
        path: folder.join(format!("{disk}-{number}")),
    }
}

fn spec(run_dir: &Path, serial: &Path) -> LaunchSpec {
    let mut spec = LaunchSpec::new("torn", uuid::Uuid::new_v4(), run_dir);
    spec.memory.mib = 256;
    spec.serial_ports = vec![SerialPort {
        index: 0,
        connection: SerialConnection::Socket(serial.to_owned()),
    }];
    spec
}

fn set_disks(spec: &mut LaunchSpec, boot: Vec<Layer>, ide: Vec<Layer>, scsi: Vec<Layer>) {
    let drive = |name: &str, layers| Drive {
        id: id(name),
        medium: Medium::Disk(Chain { layers }),
    };
    let ide_drive = |unit, drive| IdeDrive {
        channel: 0,
        unit,
        drive,
    };
    spec.ide = vec![
        ide_drive(0, drive("boot", boot)),
        ide_drive(1, drive("ide", ide)),
    ];
    spec.scsi = vec![ScsiController {
        id: id("controller"),
        index: 0,
        drives: vec![ScsiDrive {
            lun: 0,
            drive: drive("scsi", scsi),
        }],
    }];
}
