//! What a condition looks at: an instance with its system properties (`__PATH`, `__SERVER`, ...).

use crate::mof::Repository;
use crate::{Class, Instance, Name, Namespace, ObjectPath, Value};
use std::borrow::Cow;

/// The system properties of an instance, in the order in which WMI writes them.
pub const SYSTEM_PROPERTIES: [&str; 10] = [
    "__PATH",
    "__NAMESPACE",
    "__SERVER",
    "__DERIVATION",
    "__PROPERTY_COUNT",
    "__RELPATH",
    "__DYNASTY",
    "__SUPERCLASS",
    "__CLASS",
    "__GENUS",
];

/// Something with properties that a condition can be put to.
pub trait Row {
    /// The class it is of.
    fn class(&self) -> &Name;

    /// A property's value, system properties included; `None` when there is no such property.
    fn value(&self, name: &str) -> Option<Cow<'_, Value>>;

    /// Whether `class` is `ancestor` or derived from it.
    fn derives(&self, class: &Name, ancestor: &Name) -> bool;
}

/// An instance where it lives: what its system properties are made of.
#[derive(Clone, Copy, Debug)]
pub struct InstanceRow<'a> {
    /// The instance.
    pub instance: &'a Instance,
    /// The server's name.
    pub server: &'a str,
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The namespace's classes, where known: without them there is no inheritance to see.
    pub repository: Option<&'a Repository>,
}

/// A class where it lives: the rows of `SELECT * FROM meta_class`.
#[derive(Clone, Copy, Debug)]
pub struct ClassRow<'a> {
    /// The class.
    pub class: &'a Class,
    /// The server's name.
    pub server: &'a str,
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The namespace's classes.
    pub repository: &'a Repository,
}

/// What system properties are made of, for instances and classes alike.
struct System<'a> {
    class: &'a Name,
    path: Option<ObjectPath>,
    server: &'a str,
    namespace: &'a Namespace,
    repository: Option<&'a Repository>,
    property_count: usize,
    /// 1 for a class, 2 for an instance.
    genus: i32,
}

impl System<'_> {
    fn property(self, name: &str) -> Option<Value> {
        let canonical = SYSTEM_PROPERTIES
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(name))?;
        Some(match canonical {
            "__PATH" => {
                let (server, namespace) = (self.server, self.namespace.clone());
                let full = self.path.map(|path| path.located(server, namespace));
                full.map(|path| path.to_string()).into()
            }
            "__RELPATH" => self.path.map(|path| path.relpath()).into(),
            "__NAMESPACE" => self.namespace.as_str().into(),
            "__SERVER" => self.server.into(),
            "__CLASS" => self.class.as_str().into(),
            "__GENUS" => Value::Sint32(self.genus),
            "__PROPERTY_COUNT" => {
                Value::Sint32(i32::try_from(self.property_count).unwrap_or(i32::MAX))
            }
            "__SUPERCLASS" => self.ancestors().into_iter().next().into(),
            "__DYNASTY" => {
                let own = self.class.as_str().to_owned();
                Value::from(self.ancestors().pop().unwrap_or(own))
            }
            _ => self.ancestors().into(),
        })
    }

    fn ancestors(&self) -> Vec<String> {
        match self.repository {
            None => Vec::new(),
            Some(repository) => repository
                .superclasses(self.class)
                .map(|class| class.name.as_str().to_owned())
                .collect(),
        }
    }
}

impl InstanceRow<'_> {
    /// The system property called `name`. `None` when it is not one of [`SYSTEM_PROPERTIES`].
    pub fn system_property(&self, name: &str) -> Option<Value> {
        if !name.starts_with("__") {
            return None;
        }
        let instance = self.instance;
        let system = System {
            class: &instance.class,
            path: instance.path.as_ref().map(ObjectPath::relative),
            server: self.server,
            namespace: self.namespace,
            repository: self.repository,
            property_count: instance.properties.len(),
            genus: 2,
        };
        system.property(name)
    }

    /// The instance's path with server and namespace.
    pub fn full_path(&self) -> Option<ObjectPath> {
        let path = self.instance.path.as_ref()?;
        Some(path.relative().located(self.server, self.namespace.clone()))
    }
}

impl Row for InstanceRow<'_> {
    fn class(&self) -> &Name {
        &self.instance.class
    }

    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        match self.instance.get(name) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => self.system_property(name).map(Cow::Owned),
        }
    }

    fn derives(&self, class: &Name, ancestor: &Name) -> bool {
        class == ancestor
            || self
                .repository
                .is_some_and(|repository| repository.is_a(class, ancestor))
    }
}

impl Row for ClassRow<'_> {
    fn class(&self) -> &Name {
        &self.class.name
    }

    /// Classes have system properties only.
    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        let system = System {
            class: &self.class.name,
            path: Some(ObjectPath::of_class(self.class.name.clone())),
            server: self.server,
            namespace: self.namespace,
            repository: Some(self.repository),
            property_count: self.class.properties.len(),
            genus: 1,
        };
        system.property(name).map(Cow::Owned)
    }

    fn derives(&self, class: &Name, ancestor: &Name) -> bool {
        self.repository.is_a(class, ancestor)
    }
}
