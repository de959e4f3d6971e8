//! Enumerating and getting instances, and bringing what providers make into the form that is
//! answered: complete paths, one spelling of references, the properties that were asked for.

use crate::access::Context;
use crate::broker::Broker;
use crate::errors;
use crate::namespaces::ServedNamespace;
use crate::provider::Equality;
use cim::{CimError, Class, Instance, KeyValue, Keys, Name, Namespace, ObjectPath, Value};

/// Which properties of an instance are answered.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shape<'a> {
    /// Only what this class declares or inherits.
    pub(crate) of_class: Option<&'a Class>,
    /// Only these; names that there are not do not matter.
    pub(crate) property_list: Option<&'a [Name]>,
}

impl Shape<'_> {
    pub(crate) fn apply(&self, instance: &mut Instance) {
        if let Some(class) = self.of_class
            && instance.class != class.name
        {
            instance
                .properties
                .retain(|property| class.property(property.name.as_str()).is_some());
        }
        if let Some(wanted) = self.property_list {
            instance.retain_properties(wanted);
        }
    }
}

impl Broker {
    /// All instances of `class` and its subclasses that the caller may see and that pass `keep`,
    /// whole. `filter` must be implied by `keep`: it is passed on to whoever can look it up.
    pub(crate) fn instances_below(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
        filter: &[Equality],
        keep: &dyn Fn(&Instance) -> bool,
    ) -> Result<Vec<Instance>, CimError> {
        let mut found = Vec::new();
        for served in space.visible_below(context, &class.name) {
            let served_class = space.class(&served.class)?;
            for instance in served.provider.enumerate(context, &served.class, filter)? {
                if keep(&instance) {
                    found.push(self.finish(space, served_class, instance)?);
                }
            }
        }
        for link in self.links_below(context, space, class, filter)? {
            let instance = self.association_instance(space, &link)?;
            if keep(&instance) {
                found.push(instance);
            }
        }
        Ok(found)
    }

    pub(crate) fn paths_below(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
    ) -> Result<Vec<ObjectPath>, CimError> {
        let mut found = Vec::new();
        for served in space.visible_below(context, &class.name) {
            let paths = served
                .provider
                .enumerate_paths(context, &served.class, &[])?;
            found.extend(paths.into_iter().map(|path| self.complete(space, path)));
        }
        for link in self.links_below(context, space, class, &[])? {
            found.push(self.association_path(space, &link)?);
        }
        Ok(found)
    }

    /// A path as it is answered: host and namespace filled in, references in keys without host and
    /// with the namespace, so that one object has one spelling everywhere.
    pub(crate) fn complete(&self, space: &ServedNamespace, path: ObjectPath) -> ObjectPath {
        let path = localized(&space.name, path);
        ObjectPath {
            host: Some(self.host_name().to_owned()),
            ..path
        }
    }

    /// A provider's instance as it is answered.
    pub(crate) fn finish(
        &self,
        space: &ServedNamespace,
        class: &Class,
        mut instance: Instance,
    ) -> Result<Instance, CimError> {
        let path = match instance.path.take() {
            Some(path) => path,
            None => instance
                .path_from_keys(class)
                .map_err(|error| errors::internal("an instance without a name", error))?,
        };
        instance.path = Some(self.complete(space, path));
        for property in &mut instance.properties {
            localize_value(&space.name, &mut property.value);
        }
        Ok(instance)
    }
}

/// `path` with a namespace and without a host, in its keys too.
pub(crate) fn localized(namespace: &Namespace, path: ObjectPath) -> ObjectPath {
    let localized_key = |value: KeyValue| match value {
        KeyValue::Reference(inner) => KeyValue::Reference(Box::new(localized(namespace, *inner))),
        other => other,
    };
    let keys = match path.keys {
        Keys::Named(keys) => Keys::Named(
            keys.into_iter()
                .map(|(name, value)| (name, localized_key(value)))
                .collect(),
        ),
        Keys::Unnamed(value) => Keys::Unnamed(localized_key(value)),
        other => other,
    };
    ObjectPath {
        host: None,
        namespace: Some(path.namespace.unwrap_or_else(|| namespace.clone())),
        class: path.class,
        keys,
    }
}

/// References in an instance are spelled as in keys: clients compare the two.
fn localize_value(namespace: &Namespace, value: &mut Value) {
    match value {
        Value::Reference(path) => {
            let spelled = std::mem::replace(path.as_mut(), ObjectPath::of_class(""));
            **path = localized(namespace, spelled);
        }
        Value::Array(items) => {
            for item in items {
                localize_value(namespace, item);
            }
        }
        _ => {}
    }
}
