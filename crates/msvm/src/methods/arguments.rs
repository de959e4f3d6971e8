//! Reading arguments: references to machines and snapshots, properties of embedded instances.
//!
//! Clients are lenient with types (numbers and booleans arrive as text) and strict about results,
//! so values are converted here and whatever does not convert is an invalid parameter.

use super::Refusal;
use crate::host::Host;
use crate::subject::{Configuration, Subject};
use cim::{CimType, DateTime, Instance, ObjectPath, Type, Value};
use cim_broker::Arguments;
use machines::model::Machine;
use std::path::PathBuf;
use std::sync::Arc;

/// The references in an array argument; none if it is NULL.
pub(super) fn references(
    arguments: &Arguments,
    name: &str,
) -> Result<Option<Vec<ObjectPath>>, Refusal> {
    match arguments.get(name) {
        Value::Null => Ok(None),
        Value::Array(items) => items
            .iter()
            .map(|item| reference(name, item))
            .collect::<Result<_, _>>()
            .map(Some),
        one => Ok(Some(vec![reference(name, one)?])),
    }
}

fn reference(name: &str, value: &Value) -> Result<ObjectPath, Refusal> {
    match value {
        Value::Reference(path) => Ok((**path).clone()),
        Value::String(text) => ObjectPath::parse(text)
            .map_err(|error| Refusal::invalid(format!("{name} is not a path: {error}."))),
        _ => Err(Refusal::invalid(format!("{name} is not a reference."))),
    }
}

/// The embedded instances in an array argument; none if it is NULL.
pub(super) fn instances<'a>(
    arguments: &'a Arguments,
    name: &str,
) -> Result<Vec<&'a Instance>, Refusal> {
    let one = |value: &'a Value| {
        value
            .as_instance()
            .ok_or_else(|| Refusal::invalid(format!("{name} holds something that is no instance.")))
    };
    match arguments.get(name) {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

/// The embedded instance in an argument that must be there.
pub(super) fn instance<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a Instance, Refusal> {
    match instances(arguments, name)?.as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal::invalid(format!("{name} is missing."))),
        _ => Err(Refusal::invalid(format!(
            "{name} holds more than one instance."
        ))),
    }
}

impl Host {
    /// The object that a reference argument names.
    pub(super) fn subject(&self, arguments: &Arguments, name: &str) -> Result<Subject, Refusal> {
        let value = arguments.get(name);
        if value.is_null() {
            return Err(Refusal::invalid(format!("{name} is missing.")));
        }
        let path = reference(name, value)?;
        self.resolve(&path)
            .ok_or_else(|| Refusal::invalid(format!("{name}: there is no {}.", path.relpath())))
    }

    /// The virtual machine that a reference argument names. The host is none.
    pub(super) fn machine(
        &self,
        arguments: &Arguments,
        name: &str,
    ) -> Result<Arc<Machine>, Refusal> {
        match self.subject(arguments, name)? {
            Subject::Machine(machine) => Ok(machine),
            Subject::Host => Err(Refusal::invalid(format!(
                "{name} names the host, not a virtual machine."
            ))),
            other => Err(Refusal::invalid(format!(
                "{name} names a {}, not a virtual machine.",
                other.class(self.version)
            ))),
        }
    }

    /// The snapshot that a reference argument names.
    pub(super) fn snapshot(
        &self,
        arguments: &Arguments,
        name: &str,
    ) -> Result<(Arc<Machine>, Arc<machines::model::Snapshot>), Refusal> {
        match self.subject(arguments, name)? {
            Subject::Settings(Configuration::Snapshot(machine, snapshot)) => {
                Ok((machine, snapshot))
            }
            Subject::Settings(Configuration::Active(_)) => Err(Refusal::invalid(format!(
                "{name} names the active configuration, not a snapshot."
            ))),
            other => Err(Refusal::invalid(format!(
                "{name} names a {}, not a snapshot.",
                other.class(self.version)
            ))),
        }
    }
}

/// The properties of an embedded instance, converted. One that is absent or NULL is not specified.
pub(super) struct Given<'a>(pub &'a Instance);

impl Given<'_> {
    fn converted(&self, name: &str, ty: Type) -> Result<Option<Value>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .clone()
                .coerce(ty)
                .map(Some)
                .map_err(|error| Refusal::invalid(format!("{name}: {error}."))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::String))?;
        Ok(value.and_then(|value| value.as_str().map(str::to_owned)))
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let value = self.converted(name, Type::array(CimType::String))?;
        Ok(value.as_ref().and_then(Value::as_array).map(|items| {
            items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        }))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::Uint64))?;
        Ok(value.and_then(|value| value.as_u64()))
    }

    pub(super) fn number32(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::Uint32))?;
        Ok(value.and_then(|value| value.as_u32()))
    }

    pub(super) fn number16(&self, name: &str) -> Result<Option<u16>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::Uint16))?;
        Ok(value.and_then(|value| value.as_u16()))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::Boolean))?;
        Ok(value.and_then(|value| value.as_bool()))
    }

    /// The length of an interval, in microseconds.
    pub(super) fn interval(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let value = self.converted(name, Type::scalar(CimType::DateTime))?;
        match value.and_then(|value| value.as_datetime()) {
            None => Ok(None),
            Some(DateTime::Interval { micros }) => Ok(Some(micros)),
            Some(DateTime::Timestamp { .. }) => Err(Refusal::invalid(format!(
                "{name} is a point in time, not an interval."
            ))),
        }
    }

    /// A path on this computer; an empty text is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>, Refusal> {
        Ok(self
            .text(name)?
            .filter(|text| !text.trim().is_empty())
            .map(PathBuf::from))
    }

    /// Four boot devices.
    pub(super) fn boot_order(&self) -> Result<Option<[u16; 4]>, Refusal> {
        let value = self.converted("BootOrder", Type::array(CimType::Uint16))?;
        let Some(items) = value.as_ref().and_then(Value::as_array) else {
            return Ok(None);
        };
        let order: Vec<u16> = items.iter().filter_map(Value::as_u16).collect();
        match <[u16; 4]>::try_from(order) {
            Ok(order) if items.len() == 4 => Ok(Some(order)),
            _ => Err(Refusal::invalid("BootOrder does not have four entries.")),
        }
    }
}
