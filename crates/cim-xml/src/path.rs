//! Object paths: `INSTANCENAME`, `CLASSNAME`, their local and full path forms, and namespaces.
//!
//! References inside values are written without a host: clients compare the paths of one answer
//! with those of another, and a host in one of the two would make them differ.

use crate::XmlError;
use crate::element::{Attribute, Element};
use crate::reader::{Reader, Tag, misplaced};
use crate::writer::Writer;
use cim::{KeyValue, Keys, Name, Namespace, ObjectPath};

/// Reads the path in `VALUE.REFERENCE`, `OBJECTPATH` or the like, whose start is `holder`.
pub(crate) fn read_reference_target(
    reader: &mut Reader<'_>,
    holder: &Tag,
) -> Result<ObjectPath, XmlError> {
    let Some(tag) = reader.child()? else {
        return Err(holder.invalid(format!("{} holds no path", holder.name())));
    };
    let path = read_path(reader, &tag)?;
    reader.end()?;
    Ok(path)
}

/// Whether `tag` starts one of the elements that [`read_path`] reads.
pub(crate) fn is_path(tag: &Tag) -> bool {
    matches!(
        tag.element,
        Some(
            Element::InstanceName
                | Element::LocalInstancePath
                | Element::InstancePath
                | Element::ClassName
                | Element::LocalClassPath
                | Element::ClassPath
        )
    )
}

/// Reads any of the six path elements, whose start is `tag`.
pub(crate) fn read_path(reader: &mut Reader<'_>, tag: &Tag) -> Result<ObjectPath, XmlError> {
    match tag.element {
        Some(Element::InstanceName) => read_instance_name(reader, tag),
        Some(Element::ClassName) => {
            let class = Name::from(tag.required(Attribute::Name)?);
            reader.end()?;
            Ok(path_of(class, Keys::Class))
        }
        Some(
            Element::LocalInstancePath
            | Element::InstancePath
            | Element::LocalClassPath
            | Element::ClassPath,
        ) => {
            let mut place = None;
            let mut object = None;
            while let Some(child) = reader.child()? {
                match child.element {
                    Some(Element::NamespacePath) if place.is_none() => {
                        let (host, namespace) = read_namespace_path(reader)?;
                        place = Some((Some(host), namespace));
                    }
                    Some(Element::LocalNamespacePath) if place.is_none() => {
                        place = Some((None, read_local_namespace(reader, &child)?));
                    }
                    Some(Element::InstanceName | Element::ClassName) if object.is_none() => {
                        object = Some(read_path(reader, &child)?);
                    }
                    _ => return Err(misplaced(&child)),
                }
            }
            let (Some((host, namespace)), Some(mut path)) = (place, object) else {
                let message = format!("{} needs a namespace and a name", tag.name());
                return Err(tag.invalid(message));
            };
            path.host = host;
            path.namespace = Some(namespace);
            Ok(path)
        }
        _ => Err(misplaced(tag)),
    }
}

fn path_of(class: Name, keys: Keys) -> ObjectPath {
    ObjectPath {
        host: None,
        namespace: None,
        class,
        keys,
    }
}

fn read_namespace_path(reader: &mut Reader<'_>) -> Result<(String, Namespace), XmlError> {
    let mut host = None;
    let mut namespace = None;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Host) if host.is_none() => {
                host = Some(reader.text()?.trim().to_owned());
            }
            Some(Element::LocalNamespacePath) if namespace.is_none() => {
                namespace = Some(read_local_namespace(reader, &child)?);
            }
            _ => return Err(misplaced(&child)),
        }
    }
    host.zip(namespace)
        .ok_or_else(|| reader.invalid("NAMESPACEPATH needs HOST and LOCALNAMESPACEPATH"))
}

/// Reads `LOCALNAMESPACEPATH`, whose start is `tag`.
pub(crate) fn read_local_namespace(
    reader: &mut Reader<'_>,
    tag: &Tag,
) -> Result<Namespace, XmlError> {
    let mut joined = String::new();
    while let Some(child) = reader.child()? {
        if child.element != Some(Element::Namespace) {
            return Err(misplaced(&child));
        }
        joined.push('\\');
        joined.push_str(child.required(Attribute::Name)?.trim());
        reader.end()?;
    }
    if joined.is_empty() {
        return Err(tag.invalid("LOCALNAMESPACEPATH needs a NAMESPACE"));
    }
    Ok(Namespace::new(joined))
}

fn read_instance_name(reader: &mut Reader<'_>, tag: &Tag) -> Result<ObjectPath, XmlError> {
    let class = Name::from(tag.required(Attribute::ClassName)?);
    let mut named: Vec<(Name, KeyValue)> = Vec::new();
    let mut unnamed = None;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::KeyBinding) if unnamed.is_none() => {
                named.push(read_key_binding(reader, &child)?);
            }
            Some(Element::KeyValue | Element::ValueReference)
                if unnamed.is_none() && named.is_empty() =>
            {
                unnamed = Some(read_key_value(reader, &child)?);
            }
            _ => return Err(misplaced(&child)),
        }
    }
    let keys = match unnamed {
        Some(value) => Keys::Unnamed(value),
        None if named.is_empty() => Keys::Singleton,
        None => {
            named.sort_by(|(a, _), (b, _)| a.cmp(b));
            if named.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(tag.invalid("INSTANCENAME has the same key twice"));
            }
            Keys::Named(named)
        }
    };
    Ok(path_of(class, keys))
}

fn read_key_binding(reader: &mut Reader<'_>, tag: &Tag) -> Result<(Name, KeyValue), XmlError> {
    let name = Name::from(tag.required(Attribute::Name)?);
    let Some(child) = reader.child()? else {
        return Err(tag.invalid("KEYBINDING holds no value"));
    };
    let value = read_key_value(reader, &child)?;
    reader.end()?;
    Ok((name, value))
}

/// Some clients say only `VALUETYPE`, others `TYPE` too; a number may be written in any of CIM's
/// notations. What is not what it says stays a string, as in values.
fn read_key_value(reader: &mut Reader<'_>, tag: &Tag) -> Result<KeyValue, XmlError> {
    match tag.element {
        Some(Element::ValueReference) => {
            let path = read_reference_target(reader, tag)?;
            return Ok(KeyValue::Reference(Box::new(path)));
        }
        Some(Element::KeyValue) => {}
        _ => return Err(misplaced(tag)),
    }
    let value_type = tag
        .attribute(Attribute::ValueType)
        .unwrap_or("string")
        .to_owned();
    let text = reader.text()?;
    let trimmed = text.trim();
    Ok(match value_type.as_str() {
        "numeric" => number_key(trimmed).unwrap_or(KeyValue::String(text)),
        "boolean" => match cim::convert::parse_boolean(trimmed) {
            Some(value) => KeyValue::Boolean(value),
            None => KeyValue::String(text),
        },
        _ => KeyValue::String(text),
    })
}

fn number_key(text: &str) -> Option<KeyValue> {
    let number = cim::convert::parse_integer(text)?;
    match u64::try_from(number) {
        Ok(number) => Some(KeyValue::Unsigned(number)),
        Err(_) => i64::try_from(number).ok().map(KeyValue::Signed),
    }
}

/// Writes the path of a reference: with its namespace if it has one, never with a host.
pub(crate) fn write_reference_target(writer: &mut Writer, path: &ObjectPath) {
    let Some(namespace) = &path.namespace else {
        return write_name(writer, path);
    };
    let element = match path.keys {
        Keys::Class => Element::LocalClassPath,
        _ => Element::LocalInstancePath,
    };
    writer.open(element, &[]);
    write_local_namespace(writer, namespace);
    write_name(writer, path);
    writer.close(element);
}

/// Writes `INSTANCEPATH` or `CLASSPATH`, which must name a host and a namespace.
pub(crate) fn write_full_path(writer: &mut Writer, path: &ObjectPath) {
    let element = match path.keys {
        Keys::Class => Element::ClassPath,
        _ => Element::InstancePath,
    };
    writer.open(element, &[]);
    writer.open(Element::NamespacePath, &[]);
    writer.leaf(Element::Host, path.host.as_deref().unwrap_or_default());
    match &path.namespace {
        Some(namespace) => write_local_namespace(writer, namespace),
        None => write_local_namespace(writer, &Namespace::new("")),
    }
    writer.close(Element::NamespacePath);
    write_name(writer, path);
    writer.close(element);
}

/// Writes `LOCALNAMESPACEPATH`.
pub(crate) fn write_local_namespace(writer: &mut Writer, namespace: &Namespace) {
    writer.open(Element::LocalNamespacePath, &[]);
    for segment in namespace.segments() {
        writer.empty(Element::Namespace, &[(Attribute::Name, Some(segment))]);
    }
    writer.close(Element::LocalNamespacePath);
}

/// Writes `INSTANCENAME` or `CLASSNAME`.
pub(crate) fn write_name(writer: &mut Writer, path: &ObjectPath) {
    let class = Some(path.class.as_str());
    match &path.keys {
        Keys::Class => writer.empty(Element::ClassName, &[(Attribute::Name, class)]),
        Keys::Singleton => writer.empty(Element::InstanceName, &[(Attribute::ClassName, class)]),
        Keys::Unnamed(value) => {
            writer.open(Element::InstanceName, &[(Attribute::ClassName, class)]);
            write_key_value(writer, value);
            writer.close(Element::InstanceName);
        }
        Keys::Named(keys) => {
            writer.open(Element::InstanceName, &[(Attribute::ClassName, class)]);
            for (name, value) in keys {
                writer.open(
                    Element::KeyBinding,
                    &[(Attribute::Name, Some(name.as_str()))],
                );
                write_key_value(writer, value);
                writer.close(Element::KeyBinding);
            }
            writer.close(Element::InstanceName);
        }
    }
}

fn write_key_value(writer: &mut Writer, value: &KeyValue) {
    let (value_type, text) = match value {
        KeyValue::Reference(path) => {
            writer.open(Element::ValueReference, &[]);
            write_reference_target(writer, path);
            return writer.close(Element::ValueReference);
        }
        KeyValue::String(text) => ("string", text.clone()),
        KeyValue::Boolean(value) => ("boolean", if *value { "TRUE" } else { "FALSE" }.to_owned()),
        KeyValue::Signed(number) => ("numeric", number.to_string()),
        KeyValue::Unsigned(number) => ("numeric", number.to_string()),
    };
    writer.open(
        Element::KeyValue,
        &[(Attribute::ValueType, Some(value_type))],
    );
    writer.text(&text);
    writer.close(Element::KeyValue);
}
