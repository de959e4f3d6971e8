//! Instances and classes of one namespace, into WMI's binary form.
//!
//! The class part is the same in all instances of a class and large: it is made once. Translatable
//! qualifiers (descriptions) are left out of it, and of class objects unless they are asked for, as
//! WMI does.

use crate::status;
use cim::{Class, Instance, KeyValue, Name, Namespace, Property, Qualifier, Value};
use cim_broker::Broker;
use dcom::HResult;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wmi_object::packet::{Packet, Sent};
use wmi_object::{ClassLayout, ClassSource, Decoration, EncodeError, Lineage};

/// Makes the bytes of one namespace's objects.
pub(crate) struct Encoder {
    broker: Arc<Broker>,
    namespace: Namespace,
    decoration: Decoration,
    /// The classes without translatable qualifiers.
    plain: OnceLock<HashMap<Name, Class>>,
    layouts: Layouts,
}

/// Class parts that have been made, by class.
type Layouts = Mutex<HashMap<Name, Arc<ClassLayout>>>;

/// The properties that a query selected, and the class parts that go with them.
pub(crate) struct Projection {
    names: Vec<Name>,
    layouts: Layouts,
}

impl Projection {
    pub(crate) fn new(names: Vec<Name>) -> Self {
        Projection {
            names,
            layouts: Mutex::default(),
        }
    }
}

/// Where class objects take their classes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    /// Without translatable qualifiers.
    Left,
    /// With all qualifiers (`WBEM_FLAG_USE_AMENDED_QUALIFIERS`).
    Amended,
}

impl Encoder {
    pub(crate) fn new(broker: &Arc<Broker>, namespace: Namespace) -> Self {
        let decoration = Decoration {
            server: broker.host_name().to_owned(),
            namespace: namespace.as_str().to_owned(),
        };
        Encoder {
            broker: Arc::clone(broker),
            namespace,
            decoration,
            plain: OnceLock::new(),
            layouts: Mutex::default(),
        }
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The class as it is declared, with everything.
    pub(crate) fn class(&self, name: &Name) -> Option<&Arc<Class>> {
        let own = self.broker.schema(&self.namespace).ok();
        own.and_then(|schema| schema.class(name))
            .or_else(|| self.broker.system_schema().class(name))
    }

    /// The object block of a class.
    pub(crate) fn class_block(&self, name: &Name, texts: Texts) -> Result<Vec<u8>, HResult> {
        let lineage = match texts {
            Texts::Left => self.lineage(name),
            Texts::Amended => self.whole_lineage(name),
        };
        let lineage = lineage.ok_or(status::INVALID_CLASS)?;
        wmi_object::encode_class(&lineage, Some(&self.decoration)).map_err(|error| broken(&error))
    }

    /// The object block of a class that is nobody's: of parameters, or empty.
    pub(crate) fn loose_class_block(&self, class: &Class) -> Result<Vec<u8>, HResult> {
        let lineage = Lineage::root(class);
        wmi_object::encode_class(&lineage, Some(&self.decoration)).map_err(|error| broken(&error))
    }

    /// The object block of a class that shows what a query selects.
    pub(crate) fn prototype_block(
        &self,
        name: &Name,
        selected: &[Name],
    ) -> Result<Vec<u8>, HResult> {
        let lineage = self.lineage(name).ok_or(status::INVALID_CLASS)?;
        let selected: Vec<&str> = selected.iter().map(Name::as_str).collect();
        wmi_object::encode_prototype(&lineage, &selected, Some(&self.decoration))
            .map_err(|error| broken(&error))
    }

    /// The object block of an instance.
    pub(crate) fn instance_block(
        &self,
        instance: &Instance,
        projection: Option<&Projection>,
    ) -> Result<Vec<u8>, HResult> {
        let layout = self.layout(&instance.class, projection)?;
        wmi_object::encode_instance(&layout, instance, Some(&self.decoration), self)
            .map_err(|error| broken(&error))
    }

    /// The object block of an instance of a class that is nobody's.
    pub(crate) fn loose_instance_block(
        &self,
        class: &Class,
        instance: &Instance,
    ) -> Result<Vec<u8>, HResult> {
        let encode = || {
            let layout = ClassLayout::new(&Lineage::root(class))?;
            wmi_object::encode_instance(&layout, instance, Some(&self.decoration), self)
        };
        encode().map_err(|error| broken(&error))
    }

    /// Adds an instance to a packet.
    pub(crate) fn pack(
        &self,
        packet: &mut Packet,
        instance: &Instance,
        projection: Option<&Projection>,
        sent: &mut Sent,
    ) -> Result<(), HResult> {
        let layout = self.layout(&instance.class, projection)?;
        packet
            .instance(&layout, instance, Some(&self.decoration), self, sent)
            .map_err(|error| broken(&error))
    }

    fn layout(
        &self,
        class: &Name,
        projection: Option<&Projection>,
    ) -> Result<Arc<ClassLayout>, HResult> {
        let layouts = projection.map_or(&self.layouts, |projection| &projection.layouts);
        // Whoever panicked in there left a whole map.
        let known = || layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = known().get(class) {
            return Ok(Arc::clone(layout));
        }
        let lineage = self.lineage(class).ok_or_else(|| {
            tracing::error!(%class, namespace = %self.namespace, "an instance of an unknown class");
            status::FAILED
        })?;
        let layout = match projection {
            None => ClassLayout::new(&lineage),
            Some(projection) => {
                let keys = lineage.class().keys().map(|key| key.name.as_str());
                let names = projection.names.iter().map(Name::as_str);
                let kept: Vec<&str> = names.chain(keys).collect();
                ClassLayout::projected(&lineage, &kept)
            }
        };
        let layout = Arc::new(layout.map_err(|error| broken(&error))?);
        known().insert(class.clone(), Arc::clone(&layout));
        Ok(layout)
    }

    fn whole_lineage(&self, name: &Name) -> Option<Lineage<'_>> {
        let class = self.class(name)?;
        let above = |class: &Class| self.class(class.superclass.as_ref()?);
        let ancestors = std::iter::successors(above(class), |class| above(class));
        Some(Lineage::new(class, ancestors.map(AsRef::as_ref)))
    }

    fn plain(&self) -> &HashMap<Name, Class> {
        self.plain.get_or_init(|| {
            let own = self.broker.schema(&self.namespace).ok();
            let own = own.into_iter().flat_map(|schema| schema.classes());
            let system = self.broker.system_schema().classes();
            // The namespace's own declaration of a class wins.
            system
                .chain(own)
                .map(|class| (class.name.clone(), without_texts(class)))
                .collect()
        })
    }

    /// Brings an instance from the broker into the form that it has here: references say which
    /// server they mean, and the keys are there, whatever was selected, for clients make the path
    /// from them.
    pub(crate) fn complete(&self, instance: &mut Instance) {
        if let (Some(path), Some(class)) = (&instance.path, self.class(&instance.class)) {
            let missing: Vec<Property> = class
                .keys()
                .filter(|key| instance.property(key.name.as_str()).is_none())
                .filter_map(|key| {
                    let value = path.key(key.name.as_str())?.clone();
                    Some(Property {
                        name: key.name.clone(),
                        ty: key.ty,
                        value: Value::from(value).coerce(key.ty).ok()?,
                        origin: None,
                    })
                })
                .collect();
            instance.properties.extend(missing);
        }
        for property in &mut instance.properties {
            self.complete_value(&mut property.value);
        }
    }

    pub(crate) fn complete_value(&self, value: &mut Value) {
        match value {
            Value::Reference(path) => {
                path.namespace.get_or_insert_with(|| self.namespace.clone());
                path.host
                    .get_or_insert_with(|| self.decoration.server.clone());
                if let cim::Keys::Named(keys) = &mut path.keys {
                    for (_, key) in keys {
                        self.complete_key(key);
                    }
                }
            }
            Value::Instance(instance) => {
                for property in &mut instance.properties {
                    self.complete_value(&mut property.value);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.complete_value(item);
                }
            }
            _ => {}
        }
    }

    fn complete_key(&self, key: &mut KeyValue) {
        if let KeyValue::Reference(path) = key {
            path.namespace.get_or_insert_with(|| self.namespace.clone());
            path.host
                .get_or_insert_with(|| self.decoration.server.clone());
        }
    }
}

/// The classes of embedded objects.
impl ClassSource for Encoder {
    fn lineage(&self, name: &Name) -> Option<Lineage<'_>> {
        let plain = self.plain();
        let class = plain.get(name)?;
        let above = |class: &Class| plain.get(class.superclass.as_ref()?);
        let ancestors = std::iter::successors(above(class), |class| above(class));
        Some(Lineage::new(class, ancestors))
    }
}

fn without_texts(class: &Class) -> Class {
    let mut class = class.clone();
    let leave = |qualifiers: &mut Vec<Qualifier>| qualifiers.retain(|it| !it.translatable);
    leave(&mut class.qualifiers);
    for property in &mut class.properties {
        leave(&mut property.qualifiers);
    }
    for method in &mut class.methods {
        leave(&mut method.qualifiers);
        for parameter in &mut method.parameters {
            leave(&mut parameter.qualifiers);
        }
    }
    class
}

/// An object that has no binary form: a defect of the schema or of a provider.
fn broken(error: &EncodeError) -> HResult {
    tracing::error!(%error, "an object cannot be encoded");
    status::FAILED
}
