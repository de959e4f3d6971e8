//! `GetObject`: a class or an instance by its path; and where paths lead.

use crate::call_result::Outcome;
use crate::encoder::Texts;
use crate::session::{Refused, Session};
use crate::status;
use cim::{CimStatus, Class, Instance, KeyValue, Keys, ObjectPath, Value};
use cim_broker::Context;
use dce_rpc::Caller;
use dcom::HResult;

/// The object that a path names. No path names an empty class, of which clients derive others.
pub(super) async fn get(
    session: &Session,
    caller: &Caller,
    path: String,
    texts: Texts,
) -> Result<Outcome, HResult> {
    let block = session.ask(caller, move |session, context| {
        if path.trim().is_empty() {
            return Ok(session.encoder.loose_class_block(&Class::new(""))?);
        }
        let (place, path) = locate(session, &path)?;
        if path.is_class() {
            return match place.encoder.class(&path.class) {
                Some(class) => Ok(place.encoder.class_block(&class.name, texts)?),
                None => Err(Refused(status::NOT_FOUND)),
            };
        }
        let mut instance = instance(&place, context, &path)?;
        place.encoder.complete(&mut instance);
        Ok(place.encoder.instance_block(&instance, None)?)
    });
    let object = wmi_object::objref(&block.await?);
    Ok(Outcome::Object(object.into()))
}

/// The instance that a path names. A path that fits several is no path of an object, whatever else
/// is right about it.
pub(super) fn instance(
    place: &Session,
    context: &Context,
    path: &ObjectPath,
) -> Result<Instance, Refused> {
    let broker = &place.service.broker;
    let found = broker.get_instance(context, place.namespace(), path, None);
    found.map_err(|error| {
        let code = status::of_error(&error);
        Refused(match error.status {
            CimStatus::InvalidParameter => status::INVALID_OBJECT_PATH,
            _ => code,
        })
    })
}

/// What a path means here, and the namespace that it lies in.
pub(super) fn locate(session: &Session, text: &str) -> Result<(Session, ObjectPath), HResult> {
    let mut path = ObjectPath::parse(text).map_err(|error| {
        tracing::debug!(%error, "a path cannot be read");
        status::INVALID_OBJECT_PATH
    })?;
    localize(&mut path);
    let place = match &path.namespace {
        None => session.clone(),
        Some(namespace) => {
            let found = session.service.session(namespace);
            found.ok_or(status::INVALID_NAMESPACE)?
        }
    };
    Ok((place, path))
}

/// Takes the host out of a path: it names this server in whatever way the client knows it.
fn localize(path: &mut ObjectPath) {
    path.host = None;
    let localize_key = |key: &mut KeyValue| {
        if let KeyValue::Reference(path) = key {
            localize(path);
        }
    };
    match &mut path.keys {
        Keys::Unnamed(key) => localize_key(key),
        Keys::Named(keys) => keys.iter_mut().for_each(|(_, key)| localize_key(key)),
        Keys::Class | Keys::Singleton => {}
    }
}

/// [`localize`] for every reference in a value.
pub(super) fn localize_value(value: &mut Value) {
    match value {
        Value::Reference(path) => localize(path),
        Value::Array(items) => items.iter_mut().for_each(localize_value),
        Value::Instance(instance) => {
            let values = instance.properties.iter_mut();
            values.for_each(|property| localize_value(&mut property.value));
        }
        _ => {}
    }
}
