//! Machines made, changed and destroyed by V2's calls, and what V1 shows of them.

use crate::fixture::{changed, reference, text};
use crate::site::{SETTINGS, Site, number};
use cim::Value;

#[tokio::test]
async fn what_one_namespace_makes_the_other_shows() {
    let mut site = Site::new().await;
    let system = site.define_system("both").await;
    let id = text(&system, "Name").to_owned();
    assert_eq!(number(&system, "EnabledState"), 3);
    let find = format!("SELECT * FROM Msvm_ComputerSystem WHERE Name = '{id}'");
    let seen = site.in_v1(|v1| v1.one(&find));
    assert_eq!(text(&seen, "ElementName"), "both");
    let settings = site.settings(&system);
    assert_eq!(
        text(&settings, "VirtualSystemType"),
        "Microsoft:Hyper-V:System:Realized"
    );
    let v1 = site.in_v1(|v1| v1.settings(&seen));
    assert_eq!(text(&v1, "InstanceID"), text(&settings, "InstanceID"));
    // Serial ports have no class of their own in the release as which the host answers.
    let ports = site.resources(&settings, "Msvm_ResourceAllocationSettingData");
    let ports = ports
        .iter()
        .filter(|part| number(part, "ResourceType") == 21);
    let ports: Vec<&str> = ports.map(|port| text(port, "ElementName")).collect();
    assert!(
        ports.contains(&"COM 1") && ports.contains(&"COM 2"),
        "{ports:?}"
    );
    let answer = site
        .call("DestroySystem", &[("AffectedSystem", reference(&system))])
        .await;
    assert_eq!(answer.code, 4096);
    let job = site.done(&answer.path("Job")).await;
    assert_eq!(number(&job, "JobType"), 3);
    assert!(site.query(&find).is_empty());
    assert!(site.in_v1(|v1| v1.query(&find)).is_empty());
}

#[tokio::test]
async fn settings_change_by_their_instance_id() {
    let mut site = Site::new().await;
    let system = site.define_system("before").await;
    let settings = site.settings(&system);
    let notes = Value::Array(vec!["one".into(), "two".into()]);
    let text_of_all = changed(
        &settings,
        &[
            ("ElementName", "after".into()),
            ("Notes", notes.clone()),
            ("AutomaticStartupAction", Value::Uint16(4)),
        ],
    );
    let answer = site
        .call("ModifySystemSettings", &[("SystemSettings", text_of_all)])
        .await;
    assert_eq!(answer.code, 0);
    let settings = site.settings(&system);
    assert_eq!(text(&settings, "ElementName"), "after");
    assert_eq!(settings.get("Notes"), Some(&notes));
    assert_eq!(number(&settings, "AutomaticStartupAction"), 4);
    let global = site.in_v1(|v1| v1.one("SELECT * FROM Msvm_VirtualSystemGlobalSettingData"));
    assert_eq!(number(&global, "AutomaticStartupAction"), 2);
    assert_eq!(text(&global, "ElementName"), "after");
    // Snapshots are renamed the same way.
    let snapshot = site.snapshot(&system).await;
    let renamed = changed(
        &site.get(snapshot.path.as_ref().expect("a path")),
        &[("ElementName", "kept".into())],
    );
    let answer = site
        .call("ModifySystemSettings", &[("SystemSettings", renamed)])
        .await;
    assert_eq!(answer.code, 0);
    let found = site.associators(&system, "Msvm_SnapshotOfVirtualSystem", SETTINGS);
    assert_eq!(text(&found[0], "ElementName"), "kept");
}

#[tokio::test]
async fn refusals_have_the_codes_that_the_method_declares() {
    let site = Site::new().await;
    let system = site.define_system("codes").await;
    // RequestStateChange kept V1's.
    assert_eq!(site.request_state(&system, 3).await.code, 32775);
    assert_eq!(site.request_state(&system, 9).await.code, 32775);
    assert_eq!(site.request_state(&system, 77).await.code, 32773);
    // DestroySystem has DMTF's.
    let host = site.one("SELECT * FROM Msvm_ComputerSystem WHERE Name = __SERVER");
    let answer = site
        .call("DestroySystem", &[("AffectedSystem", reference(&host))])
        .await;
    assert_eq!(answer.code, 4);
    let gen2 = crate::fixture::embedded(
        SETTINGS,
        &[(
            "VirtualSystemSubType",
            "string",
            "Microsoft:Hyper-V:SubType:2",
        )],
    );
    let answer = site.call("DefineSystem", &[("SystemSettings", gen2)]).await;
    assert_eq!(answer.code, 1);
}
