//! What is written reads back as it was.

use cim::{
    CimType, Class, DateTime, Instance, KeyValue, Keys, MethodDecl, Name, Namespace, ObjectPath,
    ParameterDecl, Property, PropertyDecl, Qualifier, QualifierDecl, Type, Value,
};
use cim_xml::request::{
    Argument, IntrinsicCall, MethodCall, ParameterValue, Request, RequestMessage,
};
use cim_xml::response::{
    InstanceForm, IntrinsicResult, PathForm, Response, ResponseMessage, Returned,
};
use cim_xml::{Limits, embedded};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z][A-Za-z0-9_]{0,8}".prop_map(Name::from)
}

/// Any text of characters that XML can hold.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![
            Just('<'),
            Just('>'),
            Just('&'),
            Just('"'),
            Just('\''),
            Just('\\'),
            Just(']'),
            Just(' '),
            Just('\t'),
            Just('\n'),
            Just('\r'),
            Just('\u{85}'),
            Just('\u{2028}'),
            prop::char::range(' ', '\u{d7ff}'),
            prop::char::range('\u{10000}', '\u{10ffff}'),
        ],
        0..12,
    )
    .prop_map(|characters| characters.into_iter().collect())
}

fn scalar(kind: CimType) -> BoxedStrategy<Value> {
    match kind {
        CimType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        CimType::Char16 => (0x20_u16..0xd800).prop_map(Value::Char16).boxed(),
        CimType::Uint8 => any::<u8>().prop_map(Value::from).boxed(),
        CimType::Sint8 => any::<i8>().prop_map(Value::from).boxed(),
        CimType::Uint16 => any::<u16>().prop_map(Value::from).boxed(),
        CimType::Sint16 => any::<i16>().prop_map(Value::from).boxed(),
        CimType::Uint32 => any::<u32>().prop_map(Value::from).boxed(),
        CimType::Sint32 => any::<i32>().prop_map(Value::from).boxed(),
        CimType::Uint64 => any::<u64>().prop_map(Value::from).boxed(),
        CimType::Sint64 => any::<i64>().prop_map(Value::from).boxed(),
        CimType::Real32 => (-1e30_f32..1e30).prop_map(Value::from).boxed(),
        CimType::Real64 => (-1e300_f64..1e300).prop_map(Value::from).boxed(),
        CimType::DateTime => (0_i64..4_000_000_000_000_000)
            .prop_map(|micros| Value::from(DateTime::from_unix_micros(micros)))
            .boxed(),
        CimType::Reference => path().prop_map(Value::from).boxed(),
        _ => text().prop_map(Value::from).boxed(),
    }
}

fn kind() -> impl Strategy<Value = CimType> {
    prop::sample::select(vec![
        CimType::Boolean,
        CimType::String,
        CimType::Char16,
        CimType::Uint8,
        CimType::Sint8,
        CimType::Uint16,
        CimType::Sint16,
        CimType::Uint32,
        CimType::Sint32,
        CimType::Uint64,
        CimType::Sint64,
        CimType::Real32,
        CimType::Real64,
        CimType::DateTime,
    ])
}

/// A type and a value of it. References are left to their own strategy: CIM has no property that is
/// an array of them.
fn typed() -> impl Strategy<Value = (Type, Value)> {
    prop_oneof![
        4 => kind().prop_flat_map(|kind| scalar(kind).prop_map(move |v| (Type::scalar(kind), v))),
        2 => kind().prop_flat_map(|kind| {
            let item = prop_oneof![5 => scalar(kind), 1 => Just(Value::Null)];
            prop::collection::vec(item, 0..4)
                .prop_map(move |items| (Type::array(kind), Value::Array(items)))
        }),
        1 => (kind(), any::<bool>()).prop_map(|(kind, array)| (Type { kind, array }, Value::Null)),
        1 => path().prop_map(|p| (Type::scalar(CimType::Reference), Value::from(p))),
    ]
}

fn key() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        text().prop_map(KeyValue::String),
        any::<bool>().prop_map(KeyValue::Boolean),
        (i64::MIN..0).prop_map(KeyValue::Signed),
        any::<u64>().prop_map(KeyValue::Unsigned),
    ]
}

/// References carry no host, see the crate's paths.
fn path() -> impl Strategy<Value = ObjectPath> {
    let keys = prop_oneof![
        4 => prop::collection::btree_map(name(), key(), 1..4)
            .prop_map(Keys::named),
        1 => key().prop_map(Keys::Unnamed),
        1 => Just(Keys::Singleton),
        1 => Just(Keys::Class),
    ];
    let namespace = prop::option::of(Just(Namespace::new("root/a b/c")));
    let path = (name(), keys, namespace).prop_map(|(class, keys, namespace)| {
        let mut path = ObjectPath::new(class, keys);
        path.namespace = namespace;
        path
    });
    let plain = path.boxed();
    let nested = (plain.clone(), name(), plain.clone()).prop_map(|(mut outer, key, inner)| {
        if let Keys::Named(keys) = outer.keys {
            let more = [(key, KeyValue::Reference(Box::new(inner)))];
            let keys: std::collections::BTreeMap<_, _> = keys.into_iter().chain(more).collect();
            outer.keys = Keys::named(keys);
        }
        outer
    });
    prop_oneof![3 => plain, 1 => nested]
}

fn instance() -> impl Strategy<Value = Instance> {
    let property = |(name, (ty, value)): (Name, (Type, Value))| Property {
        name,
        ty,
        value,
        origin: None,
    };
    let leaf = (
        name(),
        prop::collection::vec((name(), typed()).prop_map(property), 0..6),
    )
        .prop_map(|(class, properties)| Instance {
            class,
            path: None,
            properties,
        });
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let one = inner
            .clone()
            .prop_map(|i| (Type::scalar(CimType::Object), Value::from(i)));
        let many = prop::collection::vec(inner, 1..3)
            .prop_map(|all| (Type::array(CimType::Object), Value::from(all)));
        let embedding = (name(), prop_oneof![one, many]).prop_map(property);
        (name(), prop::collection::vec(embedding, 1..3)).prop_map(|(class, properties)| Instance {
            class,
            path: None,
            properties,
        })
    })
}

fn response(returned: Returned) -> ResponseMessage {
    ResponseMessage {
        id: "7".to_owned(),
        batch: false,
        responses: vec![Response::Intrinsic {
            operation: "Op".to_owned(),
            outcome: Ok(IntrinsicResult {
                returned: Some(returned),
                parameters: vec![],
            }),
        }],
    }
}

fn again(message: &ResponseMessage) -> ResponseMessage {
    let text = message.encode();
    ResponseMessage::decode(text.as_bytes(), Limits::RESPONSE)
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

proptest! {
    #[test]
    fn embedded_instances(instance in instance()) {
        let text = embedded::write_instance(&instance);
        prop_assert_eq!(embedded::parse_instance(&text).unwrap(), instance);
    }

    #[test]
    fn instances_with_paths(all in prop::collection::vec((instance(), path()), 1..4)) {
        let instances: Vec<Instance> = all
            .into_iter()
            .filter(|(_, path)| !path.is_class())
            .map(|(mut instance, path)| {
                instance.path = Some(path.located("host:1", Namespace::new("root/x")));
                instance
            })
            .collect();
        prop_assume!(!instances.is_empty());
        for form in [InstanceForm::WithPath, InstanceForm::ObjectWithPath] {
            let message = response(Returned::Instances { form, instances: instances.clone(), class_origin: true });
            prop_assert_eq!(again(&message), message);
        }
        let paths: Vec<ObjectPath> = instances.iter().filter_map(|i| i.path.clone()).collect();
        for form in [PathForm::Instance, PathForm::Object] {
            let message = response(Returned::Paths { form, paths: paths.clone() });
            prop_assert_eq!(again(&message), message);
        }
    }

    #[test]
    fn method_calls(
        target in path(),
        arguments in prop::collection::vec((name(), typed()), 0..5),
    ) {
        let target = ObjectPath { namespace: Some(Namespace::new("root/x")), ..target };
        let arguments: Vec<Argument> = arguments
            .into_iter()
            // An argument's arrayness shows only in its value.
            .filter(|(_, (_, value))| !value.is_null())
            .map(|(name, (ty, value))| Argument { name, ty, value })
            .collect();
        let call = MethodCall { method: Name::from("M"), target, arguments };
        let message = RequestMessage::single("1", Request::Extrinsic(call));
        let text = message.encode();
        prop_assert_eq!(RequestMessage::decode(text.as_bytes(), Limits::REQUEST).unwrap(), message);
    }

    #[test]
    fn operations(
        texts in prop::collection::vec(text(), 0..4),
        path in path(),
        instance in instance(),
    ) {
        let relative = ObjectPath { namespace: None, ..path };
        let parameters = vec![
            (Name::from("A"), ParameterValue::Null),
            (Name::from("B"), ParameterValue::Text(texts.concat())),
            (Name::from("C"), ParameterValue::Texts(texts)),
            (Name::from("D"), ParameterValue::Path(relative)),
            (Name::from("E"), ParameterValue::Instance(Box::new(instance))),
        ];
        let call = IntrinsicCall { operation: "Op".into(), namespace: Namespace::new("a/b"), parameters };
        let message = RequestMessage::single("1", Request::Intrinsic(call));
        let text = message.encode();
        prop_assert_eq!(RequestMessage::decode(text.as_bytes(), Limits::REQUEST).unwrap(), message);
    }
}

fn qualifier(name: &str, value: Value) -> Qualifier {
    Qualifier {
        name: Name::from(name),
        ty: value.type_of().expect("typed"),
        value,
        overridable: false,
        to_subclass: true,
        translatable: true,
    }
}

#[test]
fn classes_and_qualifier_types() {
    let parameter = |name: &str, kind, array, class: Option<&str>| ParameterDecl {
        name: Name::from(name),
        ty: Type { kind, array },
        class_ref: class.map(Name::from),
        array_size: array.then_some(4),
        qualifiers: vec![qualifier("In", true.into())],
    };
    let mut size = PropertyDecl::new("Size", Type::array(CimType::Uint8), "CIM_Base");
    size.array_size = Some(3);
    size.default = vec![1_u8, 2].into();
    size.propagated = true;
    size.qualifiers = vec![qualifier("ValueMap", vec!["1", "<2>"].into())];
    let mut reference = PropertyDecl::new("Ref", Type::scalar(CimType::Reference), "C");
    reference.class_ref = Some(Name::from("D"));
    let mut inner = PropertyDecl::new("Inner", Type::scalar(CimType::String), "C");
    inner.class_ref = Some(Name::from("E"));
    inner.qualifiers = vec![qualifier("EmbeddedInstance", "E".into())];
    let object = PropertyDecl::new("Object", Type::scalar(CimType::Object), "C");
    let class = Class {
        name: Name::from("C"),
        superclass: Some(Name::from("CIM_Base")),
        qualifiers: vec![qualifier("Description", "a & b".into())],
        properties: vec![size, reference, inner, object],
        methods: vec![MethodDecl {
            name: Name::from("M"),
            return_type: Type::scalar(CimType::Uint32),
            parameters: vec![
                parameter("P1", CimType::Reference, false, Some("D")),
                parameter("P2", CimType::Reference, true, Some("D")),
                parameter("P3", CimType::DateTime, false, None),
                parameter("P4", CimType::String, true, None),
            ],
            qualifiers: vec![],
            origin: Name::from("CIM_Base"),
            propagated: true,
        }],
    };
    let message = response(Returned::Classes {
        classes: vec![class.clone(), class.clone()],
        class_origin: true,
    });
    assert_eq!(again(&message), message);
    let path = ObjectPath::of_class("C").located("h", Namespace::new("root/x"));
    let message = response(Returned::ClassesWithPath {
        classes: vec![(path, class)],
        class_origin: true,
    });
    assert_eq!(again(&message), message);
    let declaration = QualifierDecl {
        name: Name::from("Q"),
        ty: Type::array(CimType::String),
        default: Value::Null,
        scopes: vec![Name::from("class"), Name::from("parameter")],
        overridable: false,
        to_subclass: false,
        translatable: true,
    };
    let message = response(Returned::Qualifiers(vec![declaration]));
    assert_eq!(again(&message), message);
    let message = response(Returned::ClassNames(vec![Name::from("A"), Name::from("B")]));
    assert_eq!(again(&message), message);
}
