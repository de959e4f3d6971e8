//! The snapshot service: the check before, verification, rehearsal.

use crate::fixture::{Answer, Fixture, changed, path, reference, text};
use cim::{Instance, ObjectPath, Value};
use cim_broker::Role;
use std::io::Write;

const CLASS: &str = "Rootvirt_SnapshotService";

impl Fixture {
    fn snapshot_service(&self) -> ObjectPath {
        path(&self.one(&format!("SELECT * FROM {CLASS}"))).clone()
    }

    async fn ask(&self, role: Role, method: &str, arguments: &[(&str, Value)]) -> Answer {
        self.call_as(role, &self.snapshot_service(), method, arguments)
            .await
    }

    /// A machine that is off, with 64 MiB and one disk, and its first snapshot.
    async fn machine_and_snapshot(&self) -> (Instance, Instance) {
        let machine = self.define("web01").await;
        let memory = self.resources(&self.settings(&machine), "Msvm_MemorySettingData");
        let size = changed(&memory[0], &[("VirtualQuantity", 64u64.into())]);
        let arguments = [
            ("ComputerSystem", reference(&machine)),
            ("ResourceSettingData", Value::Array(vec![size])),
        ];
        let answer = self.call("ModifyVirtualSystemResources", &arguments).await;
        assert_eq!(answer.code, 0);
        self.add_ide_disk(&machine, "disk.raw").await;
        let arguments = [("SourceSystem", reference(&machine))];
        let answer = self.call("CreateVirtualSystemSnapshot", &arguments).await;
        let job = self.finished(&answer.path("Job")).await;
        let made = self.associators(&job, "", "Msvm_VirtualSystemSettingData");
        (machine, made[0].clone())
    }

    fn files_of(&self, snapshot: &Instance) -> Vec<Instance> {
        let id = text(snapshot, "InstanceID");
        self.query(&format!(
            "SELECT * FROM Rootvirt_SnapshotFile WHERE Snapshot = '{id}'"
        ))
    }
}

#[tokio::test]
async fn the_service_is_hosted_and_answers_what_a_snapshot_would_need() {
    let fixture = Fixture::new().await;
    let (machine, _) = fixture.machine_and_snapshot().await;
    let service = fixture.one(&format!("SELECT * FROM {CLASS}"));
    assert_eq!(fixture.get(path(&service)), service);
    let hosts = fixture.associators(&service, "CIM_HostedService", "");
    assert_eq!(hosts.len(), 1);

    let of = [("SourceSystem", reference(&machine))];
    let answer = fixture.ask(Role::Viewer, "CheckSnapshot", &of).await;
    assert_eq!(answer.code, 0);
    let forecast = answer.out("Forecast").as_instance().expect("an instance");
    assert!(forecast.class.is("Rootvirt_SnapshotForecast"));
    assert_eq!(forecast.value("Possible").as_bool(), Some(true));
    assert_eq!(forecast.value("WithMemory").as_bool(), Some(false));
    assert_eq!(text(forecast, "SystemName"), text(&machine, "Name"));
    let length = |name: &str| forecast.value(name).as_array().map(<[Value]>::len);
    assert_eq!(length("RefusalCodes"), Some(0));
    let places = length("SpacePaths");
    assert!(places > Some(0));
    for name in ["SpaceNeeded", "SpaceExpected", "SpaceAvailable"] {
        assert_eq!(length(name), places, "{name}");
    }
    assert!(forecast.value("ExpectedPause").is_null());

    for (role, arguments, code) in [
        (Role::None, of.to_vec(), 32769),
        (Role::Viewer, vec![], 32773),
        (
            Role::Viewer,
            vec![("SourceSystem", reference(&service))],
            32773,
        ),
    ] {
        let answer = fixture.ask(role, "CheckSnapshot", &arguments).await;
        assert_eq!(answer.code, code);
        assert!(answer.out("Forecast").is_null());
    }
}

#[tokio::test]
async fn damage_fails_the_job_and_is_shown_file_by_file() {
    let fixture = Fixture::new().await;
    let (_, snapshot) = fixture.machine_and_snapshot().await;
    let verify = async |depth: Value| {
        let arguments = [
            ("SnapshotSettingData", reference(&snapshot)),
            ("Depth", depth),
        ];
        let answer = fixture
            .ask(Role::Operator, "VerifySnapshot", &arguments)
            .await;
        assert_eq!(answer.code, 4096);
        fixture.finished(&answer.path("Job")).await
    };
    assert_eq!(fixture.files_of(&snapshot), []);
    // Hashed soon, but not at once.
    let files = loop {
        let job = verify(Value::Null).await;
        assert_eq!(job.value("JobState").as_u16(), Some(7), "{job:?}");
        let files = fixture.files_of(&snapshot);
        if files.iter().all(|f| f.value("State").as_u16() == Some(2)) {
            break files;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let roles: Vec<_> = files.iter().map(|f| text(f, "Role")).collect();
    assert_eq!(roles.len(), 2);
    assert_eq!(roles[0], "manifest");
    assert!(roles[1].contains("layer 1 of 1"), "{roles:?}");
    assert_eq!(fixture.get(path(&files[1])), files[1]);

    let mut disk = std::fs::OpenOptions::new()
        .write(true)
        .open(text(&files[1], "Path"))
        .expect("the disk");
    disk.write_all(b"x").expect("a byte is written");
    let job = verify(2u16.into()).await;
    assert_eq!(job.value("JobState").as_u16(), Some(10));
    assert_eq!(job.value("ErrorCode").as_u16(), Some(32777));
    assert!(text(&job, "ErrorDescription").contains("bytes 0-1048575"));
    assert!(text(&job, "JobStatus").contains("nothing was changed"));
    let bad = &fixture.files_of(&snapshot)[1];
    assert_eq!(bad.value("State").as_u16(), Some(5));
    let offsets = bad.value("DamageOffsets").as_array();
    assert_eq!(offsets, Some([Value::Uint64(0)].as_slice()));

    for (role, depth, code) in [
        (Role::Viewer, 2u16, 32769),
        (Role::Operator, 0, 32773),
        (Role::Operator, 3, 32773),
    ] {
        let arguments = [
            ("SnapshotSettingData", reference(&snapshot)),
            ("Depth", depth.into()),
        ];
        let answer = fixture.ask(role, "VerifySnapshot", &arguments).await;
        assert_eq!(answer.code, code);
        assert!(answer.out("Job").is_null());
    }
}

#[tokio::test]
async fn a_rehearsal_is_a_job_and_is_kept() {
    let fixture = Fixture::new().await;
    let (machine, snapshot) = fixture.machine_and_snapshot().await;
    let with = |seconds: u32| {
        [
            ("SnapshotSettingData", reference(&snapshot)),
            ("Patience", seconds.into()),
        ]
    };
    let answer = fixture
        .ask(Role::Operator, "RehearseSnapshot", &with(1))
        .await;
    assert_eq!(answer.code, 4096);
    let job = fixture.finished(&answer.path("Job")).await;
    assert_eq!(job.value("JobState").as_u16(), Some(7), "{job:?}");
    assert_eq!(text(&job, "Description"), "Rehearsing Snapshot");
    let seen = fixture.one("SELECT * FROM Rootvirt_SnapshotRehearsal");
    assert_eq!(text(&seen, "InstanceID"), text(&snapshot, "InstanceID"));
    // An empty disk: the firmware looks at it, or not even that.
    let outcome = seen.value("Outcome").as_u16();
    assert!(outcome == Some(2) || outcome == Some(3), "{seen:?}");
    assert!(seen.value("ProcessorTime").as_u64() > Some(0));
    assert_eq!(fixture.get(path(&seen)), seen);
    assert_eq!(
        fixture.get(path(&machine)).value("EnabledState").as_u16(),
        Some(3)
    );
    for (role, seconds, code) in [
        (Role::Viewer, 1, 32769),
        (Role::Operator, 0, 32773),
        (Role::Operator, 601, 32773),
    ] {
        let answer = fixture.ask(role, "RehearseSnapshot", &with(seconds)).await;
        assert_eq!(answer.code, code);
    }
}
