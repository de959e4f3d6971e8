//! What `cim::path` promises.

use cim::{KeyValue, Keys, Name, Namespace, ObjectPath, PathError};
use proptest::prelude::*;

fn parse(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const JOB: &str = r#"\\HOST\root\virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#;
const GLOBAL: &str = r#"\\HOST\root\virtualization:Msvm_X.InstanceID="Microsoft:GUID\\Global""#;

#[test]
fn every_spelling_of_an_instance_names_it() {
    let spellings = [
        JOB,
        r#"//HOST/root/virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"\\.\root\virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"//host:5989/ROOT/Virtualization:msvm_concretejob.instanceid="8e8d""#,
        r#"https://host:5989/root/virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"/root/virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"root\virtualization:Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"root/virtualization:Msvm_ConcreteJob.InstanceID='8E8D'"#,
        r#"  Msvm_ConcreteJob . InstanceID = '8E8D'  "#.trim_end(),
        r#":Msvm_ConcreteJob.InstanceID="8E8D""#,
        r#"Msvm_ConcreteJob="8E8D""#,
    ];
    let job = parse(JOB);
    for text in spellings {
        let path = parse(text);
        assert!(path.names_same_object(&job), "{text}");
        assert!(job.names_same_object(&path), "{text}");
    }
}

#[test]
fn parts_of_a_full_path() {
    let path = parse(r#"\\HOST\Root/Virtualization\V2:C.K2="b",K1=7"#);
    assert_eq!(path.host.as_deref(), Some("HOST"));
    assert_eq!(
        path.namespace,
        Some(Namespace::new(r"root\virtualization\v2"))
    );
    assert_eq!(path.class, "C");
    assert_eq!(path.key("k1"), Some(&KeyValue::Unsigned(7)));
    assert_eq!(
        path.to_string(),
        r#"\\HOST\Root\Virtualization\V2:C.K1=7,K2="b""#
    );
    assert_eq!(
        path.wbem_uri(),
        r#"//HOST/Root/Virtualization/V2:C.K1=7,K2="b""#
    );
    assert_eq!(path.relpath(), r#"C.K1=7,K2="b""#);
}

#[test]
fn backslashes_survive_however_they_are_written() {
    let whole_path_turned = GLOBAL.replace('\\', "/");
    let path = parse(GLOBAL);
    assert_eq!(path.key_str("InstanceID"), Some(r"Microsoft:GUID\Global"));
    for text in [
        r#"Msvm_X.InstanceID="Microsoft:GUID\Global""#,
        r#"Msvm_X.InstanceID='Microsoft:GUID\\Global'"#,
        r#"Msvm_X.InstanceID="microsoft:guid/global""#,
        whole_path_turned.as_str(),
    ] {
        assert!(parse(text).names_same_object(&path), "{text}");
        assert_eq!(parse(text).index_key(), path.index_key(), "{text}");
    }
    assert!(!parse(r#"Msvm_X.InstanceID="Microsoft:GUIDGlobal""#).names_same_object(&path));
    assert_eq!(path.to_string(), GLOBAL);
}

#[test]
fn references_in_keys_compare_by_the_object_they_name() {
    let text = r#"A.Left="\\\\HOST\\root\\virtualization:C.K=\"v\\\\w\"",Right="x""#;
    let quoted = parse(text);
    let reference = ObjectPath::of_instance(
        "A",
        [
            ("Left", KeyValue::from(parse(r#"C.K="V\\W""#))),
            ("Right", KeyValue::from("x")),
        ],
    );
    assert!(quoted.names_same_object(&reference));
    assert!(reference.names_same_object(&quoted));
    let printed = reference.to_string();
    assert!(parse(&printed).names_same_object(&reference), "{printed}");
}

#[test]
fn classes_and_singletons() {
    assert_eq!(parse("Msvm_X").keys, Keys::Class);
    assert_eq!(parse(r"\\.\root\virtualization:Msvm_X").keys, Keys::Class);
    assert_eq!(parse("Msvm_X=@").keys, Keys::Singleton);
    assert_eq!(parse("Msvm_X=@").to_string(), "Msvm_X=@");
    assert!(!parse("X").names_same_object(&parse("X=@")));
}

#[test]
fn numbers_and_booleans_compare_by_value() {
    for (a, b) in [
        ("X.K=10", "X.K=0x0A"),
        ("X.K=10", "X.K=\"10\""),
        ("X.K=true", "X.K='TRUE'"),
    ] {
        assert!(parse(a).names_same_object(&parse(b)), "{a} {b}");
    }
    assert_eq!(parse("X.K=-1").key("K"), Some(&KeyValue::Signed(-1)));
    assert!(matches!(
        ObjectPath::parse("X.K=18446744073709551616"),
        Err(PathError::OutOfRange(_))
    ));
}

#[test]
fn a_partial_key_picks_instances() {
    let full = parse(r#"X.CreationClassName="X",Name="n""#);
    assert!(parse(r#"X.Name="N""#).keys_cover(&full));
    assert!(!parse(r#"X.Name="m""#).keys_cover(&full));
    assert!(!parse(r#"X.Name="N""#).names_same_object(&full));
}

#[test]
fn what_is_no_path_is_refused() {
    for text in [
        "",
        "  ",
        "=",
        ".",
        "X.",
        "X.K",
        "X.K=",
        "X.K=\"a",
        "X.K=\"a\" b",
        "X.K=\"a\",",
        "X.K=1.5",
        "X.K=a",
        "1X",
        r"\\HOST",
        r"\\HOST\root\virtualization",
        "root/virtualization",
        r"\\\root:X",
        r"\\HO ST\root:X",
        "ro\rot:X",
        "a(b:X",
        r"\\HOST:X",
        "X.K=1,k=2",
        "X..K=1",
    ] {
        let parsed = ObjectPath::parse(text);
        assert!(parsed.is_err(), "{text}: {parsed:?}");
    }
    let long = format!("X.K=\"{}\"", "a".repeat(70_000));
    assert!(matches!(
        ObjectPath::parse(&long),
        Err(PathError::TooLong(_))
    ));
    let error = ObjectPath::parse("X.K=?").unwrap_err().to_string();
    assert!(error.contains("character 5"), "{error}");
}

#[test]
fn a_class_gives_keys_their_names_and_types() {
    let text = r#"
class Part { [Key] uint32 Number; };
[Association] class Holds { [Key] Part REF Left; [Key] Part REF Right; [Key] boolean Firm; };
"#;
    let repository = cim::mof::Repository::compile(&[("x", text)]).unwrap();
    let part = repository.class(&Name::new("Part")).unwrap();
    let holds = repository.class(&Name::new("Holds")).unwrap();
    for text in ["Part.NUMBER='7'", "part=7", "Part.Number=0x7", "Part='7'"] {
        let typed = parse(text).typed_by(part).unwrap();
        assert_eq!(
            typed.keys,
            Keys::named([("Number".into(), KeyValue::from(7u8))]),
            "{text}"
        );
        assert_eq!(typed.index_key(), "part.number=7", "{text}");
    }
    let link = parse(r#"Holds.left="Part.Number=1",Right='//h/root:Part.Number=2',Firm='true'"#);
    let typed = link.typed_by(holds).unwrap();
    assert!(
        matches!(typed.key("Left"), Some(KeyValue::Reference(path)) if **path == parse("Part.Number=1"))
    );
    assert_eq!(typed.key("firm"), Some(&KeyValue::Boolean(true)));
    assert!(typed.names_same_object(&link));
    for (text, class) in [
        ("Part.Number='seven'", part),
        ("Part.Number=-1", part),
        ("Part.Nmuber=1", part),
        ("Holds='x'", holds),
        ("Holds.Left='no path at all'", holds),
    ] {
        let typed = parse(text).typed_by(class);
        assert!(typed.is_err(), "{text}: {typed:?}");
    }
}

fn key_value() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        ".{0,20}".prop_map(KeyValue::String),
        r#"[a-z\\/"']{0,12}"#.prop_map(KeyValue::String),
        any::<bool>().prop_map(KeyValue::Boolean),
        any::<u64>().prop_map(KeyValue::Unsigned),
        (i64::MIN..0).prop_map(KeyValue::Signed),
    ]
}

fn object_path() -> impl Strategy<Value = ObjectPath> {
    let keys = prop_oneof![
        Just(Keys::Class),
        Just(Keys::Singleton),
        key_value().prop_map(Keys::Unnamed),
        proptest::collection::btree_map("[A-Z][a-z0-9_]{0,8}", key_value(), 1..4).prop_map(
            |keys| {
                let mut seen: Vec<(Name, KeyValue)> = Vec::new();
                for (name, value) in keys {
                    seen.push((Name::from(name), value));
                }
                Keys::named(seen)
            }
        ),
    ];
    let location = prop_oneof![
        Just((None, None)),
        "[a-z]{1,5}(/[a-z0-9]{1,5}){0,2}".prop_map(|ns| (None, Some(Namespace::new(ns)))),
        ("[A-Za-z0-9.:-]{1,12}", "[a-z]{1,5}(/[a-z0-9]{1,5}){0,2}")
            .prop_map(|(host, ns)| (Some(host), Some(Namespace::new(ns)))),
    ];
    (location, "[A-Za-z_][A-Za-z0-9_]{0,12}", keys).prop_map(|((host, namespace), class, keys)| {
        ObjectPath {
            host,
            namespace,
            class: Name::from(class),
            keys,
        }
    })
}

proptest! {
    #[test]
    fn printing_and_parsing_round_trip(path in object_path()) {
        prop_assert_eq!(&parse(&path.to_string()), &path);
        prop_assert_eq!(&parse(&path.wbem_uri()), &path);
        prop_assert_eq!(parse(&path.relpath()), path.relative());
    }

    #[test]
    fn nested_references_round_trip(path in object_path(), outer in object_path()) {
        let mut outer = outer;
        outer.keys = Keys::Unnamed(KeyValue::from(path));
        let again = parse(&outer.to_string());
        prop_assert!(again.names_same_object(&outer));
    }

    #[test]
    fn turning_every_backslash_names_the_same_object(path in object_path()) {
        let text = path.to_string();
        // A quote inside a value cannot survive the turning of its escape.
        prop_assume!(!text.contains("\\\""));
        let turned = text.replace('\\', "/");
        prop_assert!(parse(&turned).names_same_object(&path), "{}", turned);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,80}", pathish in r#"[\\/.:='",@A-C0-2 -]{0,40}"#) {
        for text in [text, pathish] {
            if let Ok(path) = ObjectPath::parse(&text) {
                prop_assert!(parse(&path.to_string()).names_same_object(&path));
            }
        }
    }
}
