//! What `cim::value` promises.

use cim::{CimType, DateTime, ObjectPath, Type, Value};
use proptest::prelude::*;

fn as_type(text: &str, kind: CimType) -> Option<Value> {
    Value::parse_as(text, kind).ok()
}

#[test]
fn integers_in_every_notation() {
    for (text, expected) in [
        ("10", 10u16),
        (" 10 ", 10),
        ("+10", 10),
        ("0x0a", 10),
        ("0XA", 10),
        ("012", 10),
        ("1010b", 10),
        ("0", 0),
        ("08", 8),
        ("65535", 65535),
    ] {
        assert_eq!(
            as_type(text, CimType::Uint16),
            Some(Value::Uint16(expected)),
            "{text}"
        );
    }
    for text in [
        "",
        "-1",
        "65536",
        "1.5",
        "ten",
        "0x",
        "--1",
        "+-1",
        "0x-1",
        "1b2",
        "2b",
        "99999999999999999999999999999999999999999999",
    ] {
        assert_eq!(as_type(text, CimType::Uint16), None, "{text}");
    }
    assert_eq!(
        as_type("-9223372036854775808", CimType::Sint64),
        Some(Value::Sint64(i64::MIN))
    );
    let error = Value::parse_as("70000", CimType::Uint16).unwrap_err();
    assert_eq!(error.to_string(), "70000 is out of range for uint16");
}

#[test]
fn booleans_reals_and_the_rest() {
    assert_eq!(
        as_type("TRUE", CimType::Boolean),
        Some(Value::Boolean(true))
    );
    assert_eq!(
        as_type("False", CimType::Boolean),
        Some(Value::Boolean(false))
    );
    assert_eq!(as_type("yes", CimType::Boolean), None);
    assert_eq!(
        as_type("1.5e3", CimType::Real64),
        Some(Value::Real64(1500.0))
    );
    assert_eq!(
        as_type("-inf", CimType::Real32),
        Some(Value::Real32(f32::NEG_INFINITY))
    );
    assert!(
        as_type("NaN", CimType::Real64)
            .unwrap()
            .as_f64()
            .unwrap()
            .is_nan()
    );
    assert_eq!(as_type("infinity", CimType::Real64), None);
    assert_eq!(as_type("1e300", CimType::Real32), None);
    assert_eq!(as_type("é", CimType::Char16), Some(Value::Char16(0xe9)));
    assert_eq!(
        as_type(" keep ", CimType::String),
        Some(Value::from(" keep "))
    );
    assert!(matches!(
        as_type("00000000000000.000000:000", CimType::DateTime),
        Some(Value::DateTime(DateTime::Interval { micros: 0 }))
    ));
    assert!(as_type("X.K=1", CimType::Reference).is_some());
}

#[test]
fn clients_values_become_the_declared_type() {
    let scalar = |kind| Type::scalar(kind);
    let coerced = |value: Value, ty| value.coerce(ty).ok();
    assert_eq!(
        coerced("10".into(), scalar(CimType::Uint16)),
        Some(10u16.into())
    );
    assert_eq!(
        coerced("True".into(), scalar(CimType::Boolean)),
        Some(true.into())
    );
    assert_eq!(
        coerced(2i32.into(), scalar(CimType::Uint16)),
        Some(2u16.into())
    );
    assert_eq!(
        coerced((-1i16).into(), scalar(CimType::Boolean)),
        Some(true.into())
    );
    assert_eq!(coerced(70_000u32.into(), scalar(CimType::Uint16)), None);
    assert_eq!(
        coerced(512u64.into(), scalar(CimType::String)),
        Some("512".into())
    );
    assert_eq!(
        coerced(Value::Null, scalar(CimType::Uint16)),
        Some(Value::Null)
    );
    assert_eq!(
        coerced("a".into(), Type::array(CimType::String)),
        Some(Value::from(vec!["a"]))
    );
    assert_eq!(
        coerced(vec!["1", "2"].into(), Type::array(CimType::Uint32)),
        Some(Value::from(vec![1u32, 2]))
    );
    assert_eq!(coerced(vec!["1"].into(), scalar(CimType::String)), None);
    let path = ObjectPath::parse("X.K=\"v\"").unwrap();
    assert_eq!(
        coerced("X.K='v'".into(), scalar(CimType::Reference)),
        Some(path.clone().into())
    );
    assert_eq!(
        coerced(path.into(), scalar(CimType::String)),
        Some("X.K=\"v\"".into())
    );
}

#[test]
fn errors_name_the_property_and_both_types() {
    let error = Value::from(vec![1u8])
        .coerce(Type::scalar(CimType::DateTime))
        .unwrap_err()
        .at("CreationTime");
    assert_eq!(
        error.to_string(),
        "CreationTime: a value of type uint8[] cannot stand where datetime is declared"
    );
}

#[test]
fn options_and_vectors_convert() {
    assert_eq!(Value::from(None::<u16>), Value::Null);
    assert_eq!(Value::from(Some("x")), Value::String("x".into()));
    let array = Value::from(vec![Some(1u16), None]);
    assert!(array.matches_type(Type::array(CimType::Uint16)));
    assert!(!array.matches_type(Type::scalar(CimType::Uint16)));
    assert!(!array.matches_type(Type::array(CimType::Uint32)));
}

proptest! {
    #[test]
    fn text_of_a_scalar_reads_back(n in any::<i64>(), real in any::<f64>(), small in any::<f32>(), text in ".*") {
        for value in [Value::from(n), Value::from(real), Value::from(small), Value::from(text)] {
            let printed = value.to_text().unwrap();
            let again = Value::parse_as(&printed, value.type_of().unwrap().kind).unwrap();
            let nan = value.as_f64().is_some_and(f64::is_nan);
            prop_assert!(again == value || nan, "{}", printed);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,40}", numeric in "[-+0-9a-fxbeEINn.]{0,12}") {
        for kind in [
            CimType::Boolean, CimType::Char16, CimType::Uint8, CimType::Sint64, CimType::Uint64,
            CimType::Real32, CimType::Real64, CimType::DateTime, CimType::Reference, CimType::Object,
        ] {
            let _ = Value::parse_as(&text, kind);
            let _ = Value::parse_as(&numeric, kind);
        }
    }
}
