//! A machine whose guest counts, in a folder of its own; its process ends with the test.

use qemu::identity::Identity;
use qemu::img::Img;
use qemu::memory_image::{Compression, ImageId, MemoryImage, Origin, no_parents};
use qemu::receiver;
use qemu::spec::*;
use qemu::{Installation, LaunchSpec, Process};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longer than anything here takes, even on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest does in each round; see `guest.S`.
#[derive(Clone, Copy)]
pub struct Guest {
    pub writes_disks: bool,
    pub sleeps: bool,
}

pub const SLOW: Guest = Guest {
    writes_disks: false,
    sleeps: true,
};
pub const WRITING: Guest = Guest {
    writes_disks: true,
    sleeps: false,
};

/// `guest.S`, assembled, up to its last byte of code.
const CODE: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0xfc, 0xea, 0x11, 0x7c, 0x00,
    0x00, 0xe8, 0x7d, 0x00, 0x64, 0x66, 0xc7, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x65, 0x66,
    0xc7, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64, 0x66, 0xff, 0x06, 0x00, 0x00, 0x64, 0x66,
    0xa1, 0x00, 0x00, 0x89, 0xc3, 0x83, 0xe3, 0x3f, 0xc1, 0xe3, 0x08, 0x81, 0xc3, 0x00, 0x40, 0x8e,
    0xc3, 0x26, 0x66, 0xa3, 0x00, 0x00, 0x66, 0xa3, 0x00, 0x08, 0xf6, 0x06, 0xfd, 0x7d, 0x01, 0x74,
    0x0a, 0xb2, 0x81, 0xe8, 0x46, 0x00, 0xb2, 0x82, 0xe8, 0x41, 0x00, 0xe8, 0x33, 0x00, 0x64, 0x66,
    0xa1, 0x00, 0x00, 0x65, 0x66, 0xa3, 0x00, 0x00, 0xb9, 0x08, 0x00, 0x66, 0xc1, 0xc0, 0x04, 0x66,
    0x50, 0x24, 0x0f, 0x3c, 0x0a, 0x72, 0x02, 0x04, 0x27, 0x04, 0x30, 0xe8, 0x31, 0x00, 0x66, 0x58,
    0xe2, 0xe9, 0xb0, 0x0a, 0xe8, 0x28, 0x00, 0xf6, 0x06, 0xfd, 0x7d, 0x02, 0x74, 0x9a, 0xf4, 0xeb,
    0x97, 0xb8, 0x00, 0x20, 0x8e, 0xe0, 0xb8, 0x00, 0x30, 0x8e, 0xe8, 0xc3, 0xbe, 0xc0, 0x7c, 0xb8,
    0x00, 0x43, 0xcd, 0x13, 0x72, 0x01, 0xc3, 0xb0, 0x21, 0xe8, 0x03, 0x00, 0xf4, 0xeb, 0xf8, 0x88,
    0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xc3,
    0x10, 0x00, 0x01, 0x00, 0x00, 0x08, 0x00, 0x00, 0x01,
];

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub struct Machine {
    pub dir: tempfile::TempDir,
    pub installation: Installation,
    pub spec: LaunchSpec,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Shown only if the test fails.
        let log = self.spec.run_dir.join(qemu::process::LOG_FILE);
        print!("{}", std::fs::read_to_string(log).unwrap_or_default());
        if let Some(handle) = Identity::read(&self.spec.run_dir).and_then(|i| i.open()) {
            let _ = qemu::identity::kill(&handle);
        }
    }
}

impl Machine {
    /// A boot disk and two data disks, one on IDE and one on SCSI.
    pub async fn new(guest: Guest) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let mut sector = CODE.to_vec();
        sector.resize(509, 0);
        sector.push(u8::from(guest.writes_disks) | u8::from(guest.sleeps) << 1);
        sector.extend([0x55, 0xaa]);
        let file = |name: &str, start: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, start).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(16 << 20).unwrap();
            path
        };
        let disk = |name: &str, node: &str, start: &[u8]| Drive {
            id: id(name),
            medium: Medium::Disk(Chain {
                layers: vec![layer(node, Format::Raw, &file(name, start))],
            }),
        };
        let mut spec = LaunchSpec::new("counter", Uuid::new_v4(), dir.path().join("run"));
        spec.memory.mib = 64;
        spec.ide = vec![
            IdeDrive {
                channel: 0,
                unit: 0,
                drive: disk("boot", "boot-0", &sector),
            },
            IdeDrive {
                channel: 0,
                unit: 1,
                drive: disk("one", "one-0", b""),
            },
        ];
        spec.scsi = vec![ScsiController {
            id: id("scsi"),
            index: 0,
            drives: vec![ScsiDrive {
                lun: 0,
                drive: disk("two", "two-0", b""),
            }],
        }];
        spec.serial_ports = vec![SerialPort {
            index: 0,
            connection: SerialConnection::File(dir.path().join("serial")),
        }];
        Machine {
            installation: Installation::find().await.unwrap(),
            dir,
            spec,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn img(&self) -> Img {
        Img::new(&self.installation)
    }

    pub async fn launch(&self) -> Process {
        Process::launch(&self.installation, &self.spec)
            .await
            .unwrap()
    }

    /// The same machine as it is after a switch of its data disks to new layers, elsewhere.
    pub fn clone_with(&self, name: &str, one: Vec<Layer>, two: Vec<Layer>) -> LaunchSpec {
        let mut spec = self.spec.clone();
        spec.run_dir = self.path(name);
        spec.start = Start::Incoming;
        let serial = self.path(&format!("{name}.serial"));
        spec.serial_ports[0].connection = SerialConnection::File(serial);
        // The boot disk is written by nobody, but the machine it was copied from has it open.
        let boot = self.path(&format!("{name}.boot"));
        std::fs::copy(self.path("boot"), &boot).unwrap();
        spec.ide[0].drive.medium = Medium::Disk(Chain {
            layers: vec![layer("boot-0", Format::Raw, &boot)],
        });
        spec.ide[1].drive.medium = Medium::Disk(Chain { layers: one });
        spec.scsi[0].drives[0].drive.medium = Medium::Disk(Chain { layers: two });
        spec
    }

    pub fn receiver(&self, name: &str) -> receiver::Config {
        receiver::Config {
            socket: self.path(&format!("{name}.sock")),
            temporary: self.path(&format!("{name}.tmp")),
            path: self.path(name),
            id: ImageId(Uuid::new_v4().as_u128()),
            parent: None,
            compression: Compression::None,
            expected: 0,
            origin: Origin {
                qemu: self.installation.version.into(),
                machine_type: MACHINE_TYPE.into(),
                ram_mib: self.spec.memory.mib,
            },
            ring_limit: receiver::RING_LIMIT,
        }
    }

    /// Waits until the guest has printed a number, and one above `number`.
    pub async fn counts_beyond(&self, number: u32) -> u32 {
        counts_beyond(&self.path("serial"), number).await
    }

    /// 32 MiB that do not compress into repeated bytes, in the guest's memory.
    pub fn fill_memory(&mut self) {
        self.fill_memory_with(32);
    }

    /// As many MiB, at most 2800.
    pub fn fill_memory_with(&mut self, mib: u64) {
        let mib = mib.min(2800);
        let mut state = 1u64;
        let mut bytes = Vec::new();
        while bytes.len() as u64 != mib << 20 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let path = self.path("filling");
        std::fs::write(&path, bytes).unwrap();
        let device = json!({"driver": "loader", "file": path, "addr": 16 << 20, "force-raw": true});
        self.spec.test_arguments = vec!["-device".into(), device.to_string()];
    }
}

pub fn open_image(path: &Path) -> Arc<MemoryImage> {
    Arc::new(MemoryImage::open(path, &no_parents).unwrap())
}

/// Reads every byte of an image.
pub fn verify(image: &MemoryImage) {
    let mut on = |_, _| std::ops::ControlFlow::Continue(());
    image.verify(&mut on).unwrap();
}

pub fn layer(node: &str, format: Format, path: &Path) -> Layer {
    Layer {
        node: id(node),
        format,
        path: path.into(),
    }
}

/// The last number in a file that a guest prints to.
pub fn last_number(serial: &Path) -> Option<u32> {
    let bytes = std::fs::read(serial).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n')?;
    let line = text[..whole].rsplit('\n').next()?;
    u32::from_str_radix(line, 16).ok()
}

pub async fn counts_beyond(serial: &Path, number: u32) -> u32 {
    let found = || last_number(serial).filter(|n| *n > number);
    eventually("the guest counts", || async { found() }).await
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A number in the guest's memory.
pub async fn memory_at(process: &Process, address: u64) -> u32 {
    let file = process.run_dir().join("memory");
    let arguments = json!({"val": address, "size": 4, "filename": file});
    process.qmp().execute("pmemsave", arguments).await.unwrap();
    number(&std::fs::read(&file).unwrap())
}

pub fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// The number in sector 1 of a disk that no process writes.
pub async fn number_on_disk(machine: &Machine, layer: &Layer) -> u32 {
    let copy = machine.path("sector");
    let output = tokio::process::Command::new(&machine.installation.img)
        .args([
            "dd",
            "-U",
            "-f",
            layer.format.driver(),
            "-O",
            "raw",
            "bs=512",
            "count=2",
        ])
        .arg(format!("if={}", layer.path.display()))
        .arg(format!("of={}", copy.display()))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = std::fs::read(&copy).unwrap();
    std::fs::remove_file(copy).unwrap();
    number(&bytes[512..])
}

/// A small file system in memory, to be filled; `None`, with the reason printed, where this test
/// may not mount one.
pub struct SmallDisk(pub tempfile::TempDir);

impl SmallDisk {
    pub fn mount(mib: u32) -> Option<SmallDisk> {
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
