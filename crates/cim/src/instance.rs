//! Instances: named values of a class, and the builder that providers fill them with.

use crate::convert::CoercionError;
use crate::path::PathError;
use crate::{Class, KeyValue, Keys, Name, ObjectPath, Type, Value};

/// Why an instance of a class cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InstanceError {
    /// The class has no such property.
    #[error("class {class} has no property {property}")]
    UnknownProperty {
        /// The class.
        class: Name,
        /// The name that it lacks.
        property: Name,
    },
    /// A value that cannot be of the declared type.
    #[error("property {0}")]
    Type(#[from] CoercionError),
    /// A key has no value, so that the instance has no name.
    #[error("key property {property} of class {class} has no value")]
    KeyWithoutValue {
        /// The class.
        class: Name,
        /// The key.
        property: Name,
    },
    /// The class has no keys, so that its instances have no names.
    #[error("class {class} has no key properties")]
    ClassWithoutKeys {
        /// The class.
        class: Name,
    },
    /// A key's value cannot stand in a path.
    #[error("key property {property} of class {class}: {reason}")]
    Key {
        /// The class.
        class: Name,
        /// The key.
        property: Name,
        /// What is wrong with it.
        #[source]
        reason: PathError,
    },
}

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

    /// An instance of `class` with every property of the class at its default or NULL, in class
    /// order.
    pub fn of_class(class: &Class) -> Self {
        Instance {
            class: class.name.clone(),
            path: None,
            properties: class
                .properties
                .iter()
                .map(|decl| Property {
                    name: decl.name.clone(),
                    ty: decl.ty,
                    value: decl.default.clone(),
                    origin: Some(decl.origin.clone()),
                })
                .collect(),
        }
    }

    /// Starts an instance of `class` with its defaults.
    pub fn builder(class: &Class) -> InstanceBuilder<'_> {
        InstanceBuilder {
            instance: Instance::of_class(class),
            class,
            next: 0,
            error: None,
        }
    }

    /// The value of `name`; NULL when there is no such property.
    pub fn value(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }

    /// The text of a string property; `None` when it is NULL, absent or of another type.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Sets a property that is already there, converting `value` to its type.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> Result<(), InstanceError> {
        let class = self.class.clone();
        let found = self.properties.iter_mut().find(|p| p.name.is(name));
        let property = found.ok_or_else(|| InstanceError::UnknownProperty {
            class,
            property: Name::new(name),
        })?;
        property.value = value
            .into()
            .coerce(property.ty)
            .map_err(|reason| reason.at(property.name.clone()))?;
        Ok(())
    }

    /// The path that this instance has by its key values: relative, to be put into a namespace by
    /// whoever knows it. `Class=@` for a class with the `Singleton` qualifier.
    pub fn path_from_keys(&self, class: &Class) -> Result<ObjectPath, InstanceError> {
        if class.is_singleton() {
            return Ok(ObjectPath::new(class.name.clone(), Keys::Singleton));
        }
        let mut keys = Vec::new();
        for decl in class.keys() {
            let value = match self.get(decl.name.as_str()) {
                None | Some(Value::Null) => {
                    return Err(InstanceError::KeyWithoutValue {
                        class: class.name.clone(),
                        property: decl.name.clone(),
                    });
                }
                Some(value) => value,
            };
            let key = KeyValue::from_value(value).map_err(|reason| InstanceError::Key {
                class: class.name.clone(),
                property: decl.name.clone(),
                reason,
            })?;
            keys.push((decl.name.clone(), key));
        }
        if keys.is_empty() {
            return Err(InstanceError::ClassWithoutKeys {
                class: class.name.clone(),
            });
        }
        Ok(ObjectPath::new(class.name.clone(), Keys::named(keys)))
    }

    /// Keeps only the properties in `names` (a request's property list); names that the instance
    /// lacks do not matter (DSP0200 5.3.2.2).
    pub fn retain_properties<S: AsRef<str>>(&mut self, names: &[S]) {
        self.properties
            .retain(|property| names.iter().any(|name| property.name.is(name.as_ref())));
    }

    /// A client's instance as one of `class`: names spelled as the class spells them, values of the
    /// declared types, system properties (`__PATH`, ...) left out. Properties that the client did
    /// not give stay absent. Two properties of one name: the last wins.
    pub fn conform_to(&self, class: &Class) -> Result<Instance, InstanceError> {
        let mut properties: Vec<Property> = Vec::with_capacity(self.properties.len());
        for given in &self.properties {
            if given.name.as_str().starts_with("__") {
                continue;
            }
            let decl = class.property(given.name.as_str()).ok_or_else(|| {
                InstanceError::UnknownProperty {
                    class: class.name.clone(),
                    property: given.name.clone(),
                }
            })?;
            let value = given
                .value
                .clone()
                .coerce(decl.ty)
                .map_err(|reason| reason.at(decl.name.clone()))?;
            properties.retain(|earlier| earlier.name != decl.name);
            properties.push(Property {
                name: decl.name.clone(),
                ty: decl.ty,
                value,
                origin: Some(decl.origin.clone()),
            });
        }
        Ok(Instance {
            class: class.name.clone(),
            path: self.path.clone(),
            properties,
        })
    }
}

/// Fills an instance of a class property by property. The first thing that goes wrong is kept and
/// told by [`InstanceBuilder::build`], so that calls can be chained.
#[derive(Debug)]
pub struct InstanceBuilder<'a> {
    instance: Instance,
    class: &'a Class,
    /// Where the search for the next property starts: providers mostly fill in class order.
    next: usize,
    error: Option<InstanceError>,
}

impl InstanceBuilder<'_> {
    /// Sets a property. Numbers may be of another width than declared as long as they fit.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        if self.error.is_none() {
            self.error = self.try_set(name, value.into()).err();
        }
        self
    }

    /// Sets a property if the class has it: for what only some subclasses or versions declare.
    #[must_use]
    pub fn set_if_declared(self, name: &str, value: impl Into<Value>) -> Self {
        if self.class.property(name).is_some() {
            self.set(name, value)
        } else {
            self
        }
    }

    fn try_set(&mut self, name: &str, value: Value) -> Result<(), InstanceError> {
        let properties = &mut self.instance.properties;
        let count = properties.len();
        let position = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|&at| properties[at].name.is(name));
        let Some((position, property)) =
            position.and_then(|at| Some((at, properties.get_mut(at)?)))
        else {
            return Err(InstanceError::UnknownProperty {
                class: self.class.name.clone(),
                property: Name::new(name),
            });
        };
        self.next = position + 1;
        property.value = value
            .coerce(property.ty)
            .map_err(|reason| reason.at(property.name.clone()))?;
        Ok(())
    }

    /// The instance, without a path.
    pub fn build(self) -> Result<Instance, InstanceError> {
        match self.error {
            None => Ok(self.instance),
            Some(error) => Err(error),
        }
    }

    /// The instance, with the path that its keys make.
    pub fn build_named(self) -> Result<Instance, InstanceError> {
        let class = self.class;
        let mut instance = self.build()?;
        instance.path = Some(instance.path_from_keys(class)?);
        Ok(instance)
    }
}
