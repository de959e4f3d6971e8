//! Random classes, instances of them, and embedded objects.

use cim::{
    CimType, Class, DateTime, Instance, KeyValue, Keys, MethodDecl, Name, Namespace, ObjectPath,
    ParameterDecl, Property, PropertyDecl, Qualifier, Type, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;
use wmi_object::{ClassSource, Lineage};

/// A class with its ancestors, nearest first, and an instance of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub classes: Vec<Class>,
    pub instance: Instance,
}

impl Sample {
    pub fn lineage(&self) -> Lineage<'_> {
        Lineage::new(&self.classes[0], &self.classes[1..])
    }
}

impl ClassSource for Sample {
    /// What is embedded is always of the class `Embedded`.
    fn lineage(&self, name: &Name) -> Option<Lineage<'_>> {
        name.is("Embedded").then(|| Lineage::root(embedded_class()))
    }
}

/// The class of embedded objects.
pub fn embedded_class() -> &'static Class {
    static CLASS: std::sync::LazyLock<Class> = std::sync::LazyLock::new(|| {
        let mut class = Class::new("Embedded");
        for (name, ty) in [
            ("Text", Type::scalar(CimType::String)),
            ("Number", Type::scalar(CimType::Uint32)),
            ("Inner", Type::scalar(CimType::Object)),
        ] {
            class
                .properties
                .push(PropertyDecl::new(name, ty, "Embedded"));
        }
        class
    });
    &CLASS
}

/// What kind of objects are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Properties and values that the foreign readers have no way to show are left out.
    pub plain: bool,
}

const KINDS: [CimType; 16] = [
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
    CimType::Reference,
    CimType::Object,
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,20}",
        1 => "[ -ÿ]{1,9}".prop_map(|text| text.replace('\u{7f}', "x")),
        1 => "[^\u{0}]{1,9}",
    ]
}

fn reference() -> impl Strategy<Value = Value> {
    (
        "[A-Z][a-z]{1,8}_[A-Z][a-z]{1,8}",
        "[ -~]{0,12}",
        any::<bool>(),
    )
        .prop_map(|(class, key, absolute)| {
            let keys = Keys::named(vec![(Name::new("Name"), KeyValue::from(key))]);
            let mut path = ObjectPath::new(class, keys);
            if absolute {
                path.host = Some("LINUXHV".to_owned());
                path.namespace = Some(Namespace::new("root/virtualization"));
            }
            Value::from(path)
        })
}

fn scalar(kind: CimType, depth: usize) -> BoxedStrategy<Value> {
    match kind {
        CimType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        CimType::String => text().prop_map(Value::String).boxed(),
        CimType::Char16 => any::<u16>().prop_map(Value::Char16).boxed(),
        CimType::Uint8 => any::<u8>().prop_map(Value::Uint8).boxed(),
        CimType::Sint8 => any::<i8>().prop_map(Value::Sint8).boxed(),
        CimType::Uint16 => any::<u16>().prop_map(Value::Uint16).boxed(),
        CimType::Sint16 => any::<i16>().prop_map(Value::Sint16).boxed(),
        CimType::Uint32 => any::<u32>().prop_map(Value::Uint32).boxed(),
        CimType::Sint32 => any::<i32>().prop_map(Value::Sint32).boxed(),
        CimType::Uint64 => any::<u64>().prop_map(Value::Uint64).boxed(),
        CimType::Sint64 => any::<i64>().prop_map(Value::Sint64).boxed(),
        // Not NaN, which equals nothing.
        CimType::Real32 => proptest::num::f32::NORMAL.prop_map(Value::Real32).boxed(),
        CimType::Real64 => proptest::num::f64::NORMAL.prop_map(Value::Real64).boxed(),
        CimType::DateTime => prop_oneof![
            (0_i64..4_000_000_000_000_000, -700_i16..700).prop_map(|(unix_micros, offset)| {
                Value::DateTime(DateTime::Timestamp {
                    unix_micros,
                    offset_minutes: offset,
                })
            }),
            (0_u64..1_000_000_000_000_000)
                .prop_map(|micros| Value::DateTime(DateTime::Interval { micros })),
        ]
        .boxed(),
        CimType::Reference => reference().boxed(),
        CimType::Object => embedded(depth).boxed(),
    }
}

/// An instance of `Embedded`, to a small depth.
fn embedded(depth: usize) -> BoxedStrategy<Value> {
    let text = prop_oneof![Just(Value::Null), scalar(CimType::String, 0)];
    let inner = if depth == 0 {
        Just(Value::Null).boxed()
    } else {
        prop_oneof![Just(Value::Null), embedded(depth - 1)].boxed()
    };
    (text, any::<u32>(), inner)
        .prop_map(|(text, number, inner)| {
            let mut instance = Instance::of_class(embedded_class());
            instance.properties[0].value = text;
            instance.properties[1].value = Value::Uint32(number);
            instance.properties[2].value = inner;
            Value::from(instance)
        })
        .boxed()
}

fn value(ty: Type) -> BoxedStrategy<Value> {
    let item = scalar(ty.kind, 2);
    if ty.array {
        vec(item, 0..5).prop_map(Value::Array).boxed()
    } else {
        item
    }
}

fn nullable(ty: Type) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 4 => value(ty)].boxed()
}

fn any_type(wanted: Wanted) -> impl Strategy<Value = Type> {
    (
        proptest::sample::select(&KINDS[..]),
        prop::bool::weighted(0.3),
    )
        .prop_map(move |(kind, array)| {
            // The foreign readers show offsets for these arrays; impacket fails on reals.
            let unreadable = array && matches!(kind, CimType::DateTime | CimType::Reference);
            let unreadable =
                unreadable || matches!(kind, CimType::Object | CimType::Real32 | CimType::Real64);
            Type {
                kind: if wanted.plain && unreadable {
                    CimType::String
                } else {
                    kind
                },
                array,
            }
        })
}

fn qualifier(wanted: Wanted) -> impl Strategy<Value = Qualifier> {
    let name = proptest::sample::select(vec![
        "read",
        "write",
        "Description",
        "ValueMap",
        "MaxLen",
        "Größe",
        "dynamic",
        "provider",
    ]);
    let values = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Sint32),
        proptest::num::f64::NORMAL.prop_map(move |real| {
            if wanted.plain {
                Value::Sint32(-3)
            } else {
                Value::Real64(real)
            }
        }),
        text().prop_map(Value::String),
        vec(text().prop_map(Value::String), 1..4).prop_map(Value::Array),
        vec(any::<i32>().prop_map(Value::Sint32), 1..4).prop_map(Value::Array),
    ];
    (name, values, any::<[bool; 3]>()).prop_map(
        |(name, value, [overridable, down, translatable])| Qualifier {
            name: Name::new(name),
            ty: value.type_of().expect("not NULL"),
            value,
            overridable,
            to_subclass: down,
            translatable,
        },
    )
}

fn qualifiers(wanted: Wanted) -> impl Strategy<Value = Vec<Qualifier>> {
    vec(qualifier(wanted), 0..3).prop_map(|mut list| {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
        list
    })
}

fn class_of(ty: Type) -> Option<Name> {
    match ty.kind {
        CimType::Reference => Some(Name::new("CIM_Thing")),
        CimType::Object => Some(Name::new("Embedded")),
        _ => None,
    }
}

/// Properties with names of their own, `count` of them from number `first` on.
fn properties(
    class: &'static str,
    first: usize,
    wanted: Wanted,
) -> impl Strategy<Value = Vec<PropertyDecl>> {
    let member = any_type(wanted).prop_flat_map(move |ty| {
        let default = if ty.kind == CimType::Object || wanted.plain {
            Just(Value::Null).boxed()
        } else {
            prop_oneof![3 => Just(Value::Null), 1 => value(ty)].boxed()
        };
        (Just(ty), default, qualifiers(wanted), "[A-Za-z_]{1,3}")
    });
    vec(member, 0..9).prop_map(move |members| {
        let numbered = members.into_iter().enumerate();
        let decls = numbered.map(|(at, (ty, default, qualifiers, name))| PropertyDecl {
            class_ref: class_of(ty),
            default,
            qualifiers,
            ..PropertyDecl::new(format!("{name}{}", first + at), ty, class)
        });
        decls.collect()
    })
}

fn method(class: &'static str, number: usize, wanted: Wanted) -> impl Strategy<Value = MethodDecl> {
    let parameter = (any_type(wanted), 0..3_u8, qualifiers(wanted));
    (vec(parameter, 0..5), qualifiers(wanted)).prop_map(move |(parameters, qualifiers)| {
        let flag = |name: &str| Qualifier {
            name: Name::new(name),
            ty: Type::scalar(CimType::Boolean),
            value: Value::Boolean(true),
            overridable: true,
            to_subclass: false,
            translatable: false,
        };
        let numbered = parameters.into_iter().enumerate();
        let parameters = numbered.map(|(at, (ty, direction, others))| {
            let mut qualifiers = match direction {
                0 => vec![flag("In")],
                1 => vec![flag("Out")],
                _ => vec![flag("In"), flag("Out")],
            };
            qualifiers.extend(others);
            ParameterDecl {
                name: Name::from(format!("P{at}")),
                ty,
                class_ref: class_of(ty),
                array_size: None,
                qualifiers,
            }
        });
        MethodDecl {
            name: Name::from(format!("Method{number}")),
            return_type: Type::scalar(CimType::Uint32),
            parameters: parameters.collect(),
            qualifiers,
            origin: Name::new(class),
            propagated: false,
        }
    })
}

/// `own` members below those of `superclass`.
fn derived(name: &str, superclass: &Class, own: Vec<PropertyDecl>, method: MethodDecl) -> Class {
    let mut class = Class::new(name);
    class.superclass = Some(superclass.name.clone());
    class.properties.clone_from(&superclass.properties);
    class.methods.clone_from(&superclass.methods);
    for property in &mut class.properties {
        property.propagated = true;
    }
    for method in &mut class.methods {
        method.propagated = true;
    }
    class.properties.extend(own);
    class.methods.push(method);
    class
}

fn classes(wanted: Wanted) -> impl Strategy<Value = Vec<Class>> {
    let root = (
        qualifiers(wanted),
        properties("Rndm_Root", 0, wanted),
        method("Rndm_Root", 0, wanted),
    );
    let middle = (
        properties("Rndm_Middle", 10, wanted),
        method("Rndm_Middle", 1, wanted),
    );
    let leaf = (
        properties("Rndm_Leaf", 20, wanted),
        method("Rndm_Leaf", 2, wanted),
    );
    (root, middle, leaf, 1..4_usize).prop_map(|(root, middle, leaf, levels)| {
        let (qualifiers, own, method) = root;
        let mut key = PropertyDecl::new("Key", Type::scalar(CimType::String), "Rndm_Root");
        key.qualifiers.push(Qualifier {
            name: Name::new("key"),
            ty: Type::scalar(CimType::Boolean),
            value: Value::Boolean(true),
            overridable: false,
            to_subclass: true,
            translatable: false,
        });
        let mut class = Class::new("Rndm_Root");
        class.qualifiers = qualifiers;
        class.properties = vec![key];
        class.properties.extend(own);
        class.methods.push(method);
        let mut classes = vec![class];
        for (name, (own, method)) in [("Rndm_Middle", middle), ("Rndm_Leaf", leaf)] {
            if classes.len() < levels {
                let class = derived(name, &classes[0], own, method);
                classes.insert(0, class);
            }
        }
        classes
    })
}

pub fn sample(wanted: Wanted) -> impl Strategy<Value = Sample> {
    classes(wanted).prop_flat_map(|classes| {
        let values: Vec<BoxedStrategy<Value>> = classes[0]
            .properties
            .iter()
            .map(|decl| nullable(decl.ty))
            .collect();
        (Just(classes), values).prop_map(|(classes, values)| {
            let mut instance = Instance::of_class(&classes[0]);
            for (property, value) in instance.properties.iter_mut().zip(values) {
                let Property { value: slot, .. } = property;
                *slot = value;
            }
            Sample { classes, instance }
        })
    })
}
