//! Object paths: the names of classes and instances, in every spelling that clients use.

use crate::{Name, Namespace};

/// The value of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum KeyValue {
    String(String),
    Boolean(bool),
    Signed(i64),
    Unsigned(u64),
    Reference(Box<ObjectPath>),
}

/// What follows the class name in a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// No keys: the path names the class itself.
    Class,
    /// `=@`: the only instance of a class without keys.
    Singleton,
    /// One value without a name (`Class="value"`): it belongs to the class's only key.
    Unnamed(KeyValue),
    /// Named keys, sorted by name. May be fewer than the class declares (a partial key).
    Named(Vec<(Name, KeyValue)>),
}

/// An object path. Derived equality compares names without case and key values exactly; see
/// [`ObjectPath::names_same_object`] for the comparison that clients need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectPath {
    /// Server name, when given.
    pub host: Option<String>,
    /// Namespace, when given.
    pub namespace: Option<Namespace>,
    /// The class.
    pub class: Name,
    /// Which instance.
    pub keys: Keys,
}
