//! What the broker asks of providers when there is much: counted, not timed.

use crate::fleet::{World, administrator, machine_id, machine_path, path, world};
use cim::Name;
use cim_broker::enumeration::{Enumerations, Kind};
use cim_broker::{AssociatorFilter, QueryResult, ReferenceFilter};
use std::time::Duration;

/// 10,000 machines with 9 snapshots each: 100,000 settings.
fn large() -> World {
    world(10_000, 9)
}

fn hits(world: &World, query: &str) -> usize {
    match world
        .broker
        .query(&administrator(), &world.namespace, "WQL", query)
        .unwrap()
    {
        QueryResult::Instances(instances) => instances.len(),
        QueryResult::Classes(classes) => classes.len(),
    }
}

#[tokio::test]
async fn what_is_pulled_is_made_when_it_is_pulled() {
    let world = &world(1000, 0);
    let (me, counters) = (administrator(), world.counters());
    let machines = world
        .broker
        .stream_instances(&me, &world.namespace, &Name::new("T_Machine"), true, None)
        .unwrap();
    let sessions = Enumerations::default();
    let (kind, long) = (Kind::InstancesWithPath, Duration::from_secs(60));
    let mut batch = sessions.open_stream(&me, kind, machines, long, 10).unwrap();
    let mut seen = batch.objects.len();
    // One more tells that it is not over.
    assert_eq!((seen, counters.enumerated()), (10, 11));
    while let Some(id) = batch.context {
        assert_eq!(sessions.remaining(&me, &id).unwrap(), 1000 - seen as u64);
        batch = sessions.pull(&me, kind, &id, 100).unwrap();
        assert!(counters.enumerated() <= 100);
        seen += batch.objects.len();
    }
    assert_eq!(seen, 1000);
    assert_eq!(sessions.open_sessions(), 0);
}

#[test]
fn much_is_found_by_looking_at_little() {
    let world = &large();
    let counters = world.counters();
    let id = machine_id(7777);
    let setting = format!("Microsoft:{id}");
    let parent = r#"\\HV1\root\fleet:T_MachineSetting.InstanceID="Microsoft:S007777-0003""#;
    let cases = [
        (
            "SELECT * FROM T_Machine WHERE ElementName = 'VM7777'".to_owned(),
            1,
            1,
        ),
        (
            format!(
                "SELECT * FROM T_Machine WHERE Name = '{}'",
                id.to_lowercase()
            ),
            1,
            1,
        ),
        (
            format!("SELECT * FROM T_MachineSetting WHERE InstanceID = '{setting}'"),
            1,
            1,
        ),
        (
            format!("SELECT * FROM T_MachineSetting WHERE Kind = 5 AND SystemName = '{id}'"),
            9,
            10,
        ),
        (
            format!("SELECT * FROM T_MachineSetting WHERE Parent = '{parent}'"),
            1,
            4,
        ),
        (
            format!(
                "SELECT * FROM T_MachineSetting WHERE Parent = '{}'",
                parent.replace('\\', "/").to_lowercase()
            ),
            1,
            4,
        ),
        (
            format!("SELECT * FROM T_MachineSetting WHERE __PATH = '{parent}'"),
            1,
            1,
        ),
        (
            format!(r"SELECT * FROM T_DiskSetting WHERE InstanceID = 'Microsoft:{id}\Disk\0'"),
            1,
            2,
        ),
        (
            format!("ASSOCIATORS OF {{T_Machine.Name='{id}'}} WHERE AssocClass = T_SettingOf"),
            10,
            12,
        ),
    ];
    for (query, expected, at_most) in cases {
        counters.enumerated();
        assert_eq!(hits(world, &query), expected, "{query}");
        let seen = counters.enumerated();
        assert!(seen <= at_most, "{query}: {seen} instances were made");
    }
}

#[test]
fn traversing_from_one_end_touches_that_end_only() {
    let world = &large();
    let counters = world.counters();
    counters.enumerated();
    counters.traversed();
    let context = administrator();
    let snapshots = world
        .broker
        .associator_names(
            &context,
            &world.namespace,
            &machine_path(1234),
            &AssociatorFilter {
                assoc_class: Some("T_SettingOf".into()),
                result_class: Some("T_MachineSetting".into()),
                ..AssociatorFilter::default()
            },
        )
        .unwrap();
    assert_eq!(snapshots.len(), 10);
    assert!(counters.enumerated() <= 1);
    assert_eq!(counters.traversed(), 2);
    let setting = path(r#"T_Setting.InstanceID="Microsoft:S001234-0005""#);
    let references = world
        .broker
        .references(
            &context,
            &world.namespace,
            &setting,
            &ReferenceFilter::default(),
            None,
        )
        .unwrap();
    // Its machine, its parent and its child.
    assert_eq!(references.len(), 3);
    assert!(counters.enumerated() <= 1);
}

#[test]
fn an_association_queried_by_one_of_its_ends_is_not_walked() {
    let world = &large();
    let counters = world.counters();
    let id = machine_id(4242);
    let machine =
        format!(r#"\\HV1\root\fleet:T_Machine.CreationClassName="T_Machine",Name="{id}""#);
    for literal in [
        machine.clone(),
        machine.replace('\\', r"\\"),
        machine.replace('\\', "/"),
    ] {
        counters.enumerated();
        counters.traversed();
        let query = format!("SELECT * FROM T_SettingOf WHERE Element = '{literal}'");
        assert_eq!(hits(world, &query), 10, "{query}");
        assert!(counters.enumerated() <= 4, "{query}");
        assert!(counters.traversed() <= 4, "{query}");
    }
    let query = r#"SELECT * FROM T_SettingOf WHERE Element = 'T_Machine.Name="nobody"'"#;
    assert_eq!(hits(world, query), 0);
    assert_eq!(counters.traversed(), 0);
}

#[test]
fn equalities_reach_the_provider_as_they_are() {
    let world = world(2, 1);
    world.counters().filters();
    hits(
        &world,
        "SELECT * FROM T_MachineSetting WHERE (kind = 5 AND SystemName = 'x') AND NOT Caption = 'y'",
    );
    let filters = world.counters().filters();
    assert_eq!(
        filters,
        [r#"T_MachineSetting: Kind=Sint64(5), SystemName=String("x")"#]
    );
    hits(
        &world,
        "SELECT * FROM T_MachineSetting WHERE Kind = 5 OR SystemName = 'x'",
    );
    assert_eq!(world.counters().filters(), ["T_MachineSetting: "]);
}
