//! Methods that need no guest: configuring, wrong input, what is not supported.

use crate::fixture::{Fixture, changed, embedded, path, reference, text};
use cim::{ObjectPath, Value};
use cim_broker::Role;

const GENERIC: &str = "Msvm_ResourceAllocationSettingData";
const SETTINGS: &str = "Msvm_VirtualSystemSettingData";
const GLOBAL: &str = "Msvm_VirtualSystemGlobalSettingData";
const INVALID: u32 = 32773;
const UNSUPPORTED: u32 = 32770;
const WRONG_STATE: u32 = 32775;

#[tokio::test]
async fn a_machine_is_renamed_and_gets_notes() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let settings = fixture.settings(&machine);
    let answer = fixture
        .call(
            "ModifyVirtualSystem",
            &[
                ("ComputerSystem", reference(&machine)),
                (
                    "SystemSettingData",
                    changed(
                        &settings,
                        &[("ElementName", "web02".into()), ("Notes", "a\nb".into())],
                    ),
                ),
            ],
        )
        .await;
    assert_eq!(answer.code, 0);
    assert!(answer.out("Job").is_null());
    assert_eq!(&answer.path("ModifiedSettingData"), path(&settings));
    let found = fixture.one("SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'web02'");
    assert_eq!(path(&found), path(&machine));
    assert_eq!(text(&fixture.settings(&machine), "Notes"), "a\nb");
    assert_eq!(
        fixture.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'web01'"),
        []
    );
}

#[tokio::test]
async fn only_what_is_given_changes() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let before = fixture.settings(&machine);
    // In MOF, without InstanceID, and in the form with only the changed property.
    for (given, notes) in [
        (
            Value::from(format!("instance of {SETTINGS} {{ Notes = \"one\"; }};")),
            "one",
        ),
        (embedded(SETTINGS, &[("Notes", "string", "two")]), "two"),
    ] {
        let answer = fixture
            .call(
                "ModifyVirtualSystem",
                &[
                    ("ComputerSystem", reference(&machine)),
                    ("SystemSettingData", given),
                ],
            )
            .await;
        assert_eq!(answer.code, 0);
        let after = fixture.settings(&machine);
        assert_eq!(text(&after, "Notes"), notes);
        assert_eq!(after.value("ElementName"), before.value("ElementName"));
        assert_eq!(after.value("BootOrder"), before.value("BootOrder"));
    }
    let answer = fixture
        .call(
            "ModifyVirtualSystem",
            &[
                ("ComputerSystem", reference(&machine)),
                (
                    "SystemSettingData",
                    embedded(GLOBAL, &[("AutomaticStartupAction", "uint16", "2")]),
                ),
            ],
        )
        .await;
    assert_eq!(answer.code, 0);
    let global = fixture.one(&format!("SELECT * FROM {GLOBAL}"));
    assert_eq!(global.value("AutomaticStartupAction").as_u16(), Some(2));
    assert_eq!(text(&global, "ElementName"), "web01");
}

#[tokio::test]
async fn memory_and_processors_change_together_or_not_at_all() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let settings = fixture.settings(&machine);
    let memory = fixture
        .resources(&settings, "Msvm_MemorySettingData")
        .remove(0);
    let processor = fixture
        .resources(&settings, "Msvm_ProcessorSettingData")
        .remove(0);
    let modify = async |mib: u64, count: u64| {
        let changes = Value::Array(vec![
            changed(
                &memory,
                &[
                    ("VirtualQuantity", mib.into()),
                    ("Reservation", mib.into()),
                    ("Limit", mib.into()),
                ],
            ),
            changed(
                &processor,
                &[
                    ("VirtualQuantity", count.into()),
                    ("Reservation", count.into()),
                ],
            ),
        ]);
        let arguments = [
            ("ComputerSystem", reference(&machine)),
            ("ResourceSettingData", changes),
        ];
        fixture
            .call("ModifyVirtualSystemResources", &arguments)
            .await
            .code
    };
    let quantities = || {
        ["Msvm_MemorySettingData", "Msvm_ProcessorSettingData"].map(|class| {
            let resource = fixture.resources(&settings, class).remove(0);
            resource.value("VirtualQuantity").as_u64()
        })
    };
    assert_eq!(modify(256, 2).await, 0);
    assert_eq!(quantities(), [Some(256), Some(2)]);
    assert_eq!(modify(512, 100_000).await, INVALID);
    assert_eq!(quantities(), [Some(256), Some(2)]);
}

#[tokio::test]
async fn resources_are_added_and_removed() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let (drive, medium) = fixture.add_ide_disk(&machine, "disk.raw").await;
    let port = fixture.template(
        "Msvm_SyntheticEthernetPortSettingData",
        "Microsoft Synthetic Ethernet Port",
    );
    let port = fixture
        .add(
            &machine,
            &port,
            &[
                ("ElementName", "eth0".into()),
                ("Address", "00155D010203".into()),
                ("StaticMacAddress", true.into()),
            ],
        )
        .await;
    assert_eq!(text(&port, "Address"), "00155D010203");
    assert!(
        text(&port, "InstanceID").starts_with(&format!("Microsoft:{}\\", text(&machine, "Name")))
    );

    // The drive still carries its medium: nothing is removed.
    let remove = async |resources: Vec<Value>| {
        let arguments = [
            ("TargetSystem", reference(&machine)),
            ("ResourceSettingData", Value::Array(resources)),
        ];
        fixture
            .call("RemoveVirtualSystemResources", &arguments)
            .await
            .code
    };
    assert_eq!(
        remove(vec![reference(&port), reference(&drive)]).await,
        INVALID
    );
    fixture.get(path(&port));
    assert_eq!(remove(vec![reference(&medium), reference(&drive)]).await, 0);
    assert_eq!(remove(vec![reference(&port)]).await, 0);
    let settings = fixture.settings(&machine);
    assert_eq!(fixture.resources(&settings, GENERIC).len(), 12);
    let memory = fixture
        .resources(&settings, "Msvm_MemorySettingData")
        .remove(0);
    assert_eq!(remove(vec![reference(&memory)]).await, INVALID);
}

#[tokio::test]
async fn what_cannot_be_added_is_refused() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let other = fixture.define("db01").await;
    let (drive, _) = fixture.add_ide_disk(&other, "disk.raw").await;
    let medium = fixture.template(GENERIC, "Microsoft Virtual Hard Disk");
    let physical = fixture.template(GENERIC, "Microsoft Physical Disk Drive");
    let missing = Value::from(["/nowhere/disk.raw"]);
    for (given, code) in [
        (changed(&physical, &[]), UNSUPPORTED),
        // Without a parent; with one of another machine; without its file.
        (
            changed(&medium, &[("Connection", missing.clone())]),
            INVALID,
        ),
        (
            changed(
                &medium,
                &[
                    ("Parent", path(&drive).to_string().into()),
                    ("Connection", missing),
                ],
            ),
            INVALID,
        ),
        (
            embedded(
                GENERIC,
                &[("ResourceSubType", "string", "Microsoft Teapot")],
            ),
            INVALID,
        ),
        (
            embedded("Msvm_EmulatedEthernetPortSettingData", &[]),
            UNSUPPORTED,
        ),
        (embedded("Msvm_MemorySettingData", &[]), INVALID),
        (Value::from("<INSTANCE CLASSNAME="), INVALID),
        (Value::from("garbage ".repeat(100_000)), INVALID),
        (Value::Null, INVALID),
    ] {
        let answer = fixture
            .call(
                "AddVirtualSystemResources",
                &[
                    ("TargetSystem", reference(&machine)),
                    ("ResourceSettingData", Value::Array(vec![given.clone()])),
                ],
            )
            .await;
        assert_eq!(answer.code, code, "{:.300}", format!("{given:?}"));
        assert!(answer.out("NewResources").is_null());
    }
    assert_eq!(
        fixture
            .resources(&fixture.settings(&machine), GENERIC)
            .len(),
        12
    );
}

fn parsed(text: &str) -> Value {
    Value::from(ObjectPath::parse(text).expect("a path"))
}

#[tokio::test]
async fn whatever_names_no_machine_is_an_invalid_parameter() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let settings = fixture.settings(&machine);
    let host = fixture.one("SELECT * FROM Msvm_ComputerSystem WHERE Name = __SERVER");
    let wrong = [
        Value::Null,
        reference(&host),
        reference(&settings),
        Value::from(fixture.service()),
        parsed(
            r#"Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="00000000-0000-0000-0000-000000000000""#,
        ),
        parsed(r#"Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="x""#),
        parsed("Msvm_ComputerSystem"),
        parsed(
            r#"root\cimv2:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="x""#,
        ),
        Value::from(17u32),
        Value::from("garbage"),
    ];
    for (method, parameter) in [
        ("CreateVirtualSystemSnapshot", "SourceSystem"),
        ("DestroyVirtualSystem", "ComputerSystem"),
    ] {
        for given in &wrong {
            let answer = fixture.call(method, &[(parameter, given.clone())]).await;
            assert_eq!(answer.code, INVALID, "{method}: {given:?}");
            assert!(answer.out("Job").is_null());
        }
        assert_eq!(fixture.call(method, &[]).await.code, INVALID);
    }
    for given in &wrong {
        let answer = fixture
            .call(
                "ApplyVirtualSystemSnapshot",
                &[
                    ("ComputerSystem", reference(&machine)),
                    ("SnapshotSettingData", given.clone()),
                ],
            )
            .await;
        assert_eq!(answer.code, INVALID, "{given:?}");
    }
    assert_eq!(fixture.machines.jobs(), []);
}

#[tokio::test]
async fn settings_of_another_machine_are_not_changed() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let other = fixture.define("db01").await;
    let foreign = fixture.settings(&other);
    let answer = fixture
        .call(
            "ModifyVirtualSystem",
            &[
                ("ComputerSystem", reference(&machine)),
                (
                    "SystemSettingData",
                    changed(&foreign, &[("Notes", "x".into())]),
                ),
            ],
        )
        .await;
    assert_eq!(answer.code, INVALID);
    let memory = fixture
        .resources(&foreign, "Msvm_MemorySettingData")
        .remove(0);
    let answer = fixture
        .call(
            "ModifyVirtualSystemResources",
            &[
                ("ComputerSystem", reference(&machine)),
                (
                    "ResourceSettingData",
                    Value::Array(vec![changed(&memory, &[("VirtualQuantity", 64u64.into())])]),
                ),
            ],
        )
        .await;
    assert_eq!(answer.code, INVALID);
    assert_eq!(fixture.settings(&other), foreign);
}

#[tokio::test]
async fn states_that_cannot_be_requested() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    for (state, code) in [
        // Already off; neither pause, save nor reset is possible then.
        (3u16, WRONG_STATE),
        (32768, WRONG_STATE),
        (32769, WRONG_STATE),
        (10, WRONG_STATE),
        (11, INVALID),
        (4, INVALID),
        (0, INVALID),
    ] {
        let answer = fixture
            .call_as(
                Role::Operator,
                path(&machine),
                "RequestStateChange",
                &[("RequestedState", state.into())],
            )
            .await;
        assert_eq!(answer.code, code, "{state}");
        assert!(answer.out("Job").is_null());
    }
    let host = fixture.one("SELECT * FROM Msvm_ComputerSystem WHERE Name = __SERVER");
    let answer = fixture
        .call_as(
            Role::Operator,
            path(&host),
            "RequestStateChange",
            &[("RequestedState", 3u16.into())],
        )
        .await;
    assert_eq!(answer.code, UNSUPPORTED);
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    for method in [
        "CloneVirtualSystem",
        "InstantiateVirtualSystem",
        "PlanVirtualSystem",
        "StartService",
        "StopService",
    ] {
        assert_eq!(
            fixture.call(method, &[]).await.code,
            UNSUPPORTED,
            "{method}"
        );
    }
    let system = ("ComputerSystem", reference(&machine));
    let export = [
        system,
        ("CopyVmState", true.into()),
        ("ExportDirectory", "/tmp".into()),
    ];
    assert_eq!(
        fixture.call("ExportVirtualSystem", &export).await.code,
        UNSUPPORTED
    );
    let settings = fixture.settings(&machine);
    let thumbnail = [
        ("TargetSystem", reference(&settings)),
        ("WidthPixels", 80u16.into()),
        ("HeightPixels", 60u16.into()),
    ];
    let answer = fixture
        .call("GetVirtualSystemThumbnailImage", &thumbnail)
        .await;
    // There is no screen while it is off.
    assert_eq!(answer.code, WRONG_STATE);
}

#[tokio::test]
async fn a_summary_holds_what_was_asked_for_and_nothing_else() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let settings = fixture.settings(&machine);
    let codes = Value::from([0u32, 1, 4, 100, 103, 105, 250]);
    let answer = fixture
        .call(
            "GetSummaryInformation",
            &[
                ("SettingData", Value::Array(vec![reference(&settings)])),
                ("RequestedInformation", codes),
            ],
        )
        .await;
    assert_eq!(answer.code, 0);
    let summaries = answer
        .out("SummaryInformation")
        .as_array()
        .expect("summaries");
    assert_eq!(summaries.len(), 1);
    let summary = summaries[0].as_instance().expect("an object");
    assert_eq!(text(summary, "Name"), text(&machine, "Name"));
    assert_eq!(text(summary, "ElementName"), "web01");
    assert_eq!(summary.value("NumberOfProcessors").as_u16(), Some(1));
    assert_eq!(summary.value("EnabledState").as_u16(), Some(3));
    assert!(summary.value("MemoryUsage").is_null());
    assert_eq!(summary.value("UpTime").as_u64(), Some(0));
    for not_asked in [
        "Notes",
        "HealthState",
        "Snapshots",
        "AsynchronousTasks",
        "CreationTime",
    ] {
        assert!(summary.value(not_asked).is_null(), "{not_asked}");
    }
    fixture.define("db01").await;
    let all = fixture
        .call(
            "GetSummaryInformation",
            &[("RequestedInformation", Value::from([1u32]))],
        )
        .await;
    assert_eq!(
        all.out("SummaryInformation").as_array().map(<[_]>::len),
        Some(2)
    );
}

#[tokio::test]
async fn errors_are_formatted_line_by_line() {
    let fixture = Fixture::new().await;
    let errors = Value::Array(vec![
        embedded("Msvm_Error", &[("Message", "string", "It broke.")]),
        embedded("Msvm_Error", &[("MessageID", "string", "21024")]),
    ]);
    let answer = fixture.call("FormatError", &[("Errors", errors)]).await;
    assert_eq!(answer.code, 0);
    assert_eq!(
        answer.out("ErrorMessage").as_str(),
        Some("It broke.\n21024")
    );
}

#[tokio::test]
async fn a_destroyed_machine_is_gone_when_its_job_ends() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let answer = fixture
        .call(
            "DestroyVirtualSystem",
            &[("ComputerSystem", reference(&machine))],
        )
        .await;
    assert_eq!(answer.code, 4096);
    let job = fixture.finished(&answer.path("Job")).await;
    assert_eq!(job.value("JobState").as_u16(), Some(7));
    assert_eq!(text(&job, "Description"), "Destroying Virtual Machine");
    assert_eq!(
        fixture.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'web01'"),
        []
    );
    assert_eq!(
        fixture.query("SELECT * FROM Msvm_VirtualSystemSettingData"),
        []
    );
}
