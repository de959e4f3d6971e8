//! Machines that run (without a guest system): devices, states, and the causes that make a snapshot
//! impossible, each with its return code.

use crate::fixture::{Answer, Fixture, changed, path, reference, signal, text};
use cim::{Instance, Value};
use cim_broker::Role;
use std::time::Duration;

const GENERIC: &str = "Msvm_ResourceAllocationSettingData";
const SHUTDOWN: &str = "Msvm_ShutdownComponent";
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(1000);

impl Fixture {
    /// A small machine with a disk.
    pub async fn small(&self, disk: &str) -> Instance {
        let machine = self.define("web01").await;
        let memory = self.resources(&self.settings(&machine), "Msvm_MemorySettingData");
        let size = changed(&memory[0], &[("VirtualQuantity", 64u64.into())]);
        let answer = self
            .call(
                "ModifyVirtualSystemResources",
                &[
                    ("ComputerSystem", reference(&machine)),
                    ("ResourceSettingData", Value::Array(vec![size])),
                ],
            )
            .await;
        assert_eq!(answer.code, 0);
        self.add_ide_disk(&machine, disk).await;
        machine
    }

    async fn request(&self, machine: &Instance, state: u16) -> Answer {
        let arguments = [("RequestedState", state.into())];
        self.call_as(
            Role::Operator,
            path(machine),
            "RequestStateChange",
            &arguments,
        )
        .await
    }

    /// Brings a machine to a state; answers the job.
    pub async fn bring(&self, machine: &Instance, state: u16) -> Instance {
        let answer = self.request(machine, state).await;
        assert_eq!(answer.code, 4096);
        let job = self.finished(&answer.path("Job")).await;
        assert_eq!(job.value("JobState").as_u16(), Some(7), "{job:?}");
        job
    }

    async fn create_snapshot(&self, machine: &Instance) -> Answer {
        self.call(
            "CreateVirtualSystemSnapshot",
            &[("SourceSystem", reference(machine))],
        )
        .await
    }

    /// The code of an attempt that is refused, which must have left nothing.
    async fn refused(&self, machine: &Instance) -> u32 {
        let before = self.machines.jobs().len();
        let answer = self.create_snapshot(machine).await;
        assert!(answer.out("Job").is_null(), "{answer:?}");
        assert!(answer.out("SnapshotSettingData").is_null());
        assert_eq!(self.machines.jobs().len(), before);
        answer.code
    }

    fn pid(&self, machine: &Instance) -> u32 {
        let now = self.get(path(machine));
        now.value("ProcessID").as_u32().expect("a process")
    }

    fn enabled_state(&self, machine: &Instance) -> Option<u16> {
        self.get(path(machine)).value("EnabledState").as_u16()
    }
}

#[tokio::test]
async fn a_running_machine_has_devices_and_changes_states() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    let job = fixture.bring(&machine, 2).await;
    assert_eq!(
        text(&job, "Description"),
        "Initializing and Starting Virtual Machine"
    );
    assert_eq!(fixture.enabled_state(&machine), Some(2));
    assert_eq!(fixture.request(&machine, 2).await.code, 32775);

    let devices = fixture.associators(&machine, "Msvm_SystemDevice", "");
    for class in [
        "Msvm_Processor",
        "Msvm_Memory",
        "Msvm_DiskDrive",
        "Msvm_LogicalDisk",
        "Msvm_Keyboard",
        "Msvm_ShutdownComponent",
        "Msvm_HeartbeatComponent",
        "Msvm_KvpExchangeComponent",
    ] {
        let of_class = devices
            .iter()
            .filter(|device| device.class.is(class))
            .count();
        assert_eq!(of_class, 1, "{class}");
    }
    let schema = fixture
        .broker
        .schema(&fixture.namespace)
        .expect("the schema");
    for device in &devices {
        let class = schema.class(&device.class).expect("a class");
        let ours: Vec<_> = device.properties.iter().map(|p| (&p.name, p.ty)).collect();
        let declared: Vec<_> = class.properties.iter().map(|p| (&p.name, p.ty)).collect();
        assert_eq!(ours, declared);
        assert_eq!(&fixture.get(path(device)), device);
    }
    // Nobody in this guest answers.
    let heartbeat = devices
        .iter()
        .find(|device| device.class.is("Msvm_HeartbeatComponent"))
        .expect("a heartbeat");
    assert_eq!(
        heartbeat.value("OperationalStatus"),
        &Value::from(vec![12u16])
    );
    // A drive leads to the settings it is made from, and to what is in it.
    let drive = devices
        .iter()
        .find(|device| device.class.is("Msvm_DiskDrive"))
        .expect("a drive");
    let made_from = fixture.associators(drive, "Msvm_SettingsDefineState", GENERIC);
    assert_eq!(text(&made_from[0], "InstanceID"), text(drive, "DeviceID"));
    let medium = fixture.associators(drive, "Msvm_MediaPresent", "Msvm_LogicalDisk");
    assert!(text(&medium[0], "Name").ends_with("disk.raw"));
    let process = fixture.one("SELECT * FROM Rootvirt_Process");
    assert_eq!(
        process.value("ProcessID").as_u32(),
        Some(fixture.pid(&machine))
    );
    assert_eq!(text(&process, "Accelerator"), "tcg");

    let job = fixture.bring(&machine, 32768).await;
    assert_eq!(text(&job, "Description"), "Pausing Virtual Machine");
    assert_eq!(fixture.enabled_state(&machine), Some(32768));
    assert_eq!(
        fixture.associators(&machine, "", "Msvm_ShutdownComponent"),
        []
    );
    assert_eq!(fixture.refused(&machine).await, 32775);
    fixture.bring(&machine, 2).await;
    let job = fixture.bring(&machine, 3).await;
    assert_eq!(text(&job, "Description"), "Turning Off Virtual Machine");
    assert_eq!(fixture.associators(&machine, "Msvm_SystemDevice", ""), []);
}

impl Fixture {
    /// Asks the guest of a machine that offers it to shut down; answers the job that waits for it.
    async fn shut_down(&self, machine: &Instance) -> machines::JobId {
        let components = self.associators(machine, "Msvm_SystemDevice", SHUTDOWN);
        let component = components.first().expect("a shutdown component");
        let arguments = [("Force", false.into()), ("Reason", "a test".into())];
        let to = path(component);
        let answer = self
            .call_as(Role::Operator, to, "InitiateShutdown", &arguments)
            .await;
        assert_eq!(answer.code, 0, "{answer:?}");
        let jobs = self.machines.jobs();
        let job = jobs.iter().max_by_key(|job| job.created);
        let job = job.expect("a job");
        assert_eq!(job.kind, machines::model::JobKind::ShutDown);
        job.id
    }

    /// The job as clients find it: by its machine.
    fn job_of(&self, machine: &Instance, job: machines::JobId) -> Instance {
        let jobs = self.associators(machine, "Msvm_AffectedJobElement", "Msvm_ConcreteJob");
        let id = job.to_string();
        let found = jobs.into_iter().find(|job| text(job, "InstanceID") == id);
        found.expect("the job among those of the machine")
    }
}

#[tokio::test]
async fn a_guest_that_ignores_a_shutdown_can_be_asked_again_or_turned_off() {
    let fixture = Fixture::with(|config| config.shutdown_patience = LONG).await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    let first = fixture.shut_down(&machine).await;
    while fixture.enabled_state(&machine) != Some(32774) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fixture.request(&machine, 32768).await.code, 32775);
    let second = fixture.shut_down(&machine).await;
    fixture.machines.wait(first).await.expect("the first's end");
    let job = fixture.job_of(&machine, first);
    assert_eq!(job.value("JobState").as_u16(), Some(9), "{job:?}");
    assert!(text(&job, "ErrorDescription").contains("a later request took its place"));
    fixture.bring(&machine, 3).await;
    assert_eq!(fixture.enabled_state(&machine), Some(3));
    let job = fixture.job_of(&machine, second);
    assert_eq!(job.value("JobState").as_u16(), Some(9), "{job:?}");
}

#[tokio::test]
async fn who_asked_a_guest_to_shut_down_is_told_that_it_has_not() {
    let patience = Duration::from_millis(500);
    let fixture = Fixture::with(|config| config.shutdown_patience = patience).await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    for _ in 0..2 {
        let job = fixture.shut_down(&machine).await;
        fixture.machines.wait(job).await.expect("the job's end");
        let job = fixture.job_of(&machine, job);
        assert_eq!(job.value("JobState").as_u16(), Some(10), "{job:?}");
        assert_eq!(job.value("ErrorCode").as_u16(), Some(32772));
        assert!(text(&job, "ErrorDescription").contains("has not followed"));
        assert!(text(&job, "JobStatus").contains("may yet follow"));
        assert_eq!(fixture.enabled_state(&machine), Some(2));
    }
    fixture.bring(&machine, 3).await;
}

/// Gives QEMU, past everything that is ours, something that it cannot take into a memory image.
async fn add_uncapturable(fixture: &Fixture, machine: &Instance) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let image = fixture.folder.path().join("uncapturable.vhdx");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "vhdx"])
        .arg(&image)
        .arg("8M")
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let run = fixture
        .folder
        .path()
        .join("data/run")
        .join(text(machine, "Name"));
    let monitor = tokio::net::UnixStream::connect(run.join("spare.sock")).await;
    let mut monitor = BufReader::new(monitor.expect("a monitor"));
    let file = serde_json::json!({"driver": "file", "filename": image});
    let node = serde_json::json!({"driver": "vhdx", "node-name": "uncapturable", "file": file});
    let add = serde_json::json!({"execute": "blockdev-add", "arguments": node});
    let mut line = String::new();
    monitor.read_line(&mut line).await.expect("a greeting");
    for command in [serde_json::json!({"execute": "qmp_capabilities"}), add] {
        let command = format!("{command}\n");
        let sent = monitor.get_mut().write_all(command.as_bytes()).await;
        sent.expect("a monitor that listens");
        line.clear();
        monitor.read_line(&mut line).await.expect("an answer");
        assert!(line.contains("\"return\""), "{line}");
    }
}

#[tokio::test]
async fn a_machine_that_cannot_be_captured_is_not_supported() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    add_uncapturable(&fixture, &machine).await;
    assert_eq!(fixture.refused(&machine).await, 32770);
    assert_eq!(fixture.request(&machine, 32769).await.code, 32770);
    assert_eq!(fixture.enabled_state(&machine), Some(2));
    fixture.bring(&machine, 3).await;
    // Off, nothing has to be captured.
    assert_eq!(fixture.create_snapshot(&machine).await.code, 4096);
}

#[tokio::test]
async fn a_machine_whose_qemu_does_not_answer_is_not_available() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    let pid = fixture.pid(&machine);
    signal(pid, "STOP");
    let code = fixture.refused(&machine).await;
    signal(pid, "CONT");
    assert_eq!(code, 32777);
}

#[tokio::test]
async fn an_owner_that_does_not_answer_in_time_is_a_timeout() {
    let patience = Duration::from_millis(500);
    let fixture = Fixture::with(|config| config.answer_patience = patience).await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    let pid = fixture.pid(&machine);
    signal(pid, "STOP");
    let code = fixture.refused(&machine).await;
    signal(pid, "CONT");
    assert_eq!(code, 32772);
}

#[tokio::test]
async fn a_host_without_memory_to_take_the_guest_in_is_out_of_memory() {
    let more_than_any_host = 1 << 40;
    let fixture = Fixture::with(|config| config.memory_headroom_mib = more_than_any_host).await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    assert_eq!(fixture.refused(&machine).await, 32778);
    fixture.bring(&machine, 3).await;
    // Nothing has to be taken in from a machine that is off.
    let answer = fixture.create_snapshot(&machine).await;
    assert_eq!(answer.code, 4096);
    fixture.finished(&answer.path("Job")).await;
}

#[tokio::test]
async fn a_machine_with_a_missing_file_is_not_available() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    std::fs::remove_file(fixture.folder.path().join("disk.raw")).expect("the disk");
    assert_eq!(fixture.refused(&machine).await, 32777);

    // Starting it is a job, which fails and says why in every way that clients ask.
    let answer = fixture.request(&machine, 2).await;
    assert_eq!(answer.code, 4096);
    let job = fixture.finished(&answer.path("Job")).await;
    assert_eq!(job.value("JobState").as_u16(), Some(10));
    assert_ne!(job.value("ErrorCode").as_u16(), Some(0));
    let summary = text(&job, "ErrorSummaryDescription");
    assert!(text(&job, "ErrorDescription").starts_with(summary));
    let error = fixture
        .call_as(Role::Viewer, path(&job), "GetError", &[])
        .await;
    let error = cim_xml::embedded::parse_instance(error.out("Error").as_str().expect("a text"))
        .expect("an instance");
    assert!(error.class.is("Msvm_Error"));
    assert_eq!(error.str("Message"), Some(summary));
    let errors = fixture
        .call_as(Role::Viewer, path(&job), "GetErrorEx", &[])
        .await;
    let errors = errors.out("Errors").as_array().expect("a list").to_vec();
    assert_eq!(errors.len(), 1);
    let formatted = fixture
        .call("FormatError", &[("Errors", Value::Array(errors))])
        .await;
    assert_eq!(formatted.out("ErrorMessage").as_str(), Some(summary));
}

#[tokio::test]
async fn a_busy_machine_is_in_use() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    fixture.bring(&machine, 2).await;
    let answer = fixture.create_snapshot(&machine).await;
    assert_eq!(answer.code, 4096);
    let second = fixture.create_snapshot(&machine).await;
    assert_eq!(second.code, 32774);
    assert!(second.out("Job").is_null());
    fixture.finished(&answer.path("Job")).await;
    assert_eq!(fixture.enabled_state(&machine), Some(2));
}

#[tokio::test]
async fn a_machine_has_at_most_a_hundred_snapshots() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    for _ in 0..100 {
        let answer = fixture.create_snapshot(&machine).await;
        fixture.finished(&answer.path("Job")).await;
    }
    assert_eq!(fixture.refused(&machine).await, 32768);
}
