//! Input that no client sends: nothing panics, nothing grows beyond its limits.

use crate::bytes::from_hex;
use proptest::prelude::*;
use std::path::Path;
use wmi_object::{DecodeErrorKind, Limits, Object, decode, decode_block};

const INSTANCE: &str = include_str!("published/instance.hex");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn changed_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for text in [INSTANCE, include_str!("published/methods.hex")] {
            let mut unit = from_hex(text);
            for (at, byte) in &changes {
                let at = at.index(unit.len());
                unit[at] = *byte;
            }
            let _ = decode(&unit, Limits::REQUEST);
        }
    }
}

/// The committed corpus of the fuzz target: what it once found stays found.
#[test]
fn the_fuzzing_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/wmi_object");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let _ = decode(&bytes, Limits::REQUEST);
        let _ = decode_block(&bytes, Limits::REQUEST);
        count += 1;
    }
    assert!(count > 0, "the corpus is not empty");
}

#[test]
fn errors_say_what_is_wrong() {
    let unit = from_hex(INSTANCE);
    let kind = |unit: &[u8]| decode(unit, Limits::REQUEST).expect_err("broken").kind;
    assert_eq!(kind(&[]), DecodeErrorKind::Truncated);
    assert_eq!(kind(&unit[1..]), DecodeErrorKind::Signature);
    assert_eq!(kind(&unit[..unit.len() - 1]), DecodeErrorKind::Truncated);
    let mut flags = unit.clone();
    flags[8] = 3;
    assert_eq!(kind(&flags), DecodeErrorKind::Flags(3));
}

#[test]
fn one_place_referred_to_often_is_counted_often() {
    // Forty properties, all with the same array of 32 KiB: small on the wire, 1.3 MB of numbers.
    let block = many_references(40, 8192);
    let read = decode_block(&block, Limits::REQUEST).expect("within the budget");
    assert!(matches!(read.object, Object::Instance(_)));
    let error = decode_block(
        &block,
        Limits {
            budget: 2 << 20,
            ..Limits::REQUEST
        },
    )
    .expect_err("beyond the budget");
    assert!(matches!(error.kind, DecodeErrorKind::Limit(_)), "{error}");
}

/// An instance of `count` arrays that all stand at the same place.
fn many_references(count: usize, items: usize) -> Vec<u8> {
    use cim::{CimType, Class, Instance, PropertyDecl, Type, Value};
    let mut class = Class::new("Demo");
    for at in 0..count {
        let name = format!("P{at}");
        class.properties.push(PropertyDecl::new(
            name,
            Type::array(CimType::Uint32),
            "Demo",
        ));
    }
    let lineage = wmi_object::Lineage::root(&class);
    let layout = wmi_object::ClassLayout::new(&lineage).expect("encodes");
    let mut instance = Instance::of_class(&class);
    for property in &mut instance.properties {
        property.value = Value::Array(Vec::new());
    }
    instance.properties[count - 1].value = Value::from(vec![7_u32; items]);
    let mut block = wmi_object::encode_instance(&layout, &instance, None, &wmi_object::NoClasses)
        .expect("encodes");
    // The last slot of the value table refers to the long array: the others shall too. Each empty
    // array takes 4 bytes of the heap, after the class's name.
    let place = |at: usize| (6 + 4 * at as u32).to_le_bytes();
    let table: Vec<u8> = (0..count).flat_map(place).collect();
    let start = (0..block.len())
        .find(|at| block[*at..].starts_with(&table))
        .expect("the table");
    for at in 0..count {
        block[start + 4 * at..][..4].copy_from_slice(&place(count - 1));
    }
    block
}

/// A reference that is no path reaches the callee as text: other wires hand it on, too.
#[test]
fn a_reference_may_be_no_path() {
    use cim::{CimType, Class, Instance, PropertyDecl, Type, Value};
    let holder = |kind| {
        let mut class = Class::new("T");
        let decl = PropertyDecl::new("R", Type::scalar(kind), "T");
        class.properties.push(decl);
        class
    };
    let mut given = Instance::of_class(&holder(CimType::String));
    given.set("R", "what=\"ever").expect("declared");
    let layout = |class: &Class| {
        wmi_object::ClassLayout::new(&wmi_object::Lineage::root(class)).expect("encodes")
    };
    let encode = |class: &Class| {
        wmi_object::encode_instance(&layout(class), &given, None, &wmi_object::NoClasses)
    };
    let mut block = encode(&holder(CimType::String)).expect("encodes");
    // The property's type, where its number stands before its order.
    let code = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let at = block.windows(code.len()).position(|it| it == code);
    block[at.expect("the property")] = 102;
    let read = decode_block(&block, Limits::REQUEST).expect("reads");
    let read = read.into_instance().expect("an instance");
    assert_eq!(read.get("R"), Some(&Value::from("what=\"ever")));
}
