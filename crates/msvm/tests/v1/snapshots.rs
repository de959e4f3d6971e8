//! Snapshots of a machine that is off, from call to associations; jobs.

use crate::fixture::{Answer, Fixture, changed, path, reference, text};
use cim::{Instance, Value};
use cim_broker::Role;

const SETTINGS: &str = "Msvm_VirtualSystemSettingData";
const GENERIC: &str = "Msvm_ResourceAllocationSettingData";
const INVALID: u32 = 32773;

impl Fixture {
    pub async fn begin_snapshot(&self, machine: &Instance) -> Answer {
        let answer = self
            .call(
                "CreateVirtualSystemSnapshot",
                &[("SourceSystem", reference(machine))],
            )
            .await;
        assert_eq!(answer.code, 4096);
        assert!(answer.out("SnapshotSettingData").is_null());
        answer
    }

    /// Takes a snapshot and finds it as clients do: through the job.
    pub async fn snapshot(&self, machine: &Instance) -> Instance {
        let answer = self.begin_snapshot(machine).await;
        let job = self.finished(&answer.path("Job")).await;
        assert_eq!(job.value("JobState").as_u16(), Some(7), "{job:?}");
        let mut found = self.associators(&job, "", SETTINGS);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    async fn apply(&self, machine: &Instance, snapshot: &Instance) -> u32 {
        let arguments = [
            ("ComputerSystem", reference(machine)),
            ("SnapshotSettingData", reference(snapshot)),
        ];
        self.call("ApplyVirtualSystemSnapshot", &arguments)
            .await
            .code
    }

    fn pointed_at(&self, machine: &Instance, association: &str) -> Vec<Instance> {
        self.associators(machine, association, SETTINGS)
    }
}

#[tokio::test]
async fn a_snapshot_is_found_in_every_way_that_clients_look() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let (_, medium) = fixture.add_ide_disk(&machine, "disk.raw").await;
    let before = fixture
        .resources(&fixture.settings(&machine), GENERIC)
        .len();
    let answer = fixture.begin_snapshot(&machine).await;
    let job_path = answer.path("Job");
    assert!(job_path.to_string().ends_with(&format!(
        "InstanceID=\"{}\"",
        job_path.key_str("InstanceID").expect("an id")
    )));
    let job = fixture.finished(&job_path).await;
    assert_eq!(text(&job, "Description"), "Taking Virtual Machine Snapshot");
    assert_eq!(job.value("PercentComplete").as_u16(), Some(100));
    assert_eq!(job.value("ErrorCode").as_u16(), Some(0));

    let snapshot = fixture
        .associators(&job, "Msvm_AffectedJobElement", SETTINGS)
        .remove(0);
    let guid = text(&machine, "Name");
    assert_eq!(snapshot.value("SettingType").as_u16(), Some(5));
    assert_eq!(text(&snapshot, "SystemName"), guid);
    assert_ne!(text(&snapshot, "InstanceID"), format!("Microsoft:{guid}"));
    assert!(text(&snapshot, "ElementName").starts_with("web01 - ("));
    for query in [
        format!("SELECT * FROM {SETTINGS} WHERE SystemName = '{guid}' AND SettingType = 5"),
        format!(
            "SELECT * FROM {SETTINGS} WHERE SystemName = '{guid}' AND InstanceID <> 'Microsoft:{guid}' AND ElementName LIKE '%'"
        ),
        format!(
            "SELECT * FROM {SETTINGS} WHERE ElementName = '{}'",
            text(&snapshot, "ElementName")
        ),
    ] {
        assert_eq!(fixture.one(&query), snapshot, "{query}");
    }
    for association in ["Msvm_ElementSettingData", "Msvm_PreviousSettingData"] {
        assert_eq!(
            fixture.pointed_at(&machine, association),
            std::slice::from_ref(&snapshot),
            "{association}"
        );
    }
    assert_eq!(
        fixture.pointed_at(&machine, "Msvm_LastAppliedSettingData"),
        []
    );
    // The active settings come first, once; the current snapshot comes twice.
    let all = fixture.associators(&machine, "", SETTINGS);
    let active = fixture.settings(&machine);
    assert_eq!(all, [active.clone(), snapshot.clone(), snapshot.clone()]);
    let listed = fixture.enumerate(SETTINGS);
    assert_eq!(listed, [active.clone(), snapshot.clone()]);

    // One setting for each of the machine's, of that instant: the medium as it was.
    let resources = fixture.resources(&snapshot, GENERIC);
    assert_eq!(resources.len(), before);
    let disk = |resources: &[Instance]| {
        let found = resources.iter().find(|resource| {
            resource.str("ResourceSubType") == Some("Microsoft Virtual Hard Disk")
        });
        found.expect("a disk").value("Connection").clone()
    };
    assert_eq!(disk(&resources), *medium.value("Connection"));
    assert_ne!(
        disk(&fixture.resources(&active, GENERIC)),
        *medium.value("Connection")
    );
    for resource in &resources {
        assert!(text(resource, "InstanceID").starts_with(text(&snapshot, "InstanceID")));
    }
    assert_eq!(
        fixture.associators(&machine, "Msvm_AffectedJobElement", ""),
        [job]
    );
}

#[tokio::test]
async fn parents_are_paths_and_the_tree_grows_branches() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    fixture.add_ide_disk(&machine, "disk.raw").await;
    let parent = |settings: &Instance| settings.str("Parent").map(str::to_owned);
    let text_of = |settings: &Instance| Some(path(settings).to_string());

    let first = fixture.snapshot(&machine).await;
    assert_eq!(parent(&first), None);
    assert_eq!(parent(&fixture.settings(&machine)), text_of(&first));
    let second = fixture.snapshot(&machine).await;
    assert_eq!(parent(&second), text_of(&first));
    assert_eq!(parent(&fixture.settings(&machine)), text_of(&second));

    assert_eq!(fixture.apply(&machine, &first).await, 0);
    assert_eq!(parent(&fixture.settings(&machine)), text_of(&first));
    assert_eq!(
        fixture.pointed_at(&machine, "Msvm_LastAppliedSettingData"),
        std::slice::from_ref(&first)
    );
    let third = fixture.snapshot(&machine).await;
    assert_eq!(parent(&third), text_of(&first));
    let children = fixture.associators(&first, "Msvm_ParentChildSettingData", SETTINGS);
    assert_eq!(children, [second, third.clone()]);

    let answer = fixture
        .call(
            "RemoveVirtualSystemSnapshot",
            &[("SnapshotSettingData", reference(&first))],
        )
        .await;
    assert_eq!(answer.code, 4096);
    let job = fixture.finished(&answer.path("Job")).await;
    assert_eq!(job.value("JobState").as_u16(), Some(7), "{job:?}");
    assert_eq!(text(&job, "Description"), "Deleting Snapshot");
    assert_eq!(fixture.associators(&job, "", SETTINGS), []);
    assert_eq!(parent(&fixture.get(path(&third))), None);
    assert_eq!(
        fixture.pointed_at(&machine, "Msvm_LastAppliedSettingData"),
        []
    );
}

#[tokio::test]
async fn a_snapshot_gets_another_name_and_nothing_else() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let snapshot = fixture.snapshot(&machine).await;
    let modify = async |changes: &[(&str, Value)]| {
        let arguments = [
            ("ComputerSystem", reference(&machine)),
            ("SystemSettingData", changed(&snapshot, changes)),
        ];
        fixture.call("ModifyVirtualSystem", &arguments).await.code
    };
    assert_eq!(
        modify(&[("ElementName", "before".into()), ("Notes", "n".into())]).await,
        0
    );
    let renamed = fixture.get(path(&snapshot));
    assert_eq!(text(&renamed, "ElementName"), "before");
    assert_eq!(text(&renamed, "Notes"), "n");
    assert_eq!(text(&fixture.settings(&machine), "ElementName"), "web01");
    assert_eq!(modify(&[("BIOSNumLock", true.into())]).await, INVALID);
}

#[tokio::test]
async fn a_snapshot_belongs_to_its_machine() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let other = fixture.define("db01").await;
    let snapshot = fixture.snapshot(&machine).await;
    assert_eq!(fixture.apply(&other, &snapshot).await, INVALID);
    let active = fixture.settings(&machine);
    assert_eq!(fixture.apply(&machine, &active).await, INVALID);
    let arguments = [
        ("ComputerSystem", reference(&machine)),
        ("SnapshotSettingData", reference(&snapshot)),
    ];
    let answer = fixture
        .call("ApplyVirtualSystemSnapshotEx", &arguments)
        .await;
    assert_eq!(answer.code, 4096);
    assert_eq!(
        fixture
            .finished(&answer.path("Job"))
            .await
            .value("JobState")
            .as_u16(),
        Some(7)
    );
}

#[tokio::test]
async fn a_job_that_has_ended_answers_for_itself() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let answer = fixture.begin_snapshot(&machine).await;
    let job = answer.path("Job");
    fixture.finished(&job).await;
    let state = async |arguments: &[(&str, Value)]| {
        fixture
            .call_as(Role::Operator, &job, "RequestStateChange", arguments)
            .await
            .code
    };
    assert_eq!(state(&[("RequestedState", 5u16.into())]).await, 4097);
    assert_eq!(state(&[("RequestedState", 2u16.into())]).await, 4097);
    let second = Value::DateTime(cim::DateTime::Interval { micros: 1_000_000 });
    assert_eq!(
        state(&[("RequestedState", 5u16.into()), ("TimeoutPeriod", second)]).await,
        4098
    );
    let kill = fixture
        .call_as(
            Role::Administrator,
            &job,
            "KillJob",
            &[("DeleteOnKill", true.into())],
        )
        .await;
    assert_eq!(kill.code, 32770);
    for (method, parameter) in [("GetError", "Error"), ("GetErrorEx", "Errors")] {
        let answer = fixture.call_as(Role::Viewer, &job, method, &[]).await;
        assert_eq!(answer.code, 0);
        assert!(answer.out(parameter).is_null());
    }
}
