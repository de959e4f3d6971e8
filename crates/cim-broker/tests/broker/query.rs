//! WQL against the broker: what is found, what is refused, and what providers are asked.

use crate::fleet::{NAMESPACE, World, account, administrator, machine_id, world};
use cim::wql::{InstanceRow, Query};
use cim::{CimError, CimStatus, Instance, Name, Namespace, Value};
use cim_broker::{QueryResult, QueryStream, Role};
use proptest::prelude::*;
use std::sync::OnceLock;

fn run(world: &World, query: &str) -> Result<QueryResult, CimError> {
    world
        .broker
        .query(&administrator(), &world.namespace, "WQL", query)
}

/// What a query answers, at once and as a stream.
fn found(world: &World, query: &str) -> Vec<Instance> {
    let stream = world
        .broker
        .stream_query(&administrator(), &world.namespace, "WQL", query);
    match run(world, query).unwrap_or_else(|error| panic!("{query}: {error}")) {
        QueryResult::Instances(instances) => {
            let Ok(QueryStream::Instances(stream)) = stream else {
                panic!("{query}: no stream of instances");
            };
            let streamed: Result<Vec<_>, _> = stream.collect();
            assert_eq!(streamed.unwrap(), instances, "{query}");
            instances
        }
        QueryResult::Classes(_) => panic!("{query}: classes"),
    }
}

fn count(world: &World, query: &str) -> usize {
    found(world, query).len()
}

#[test]
fn conditions_select() {
    let world = world(6, 2);
    let id = machine_id(2);
    let cases = [
        ("SELECT * FROM T_Machine".to_owned(), 6),
        (
            "select * from t_MACHINE where elementname = 'VM2'".to_owned(),
            1,
        ),
        (
            format!(
                "SELECT * FROM T_Machine WHERE Name = '{}'",
                id.to_lowercase()
            ),
            1,
        ),
        (
            "SELECT * FROM T_System WHERE Name != __SERVER".to_owned(),
            6,
        ),
        ("SELECT * FROM T_System WHERE Name = __SERVER".to_owned(), 1),
        (
            "SELECT * FROM T_Machine WHERE State = '1' AND Memory > 513".to_owned(),
            1,
        ),
        ("SELECT * FROM T_Machine WHERE Caption = NULL".to_owned(), 6),
        (
            format!("SELECT * FROM T_MachineSetting WHERE SystemName = '{id}' AND Kind = 5"),
            2,
        ),
        (
            format!("SELECT * FROM T_Setting WHERE InstanceID LIKE 'Microsoft:{id}%'"),
            2,
        ),
        (
            format!(
                "SELECT * FROM T_MachineSetting WHERE SystemName = '{id}' AND InstanceID <> 'Microsoft:{id}'"
            ),
            2,
        ),
        (
            "SELECT * FROM T_System WHERE __CLASS = 'T_Host'".to_owned(),
            1,
        ),
        (
            "SELECT * FROM T_System WHERE __this ISA 'T_Machine'".to_owned(),
            6,
        ),
        (
            r"SELECT * FROM T_DiskSetting WHERE InstanceID LIKE '%\0' AND ReadOnly = 'TRUE'"
                .to_owned(),
            3,
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(count(&world, &query), expected, "{query}");
    }
}

#[test]
fn literals_with_backslashes_match_escaped_and_raw() {
    let world = world(3, 2);
    let id = machine_id(1);
    for literal in [
        format!(r"Microsoft:{id}\Disk\0"),
        format!(r"Microsoft:{id}\\Disk\\0"),
    ] {
        let query = format!("SELECT * FROM T_DiskSetting WHERE InstanceID = '{literal}'");
        assert_eq!(count(&world, &query), 1, "{query}");
    }
    for literal in [r"\\server\share1", r"\\\\server\\share1"] {
        let query = format!("SELECT * FROM T_DiskSetting WHERE ElementName = '{literal}'");
        assert_eq!(count(&world, &query), 1, "{query}");
    }
    let parent = r#"\\HV1\root\fleet:T_MachineSetting.InstanceID="Microsoft:S000001-0000""#;
    for literal in [parent.to_owned(), parent.replace('\\', r"\\")] {
        let query = format!("SELECT * FROM T_MachineSetting WHERE Parent = '{literal}'");
        let instances = found(&world, &query);
        assert_eq!(instances.len(), 1, "{query}");
        assert_eq!(
            instances[0].str("InstanceID"),
            Some("Microsoft:S000001-0001")
        );
        let query = format!("SELECT * FROM T_MachineSetting WHERE __PATH = '{literal}'");
        let instances = found(&world, &query);
        assert_eq!(instances.len(), 1, "{query}");
        assert_eq!(
            instances[0].str("InstanceID"),
            Some("Microsoft:S000001-0000")
        );
    }
}

#[test]
fn the_select_list_may_hold_system_properties() {
    let world = world(1, 0);
    let instances = found(
        &world,
        "SELECT name, __PATH, __class, __DERIVATION, __SUPERCLASS, __GENUS, State FROM T_Machine",
    );
    let machine = &instances[0];
    let names: Vec<&str> = machine.properties.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Name",
            "__PATH",
            "__class",
            "__DERIVATION",
            "__SUPERCLASS",
            "__GENUS",
            "State"
        ]
    );
    let path = machine.path.as_ref().unwrap().to_string();
    assert_eq!(machine.str("__PATH"), Some(path.as_str()));
    assert!(
        path.starts_with(&format!(r"\\HV1\{NAMESPACE}:T_Machine.")),
        "{path}"
    );
    assert_eq!(
        machine.value("__DERIVATION"),
        &Value::from(["T_System", "T_Element"])
    );
    assert_eq!(machine.str("__SUPERCLASS"), Some("T_System"));
    assert_eq!(machine.value("__GENUS"), &Value::Sint32(2));
}

#[test]
fn associators_and_references_of_take_the_same_filters_as_the_operations() {
    let world = world(2, 2);
    let id = machine_id(0);
    let source = format!("{{T_Machine.CreationClassName='T_Machine',Name='{id}'}}");
    let cases = [
        (format!("ASSOCIATORS OF {source}"), 4),
        (
            format!(
                "associators of {source} where AssocClass = T_SettingOf ResultClass = T_MachineSetting"
            ),
            3,
        ),
        (
            format!(
                "ASSOCIATORS OF {source} WHERE AssocClass = T_CurrentSettingOf ResultRole=Setting Role=Element"
            ),
            1,
        ),
        (
            format!("REFERENCES OF {source} WHERE ResultClass=T_SettingOf"),
            3,
        ),
        (format!("REFERENCES OF {source} WHERE Role = Dependent"), 1),
        (
            format!("ASSOCIATORS OF {source} WHERE RequiredAssocQualifier=Association"),
            4,
        ),
        (
            format!("ASSOCIATORS OF {source} WHERE RequiredQualifier=Abstract"),
            0,
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(count(&world, &query), expected, "{query}");
    }
    let classes = run(
        &world,
        &format!("ASSOCIATORS OF {source} WHERE ClassDefsOnly"),
    )
    .unwrap();
    let QueryResult::Classes(classes) = classes else {
        panic!("instances");
    };
    let classes: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(classes, ["T_Host", "T_MachineSetting"]);
    let keys = found(
        &world,
        &format!("ASSOCIATORS OF {source} WHERE AssocClass=T_CurrentSettingOf KeysOnly"),
    );
    assert_eq!(keys[0].properties.len(), 1);
    let error = run(&world, "ASSOCIATORS OF {T_Machine.Name='nobody'}").unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
}

#[test]
fn a_literal_that_names_many_objects_matches_none() {
    let world = world(3, 1);
    for property in ["ElementName", "__PATH"] {
        let query = format!(
            r#"SELECT * FROM T_Machine WHERE {property} = 'T_Machine.CreationClassName="T_Machine"'"#
        );
        assert_eq!(count(&world, &query), 0, "{query}");
    }
}

#[test]
fn schema_queries_select_classes() {
    let world = world(1, 0);
    let classes = |query: &str| -> Vec<String> {
        match run(&world, query).unwrap() {
            QueryResult::Classes(classes) => {
                classes.iter().map(|c| c.name.as_str().to_owned()).collect()
            }
            QueryResult::Instances(_) => panic!("instances"),
        }
    };
    assert_eq!(classes("SELECT * FROM meta_class").len(), 14);
    let below = classes("SELECT * FROM Meta_Class WHERE __this ISA 'T_System'");
    assert_eq!(below, ["T_System", "T_Machine", "T_Host"]);
    let named = classes("SELECT * FROM meta_class WHERE __CLASS = 't_host'");
    assert_eq!(named, ["T_Host"]);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() {
    let world = world(1, 0);
    let refuse = |language: &str, query: &str| {
        world
            .broker
            .query(&administrator(), &world.namespace, language, query)
            .unwrap_err()
    };
    let error = refuse("SQL", "SELECT * FROM T_Machine");
    assert_eq!(error.status, CimStatus::QueryLanguageNotSupported);
    let error = refuse("WQL", "SELECT * FROM T_Machine WHERE State = ");
    assert_eq!(error.status, CimStatus::InvalidQuery);
    assert!(error.message.contains("character"), "{error}");
    let error = refuse("WQL", "SELECT * FROM T_Machine WHERE Colour = 'red'");
    assert_eq!(error.status, CimStatus::InvalidQuery);
    assert!(error.message.contains("Colour"), "{error}");
    let error = refuse("WQL", "SELECT * FROM T_Nothing");
    assert_eq!(error.status, CimStatus::InvalidClass);
    let error = refuse(
        "WQL",
        "SELECT * FROM __InstanceModificationEvent WITHIN 2 WHERE TargetInstance ISA 'T_Machine'",
    );
    assert_eq!(error.status, CimStatus::NotSupported);
    assert!(error.message.contains("vent"), "{error}");
    let error = world
        .broker
        .query(
            &administrator(),
            &Namespace::new("root/none"),
            "WQL",
            "nonsense",
        )
        .unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidNamespace);
    let query = world.broker.query(
        &administrator(),
        &world.namespace,
        "dmtf:cql",
        "SELECT * FROM T_Host",
    );
    assert!(query.is_ok());
}

#[test]
fn without_rights_nothing_is_found() {
    let world = world(2, 1);
    let guest = account("guest", Role::None);
    for query in ["SELECT * FROM T_Machine", "SELECT * FROM T_SettingOf"] {
        let result = world
            .broker
            .query(&guest, &world.namespace, "WQL", query)
            .unwrap();
        assert!(matches!(result, QueryResult::Instances(i) if i.is_empty()));
    }
}

fn shared() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| world(9, 2))
}

/// A class and a condition on it.
fn query_on_a_class() -> impl Strategy<Value = (&'static str, String)> {
    let machine = condition(
        &[
            "Name",
            "ElementName",
            "State",
            "Memory",
            "Caption",
            "__CLASS",
            "__SERVER",
        ],
        "Name",
    );
    let setting = condition(
        &[
            "InstanceID",
            "SystemName",
            "Kind",
            "Parent",
            "Caption",
            "__CLASS",
            "NoSuchProperty",
        ],
        "SystemName",
    );
    prop_oneof![
        machine.prop_map(|condition| ("T_Machine", condition)),
        setting.prop_map(|condition| ("T_MachineSetting", condition)),
    ]
}

/// Conditions out of pieces that matter: properties of different types, literals of fitting and
/// unfitting types and spellings, nested logic.
fn condition(
    properties: &[&'static str],
    identifier: &'static str,
) -> impl Strategy<Value = String> + use<> {
    let has_parent = properties.contains(&"Parent");
    let property = prop::sample::select(properties.to_vec());
    let literal = prop_oneof![
        (0..4_u8).prop_map(|n| n.to_string()),
        (510..520_u32).prop_map(|n| format!("'{n}'")),
        (0..10_usize).prop_map(|n| format!("'vm{n}'")),
        (0..10_usize).prop_map(|n| format!("'{}'", machine_id(n).to_lowercase())),
        (0..10_usize).prop_map(|n| format!("'Microsoft:{}'", machine_id(n))),
        Just("'T_Machine'".to_owned()),
        Just(
            r#"'\\HV1\root\fleet:T_MachineSetting.InstanceID="Microsoft:S000001-0000"'"#.to_owned()
        ),
        Just(r#"'//x/ROOT/fleet:t_setting.instanceid="microsoft:s000001-0000"'"#.to_owned()),
        Just(r#"'T_MachineSetting="MICROSOFT:S000002-0000"'"#.to_owned()),
        Just(
            r#"'\\\\HV1\\root\\fleet:T_MachineSetting.InstanceID="Microsoft:S000001-0000"'"#
                .to_owned()
        ),
        Just("__SERVER".to_owned()),
        Just("NULL".to_owned()),
    ];
    let operator = prop::sample::select(vec!["=", "=", "=", "<>", "<", ">="]);
    let mixed = (property, operator, literal).prop_map(|(p, o, l)| match (o, l.as_str()) {
        ("<" | ">=", "NULL") => format!("{p} = {l}"),
        _ => format!("{p} {o} {l}"),
    });
    // Pairs that often hold: a path in one of its spellings, an identifier in one of its cases.
    let spelling = prop::sample::select(vec![
        r#"\\HV1\root\fleet:T_MachineSetting.InstanceID="Microsoft:SN-0000""#,
        r#"\\\\HV1\\root\\fleet:T_MachineSetting.InstanceID="Microsoft:SN-0000""#,
        r#"//x/ROOT/fleet:t_machinesetting.instanceid="microsoft:sN-0000""#,
        r#"T_MachineSetting="MICROSOFT:SN-0000""#,
    ]);
    let of_parent = (spelling, 0..9_usize).prop_map(move |(text, n)| {
        let text = text.replace("SN", &format!("S{n:06}"));
        let property = if has_parent { "Parent" } else { "Caption" };
        format!("{property} = '{}'", text.replace("sN", &format!("s{n:06}")))
    });
    let of_machine = (0..9_usize, any::<bool>()).prop_map(move |(n, lower)| {
        let id = machine_id(n);
        let id = if lower { id.to_lowercase() } else { id };
        format!("{identifier} = '{id}'")
    });
    let leaf = prop_oneof![3 => mixed, 1 => of_parent, 1 => of_machine];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is pushed down to providers, a query finds what looking at every instance finds.
    #[test]
    fn push_down_changes_nothing((class, condition) in query_on_a_class()) {
        let world = shared();
        let text = format!("SELECT * FROM {class} WHERE {condition}");
        let all = world
            .broker
            .enumerate_instances(&administrator(), &world.namespace, &Name::new(class), true, None)
            .unwrap();
        let Ok(Query::Select(select)) = Query::parse(&text) else {
            return Err(TestCaseError::fail(format!("not a query: {text}")));
        };
        let repository = world.broker.schema(&world.namespace).unwrap();
        let class_decl = repository.class(&Name::new(class)).unwrap();
        if select.check(class_decl).is_err() {
            let error = run(world, &text).unwrap_err();
            prop_assert_eq!(error.status, CimStatus::InvalidQuery);
            return Ok(());
        }
        let naive: Vec<Instance> = all
            .into_iter()
            .filter(|instance| {
                select.matches(&InstanceRow {
                    instance,
                    server: world.broker.host_name(),
                    namespace: &world.namespace,
                    repository: Some(repository),
                })
            })
            .collect();
        prop_assert_eq!(found(world, &text), naive, "{}", text);
    }
}
