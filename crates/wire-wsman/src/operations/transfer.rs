//! Get, Put, Create, Delete (DSP0226 section 7). The broker's objects are made, changed and removed
//! by methods: Put answers only when it would change nothing, Create and Delete are refused in words.

use super::{Call, service};
use crate::instance::{Form, ValueReader, write_instance, write_property};
use crate::resource::{Family, Resource, unquoted};
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::uri;
use crate::soap::writer::Writer;
use cim::{CimStatus, Instance, ObjectPath, Property, Value};

const BY_METHODS: &str = "objects are made, changed and removed by methods. The definition of the \
                          service class that manages them shows which; call it with Invoke.";

pub(super) fn get(call: &Call) -> Result<Reply, Fault> {
    let resource = call.resource();
    if let Some(address) = &call.request.resource_uri
        && address.trim().to_ascii_lowercase().starts_with(uri::CONFIG)
    {
        return Ok(service::config(call));
    }
    let resource = resource?;
    let instance = call.instance(&resource)?;
    call.representation(&resource, &instance)
}

pub(super) fn put(call: &Call) -> Result<Reply, Fault> {
    let resource = call.resource()?;
    let instance = call.instance(&resource)?;
    let body = call.request.body.as_ref();
    let body = body.ok_or_else(|| Fault::representation("The body is empty."))?;
    let schema = call.broker().schema(&resource.namespace)?;
    let reader = ValueReader { schema };
    // A fragment holds its properties as the whole representation does.
    let given = reader.instance(body, Some(&instance.class), 0)?;
    for property in given.properties {
        let name = property.name.as_str();
        let Some(current) = instance.property(name) else {
            let reason = format!("The class {} has no property {name}.", instance.class);
            return Err(Fault::representation(reason));
        };
        if !is_same(current, property.clone(), &resource.family) {
            let reason = format!("Put would change {name}, but {BY_METHODS}");
            return Err(Fault {
                error: Some(CimStatus::NotSupported),
                ..Fault::action_not_supported(reason)
            });
        }
    }
    call.representation(&resource, &instance)
}

/// Whether what is put is what is there: it would be shown the same.
fn is_same(current: &Property, given: Property, family: &Family) -> bool {
    if let (Some(a), Some(b)) = (current.value.as_reference(), given.value.as_reference()) {
        return a.names_same_object(b);
    }
    let Ok(value) = given.value.coerce(current.ty) else {
        return false;
    };
    let shown = |value: Value| {
        let mut w = Writer::default();
        let property = Property {
            value,
            ..current.clone()
        };
        write_property(&mut w, &property, family);
        w.finish()
    };
    value == current.value || shown(value) == shown(current.value.clone())
}

pub(super) fn create(call: &Call) -> Result<Reply, Fault> {
    let resource = call.resource()?;
    let class = resource.declared(call.broker())?;
    let reason = format!(
        "Instances of {} are not made by Create: {BY_METHODS}",
        class.name
    );
    Err(Fault {
        error: Some(CimStatus::NotSupported),
        ..Fault::action_not_supported(reason)
    })
}

pub(super) fn delete(call: &Call) -> Result<Reply, Fault> {
    let resource = call.resource()?;
    let instance = call.instance(&resource)?;
    let reason = format!(
        "Instances of {} are not removed by Delete: {BY_METHODS}",
        instance.class
    );
    Err(Fault {
        error: Some(CimStatus::NotSupported),
        ..Fault::action_not_supported(reason)
    })
}

impl Call {
    /// The instance that the selectors name, all keys of it.
    fn instance(&self, resource: &Resource) -> Result<Instance, Fault> {
        let class = resource.declared(self.broker())?;
        let path = resource.path(class, true)?;
        self.fetch(resource, &path)
    }

    fn fetch(&self, resource: &Resource, path: &ObjectPath) -> Result<Instance, Fault> {
        let get = |path: &ObjectPath| {
            self.broker()
                .get_instance(&self.context, &resource.namespace, path, None)
        };
        match get(path) {
            Err(error) if error.status == CimStatus::NotFound => match unquoted(path) {
                Some(bare) => Ok(get(&bare)?),
                None => Err(error.into()),
            },
            Err(error) if error.status == CimStatus::InvalidParameter => Err(Fault {
                error: Some(error.status),
                ..Fault::selectors("AmbiguousSelectors", error.message)
            }),
            other => Ok(other?),
        }
    }

    /// The answer to Get and Put: the instance, or a part of it.
    fn representation(&self, resource: &Resource, instance: &Instance) -> Result<Reply, Fault> {
        let mut w = Writer::default();
        let Some(fragment) = &self.request.fragment else {
            let form = Form {
                class: None,
                without_nil: self.without_nil(),
            };
            write_instance(&mut w, instance, &resource.family, form);
            return Ok(Reply::with_body(w.finish()));
        };
        let name = fragment_property(fragment).ok_or_else(|| {
            Fault::unsupported(
                "FragmentLevelAccess",
                format!("The fragment {fragment:?} is not the name of a property."),
            )
        })?;
        let property = instance.property(name);
        let property = property.ok_or_else(|| {
            Fault::unsupported(
                "FragmentLevelAccess",
                format!("The class {} has no property {name}.", instance.class),
            )
        })?;
        let namespace = instance.path.as_ref().and_then(|it| it.namespace.as_ref());
        let address = resource.family.class_uri(namespace, &instance.class);
        w.open_with("w:XmlFragment", &[("xmlns:p", &address)]);
        write_property(&mut w, property, &resource.family);
        let mut headers = Writer::default();
        let must = [("s:mustUnderstand", "true")];
        headers.leaf_with("w:FragmentTransfer", &must, fragment);
        Ok(Reply {
            headers: headers.finish(),
            ..Reply::with_body(w.finish())
        })
    }
}

/// The property that an expression names: `Name`, `p:Name`, `/p:Class/p:Name`, `Name/text()`.
fn fragment_property(expression: &str) -> Option<&str> {
    let path = expression.trim();
    let path = path.strip_suffix("/text()").unwrap_or(path);
    let last = path.rsplit('/').next()?;
    let local = last.rsplit(':').next()?;
    let plausible = !local.is_empty() && local.chars().all(|c| c.is_alphanumeric() || c == '_');
    plausible.then_some(local)
}
