//! V2's sequence of a snapshot's life, on a machine that is off.

use crate::fixture::{embedded, path, reference, text};
use crate::site::{SETTINGS, Site, number};
use cim::Value;

#[tokio::test]
async fn a_tree_grows_is_applied_and_destroyed() {
    let site = Site::new().await;
    let system = site.define_system("tree").await;
    let first = site.snapshot(&system).await;
    assert_eq!(
        text(&first, "VirtualSystemType"),
        "Microsoft:Hyper-V:Snapshot:Realized"
    );
    assert_eq!(
        text(&first, "VirtualSystemIdentifier"),
        text(&system, "Name")
    );
    assert!(first.str("Parent").is_none());
    let clear = [("SnapshotSettingData", reference(&first))];
    assert_eq!(site.snapshots("ClearSnapshotState", &clear).await.code, 0);
    let second = site.snapshot(&system).await;
    assert_eq!(text(&second, "Parent"), path(&first).to_string());
    let of_system = |assoc: &str| -> Vec<String> {
        let found = site.associators(&system, assoc, SETTINGS);
        found.iter().map(|s| text(s, "InstanceID").into()).collect()
    };
    let (one, two) = (text(&first, "InstanceID"), text(&second, "InstanceID"));
    assert_eq!(of_system("Msvm_SnapshotOfVirtualSystem"), [one, two]);
    assert_eq!(of_system("Msvm_MostCurrentSnapshotInBranch"), [two]);
    assert!(of_system("Msvm_LastAppliedSnapshot").is_empty());
    assert_eq!(of_system("Msvm_ParentChildSettingData").len(), 0);
    assert_eq!(
        site.associators(&first, "Msvm_ParentChildSettingData", SETTINGS)
            .len(),
        1
    );

    let answer = site
        .snapshots("ApplySnapshot", &[("Snapshot", reference(&first))])
        .await;
    assert_eq!(answer.code, 4096);
    let job = site.done(&answer.path("Job")).await;
    assert_eq!(number(&job, "JobType"), 71);
    assert_eq!(of_system("Msvm_LastAppliedSnapshot"), [one]);
    assert_eq!(of_system("Msvm_MostCurrentSnapshotInBranch"), [one]);

    let answer = site
        .snapshots(
            "DestroySnapshot",
            &[("AffectedSnapshot", reference(&second))],
        )
        .await;
    assert_eq!(answer.code, 4096);
    site.done(&answer.path("Job")).await;
    assert_eq!(of_system("Msvm_SnapshotOfVirtualSystem"), [one]);
    site.snapshot(&system).await;
    let answer = site
        .snapshots(
            "DestroySnapshotTree",
            &[("SnapshotSettingData", reference(&first))],
        )
        .await;
    assert_eq!(answer.code, 4096);
    site.done(&answer.path("Job")).await;
    assert!(of_system("Msvm_SnapshotOfVirtualSystem").is_empty());
}

#[tokio::test]
async fn what_cannot_be_promised_is_refused() {
    let site = Site::new().await;
    let system = site.define_system("refusals").await;
    let create = |settings: Value, kind: u16| {
        let arguments = vec![
            ("AffectedSystem", reference(&system)),
            ("SnapshotSettings", settings),
            ("SnapshotType", Value::Uint16(kind)),
        ];
        let site = &site;
        async move { site.snapshots("CreateSnapshot", &arguments).await.code }
    };
    let level = |level: &str| {
        embedded(
            "Msvm_VirtualSystemSnapshotSettingData",
            &[("ConsistencyLevel", "uint8", level)],
        )
    };
    // Nobody prepares a guest that is off.
    assert_eq!(create(level("1"), 2).await, 5);
    assert_eq!(create(level("7"), 2).await, 4);
    assert_eq!(create("".into(), 3).await, 1);
    assert_eq!(create("".into(), 32768).await, 1);
    assert_eq!(create("".into(), 77).await, 4);
    // Settings of the wrong class.
    let wrong = embedded("Msvm_MemorySettingData", &[]);
    assert_eq!(create(wrong, 2).await, 4);
    assert_eq!(create(level("2"), 2).await, 4096);
}
