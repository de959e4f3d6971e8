//! The examples of MS-WMIO section 3: class `Base`, class `MyClass` derived from it, an instance of
//! `MyClass`, and a class with a method. They are decoded, compared with what the document says they
//! are, encoded by us and decoded again. Our bytes are not theirs: theirs leave gaps in the heaps.

use crate::bytes::from_hex;
use cim::{CimType, Class, Name, PropertyDecl, Qualifier, Type, Value};
use wmi_object::{
    ClassLayout, Decoration, Limits, Lineage, NoClasses, Object, decode, decode_block,
    encode_class, encode_instance, encoding_unit,
};

const CLASS: &str = include_str!("published/class.hex");
const INSTANCE: &str = include_str!("published/instance.hex");
const METHODS: &str = include_str!("published/methods.hex");

fn qualifier(name: &str, value: Value) -> Qualifier {
    Qualifier {
        name: Name::new(name),
        ty: value.type_of().expect("a value"),
        value,
        overridable: true,
        to_subclass: false,
        translatable: false,
    }
}

fn base() -> Class {
    let mut id = PropertyDecl::new("Id", Type::scalar(CimType::Sint32), "Base");
    id.qualifiers.push(Qualifier {
        overridable: false,
        to_subclass: true,
        ..qualifier("key", Value::Boolean(true))
    });
    let mut class = Class::new("Base");
    class.properties.push(id);
    class
}

/// `Base` with the three properties of the document's `MyClass`.
fn my_class() -> Class {
    let mut class = Class::new("MyClass");
    class.superclass = Some(Name::new("Base"));
    class
        .qualifiers
        .push(qualifier("Description", Value::from("MyClass Example")));
    class.properties = base().properties;
    class.properties[0].propagated = true;
    let own = [
        ("Data1", Type::scalar(CimType::String), Value::Null),
        (
            "Data2",
            Type::scalar(CimType::String),
            Value::from("defaultValue"),
        ),
        ("Array", Type::array(CimType::Uint32), Value::Null),
    ];
    for (name, ty, default) in own {
        let mut property = PropertyDecl::new(name, ty, "MyClass");
        property.default = default;
        class.properties.push(property);
    }
    class.properties[1].qualifiers = vec![
        qualifier("read", Value::Boolean(true)),
        qualifier("write", Value::Boolean(true)),
    ];
    class
}

fn decoration() -> Decoration {
    Decoration {
        server: "DPRAVAT-DEV".to_owned(),
        namespace: "ROOT".to_owned(),
    }
}

#[test]
fn a_derived_class() {
    let read = decode(&from_hex(CLASS), Limits::REQUEST).expect("the published bytes");
    assert_eq!(read.decoration, Some(decoration()));
    let Object::Class { class, ancestors } = &read.object else {
        panic!("it is a class");
    };
    assert_eq!(ancestors, &[Name::new("Base")]);
    let mut expected = my_class();
    // The document's text says array, the bytes of this example say one number.
    expected.properties[3].ty = class.properties[3].ty;
    assert_eq!(class, &expected);

    let (base, mine) = (base(), expected);
    let lineage = Lineage::new(&mine, [&base]);
    let block = encode_class(&lineage, Some(&decoration())).expect("encodes");
    let again = decode(&encoding_unit(&block), Limits::REQUEST).expect("our bytes");
    assert_eq!(again, read);
}

#[test]
fn a_root_class_takes_as_many_bytes_as_in_the_document() {
    let base = base();
    let block = encode_class(&Lineage::root(&base), Some(&decoration())).expect("encodes");
    let read = decode_block(&block, Limits::REQUEST).expect("our bytes");
    let Object::Class { class, .. } = read.object else {
        panic!("it is a class");
    };
    assert_eq!(class, base);
    // `Base` is the parent in the example: behind 28 bytes of unit, flags and decoration there, and
    // behind 20 of flags and decoration and 41 of its own empty parent here. Only the order of
    // things in the heap differs.
    let published = from_hex(CLASS);
    let (theirs, ours) = (&published[28..28 + 0x66], &block[61..61 + 0x66]);
    let header = 4 + 1 + 4 + 4 + 4 + 4 + 4;
    assert_eq!(ours[..header], theirs[..header]);
    assert_eq!(block.len(), 61 + 0x66 + 12);
}

#[test]
fn an_instance() {
    let read = decode(&from_hex(INSTANCE), Limits::REQUEST).expect("the published bytes");
    let Object::Instance(decoded) = &read.object else {
        panic!("it is an instance");
    };
    let instance = &decoded.instance;
    assert_eq!(instance.class, "MyClass");
    assert_eq!(instance.get("Id"), Some(&Value::Sint32(123)));
    assert_eq!(instance.get("Data1"), Some(&Value::from("StringField")));
    assert_eq!(instance.get("Data2"), Some(&Value::from("defaultValue")));
    assert_eq!(instance.get("Array"), Some(&Value::from(vec![1_u32, 2, 3])));
    assert_eq!(decoded.given, [true, true, false, true]);

    let (base, mine) = (base(), my_class());
    let layout = ClassLayout::new(&Lineage::new(&mine, [&base])).expect("encodes");
    let block = encode_instance(&layout, instance, Some(&decoration()), &NoClasses);
    let again = decode_block(&block.expect("encodes"), Limits::REQUEST).expect("our bytes");
    let Object::Instance(again_decoded) = again.object else {
        panic!("it is an instance");
    };
    assert_eq!(&again_decoded.instance, instance);
    assert_eq!(again.decoration, read.decoration);
}

#[test]
fn a_class_with_a_method() {
    let read = decode(&from_hex(METHODS), Limits::REQUEST).expect("the published bytes");
    let Object::Class { class, ancestors } = &read.object else {
        panic!("it is a class");
    };
    assert_eq!(class.name, "MyClass2");
    assert_eq!(ancestors, &[Name::new("MyClass"), Name::new("Base")]);
    let method = class.method("Restart").expect("its method");
    assert_eq!(method.origin, "MyClass2");
    assert_eq!(method.return_type, Type::scalar(CimType::Uint32));
    let names: Vec<&str> = method
        .parameters
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["ServiceName", "Status"]);
    assert!(method.parameters[0].is_in() && !method.parameters[0].is_out());
    assert!(method.parameters[1].is_out() && !method.parameters[1].is_in());
    let performance = method.qualifier("performance").expect("its qualifier");
    assert_eq!(performance.value, Value::from(vec!["fast", "sideffects"]));

    let mut middle = my_class();
    middle.properties[3].ty = Type::scalar(CimType::Uint32);
    let base = base();
    let lineage = Lineage::new(class, [&middle, &base]);
    let block = encode_class(&lineage, read.decoration.as_ref()).expect("encodes");
    let again = decode_block(&block, Limits::REQUEST).expect("our bytes");
    assert_eq!(again, read);
}
