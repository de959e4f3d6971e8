//! What `cim::mof` promises.

use cim::mof::{
    Declaration, Members, MofError, MofErrorKind, Repository, parse, parse_instances, print_class,
    print_instance, print_qualifier,
};
use cim::{
    CimType, Class, DateTime, Embedded, Instance, Name, Namespace, ObjectPath, Property, Type,
    Value,
};
use proptest::prelude::*;

const BASE: &str = r#"
#pragma namespace("\\\\.\\root\\virtualization")
// A base, and /* comments */ here and there.
[Abstract, Version("1.0"), Description("First part, "
    "second part.")]
class CIM_Base
{
    [Key, MaxLen(256), Description("the \"name\"")]
    string Name;
    [Description("a count"), Experimental]
    uint16 Count = 0x10;
    datetime Created;
    /* bounded */ string Labels[4] = {"a", "b"};
    [Description("starts it"), ValueMap{"0", "1"}, Values{"Done", "Failed"}]
    uint32 Start(
        [In, Required] string How,
        [In(false), Out] CIM_Base REF Job,
        [Out, EmbeddedInstance("CIM_Base")] string Made[]);
};
"#;

const DERIVED: &str = r#"
class Leaf : Middle { real64 Ratio = 1.5; };
[Version("2.0")] class Middle : CIM_Base
{
    [Override("Count"), Description("changed")] uint16 Count = 7;
    char16 Letter = 'x';
    CIM_Base Inner;
    uint32 Stop();
};
[Association] class Link
{
    [Key] CIM_Base REF Left;
    [Key] CIM_Base REF Right;
};
[Association] class NarrowLink : Link { [Override("Left")] Middle REF Left; };
"#;

fn repository() -> Repository {
    Repository::compile(&[("derived.mof", DERIVED), ("base.mof", BASE)]).unwrap()
}

fn class<'a>(repository: &'a Repository, name: &str) -> &'a Class {
    repository.class(&Name::new(name)).unwrap()
}

#[test]
fn classes_hold_inherited_members_in_order() {
    let repository = repository();
    let leaf = class(&repository, "LEAF");
    let names: Vec<&str> = leaf.properties.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Name", "Count", "Created", "Labels", "Letter", "Inner", "Ratio"
        ]
    );
    let count = leaf.property("count").unwrap();
    assert_eq!(count.default, Value::Uint16(7));
    assert_eq!(count.origin, "CIM_Base");
    assert!(count.propagated);
    assert!(
        !class(&repository, "Middle")
            .property("Count")
            .unwrap()
            .propagated
    );
    assert_eq!(
        leaf.keys().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["Name"]
    );
    assert!(leaf.method("start").unwrap().propagated);
    assert!(!leaf.is_abstract(), "Abstract is restricted to its class");
    assert!(class(&repository, "CIM_Base").is_abstract());
}

#[test]
fn qualifiers_propagate_by_their_flavors() {
    let repository = repository();
    let count = class(&repository, "Leaf").property("Count").unwrap();
    assert_eq!(
        count.qualifier("Description").unwrap().value,
        Value::from("changed")
    );
    assert!(count.qualifier("Experimental").is_none(), "restricted");
    assert!(count.qualifier("Override").is_none(), "restricted");
    let name = class(&repository, "Leaf").property("Name").unwrap();
    assert_eq!(name.qualifier("MaxLen").unwrap().value, Value::Uint32(256));
    assert!(class(&repository, "Leaf").qualifier("Version").is_none());
    assert!(class(&repository, "NarrowLink").is_association());
    assert_eq!(
        class(&repository, "CIM_Base")
            .qualifier("description")
            .unwrap()
            .value,
        Value::from("First part, second part.")
    );
}

#[test]
fn members_know_their_types() {
    let repository = repository();
    let leaf = class(&repository, "Leaf");
    let labels = leaf.property("Labels").unwrap();
    assert_eq!(
        (labels.ty, labels.array_size),
        (Type::array(CimType::String), Some(4))
    );
    assert_eq!(
        leaf.property("Inner").unwrap().embedded(),
        Some(Embedded::Instance("CIM_Base"))
    );
    assert_eq!(
        leaf.property("Letter").unwrap().default,
        Value::Char16(u16::from(b'x'))
    );
    let start = leaf.method("Start").unwrap();
    assert_eq!(start.return_type, Type::scalar(CimType::Uint32));
    let [how, job, made] = start.parameters.as_slice() else {
        panic!("{:?}", start.parameters);
    };
    assert!(how.is_in() && !how.is_out() && how.required());
    assert!(!job.is_in() && job.is_out());
    assert_eq!(job.class_ref, Some("CIM_Base".into()));
    assert!(!made.is_in() && made.is_out());
    assert_eq!(made.embedded(), Some(Embedded::Instance("CIM_Base")));
    let left = class(&repository, "NarrowLink").property("Left").unwrap();
    assert_eq!(
        (left.class_ref.as_ref(), left.is_key()),
        (Some(&"Middle".into()), true)
    );
}

#[test]
fn the_hierarchy_can_be_walked() {
    let repository = repository();
    let names = |classes: Vec<&std::sync::Arc<Class>>| -> Vec<String> {
        classes.iter().map(|it| it.name.to_string()).collect()
    };
    let base = Name::new("cim_base");
    assert_eq!(names(repository.subclasses(&base, false)), ["Middle"]);
    assert_eq!(
        names(repository.subclasses(&base, true)),
        ["Middle", "Leaf"]
    );
    assert_eq!(
        names(repository.superclasses(&"Leaf".into()).collect()),
        ["Middle", "CIM_Base"]
    );
    assert_eq!(names(repository.roots().collect()), ["Link", "CIM_Base"]);
    assert!(repository.is_a(&"Leaf".into(), &base));
    assert!(repository.is_a(&base, &base));
    assert!(!repository.is_a(&base, &"Leaf".into()));
    assert_eq!(
        repository.namespace(),
        Some(&Namespace::new("root/virtualization"))
    );
    assert!(repository.qualifier("key").is_some());
    assert!(repository.unresolved().is_empty());
}

#[test]
fn instances_and_aliases() {
    let text = r#"
instance of Leaf as $A { Name = "a\\b"; Count = "12"; Created = "20240101000000.000000+000"; };
instance of Leaf { Name = "b"; Inner = instance of Leaf { Name = "c"; }; Labels = {"x" "y"}; };
instance of Link { Left = $A; Right = "Leaf.Name=\"b\""; };
"#;
    let repository =
        Repository::compile(&[("b", BASE), ("d", DERIVED), ("instances.mof", text)]).unwrap();
    let [a, b, link] = repository.instances() else {
        panic!("{:?}", repository.instances());
    };
    assert_eq!(a.path.as_ref().unwrap().to_string(), r#"Leaf.Name="a\\b""#);
    assert_eq!(a.value("Count"), &Value::Uint16(12));
    assert_eq!(a.value("Ratio"), &Value::Real64(1.5));
    assert_eq!(
        b.value("Inner").as_instance().unwrap().str("Name"),
        Some("c")
    );
    assert_eq!(b.value("Labels"), &Value::from(vec!["xy"]));
    assert_eq!(link.value("Left").as_reference(), a.path.as_ref());
    assert_eq!(link.value("Right").as_reference(), b.path.as_ref());
}

#[test]
fn embedded_instances_of_clients() {
    let text = r#"instance of Msvm_X {
        ElementName = "vm"; Path = "C:\Data\x"; On = TRUE; Count = 5; Big = 18446744073709551615;
        Parts = { instance of Msvm_Y { A = NULL; }, instance of Msvm_Y { } }; Empty = {};
        Mixed = { 1, 18446744073709551615 }; Holes = { NULL, 5 };
    }"#;
    let instances = parse_instances(text).unwrap();
    let [instance] = instances.as_slice() else {
        panic!("{instances:?}");
    };
    assert_eq!(instance.str("elementname"), Some("vm"));
    assert_eq!(instance.str("Path"), Some(r"C:\Data\x"));
    assert_eq!(instance.value("Count"), &Value::Sint64(5));
    assert_eq!(instance.value("Big"), &Value::Uint64(u64::MAX));
    assert_eq!(instance.value("Parts").as_array().unwrap().len(), 2);
    assert_eq!(instance.value("Empty"), &Value::Array(vec![]));
    assert_eq!(instance.value("Mixed"), &Value::from(vec![1u64, u64::MAX]));
    assert!(parse_instances("class X { };").is_err());
    assert!(parse_instances("instance of X { A = $B; };").is_err());
    assert!(parse_instances("").unwrap().is_empty());
}

fn error(text: &str) -> MofError {
    Repository::compile(&[("base.mof", BASE), ("test.mof", text)]).unwrap_err()
}

#[test]
fn errors_say_what_and_where() {
    let error = error("class X\n{\n    uint8 A = 256;\n};");
    assert_eq!(
        error.to_string(),
        "test.mof:3:15: A: 256 is out of range for uint8"
    );
}

#[test]
fn mistakes_in_classes_are_found() {
    use MofErrorKind as K;
    type Check = fn(&K) -> bool;
    let cases: [(&str, Check); 24] = [
        ("class X : Nothing { };", |k| {
            matches!(k, K::UnknownSuperclass { .. })
        }),
        (
            "class X : Y { }; class Y : Z { };",
            |k| matches!(k, K::UnknownSuperclass { superclass, .. } if superclass.is("Z")),
        ),
        ("class X : Y { }; class Y : X { };", |k| {
            matches!(k, K::Cycle(_))
        }),
        ("class X : X { };", |k| matches!(k, K::Cycle(_))),
        ("class cim_BASE { };", |k| matches!(k, K::DuplicateClass(_))),
        ("class X { string A; uint8 a; };", |k| {
            matches!(k, K::DuplicateMember(_))
        }),
        ("class X { uint32 A(string B, string b); };", |k| {
            matches!(k, K::DuplicateMember(_))
        }),
        ("class X : CIM_Base { uint32 Count; };", |k| {
            matches!(k, K::OverrideType { .. })
        }),
        ("class X : CIM_Base { uint16 Count[]; };", |k| {
            matches!(k, K::OverrideType { .. })
        }),
        ("class X : CIM_Base { uint8 Start(); };", |k| {
            matches!(k, K::OverrideType { .. })
        }),
        (
            "class X : CIM_Base { [Override(\"Other\")] uint16 Count; };",
            |k| matches!(k, K::NothingToOverride { .. }),
        ),
        (
            "class X : CIM_Base { [Override(\"New\")] uint16 New; };",
            |k| matches!(k, K::NothingToOverride { .. }),
        ),
        ("class X { [Override(\"New\")] uint16 New; };", |k| {
            matches!(k, K::NothingToOverride { .. })
        }),
        ("class X : CIM_Base { [Key] uint16 Other; };", |k| {
            matches!(k, K::ExtraKey { .. })
        }),
        ("class X : CIM_Base { [Key] uint16 Count; };", |k| {
            matches!(k, K::ExtraKey { .. })
        }),
        ("class X : CIM_Base { [Key(false)] string Name; };", |k| {
            matches!(k, K::FixedQualifier { .. })
        }),
        ("class X { [Kee] string Name; };", |k| {
            matches!(k, K::UnknownQualifier(_))
        }),
        ("[Key] class X { };", |k| {
            matches!(k, K::QualifierScope { .. })
        }),
        ("class X { [Key, key] string Name; };", |k| {
            matches!(k, K::DuplicateQualifier(_))
        }),
        ("class X { [MaxLen(\"5\")] string Name; };", |k| {
            matches!(k, K::Value(_))
        }),
        ("class X { uint8 A = \"5\"; };", |k| {
            matches!(k, K::Value(_))
        }),
        ("class X { datetime A = \"today\"; };", |k| {
            matches!(k, K::Value(_))
        }),
        ("instance of Nothing { };", |k| {
            matches!(k, K::UnknownClass(_))
        }),
        ("class X { string A; }; instance of X { B = 1; };", |k| {
            matches!(k, K::Instance(_))
        }),
    ];
    for (text, check) in cases {
        let error = error(text);
        assert!(check(&error.kind), "{text}: {error}");
        assert_eq!(error.file, "test.mof", "{text}");
    }
    let wide = "[Association] class L { [Key] A REF X; }; [Association] class M : L { B REF X; }; \
                class A { }; class B { };";
    assert!(matches!(
        *error(wide).kind,
        MofErrorKind::OverrideType { .. }
    ));
}

#[test]
fn mistakes_in_the_text_are_found() {
    for text in [
        "class",
        "class X",
        "class X {",
        "class X { }",
        "class X { string }; ",
        "class X { string A };",
        "class X { string A[; };",
        "class X { string A[0]; };",
        "class X { string A = ; };",
        "class X { string A = \"x; };",
        "class X { uint8 A = 1x; };",
        "class X { REF A; };",
        "class X { reference A; };",
        "class X { void A(); };",
        "class X { string A()[]; };",
        "class X { string[] A; };",
        "[Key class X { };",
        "[] class X { };",
        "/* class X { };",
        "#pragma include(\"other.mof\")",
        "#pragma namespace(\"root/other\")",
        "#define X",
        "Qualifier X : boolean",
        "Qualifier X : nothing;",
        "instance of X",
        "instance of X { A = 1; a = 2; };",
        "class X { char16 C = 'ab'; };",
        "?",
        "class X { string A = $; };",
        "instance X { };",
    ] {
        let result = Repository::compile(&[("base.mof", BASE), ("test.mof", text)]);
        assert!(result.is_err(), "{text}");
    }
    let nested = format!("{}1{}", "instance of X { A = ".repeat(40), "; }".repeat(40));
    let error = parse_instances(&format!("{nested};")).unwrap_err();
    assert_eq!(*error.kind, MofErrorKind::TooDeep);
    let column = parse("f", "class X\n{\n  string é = ü;\n};").unwrap_err();
    assert_eq!((column.line, column.column), (3, 14));
}

#[test]
fn characters_may_be_half_of_a_surrogate_pair() {
    let text =
        r"class X { char16 A = '\xD800'; char16 B = '\x41'; char16 C = '\''; char16 D = 66; };";
    let repository = Repository::compile(&[("x", text)]).unwrap();
    let defaults: Vec<&Value> = class(&repository, "X")
        .properties
        .iter()
        .map(|it| &it.default)
        .collect();
    assert_eq!(
        defaults,
        [0xd800, 0x41, 0x27, 66]
            .map(Value::Char16)
            .iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn associations_may_add_key_references() {
    let text = "[Association] class More : Link { [Key] CIM_Base REF Third; };";
    let files = [("b", BASE), ("d", DERIVED), ("t", text)];
    let repository = Repository::compile(&files).unwrap();
    assert_eq!(class(&repository, "More").keys().count(), 3);
}

#[test]
fn a_schema_of_hundreds_of_classes_compiles_at_once() {
    let mut text = String::new();
    for class in 0..200 {
        let superclass = match class % 8 {
            0 => String::new(),
            _ => format!(" : C{}", class - 1),
        };
        text.push_str(&format!("class C{class}{superclass}\n{{\n"));
        for property in 0..5 {
            text.push_str(&format!(
                "[Description(\"what it is\"), ValueMap{{\"1\", \"2\", \"3\"}}, Values{{\"a\", \"b\", \"c\"}}]\n\
                 uint16 P{class}_{property};\n"
            ));
        }
        text.push_str("};\n");
    }
    let started = std::time::Instant::now();
    let repository = Repository::compile(&[("large.mof", &text)]).unwrap();
    let members: usize = repository.classes().map(|it| it.properties.len()).sum();
    assert_eq!(members, 4500);
    // About 10 ms; the bound only catches what grows with the square.
    assert!(
        started.elapsed().as_millis() < 2000,
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn embedded_text_is_bounded_and_read_in_linear_time() {
    let mut text = String::from("instance of X {");
    for property in 0..80_000 {
        text.push_str(&format!("A{property}=1;"));
    }
    text.push('}');
    let started = std::time::Instant::now();
    assert_eq!(parse_instances(&text).unwrap()[0].properties.len(), 80_000);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    let long = " ".repeat(2 * 1024 * 1024);
    assert!(matches!(
        *parse_instances(&long).unwrap_err().kind,
        MofErrorKind::TooLong(_)
    ));
}

#[test]
fn a_file_may_declare_its_own_qualifiers() {
    let text = r#"
Qualifier Colour : string[] = {"red"}, Scope(class, property), Flavor(DisableOverride, Translatable);
[Colour{"blue"} : ToInstance EnableOverride] class X { [Colour] string A; };
"#;
    let repository = Repository::compile(&[("x", text)]).unwrap();
    let colour = repository.qualifier("colour").unwrap();
    assert_eq!(colour.default, Value::from(vec!["red"]));
    assert!(!colour.overridable && colour.to_subclass && colour.translatable);
    let used = class(&repository, "X").qualifier("Colour").unwrap();
    assert!(used.overridable && used.translatable);
    assert_eq!(used.value, Value::from(vec!["blue"]));
}

#[test]
fn printed_classes_read_back() {
    let repository = repository();
    let own: String = repository
        .classes()
        .map(|class| print_class(class, Members::Own))
        .collect();
    let again = Repository::compile(&[("printed", &own)]).unwrap_or_else(|e| panic!("{e}\n{own}"));
    for class in repository.classes() {
        assert_eq!(again.class(&class.name), Some(class), "{own}");
        let all = print_class(class, Members::All);
        let parsed = parse("printed", &all).unwrap_or_else(|e| panic!("{e}\n{all}"));
        let [Declaration::Class(parsed)] = parsed.as_slice() else {
            panic!("{parsed:?}");
        };
        assert_eq!(parsed.properties.len(), class.properties.len());
        assert_eq!(parsed.methods.len(), class.methods.len());
    }
}

#[test]
fn printed_qualifiers_read_back() {
    let repository = Repository::compile(&[]).unwrap();
    assert!(repository.qualifiers().len() > 60);
    for decl in repository.qualifiers() {
        let text = print_qualifier(decl);
        let parsed = parse("printed", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(parsed, [Declaration::Qualifier(decl.clone())]);
    }
}

fn scalar(kind: CimType) -> BoxedStrategy<Value> {
    match kind {
        CimType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        CimType::Char16 => any::<u16>().prop_map(Value::Char16).boxed(),
        CimType::Uint8 => any::<u8>().prop_map(Value::from).boxed(),
        CimType::Sint16 => any::<i16>().prop_map(Value::from).boxed(),
        CimType::Uint64 => any::<u64>().prop_map(Value::from).boxed(),
        CimType::Sint64 => any::<i64>().prop_map(Value::from).boxed(),
        CimType::Real32 => any::<f32>().prop_map(Value::from).boxed(),
        CimType::Real64 => any::<f64>().prop_map(Value::from).boxed(),
        CimType::DateTime => (0i64..4_000_000_000_000_000, -700i16..700)
            .prop_map(|(unix_micros, offset_minutes)| {
                Value::DateTime(DateTime::Timestamp {
                    unix_micros,
                    offset_minutes,
                })
            })
            .boxed(),
        CimType::Reference => ".{0,10}"
            .prop_map(|key| Value::from(ObjectPath::of_instance("X", [("K", key)])))
            .boxed(),
        _ => prop_oneof![".{0,30}", r#"[ab \\"'x0-9\n\t]{0,200}"#]
            .prop_map(Value::from)
            .boxed(),
    }
}

const KINDS: [CimType; 11] = [
    CimType::Boolean,
    CimType::String,
    CimType::Char16,
    CimType::Uint8,
    CimType::Sint16,
    CimType::Uint64,
    CimType::Sint64,
    CimType::Real32,
    CimType::Real64,
    CimType::DateTime,
    CimType::Reference,
];

fn typed_value() -> impl Strategy<Value = (Type, Value)> {
    (0..KINDS.len(), any::<bool>()).prop_flat_map(|(kind, array)| {
        let kind = KINDS[kind];
        let value = if array {
            let item = prop_oneof![4 => scalar(kind), 1 => Just(Value::Null)];
            proptest::collection::vec(item, 0..4)
                .prop_map(Value::Array)
                .boxed()
        } else {
            prop_oneof![4 => scalar(kind), 1 => Just(Value::Null)].boxed()
        };
        (Just(Type { kind, array }), value)
    })
}

fn any_class() -> impl Strategy<Value = Class> {
    proptest::collection::vec((typed_value(), ".{0,90}"), 1..6).prop_map(|members| {
        let repository = Repository::compile(&[]).unwrap();
        let described = repository.qualifier("Description").unwrap().clone();
        let mut class = Class::new("C");
        for (position, ((ty, default), text)) in members.into_iter().enumerate() {
            let mut property = cim::PropertyDecl::new(format!("P{position}"), ty, "C");
            property.default = default;
            property.qualifiers.push(cim::Qualifier {
                name: described.name.clone(),
                ty: described.ty,
                value: Value::from(text),
                overridable: position % 2 == 0,
                to_subclass: position % 3 == 0,
                translatable: true,
            });
            class.properties.push(property);
        }
        class
    })
}

/// Equal, with NaN equal to itself.
fn same(a: &Value, b: &Value) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #[test]
    fn any_class_reads_back(class in any_class()) {
        let text = print_class(&class, Members::Own);
        let repository = Repository::compile(&[("printed", &text)])
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let again = repository.class(&class.name).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{class:?}"), "{}", text);
    }

    #[test]
    fn any_instance_reads_back(class in any_class()) {
        let mut instance = Instance::of_class(&class);
        instance.properties.push(Property {
            name: "Inner".into(),
            ty: Type::scalar(CimType::Object),
            value: Value::from(Instance::of_class(&class)),
            origin: None,
        });
        let text = print_instance(&instance);
        let parsed = parse_instances(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut outer = class.clone();
        outer.properties.push(cim::PropertyDecl::new("Inner", Type::scalar(CimType::Object), "C"));
        let again = parsed[0].conform_to(&outer).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for property in &class.properties {
            let name = property.name.as_str();
            prop_assert!(same(again.value(name), instance.value(name)), "{}", text);
        }
        let inner = again.value("Inner").as_instance().unwrap().conform_to(&class).unwrap();
        for property in &class.properties {
            let name = property.name.as_str();
            prop_assert!(same(inner.value(name), instance.value(name)), "{}", text);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(
        text in ".{0,80}",
        words in proptest::collection::vec(
            prop_oneof![
                "class |instance of |X |\\{|\\}|;|\\[|\\]|\\(|\\)|=|:|,|uint8 |string |REF |Key|Override|qualifier ",
                "\"[a\\\\\"]{0,3}\"|'.'|[-+.0-9xbe]{1,4}|\\$A|as |#pragma |NULL|true",
            ],
            0..30,
        ),
    ) {
        for text in [text, words.concat()] {
            let _ = parse("fuzz", &text);
            let _ = parse_instances(&text);
            let _ = Repository::compile(&[("fuzz", &text)]);
        }
    }
}
