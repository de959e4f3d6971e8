//! What `cim::instance` promises.

use cim::{CimType, Class, Instance, InstanceError, PropertyDecl, Qualifier, Type, Value};

fn disk() -> Class {
    let mut class = Class::new("Disk");
    let mut id = PropertyDecl::new("ID", Type::scalar(CimType::String), "Base");
    id.qualifiers.push(Qualifier {
        name: "Key".into(),
        ty: Type::scalar(CimType::Boolean),
        value: Value::Boolean(true),
        overridable: false,
        to_subclass: true,
        translatable: false,
    });
    let mut kind = PropertyDecl::new("Kind", Type::scalar(CimType::Uint16), "Disk");
    kind.default = Value::Uint16(3);
    let files = PropertyDecl::new("Files", Type::array(CimType::String), "Disk");
    class.properties = vec![id, kind, files];
    class
}

#[test]
fn a_built_instance_has_every_property_in_class_order() {
    let class = disk();
    let disk = Instance::builder(&class)
        .set("files", vec!["a", "b"])
        .set("ID", "x")
        .build_named()
        .unwrap();
    let names: Vec<&str> = disk.properties.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ID", "Kind", "Files"]);
    assert_eq!(disk.value("Kind"), &Value::Uint16(3));
    assert_eq!(disk.path.unwrap().to_string(), "Disk.ID=\"x\"");
}

#[test]
fn the_builder_tells_the_first_mistake() {
    let class = disk();
    let unknown = Instance::builder(&class).set("Nmae", 1u8).set("Kind", "x");
    assert_eq!(
        unknown.build().unwrap_err().to_string(),
        "class Disk has no property Nmae"
    );
    let wrong = Instance::builder(&class).set("Kind", 65_536u32).build();
    assert!(matches!(wrong, Err(InstanceError::Type(_))));
    let nameless = Instance::builder(&class).set("Kind", 1u8).build_named();
    assert!(matches!(
        nameless,
        Err(InstanceError::KeyWithoutValue { .. })
    ));
    let empty = Class::new("Empty");
    assert!(Instance::builder(&empty).set("A", 1u8).build().is_err());
}

#[test]
fn property_lists_filter_whatever_their_case() {
    let mut instance = Instance::of_class(&disk());
    instance.retain_properties(&["KIND", "Nothing"]);
    assert_eq!(instance.properties.len(), 1);
}

#[test]
fn a_clients_instance_conforms_to_the_class() {
    let class = disk();
    let mut given = Instance::of_class(&class);
    given.properties.clear();
    for (name, value) in [("__PATH", "x"), ("kind", "10"), ("FILES", "one")] {
        given.properties.push(cim::Property {
            name: name.into(),
            ty: Type::scalar(CimType::String),
            value: value.into(),
            origin: None,
        });
    }
    let conformed = given.conform_to(&class).unwrap();
    assert_eq!(conformed.get("Kind"), Some(&Value::Uint16(10)));
    assert_eq!(conformed.get("Files"), Some(&Value::from(vec!["one"])));
    assert_eq!(conformed.get("ID"), None);
    given.properties[1].value = "many".into();
    let error = given.conform_to(&class).unwrap_err().to_string();
    assert_eq!(
        error,
        "property Kind: \"many\" is not a value of type uint16"
    );
}
