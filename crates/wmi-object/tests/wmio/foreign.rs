//! What impacket and aiowmi read from our bytes, and what we read from impacket's.
//!
//! Both are lenient and each has its own mistakes; where a value is one that they are known to show
//! wrongly, the comparison says so.

use crate::arbitrary::{Sample, Wanted, sample};
use crate::bytes::{from_hex, to_hex};
use cim::{CimType, Class, Instance, MethodDecl, Name, ParameterDecl, PropertyDecl, Type, Value};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};
use std::io::Write;
use std::process::{Command, Stdio};
use wmi_object::packet::{Packet, Sent};
use wmi_object::{
    ClassLayout, Decoration, Limits, Lineage, block, decode, encode_class, encode_instance,
    encoding_unit, objref,
};

const SAMPLES: usize = 48;

/// What the script answers to `cases`; `None` (said aloud) without a Python that has the clients.
fn read_by_python(cases: &[Json]) -> Option<Vec<Json>> {
    let Some(python) = std::env::var_os("ROOTVIRT_TEST_PYTHON") else {
        println!("skipped: ROOTVIRT_TEST_PYTHON names no Python with impacket and aiowmi");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wmio/read_objects.py");
    let mut child = Command::new(python)
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "the script failed: see above");
    writer
        .join()
        .expect("no panic")
        .expect("everything was read");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let answers: Vec<Json> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(answers.len(), cases.len());
    Some(answers)
}

fn case(sample: &Sample) -> Json {
    let decoration = Decoration {
        server: "LINUXHV".to_owned(),
        namespace: "ROOT\\virtualization".to_owned(),
    };
    let layout = ClassLayout::new(&sample.lineage()).expect("encodes");
    let class = encode_class(&sample.lineage(), Some(&decoration)).expect("encodes");
    let instance = encode_instance(&layout, &sample.instance, Some(&decoration), sample);
    let mut sent = Sent::default();
    let mut packet = || {
        let mut packet = Packet::new();
        packet
            .instance(
                &layout,
                &sample.instance,
                Some(&decoration),
                sample,
                &mut sent,
            )
            .expect("encodes");
        to_hex(&packet.finish())
    };
    json!({
        "class": to_hex(&encoding_unit(&class)),
        "instance": to_hex(&encoding_unit(&instance.expect("encodes"))),
        "full": packet(),
        "classless": packet(),
    })
}

fn type_number(decl: &PropertyDecl) -> u64 {
    let base = match decl.ty.kind {
        CimType::Sint16 => 2,
        CimType::Sint32 => 3,
        CimType::Real32 => 4,
        CimType::Real64 => 5,
        CimType::String => 8,
        CimType::Boolean => 11,
        CimType::Object => 13,
        CimType::Sint8 => 16,
        CimType::Uint8 => 17,
        CimType::Uint16 => 18,
        CimType::Uint32 => 19,
        CimType::Sint64 => 20,
        CimType::Uint64 => 21,
        CimType::DateTime => 101,
        CimType::Reference => 102,
        CimType::Char16 => 103,
    };
    base + if decl.ty.array { 0x2000 } else { 0 } + if decl.propagated { 0x4000 } else { 0 }
}

/// A value the way a reader shows it.
fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::String(text) => json!(text),
        Value::Char16(n) => json!(n),
        Value::Uint8(n) => json!(n),
        Value::Sint8(n) => json!(n),
        Value::Uint16(n) => json!(n),
        Value::Sint16(n) => json!(n),
        Value::Uint32(n) => json!(n),
        Value::Sint32(n) => json!(n),
        Value::Uint64(n) => json!(n),
        Value::Sint64(n) => json!(n),
        Value::Real32(n) => json!(f64::from(*n)),
        Value::Real64(n) => json!(n),
        Value::DateTime(time) => json!(time.to_string()),
        Value::Reference(path) => json!(path.to_string()),
        Value::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| match item {
                    // Both show the number on the wire here.
                    Value::Boolean(value) => json!(if *value { 0xffff } else { 0 }),
                    other => plain(other),
                })
                .collect(),
        ),
        Value::Instance(_) | Value::Class(_) => unreachable!("not in plain samples"),
    }
}

/// impacket takes 0xffffffff for "no value", and spells booleans out.
fn as_impacket_shows(value: &Value) -> Json {
    match value {
        Value::Uint32(u32::MAX) => Json::Null,
        Value::Boolean(true) => json!("True"),
        Value::Boolean(false) => json!("False"),
        other => plain(other),
    }
}

/// aiowmi shows the type's zero for NULL, takes 0xffffffff for it, and parses datetimes.
fn as_aiowmi_shows(ty: Type, value: &Value) -> Json {
    match value {
        Value::Null if ty.array => json!([]),
        Value::Null => match ty.kind {
            CimType::Boolean => json!(false),
            CimType::String | CimType::DateTime | CimType::Reference => json!(""),
            _ => json!(0),
        },
        Value::Uint32(u32::MAX) => json!(0),
        Value::Uint64(n) if *n == u64::from(u32::MAX) => json!(0),
        Value::DateTime(time) => match time.duration() {
            Some(length) => json!({"interval": length.as_micros() as u64}),
            None => json!({"time": time.unix_micros()}),
        },
        other => plain(other),
    }
}

fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

fn beyond_latin_1(value: &Value) -> bool {
    match value {
        Value::String(text) => text.chars().any(|c| u8::try_from(c).is_err()),
        Value::Array(items) => items.iter().any(beyond_latin_1),
        _ => false,
    }
}

/// aiowmi looks for the end of UTF-16 text at the start of the heap, and takes inherited arrays of
/// strings for numbers.
fn aiowmi_cannot_read(decl: &PropertyDecl, value: &Value) -> bool {
    let inherited_strings = decl.propagated && decl.ty == Type::array(CimType::String);
    inherited_strings && !value.is_null() || beyond_latin_1(value)
}

fn check_members(
    who: &str,
    read: &Json,
    sample: &Sample,
    show: &dyn Fn(&PropertyDecl, &Value) -> Option<Json>,
) {
    let members = read["properties"].as_array().expect("a list");
    let decls = &sample.classes[0].properties;
    assert_eq!(members.len(), decls.len(), "{who}");
    let expected = decls.iter().zip(&sample.instance.properties).enumerate();
    for (member, (order, (decl, property))) in members.iter().zip(expected) {
        let place = format!("{who}: {} in {read:#} of {sample:#?}", decl.name);
        assert_eq!(member["name"], json!(decl.name.as_str()), "{place}");
        assert_eq!(member["order"], json!(order), "{place}");
        assert_eq!(member["type"], json!(type_number(decl)), "{place}");
        if let Some(value) = show(decl, &property.value) {
            assert!(same(&member["value"], &value), "{place}: not {value}");
        }
        let qualifiers = member["qualifiers"].as_object().expect("an object");
        assert_eq!(qualifiers.len(), decl.qualifiers.len() + 1, "{place}");
        for qualifier in &decl.qualifiers {
            let shown = &qualifiers[qualifier.name.as_str()];
            let value = match &qualifier.value {
                Value::Boolean(_) if who.starts_with("impacket") => {
                    as_impacket_shows(&qualifier.value)
                }
                value if who.starts_with("aiowmi") && beyond_latin_1(value) => continue,
                value => plain(value),
            };
            assert!(same(shown, &value), "{place}: qualifier {}", qualifier.name);
        }
        let kind = decl.class_ref.as_ref().map_or_else(
            || decl.ty.kind.name().to_owned(),
            |class| format!("ref:{class}"),
        );
        assert_eq!(qualifiers["CIMTYPE"], json!(kind), "{place}");
    }
}

fn check_class(read: &Json, class: &Class) {
    let name = read["name"].as_str().expect("a name");
    assert_eq!(name.split(' ').next(), Some(class.name.as_str()));
    let methods = read["methods"].as_array().expect("a list");
    assert_eq!(methods.len(), class.methods.len());
    for (read, method) in methods.iter().zip(&class.methods) {
        let names = |decls: Vec<&ParameterDecl>| -> Vec<String> {
            decls.iter().map(|it| it.name.to_string()).collect()
        };
        assert_eq!(read["name"], json!(method.name.as_str()));
        assert_eq!(read["in"], json!(names(method.inputs().collect())));
        let mut out = names(method.outputs().collect());
        out.push("ReturnValue".to_owned());
        assert_eq!(read["out"], json!(out));
    }
}

#[test]
fn others_read_what_we_write() {
    let mut runner = TestRunner::deterministic();
    let samples: Vec<Sample> = (0..SAMPLES)
        .map(|_| {
            let tree = sample(Wanted { plain: true }).new_tree(&mut runner);
            tree.expect("a sample").current()
        })
        .collect();
    let cases: Vec<Json> = samples.iter().map(case).collect();
    let Some(answers) = read_by_python(&cases) else {
        return;
    };
    for (sample, read) in samples.iter().zip(&answers) {
        check_class(&read["impacket_class"], &sample.classes[0]);
        check_members(
            "impacket class",
            &read["impacket_class"],
            sample,
            &|_, _| Some(Json::Null),
        );
        check_members(
            "impacket instance",
            &read["impacket_instance"],
            sample,
            &|_, value| Some(as_impacket_shows(value)),
        );
        for who in ["aiowmi", "aiowmi_full", "aiowmi_classless"] {
            check_members(who, &read[who], sample, &|decl, value| {
                (!aiowmi_cannot_read(decl, value)).then(|| as_aiowmi_shows(decl.ty, value))
            });
        }
    }
}

/// A class whose method `Call` takes one value of each kind that impacket can send.
fn callable() -> (Class, Vec<(Type, Value, Json)>) {
    let scalar = Type::scalar;
    let arguments = vec![
        (
            scalar(CimType::String),
            Value::from("Größe €"),
            json!("Größe €"),
        ),
        (
            scalar(CimType::Reference),
            Value::Reference(Box::new("CIM_X.Name=\"a\\\\b\"".parse().expect("a path"))),
            json!("CIM_X.Name=\"a\\\\b\""),
        ),
        (scalar(CimType::Uint16), Value::Uint16(65535), json!(65535)),
        (scalar(CimType::Sint64), Value::Sint64(-5), json!(-5)),
        (scalar(CimType::Boolean), Value::Boolean(true), json!(true)),
        (
            Type::array(CimType::String),
            Value::from(vec!["<INSTANCE/>", "b"]),
            json!(["<INSTANCE/>", "b"]),
        ),
        (
            // Of narrower numbers impacket writes four bytes each.
            Type::array(CimType::Uint32),
            Value::from(vec![1_u32, 255]),
            json!([1, 255]),
        ),
        (Type::array(CimType::String), Value::Null, Json::Null),
        (scalar(CimType::Object), Value::Null, Json::Null),
        (
            scalar(CimType::DateTime),
            Value::DateTime("00000001000000.000000:000".parse().expect("an interval")),
            json!("00000001000000.000000:000"),
        ),
    ];
    let inputs = arguments
        .iter()
        .enumerate()
        .map(|(at, (ty, _, _))| ParameterDecl {
            name: Name::from(format!("Z{}", 9 - at)),
            ty: *ty,
            class_ref: None,
            array_size: None,
            qualifiers: Vec::new(),
        });
    let mut class = Class::new("Demo");
    class.methods.push(MethodDecl {
        name: Name::new("Call"),
        return_type: scalar(CimType::Uint32),
        parameters: inputs.collect(),
        qualifiers: Vec::new(),
        origin: Name::new("Demo"),
        propagated: false,
    });
    (class, arguments)
}

#[test]
fn we_read_what_impacket_sends() {
    let (class, arguments) = callable();
    let block = encode_class(
        &Lineage::root(&class),
        Some(&Decoration {
            server: "S".to_owned(),
            namespace: "ROOT".to_owned(),
        }),
    );
    let given: Vec<&Json> = arguments.iter().map(|(_, _, json)| json).collect();
    let case = json!({"call": to_hex(&objref(&block.expect("encodes"))), "arguments": given});
    let Some(answers) = read_by_python(&[case]) else {
        return;
    };
    let sent = from_hex(answers[0]["sent"].as_str().expect("hexadecimal digits"));
    let unit = block::unit_of_objref(&sent).expect("a reference by value");
    let read = decode(unit, Limits::REQUEST).expect("decodes");
    let instance: Instance = read.into_instance().expect("an instance");
    assert_eq!(instance.class, "__PARAMETERS");
    let expected = arguments.iter().enumerate();
    for (at, (_, value, _)) in expected {
        let name = format!("Z{}", 9 - at);
        assert_eq!(instance.value(&name), value, "{name}");
    }
}
