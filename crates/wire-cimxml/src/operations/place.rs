//! Where objects are: paths completed on the way out, understood on the way in.

use cim::{CimType, Instance, KeyValue, Keys, Name, Namespace, ObjectPath, Value};
use cim_broker::Broker;

/// Fills in the host and namespace that full path forms need, where the broker left them out.
pub(super) fn complete(broker: &Broker, namespace: &Namespace, path: &mut ObjectPath) {
    path.host
        .get_or_insert_with(|| broker.host_name().to_owned());
    path.namespace.get_or_insert_with(|| namespace.clone());
}

/// A path as a client sent it. The host is dropped: it names this server in whatever way the client
/// knows it. But some clients split `root/a/b` into a host `root` and a namespace `a/b`; when that
/// makes a namespace that exists out of one that does not, it is what was meant.
pub(super) fn localize(broker: &Broker, path: &mut ObjectPath) {
    let host = path.host.take();
    if let (Some(host), Some(namespace)) = (host, &path.namespace) {
        let joined = Namespace::new(format!("{host}\\{namespace}"));
        let known = broker.namespaces();
        if !known.contains(namespace) && known.contains(&joined) {
            path.namespace = Some(joined);
        }
    }
    match &mut path.keys {
        Keys::Unnamed(key) => localize_key(broker, key),
        Keys::Named(keys) => {
            for (_, key) in keys {
                localize_key(broker, key);
            }
        }
        Keys::Class | Keys::Singleton => {}
    }
}

fn localize_key(broker: &Broker, key: &mut KeyValue) {
    if let KeyValue::Reference(path) = key {
        localize(broker, path);
    }
}

/// [`localize`] for every reference in a value.
pub(super) fn localize_value(broker: &Broker, value: &mut Value) {
    match value {
        Value::Reference(path) => localize(broker, path),
        Value::Array(items) => {
            for item in items {
                localize_value(broker, item);
            }
        }
        _ => {}
    }
}

/// Gives the type `Object` to the properties of `instance` that are declared as strings and hold
/// embedded objects: clients parse them only if the wire says what they are.
pub(super) fn mark_embedded(broker: &Broker, namespace: &Namespace, instance: &mut Instance) {
    let Ok(schema) = broker.schema(namespace) else {
        return;
    };
    let Some(class) = schema.class(&instance.class) else {
        return;
    };
    for property in &mut instance.properties {
        let embeds = |name: &Name| {
            class
                .property(name.as_str())
                .is_some_and(|declared| declared.embedded().is_some())
        };
        if property.ty.kind == CimType::String && embeds(&property.name) {
            property.ty.kind = CimType::Object;
        }
    }
}
