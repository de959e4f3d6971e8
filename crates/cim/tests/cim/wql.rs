//! What `cim::wql` promises.

use cim::wql::{ClassRow, EventQuery, InstanceRow, Literal, Query, QueryError, Select};
use cim::{DateTime, Instance, Name, Namespace, ObjectPath, Property, Value};
use proptest::prelude::*;

const DISK_PATH: &str = r#"\\HOST\root\virtualization:Rasd.InstanceID="Microsoft:A\\B\\0""#;

fn rasd() -> Instance {
    let text = |text: &str| Value::from(text);
    let properties = [
        ("ElementName", text("Web01")),
        ("InstanceID", text(r"Microsoft:A\C\Default")),
        ("Parent", text(DISK_PATH)),
        (
            "Controller",
            Value::from(ObjectPath::parse(DISK_PATH).unwrap()),
        ),
        ("ResourceType", Value::Uint16(10)),
        ("Limit", Value::Uint64(u64::MAX)),
        ("Load", Value::Real64(1.5)),
        ("IsBound", Value::Boolean(true)),
        ("Created", Value::DateTime(DateTime::from_unix_micros(0))),
        ("Connection", Value::from(vec![r"C:\a.vhd", "b"])),
        ("Owner", text("O'Neil")),
        ("Notes", Value::Null),
        ("Other", text("WEB01")),
    ];
    Instance {
        class: "Rasd".into(),
        path: Some(ObjectPath::parse(r#"Rasd.InstanceID="Microsoft:A\\C""#).unwrap()),
        properties: properties
            .into_iter()
            .map(|(name, value)| Property {
                name: Name::new(name),
                ty: value
                    .type_of()
                    .unwrap_or(cim::Type::scalar(cim::CimType::String)),
                value,
                origin: None,
            })
            .collect(),
    }
}

fn select(text: &str) -> Select {
    match Query::parse(text) {
        Ok(Query::Select(select)) => select,
        other => panic!("{text}: {other:?}"),
    }
}

fn holds(condition: &str) -> bool {
    let instance = rasd();
    let row = InstanceRow {
        instance: &instance,
        server: "WEB01",
        namespace: &Namespace::new("root/virtualization"),
        repository: None,
    };
    select(&format!("SELECT * FROM Rasd WHERE {condition}")).matches(&row)
}

#[test]
fn conditions_that_hold() {
    for condition in [
        "ElementName = 'web01'",
        "ElementName=\"WEB01\"",
        "'web01' = ElementName",
        "ElementName <> 'x' AND ElementName != 'y'",
        "ElementName = Other",
        "ElementName = __SERVER",
        "Rasd.ElementName = 'web01'",
        "ResourceType = '10'",
        "ResourceType = 10",
        "ResourceType = 0xA",
        "9 < ResourceType",
        "ResourceType >= 10 AND ResourceType <= 10.0",
        "ResourceType > '9'",
        "Limit = 18446744073709551615",
        "Limit > -1",
        "Load = 1.5 AND Load > 1 AND Load < '1.6'",
        "IsBound='TRUE'",
        "IsBound = true AND IsBound <> FALSE AND IsBound = 1",
        "Created = '19700101000000.000000+000'",
        "Created = '19700101010000.000000+060'",
        "Created < '19700102000000.000000+000'",
        "Created LIKE '1970%'",
        "Notes IS NULL",
        "Notes = NULL",
        "NULL = Notes",
        "ElementName IS NOT NULL AND ElementName <> null",
        "InstanceID LIKE '%\\Default'",
        "InstanceID LIKE '%\\\\Default'",
        "InstanceID LIKE 'microsoft:a%'",
        "ElementName LIKE 'web01'",
        "ElementName LIKE 'w_b0_'",
        "ElementName LIKE 'web[0-9]1' AND ElementName LIKE 'web[^a-z]%'",
        "ElementName LIKE '[a=z]eb%'",
        "NOT ElementName LIKE 'x%' AND ElementName NOT LIKE 'x%'",
        "Owner = 'O''Neil'",
        "Owner = 'O\\'Neil'",
        "Owner = \"O'Neil\"",
        "(ElementName = 'x' OR ResourceType = 10) AND NOT (Load = 2)",
        "ElementName = 'x' OR ElementName = 'y' OR IsBound = TRUE",
        "Connection[0] = 'C:\\a.vhd'",
        "Connection[0] = 'c:\\\\A.vhd'",
        "__CLASS = 'rasd' AND __GENUS = 2",
        "__this ISA 'Rasd'",
        "not elementname = 'x' and LOAD = 1.5",
    ] {
        assert!(holds(condition), "{condition}");
    }
}

#[test]
fn conditions_that_do_not_hold() {
    for condition in [
        "ElementName = 'web'",
        "ElementName LIKE 'web'",
        "ElementName LIKE 'web[^0]1'",
        "ResourceType = 'ten'",
        "ResourceType <> 'ten'",
        "ResourceType <> '10'",
        "IsBound = 'maybe'",
        // NULL is neither equal nor unequal to anything.
        "Notes = 'x'",
        "Notes <> 'x'",
        "NOT Notes = 'x'",
        "NOT (Notes = 'x' OR ElementName = 'y')",
        "Notes LIKE '%'",
        "Nothing = 'x'",
        "Connection = 'C:\\a.vhd'",
        "Connection[7] = 'b'",
        "__this ISA 'Vssd'",
    ] {
        assert!(!holds(condition), "{condition}");
    }
    assert!(holds("Notes = 'x' OR ElementName = 'web01'"));
}

#[test]
fn paths_compare_whether_their_backslashes_are_escaped_or_not() {
    let escaped = DISK_PATH.replace('\\', "\\\\").replace('"', "\\\"");
    for literal in [
        format!("'{DISK_PATH}'"),
        format!("'{escaped}'"),
        format!("'{}'", DISK_PATH.replace('\\', "/")),
        format!("'{}'", DISK_PATH.replace('"', "''")),
        r#"'\\other\root\virtualization:rasd.instanceid="microsoft:a\B\0"'"#.to_owned(),
        format!("\"{escaped}\""),
    ] {
        assert!(holds(&format!("Parent = {literal}")), "{literal}");
        assert!(!holds(&format!("Parent <> {literal}")), "{literal}");
        assert!(holds(&format!("Controller = {literal}")), "{literal}");
    }
    assert!(!holds(
        r#"Parent = '\\HOST\root\virtualization:Rasd.InstanceID="x"'"#
    ));
    for path in [
        r#"'\\WEB01\root\virtualization:Rasd.InstanceID="Microsoft:A\\C"'"#,
        r#"'\\\\WEB01\\root\\virtualization:Rasd.InstanceID=\"Microsoft:A\\\\C\"'"#,
        r#"'//web01/root/virtualization:Rasd.InstanceID="Microsoft:A//C"'"#,
    ] {
        assert!(holds(&format!("__PATH = {path}")), "{path}");
    }
    assert!(holds(r#"__RELPATH = 'Rasd.InstanceID="Microsoft:A\\C"'"#));
}

#[test]
fn select_lists_name_properties_and_system_properties() {
    assert_eq!(select("select * from X").projection.names(), None);
    let query = select("SELECT ElementName, __PATH,Notes FROM Msvm_X");
    assert_eq!(
        query.projection.names().unwrap(),
        ["ElementName", "__PATH", "Notes"]
    );
    assert_eq!(query.class, "msvm_x");
}

#[test]
fn equalities_are_the_top_level_conjuncts() {
    let query = select(
        "SELECT * FROM X WHERE A = 'a' AND ('b' = B) AND (C = 1 OR D = 2) AND NOT E = 3 AND F > 4",
    );
    let found: Vec<_> = query
        .equalities()
        .into_iter()
        .map(|it| it.property.to_string())
        .collect();
    assert_eq!(found, ["A", "B"]);
    let query = select(r"SELECT * FROM X WHERE A = 'a\\b'");
    let Literal::Text(text) = query.equalities()[0].literal else {
        panic!("not text");
    };
    assert_eq!(text.readings().collect::<Vec<_>>(), [r"a\b", r"a\\b"]);
}

#[test]
fn associators_and_references() {
    let query = Query::parse(
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='A}B'} \
         WHERE AssocClass = Msvm_SettingsDefineState ResultClass='Vssd ' ResultRole = SettingData \
         Role=ManagedElement RequiredQualifier = Key requiredassocqualifier = Association KeysOnly",
    );
    let Ok(Query::Associators(query)) = query else {
        panic!("{query:?}");
    };
    assert_eq!(query.object.key_str("Name"), Some("A}B"));
    assert_eq!(query.assoc_class, Some("Msvm_SettingsDefineState".into()));
    assert_eq!(query.result_class, Some("Vssd".into()));
    assert_eq!(query.result_role, Some("SettingData".into()));
    assert_eq!(query.role, Some("ManagedElement".into()));
    assert!(query.output.keys_only && !query.output.class_definitions_only);

    let query = Query::parse(
        r#"references of {\\HOST\root\virtualization:X.ID="a\\b"} where resultclass = Y ClassDefsOnly"#,
    );
    let Ok(Query::References(query)) = query else {
        panic!("{query:?}");
    };
    assert_eq!(query.object.key_str("ID"), Some(r"a\b"));
    assert_eq!(query.result_class, Some("Y".into()));
    assert!(query.output.class_definitions_only);
}

#[test]
fn event_queries_are_told_apart() {
    for text in [
        "SELECT EnabledState, TargetInstance FROM __InstanceModificationEvent WITHIN 2 WHERE TargetInstance ISA 'X'",
        "SELECT * FROM __InstanceCreationEvent",
        "SELECT * FROM MyEvent WITHIN 5",
    ] {
        assert!(
            matches!(Query::parse(text), Err(QueryError::Event(_))),
            "{text}"
        );
    }
}

#[test]
fn an_event_query_says_what_it_is_about() {
    let parse = |text| EventQuery::parse_in("WQL", text).expect(text);
    let query = parse(
        "SELECT * FROM __InstanceModificationEvent WITHIN 2.5 WHERE TargetInstance ISA 'Msvm_X' \
         AND TargetInstance.EnabledState <> PreviousInstance.EnabledState",
    );
    assert_eq!(query.within, Some(2.5));
    assert!(query.select.class.is("__InstanceModificationEvent"));
    assert_eq!(query.target_classes(), Some(vec!["Msvm_X".into()]));
    assert_eq!(query.target_properties(), vec![Name::new("EnabledState")]);

    let query = parse("select TargetInstance from __InstanceCreationEvent");
    assert_eq!((query.within, query.target_classes()), (None, None));
    let either = "SELECT * FROM __InstanceOperationEvent WHERE \
                  TargetInstance ISA 'A' OR TargetInstance.__CLASS = 'B'";
    let classes = parse(either).target_classes();
    assert_eq!(classes, Some(vec!["A".into(), "B".into()]));
    for open in [
        "SELECT * FROM __InstanceOperationEvent WHERE NOT TargetInstance ISA 'A'",
        "SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'A' OR TIME_CREATED > 1",
        "SELECT * FROM __InstanceModificationEvent WHERE PreviousInstance ISA 'A'",
    ] {
        assert_eq!(parse(open).target_classes(), None, "{open}");
    }
}

#[test]
fn what_event_queries_must_not_say() {
    let refused = |text| EventQuery::parse_in("WQL", text).expect_err(text);
    for text in [
        "SELECT * FROM __InstanceCreationEvent GROUP WITHIN 10",
        "SELECT * FROM __InstanceCreationEvent WITHIN 1 WHERE TargetInstance ISA 'A' \
         GROUP WITHIN 5 BY TargetInstance.Name HAVING NumberOfEvents > 3",
    ] {
        assert_eq!(refused(text), QueryError::Group, "{text}");
    }
    for text in [
        "SELECT * FROM __InstanceCreationEvent WITHIN",
        "SELECT * FROM __InstanceCreationEvent WITHIN 0",
        "SELECT * FROM __InstanceCreationEvent WITHIN -1",
        "SELECT * FROM __InstanceCreationEvent WITHIN soon",
        "SELECT * FROM __InstanceCreationEvent WHERE",
        "ASSOCIATORS OF {A.B=1}",
    ] {
        assert!(
            matches!(refused(text), QueryError::Expected { .. }),
            "{text}"
        );
    }
    let language = EventQuery::parse_in("SQL", "SELECT * FROM __Event");
    assert!(matches!(language, Err(QueryError::Language(_))));
}

#[test]
fn what_is_no_query_is_refused_with_its_place() {
    for text in [
        "",
        "SELECT",
        "SELECT *",
        "SELECT * FROM",
        "SELECT FROM X",
        "SELECT * FROM X WHERE",
        "SELECT * FROM X WHERE A",
        "SELECT * FROM X WHERE A =",
        "SELECT * FROM X WHERE A = 'x",
        "SELECT * FROM X WHERE A = 'x' B = 'y'",
        "SELECT * FROM X WHERE (A = 'x'",
        "SELECT * FROM X WHERE A LIKE %x%",
        "SELECT * FROM X WHERE A IS 5",
        "SELECT * FROM X WHERE A > NULL",
        "SELECT * FROM X WHERE A = 1e",
        "SELECT * FROM X WHERE A = 99999999999999999999",
        "SELECT * FROM X; DROP TABLE X",
        "SELECT *, A FROM X",
        "DELETE FROM X",
        "ASSOCIATORS OF X",
        "ASSOCIATORS OF {X.K='a'",
        "ASSOCIATORS OF {}",
        "ASSOCIATORS OF {X.K='a'} WHERE",
        "ASSOCIATORS OF {X.K='a'} WHERE AssocClass",
        "ASSOCIATORS OF {X.K='a'} WHERE AssocClass = A, ResultClass = B",
        "ASSOCIATORS OF {X.K='a'} WHERE AssocClass = A AssocClass = B",
        "REFERENCES OF {X.K='a'} WHERE ResultRole = B",
    ] {
        let parsed = Query::parse(text);
        assert!(parsed.is_err(), "{text}: {parsed:?}");
    }
    let error = Query::parse("SELECT * FROM X WHERE A ? 1").unwrap_err();
    assert!(error.to_string().contains("character 25"), "{error}");
    assert!(matches!(
        Query::parse_in("SQL", "SELECT * FROM X"),
        Err(QueryError::Language(_))
    ));
    assert!(Query::parse_in("DMTF:CQL", "SELECT * FROM X WHERE a = 'b'").is_ok());
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |n| {
        format!(
            "SELECT * FROM X WHERE {}A = 1{}",
            "(".repeat(n),
            ")".repeat(n)
        )
    };
    assert!(Query::parse(&nested(64)).is_ok());
    assert_eq!(Query::parse(&nested(65)), Err(QueryError::TooDeep));
    let negated = format!("SELECT * FROM X WHERE {} A = 1", "NOT ".repeat(10_000));
    assert_eq!(Query::parse(&negated), Err(QueryError::TooDeep));
    let long = format!("SELECT * FROM X WHERE A = '{}'", "a".repeat(70_000));
    assert!(matches!(Query::parse(&long), Err(QueryError::TooLong(_))));
}

#[test]
fn unknown_properties_are_refused_when_checked_against_the_class() {
    let mut class = cim::Class::new("X");
    let string = cim::Type::scalar(cim::CimType::String);
    class
        .properties
        .push(cim::PropertyDecl::new("A", string, "X"));
    assert!(
        select("SELECT a, __PATH FROM X WHERE A = __SERVER")
            .check(&class)
            .is_ok()
    );
    for text in [
        "SELECT B FROM X",
        "SELECT * FROM X WHERE B IS NULL OR A = 'a'",
    ] {
        let error = select(text).check(&class).unwrap_err().to_string();
        assert_eq!(error, "class X has no property B", "{text}");
    }
}

#[test]
fn inheritance_and_system_properties_come_from_the_repository() {
    let text = "class A { [Key] string ID; }; class B : A { }; class C : B { };";
    let repository = cim::mof::Repository::compile(&[("x", text)]).unwrap();
    let class = repository.class(&"C".into()).unwrap();
    let instance = Instance::builder(class)
        .set("ID", "x")
        .build_named()
        .unwrap();
    let namespace = Namespace::new("root/virtualization");
    let row = InstanceRow {
        instance: &instance,
        server: "HOST",
        namespace: &namespace,
        repository: Some(&repository),
    };
    for condition in [
        "__this ISA 'A'",
        "__CLASS ISA B",
        "__SUPERCLASS = 'B' AND __DYNASTY = 'A' AND __DERIVATION[1] = 'A'",
        "__PROPERTY_COUNT = 1 AND __NAMESPACE = 'root\\virtualization'",
    ] {
        let query = select(&format!("SELECT * FROM C WHERE {condition}"));
        assert!(query.matches(&row), "{condition}");
    }
    let classes = select("SELECT * FROM meta_class WHERE __this ISA 'B' AND __CLASS LIKE '%c%'");
    let found: Vec<&str> = repository
        .classes()
        .filter(|class| {
            classes.matches(&ClassRow {
                class,
                server: "HOST",
                namespace: &namespace,
                repository: &repository,
            })
        })
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(found, ["C"]);
}

#[test]
fn embedded_instances_can_be_looked_into() {
    let mut outer = rasd();
    outer.properties.push(Property {
        name: "Inner".into(),
        ty: cim::Type::scalar(cim::CimType::Object),
        value: Value::from(rasd()),
        origin: None,
    });
    let row = InstanceRow {
        instance: &outer,
        server: "HOST",
        namespace: &Namespace::new("root"),
        repository: None,
    };
    let matches =
        |condition: &str| select(&format!("SELECT * FROM R WHERE {condition}")).matches(&row);
    assert!(matches(
        "Inner.ResourceType = 10 AND Inner ISA 'Rasd' AND Inner.__CLASS = 'rasd'"
    ));
    assert!(matches("Inner.ElementName = ElementName"));
    assert!(!matches("Inner ISA 'Other'"));
}

#[test]
fn like_stays_fast_on_hostile_patterns() {
    let pattern = "%a".repeat(200);
    let started = std::time::Instant::now();
    assert!(!holds(&format!(
        "'{}b' LIKE '{pattern}'",
        "a".repeat(10_000)
    )));
    assert!(started.elapsed().as_secs() < 5);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,60}", clause in "[A-C ='\"\\\\()<>%_\\[\\]^0-9.{}-]{0,40}") {
        let _ = Query::parse(&text);
        for start in ["SELECT * FROM X WHERE ", "SELECT ", "ASSOCIATORS OF ", "REFERENCES OF {X=1} WHERE "] {
            if let Ok(Query::Select(_)) = Query::parse(&format!("{start}{clause}")) {
                holds(&clause);
            }
        }
    }

    #[test]
    fn like_agrees_with_a_plain_matcher(pattern in "[ab%_]{0,8}", text in "[ab]{0,8}") {
        fn plain(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (None, _) => false,
                (Some((b'%', rest)), None) => plain(rest, text),
                (Some((b'%', rest)), Some((_, tail))) => plain(rest, text) || plain(pattern, tail),
                (Some((b'_', rest)), Some((_, tail))) => plain(rest, tail),
                (Some((p, rest)), Some((t, tail))) => p == t && plain(rest, tail),
                (Some(_), None) => false,
            }
        }
        let expected = plain(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(holds(&format!("'{text}' LIKE '{pattern}'")), expected);
    }

    #[test]
    fn quoting_round_trips(text in ".{0,20}") {
        let quoted = text.replace('\\', "\\\\").replace('\'', "\\'");
        let doubled = text.replace('\\', "\\\\").replace('\'', "''");
        for literal in [quoted, doubled] {
            let query = select(&format!("SELECT * FROM X WHERE A = '{literal}'"));
            let Literal::Text(parsed) = query.equalities()[0].literal else {
                panic!("not text");
            };
            prop_assert_eq!(parsed.unescaped(), &text);
        }
    }
}
