//! What we encode decodes to the same.

use crate::arbitrary::{Sample, Wanted, sample};
use cim::{CimType, Class, Instance, Name, PropertyDecl, Type, Value};
use proptest::prelude::*;
use wmi_object::{
    ClassLayout, Decoration, EncodeError, Limits, Lineage, NoClasses, Object, block, decode,
    decode_block, encode_class, encode_instance, encode_prototype, encoding_unit, objref,
};

fn decoration() -> Decoration {
    Decoration {
        server: "LINUXHV".to_owned(),
        namespace: "ROOT\\virtualization".to_owned(),
    }
}

fn instance_of(sample: &Sample) -> Vec<u8> {
    let layout = ClassLayout::new(&sample.lineage()).expect("the class encodes");
    encode_instance(&layout, &sample.instance, Some(&decoration()), sample)
        .expect("the instance encodes")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn classes(sample in sample(Wanted { plain: false })) {
        let block = encode_class(&sample.lineage(), Some(&decoration())).expect("encodes");
        let read = decode(&encoding_unit(&block), Limits::REQUEST).expect("decodes");
        prop_assert_eq!(read.decoration, Some(decoration()));
        let Object::Class { class, ancestors } = read.object else {
            panic!("it is a class");
        };
        prop_assert_eq!(&class, &sample.classes[0]);
        let above: Vec<Name> = sample.classes[1..].iter().map(|it| it.name.clone()).collect();
        prop_assert_eq!(ancestors, above);
    }

    #[test]
    fn instances(sample in sample(Wanted { plain: false })) {
        let read = decode_block(&instance_of(&sample), Limits::REQUEST).expect("decodes");
        let Object::Instance(decoded) = read.object else {
            panic!("it is an instance");
        };
        prop_assert!(decoded.given.iter().all(|given| *given));
        prop_assert_eq!(decoded.instance, sample.instance);
    }

    #[test]
    fn selected_properties(sample in sample(Wanted { plain: false }), take in any::<u32>()) {
        let chosen = |at: usize| take >> (at % 32) & 1 == 1;
        let names: Vec<String> = (0..).zip(&sample.classes[0].properties)
            .filter(|(at, _)| chosen(*at)).map(|(_, it)| it.name.to_string()).collect();
        let layout = ClassLayout::projected(&sample.lineage(), &names).expect("encodes");
        let block = encode_instance(&layout, &sample.instance, None, &sample).expect("encodes");
        let read = decode_block(&block, Limits::REQUEST).expect("decodes");
        let mut expected = sample.instance.clone();
        expected.retain_properties(&names);
        prop_assert_eq!(read.into_instance(), Some(expected));
    }

    #[test]
    fn no_byte_less_can_be_read(sample in sample(Wanted { plain: false }), cut in any::<prop::sample::Index>()) {
        let block = instance_of(&sample);
        let shorter = &block[..cut.index(block.len())];
        prop_assert!(decode_block(shorter, Limits::REQUEST).is_err());
    }
}

fn class_with(ty: Type) -> Class {
    let mut class = Class::new("Demo");
    class.properties.push(PropertyDecl::new("P", ty, "Demo"));
    class
}

fn encoded(class: &Class, value: Value) -> Result<Vec<u8>, EncodeError> {
    let layout = ClassLayout::new(&Lineage::root(class))?;
    let mut instance = Instance::of_class(class);
    instance.properties[0].value = value;
    encode_instance(&layout, &instance, None, &NoClasses)
}

#[test]
fn what_has_no_form_is_refused_by_name() {
    let strings = class_with(Type::array(CimType::String));
    let error = encoded(&strings, Value::Array(vec![Value::Null])).expect_err("NULL item");
    assert!(matches!(error, EncodeError::NullItem { .. }), "{error}");
    let text = class_with(Type::scalar(CimType::String));
    let error = encoded(&text, Value::from("a\0b")).expect_err("U+0000");
    assert!(matches!(error, EncodeError::Nul { .. }), "{error}");
    let error = encoded(&text, Value::Uint8(1)).expect_err("a number");
    assert!(matches!(error, EncodeError::Type { .. }), "{error}");
    assert!(error.to_string().starts_with("Demo.P:"), "{error}");
    let object = class_with(Type::scalar(CimType::Object));
    let inner = Instance::of_class(&text);
    let error = encoded(&object, Value::from(inner)).expect_err("unknown class");
    assert!(matches!(error, EncodeError::UnknownClass { .. }), "{error}");
}

#[test]
fn an_instance_in_a_string_is_its_text() {
    let text = class_with(Type::scalar(CimType::String));
    let mut inner = Instance::of_class(&text);
    inner.properties[0].value = Value::from("x");
    let block = encoded(&text, Value::from(inner.clone())).expect("encodes");
    let read = decode_block(&block, Limits::REQUEST).expect("decodes");
    let outer = read.into_instance().expect("an instance");
    let written = outer.str("P").expect("a string");
    let again = cim_xml::embedded::parse_instance(written).expect("an instance's text");
    assert_eq!(again.get("P"), inner.get("P"));
}

#[test]
fn a_prototype_says_when_keys_are_missing() {
    let mut class = class_with(Type::scalar(CimType::String));
    let mut key = PropertyDecl::new("K", Type::scalar(CimType::String), "Demo");
    key.qualifiers.push(cim::Qualifier {
        name: Name::new("Key"),
        ty: Type::scalar(CimType::Boolean),
        value: Value::Boolean(true),
        overridable: false,
        to_subclass: true,
        translatable: false,
    });
    class.properties.push(key);
    let lineage = Lineage::root(&class);
    let flags = |selected: &[&str]| {
        let block = encode_prototype(&lineage, selected, None).expect("encodes");
        let read = decode_block(&block, Limits::REQUEST).expect("decodes");
        let Object::Class { class, .. } = read.object else {
            panic!("it is a class");
        };
        assert_eq!(class.properties.len(), selected.len());
        block[0]
    };
    assert_eq!(flags(&["P", "K"]), 0x11);
    assert_eq!(flags(&["p"]), 0x51);
}

#[test]
fn a_reference_holds_the_unit() {
    let class = class_with(Type::scalar(CimType::Uint8));
    let block = encoded(&class, Value::Uint8(7)).expect("encodes");
    let reference = objref(&block);
    let unit = block::unit_of_objref(&reference).expect("our own reference");
    assert_eq!(unit, encoding_unit(&block));
    let read = decode(unit, Limits::REQUEST)
        .expect("decodes")
        .into_instance();
    assert_eq!(read.expect("an instance").get("P"), Some(&Value::Uint8(7)));
    assert_eq!(block::unit_of_objref(&reference[..40]), None);
    assert_eq!(block::unit_of_objref(b"MEOW"), None);
}
