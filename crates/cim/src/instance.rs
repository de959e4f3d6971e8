//! Instances: named values of a class.

use crate::{Name, ObjectPath, Type, Value};

/// A property of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: Name,
    /// Its declared type.
    pub ty: Type,
    /// Its value.
    pub value: Value,
    /// The class that introduced it, where known.
    pub origin: Option<Name>,
}

/// An instance. Providers fill properties in the order of the class and leave out none; clients'
/// embedded instances may hold any subset.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The class it is an instance of.
    pub class: Name,
    /// Its name, when it has one (embedded instances mostly have not).
    pub path: Option<ObjectPath>,
    /// Its properties.
    pub properties: Vec<Property>,
}

impl Instance {
    /// The property called `name`, whatever its case.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name.is(name))
    }

    /// The value of `name`; `None` when there is no such property, `Some(Null)` when it is null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.property(name).map(|property| &property.value)
    }
}
