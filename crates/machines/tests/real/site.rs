//! A service in a folder of its own, with machines whose guests count; their processes end with
//! the test.

use machines::model::{Device, DeviceKind, Job, JobState, Machine, State};
use machines::request::{
    Actor, GlobalChange, NewDevice, ResourceChange, SettingsChange, StateRequest,
};
use machines::{Config, DeviceId, JobId, MachineId, Machines, SnapshotId};
use qemu::identity::Identity;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes, even on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A guest of one sector that counts: A in memory at 0x20000, then sector 1 of the second and the
/// third disk, then B in memory at 0x30000, then a line on the serial port. So at every instant
/// B <= disks <= A <= B + 1. The source is `guest.S` among the tests of the crate `qemu`.
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

pub const IDE: [&str; 2] = [
    "83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0",
    "83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\1",
];

pub fn actor() -> Actor {
    Actor {
        user: "tester".into(),
        peer: "local".into(),
    }
}

/// A data directory and a folder of disks; ends every process that it began.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let runs = std::fs::read_dir(self.data().join("run"))
            .into_iter()
            .flatten()
            .flatten();
        for run in runs {
            if let Some(handle) = Identity::read(&run.path()).and_then(|i| i.open()) {
                let _ = qemu::identity::kill(&handle);
            }
        }
    }
}

impl Site {
    pub fn new() -> Site {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        Site {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> Config {
        config(&self.data())
    }

    pub async fn open(&self) -> Arc<Machines> {
        Machines::open(self.config()).await.unwrap()
    }

    /// A raw disk with this start.
    pub fn disk(&self, name: &str, start: &[u8], mib: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, start).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(mib << 20).unwrap();
        path
    }

    /// An empty disk of the format that the name says.
    pub fn data_disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", driver_of(&path)])
            .arg(&path)
            .arg("64M")
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        path
    }

    /// A boot disk and two data disks on IDE and SCSI; the guest counts.
    pub async fn counter(&self, machines: &Machines, name: &str) -> MachineId {
        let id = define(machines, name).await;
        self.fill_counter(machines, id, name).await;
        id
    }

    /// Gives a machine what a counting one has.
    pub async fn fill_counter(&self, machines: &Machines, id: MachineId, name: &str) {
        self.fill_counter_on(machines, id, name, ["img", "img"])
            .await;
    }

    /// The same, with data disks of these formats (their files' extensions).
    pub async fn fill_counter_on(
        &self,
        machines: &Machines,
        id: MachineId,
        name: &str,
        formats: [&str; 2],
    ) {
        let mut sector = CODE.to_vec();
        sector.resize(509, 0);
        sector.push(1);
        sector.extend([0x55, 0xaa]);
        let boot = self.disk(&format!("{name}-boot.img"), &sector, 1);
        let one = self.data_disk(&format!("{name}-one.{}", formats[0]));
        let two = self.data_disk(&format!("{name}-two.{}", formats[1]));
        let scsi = add(machines, id, vec![controller()]).await.remove(0);
        for (parent, slot, file) in [
            (DeviceId(IDE[0].into()), "0", &boot),
            (DeviceId(IDE[0].into()), "1", &one),
            (scsi, "0", &two),
        ] {
            add_disk(machines, id, parent, slot, file).await;
        }
        let serial = self.path(&format!("{name}.serial"));
        let changes = vec![
            memory(64),
            connect(
                first(&machines.machine(id).unwrap(), DeviceKind::SerialPort),
                &serial,
            ),
        ];
        machines
            .modify_resources(&actor(), id, changes)
            .await
            .unwrap();
    }

    /// Waits until the guest has printed a number above `number`.
    pub async fn counts_beyond(&self, name: &str, number: u32) -> u32 {
        let serial = self.path(&format!("{name}.serial"));
        let found = || last_number(&serial).filter(|n| *n > number);
        eventually("the guest counts", || async { found() }).await
    }

    /// The guest has printed a new number from now on.
    pub async fn counts_on(&self, name: &str) -> u32 {
        let serial = self.path(&format!("{name}.serial"));
        let before = std::fs::metadata(&serial).map_or(0, |m| m.len());
        eventually("the guest counts on", || async {
            let now = std::fs::metadata(&serial).map_or(0, |m| m.len());
            (now > before + 18).then(|| last_number(&serial)).flatten()
        })
        .await
    }

    pub async fn process(&self, id: MachineId) -> qemu::Process {
        let run = self.data().join("run").join(id.to_string());
        qemu::Process::look(&run, id.0).await.unwrap()
    }

    /// A, the numbers on both disks and B, of a machine that stands still. Memory is read from the
    /// process; the disks from their files.
    pub async fn numbers(&self, machines: &Machines, id: MachineId) -> [u32; 4] {
        let process = self.process(id).await;
        let a = memory_at(&process, 0x20000).await;
        let b = memory_at(&process, 0x30000).await;
        let machine = machines.machine(id).unwrap();
        let mut disks = Vec::new();
        for device in &machine.settings.devices {
            if device.kind == DeviceKind::HardDiskImage {
                disks.push(number_on_disk(Path::new(&device.connection[0])));
            }
        }
        // Boot disk first; data disks after it.
        [a, disks[1], disks[2], b]
    }
}

pub fn config(data: &Path) -> Config {
    let mut config = Config::new(data);
    config.shutdown_patience = Duration::from_secs(2);
    config
}

pub async fn define(machines: &Machines, name: &str) -> MachineId {
    let global = GlobalChange {
        name: Some(name.into()),
        ..Default::default()
    };
    machines
        .define(
            &actor(),
            global,
            SettingsChange::default(),
            vec![],
            vec![],
            None,
        )
        .await
        .unwrap()
}

pub async fn add(machines: &Machines, id: MachineId, devices: Vec<NewDevice>) -> Vec<DeviceId> {
    machines.add_devices(&actor(), id, devices).await.unwrap()
}

pub async fn add_disk(
    machines: &Machines,
    id: MachineId,
    parent: DeviceId,
    slot: &str,
    file: &Path,
) -> DeviceId {
    let drive = add(machines, id, vec![drive(parent, slot)]).await.remove(0);
    add(machines, id, vec![image(drive, file)]).await.remove(0)
}

pub fn device(kind: DeviceKind) -> NewDevice {
    NewDevice {
        kind,
        name: None,
        parent: None,
        address: None,
        connection: vec![],
        static_mac: None,
        identifiers: vec![],
    }
}

pub fn controller() -> NewDevice {
    device(DeviceKind::ScsiController)
}

pub fn drive(parent: DeviceId, slot: &str) -> NewDevice {
    NewDevice {
        parent: Some(parent),
        address: Some(slot.into()),
        ..device(DeviceKind::DiskDrive)
    }
}

pub fn image(parent: DeviceId, file: &Path) -> NewDevice {
    NewDevice {
        parent: Some(parent),
        connection: vec![file.to_string_lossy().into_owned()],
        ..device(DeviceKind::HardDiskImage)
    }
}

pub fn memory(mib: u64) -> ResourceChange {
    ResourceChange::Memory {
        quantity_mib: Some(mib),
        reservation_mib: None,
        limit_mib: None,
        weight: None,
        dynamic_memory: None,
        target_buffer: None,
    }
}

pub fn processors(count: u64) -> ResourceChange {
    ResourceChange::Processor {
        count: Some(count),
        reservation: None,
        limit: None,
        weight: None,
        limit_cpuid: None,
        limit_features: None,
    }
}

pub fn connect(id: DeviceId, file: &Path) -> ResourceChange {
    ResourceChange::Device {
        id,
        name: None,
        parent: None,
        address: None,
        connection: Some(vec![file.to_string_lossy().into_owned()]),
        static_mac: None,
    }
}

pub fn first(machine: &Machine, kind: DeviceKind) -> DeviceId {
    of_kind(machine, kind)[0].id.clone()
}

pub fn of_kind(machine: &Machine, kind: DeviceKind) -> Vec<&Device> {
    machine
        .settings
        .devices
        .iter()
        .filter(|d| d.kind == kind)
        .collect()
}

/// Asks for a state and waits for the job, which must complete.
pub async fn bring(machines: &Machines, id: MachineId, state: StateRequest) -> Arc<Job> {
    let job = machines.request_state(&actor(), id, state).await.unwrap();
    completed(machines, job).await
}

pub async fn completed(machines: &Machines, job: JobId) -> Arc<Job> {
    let job = tokio::time::timeout(PATIENCE, machines.wait(job))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    assert_eq!(job.percent, 100);
    job
}

pub async fn failed(machines: &Machines, job: JobId) -> machines::model::JobError {
    let job = tokio::time::timeout(PATIENCE, machines.wait(job))
        .await
        .unwrap()
        .unwrap();
    match &job.state {
        JobState::Failed(cause) => cause.clone(),
        other => panic!("{other:?}"),
    }
}

pub async fn snapshot(machines: &Machines, id: MachineId) -> SnapshotId {
    let job = machines.create_snapshot(&actor(), id).await.unwrap();
    completed(machines, job).await.snapshot.unwrap()
}

pub async fn apply(machines: &Machines, id: MachineId, snapshot: SnapshotId) {
    let job = machines
        .apply_snapshot(&actor(), id, snapshot)
        .await
        .unwrap();
    completed(machines, job).await;
}

pub async fn remove(machines: &Machines, snapshot: SnapshotId) {
    let job = machines.remove_snapshot(&actor(), snapshot).await.unwrap();
    let machine = completed(machines, job).await.machine;
    merged(machines, machine).await;
}

/// Waits until merges that follow from what was done have ended.
pub async fn merged(machines: &Machines, id: MachineId) {
    eventually("merges have ended", || async {
        let idle = machines.machine(id).is_none_or(|m| m.activity.is_none());
        let ended = machines.jobs_of(id).iter().all(|j| j.finished.is_some());
        (idle && ended).then_some(())
    })
    .await;
}

pub fn state(machines: &Machines, id: MachineId) -> State {
    machines.machine(id).unwrap().state
}

/// Catalog, files and processes agree.
pub async fn sound(machines: &Machines) {
    let findings = machines.check().await.unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
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

/// The last number in a file that a guest prints to.
pub fn last_number(serial: &Path) -> Option<u32> {
    let bytes = std::fs::read(serial).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n')?;
    let line = text[..whole].rsplit('\n').next()?;
    u32::from_str_radix(line, 16).ok()
}

/// A number in the guest's memory.
pub async fn memory_at(process: &qemu::Process, address: u64) -> u32 {
    let file = process.run_dir().join("memory");
    let arguments = json!({"val": address, "size": 4, "filename": file});
    process.qmp().execute("pmemsave", arguments).await.unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    number(&bytes)
}

pub fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// QEMU's name for the format that a file's name says.
fn driver_of(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("avhd") => "qcow2",
        Some("vhd") => "vpc",
        Some("vhdx") => "vhdx",
        _ => "raw",
    }
}

/// The number in sector 1 of a disk, by its layers' files.
pub fn number_on_disk(layer: &Path) -> u32 {
    let copy = tempfile::NamedTempFile::new().unwrap();
    let format = driver_of(layer);
    let output = std::process::Command::new("qemu-img")
        .args(["dd", "-U", "-f", format, "-O", "raw", "bs=512", "count=2"])
        .arg(format!("if={}", layer.display()))
        .arg(format!("of={}", copy.path().display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    number(&std::fs::read(copy.path()).unwrap()[512..])
}
