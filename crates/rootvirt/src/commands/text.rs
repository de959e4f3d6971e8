//! Reading single properties out of instances, and WQL literals.

use crate::failure::Failure;
use cim::{DateTime, Instance, ObjectPath, Value};
use serde_json::{Map, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `text` as a WQL string literal.
pub fn wql_string(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A string property.
pub fn string<'a>(instance: &'a Instance, name: &str) -> Option<&'a str> {
    match instance.get(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// An integer property of any width.
pub fn number(instance: &Instance, name: &str) -> Option<u64> {
    match instance.get(name)? {
        Value::Uint8(n) => Some(u64::from(*n)),
        Value::Uint16(n) => Some(u64::from(*n)),
        Value::Uint32(n) => Some(u64::from(*n)),
        Value::Uint64(n) => Some(*n),
        _ => None,
    }
}

/// The path that the service gave an instance.
pub fn path_of(instance: &Instance) -> Result<&ObjectPath, Failure> {
    instance.path.as_ref().ok_or_else(|| {
        Failure::new(format!(
            "The service answered an instance of {} without path.",
            instance.class
        ))
    })
}

/// Sets a property that the instance has.
pub fn put(instance: &mut Instance, name: &str, value: Value) -> Result<(), Failure> {
    match instance
        .properties
        .iter_mut()
        .find(|property| property.name.is(name))
    {
        Some(property) => {
            property.value = value;
            Ok(())
        }
        None => Err(Failure::new(format!(
            "{} has no property {name}.",
            instance.class
        ))),
    }
}

/// A value as JSON.
pub fn json_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Boolean(flag) => json!(flag),
        Value::String(text) => json!(text),
        Value::Char16(unit) => json!(char::from_u32((*unit).into()).map(String::from)),
        Value::Uint8(n) => json!(n),
        Value::Sint8(n) => json!(n),
        Value::Uint16(n) => json!(n),
        Value::Sint16(n) => json!(n),
        Value::Uint32(n) => json!(n),
        Value::Sint32(n) => json!(n),
        Value::Uint64(n) => json!(n),
        Value::Sint64(n) => json!(n),
        Value::Real32(n) => json!(n),
        Value::Real64(n) => json!(n),
        Value::DateTime(time) => json!(time.to_string()),
        Value::Reference(path) => json!(path.to_string()),
        Value::Instance(instance) => serde_json::Value::Object(json_object(instance)),
        Value::Class(class) => json!(class.name.as_str()),
        Value::Array(items) => items.iter().map(json_value).collect(),
    }
}

/// A property as JSON; null when there is none.
pub fn json_of(instance: &Instance, name: &str) -> serde_json::Value {
    instance
        .get(name)
        .map_or(serde_json::Value::Null, json_value)
}

/// A point in time as RFC 3339 in UTC, an interval in seconds; null when there is none.
pub fn time_of(instance: &Instance, name: &str) -> serde_json::Value {
    match instance.get(name) {
        Some(Value::DateTime(DateTime::Timestamp { unix_micros, .. })) => {
            let nanos = i128::from(*unix_micros) * 1000;
            let text = OffsetDateTime::from_unix_timestamp_nanos(nanos)
                .ok()
                .and_then(|time| time.format(&Rfc3339).ok());
            json!(text)
        }
        Some(Value::DateTime(DateTime::Interval { micros })) => json!(*micros as f64 / 1e6),
        _ => serde_json::Value::Null,
    }
}

/// A whole instance as JSON, keys in snake_case.
pub fn json_object(instance: &Instance) -> Map<String, serde_json::Value> {
    let mut object = Map::new();
    object.insert("class".into(), json!(instance.class.as_str()));
    if let Some(path) = &instance.path {
        object.insert("path".into(), json!(path.to_string()));
    }
    for property in &instance.properties {
        object.insert(
            snake_case(property.name.as_str()),
            json_value(&property.value),
        );
    }
    object
}

/// `InstanceID` to `instance_id`.
pub fn snake_case(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (index, character) in characters.iter().enumerate() {
        let after_lower = index > 0
            && (characters[index - 1].is_lowercase() || characters[index - 1].is_ascii_digit());
        let before_lower = index > 0
            && characters[index - 1].is_uppercase()
            && characters
                .get(index + 1)
                .is_some_and(|next| next.is_lowercase());
        if character.is_uppercase() && (after_lower || before_lower) {
            out.push('_');
        }
        out.extend(character.to_lowercase());
    }
    out
}

/// The GUID of the snapshot that a configuration's `Parent` names.
pub fn parent_of(settings: &Instance) -> serde_json::Value {
    let Some(parent) = string(settings, "Parent") else {
        return serde_json::Value::Null;
    };
    match ObjectPath::parse(parent)
        .ok()
        .and_then(|path| path.key("InstanceID").map(key_text))
    {
        Some(id) => json!(configuration_guid(&id)),
        None => json!(parent),
    }
}

/// `Microsoft:GUID` without its prefix.
pub fn configuration_guid(instance_id: &str) -> &str {
    instance_id
        .strip_prefix("Microsoft:")
        .unwrap_or(instance_id)
}

fn key_text(value: &cim::KeyValue) -> String {
    match value {
        cim::KeyValue::String(text) => text.clone(),
        cim::KeyValue::Boolean(flag) => flag.to_string(),
        cim::KeyValue::Signed(n) => n.to_string(),
        cim::KeyValue::Unsigned(n) => n.to_string(),
        cim::KeyValue::Reference(path) => path.to_string(),
    }
}

/// The devices of a configuration, as JSON rows.
pub fn devices(resources: &[Instance]) -> serde_json::Value {
    resources
        .iter()
        .map(|resource| {
            let kind = match string(resource, "ResourceSubType") {
                Some(kind) => json!(kind),
                None => json_of(resource, "OtherResourceType"),
            };
            json!({
                "kind": kind,
                "name": json_of(resource, "ElementName"),
                "quantity": json_of(resource, "VirtualQuantity"),
                "address": json_of(resource, "Address"),
                "connection": json_of(resource, "Connection"),
                "instance_id": json_of(resource, "InstanceID"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{snake_case, wql_string};

    #[test]
    fn names_become_snake_case() {
        for (name, expected) in [
            ("ElementName", "element_name"),
            ("InstanceID", "instance_id"),
            ("BIOSGUID", "biosguid"),
            ("OnTimeInMilliseconds", "on_time_in_milliseconds"),
            ("PoolID", "pool_id"),
            ("name", "name"),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(wql_string(r"a'b\c"), r"'a\'b\\c'");
    }
}
