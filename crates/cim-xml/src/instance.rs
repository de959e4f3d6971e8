//! `INSTANCE`, its properties, and the elements that put a path beside it.

use crate::XmlError;
use crate::element::{Attribute, Element};
use crate::path::{is_path, read_path, write_full_path, write_name};
use crate::reader::{Reader, Tag, misplaced};
use crate::value::{Declared, embedded_attribute, is_value, read_value, type_name, write_value};
use crate::writer::Writer;
use cim::{CimType, Instance, Name, Property, Type, Value};

/// What to do with WMI's system properties (`__PATH`, `__CLASS` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemProperties {
    /// They are part of the answer to a query that selected them.
    Keep,
    /// In an embedded instance they describe where the client got it from.
    Drop,
}

/// Reads `INSTANCE`, whose start is `tag`.
pub(crate) fn read_instance(
    reader: &mut Reader<'_>,
    tag: &Tag,
    system: SystemProperties,
) -> Result<Instance, XmlError> {
    let class = Name::from(tag.required(Attribute::ClassName)?);
    let mut properties = Vec::new();
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Qualifier) => reader.skip()?,
            Some(Element::Property | Element::PropertyArray | Element::PropertyReference) => {
                let property = read_property(reader, &child)?;
                if system == SystemProperties::Keep || !property.name.as_str().starts_with("__") {
                    properties.push(property);
                }
            }
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(Instance {
        class,
        path: None,
        properties,
    })
}

fn read_property(reader: &mut Reader<'_>, tag: &Tag) -> Result<Property, XmlError> {
    let name = Name::from(tag.required(Attribute::Name)?);
    let origin = tag.attribute(Attribute::ClassOrigin).map(Name::from);
    let array = tag.element == Some(Element::PropertyArray);
    let declared = match tag.element {
        Some(Element::PropertyReference) => Declared {
            kind: CimType::Reference,
        },
        _ => Declared::of(tag, Attribute::Type)?,
    };
    let mut value = Value::Null;
    while let Some(child) = reader.child()? {
        let fits = match tag.element {
            Some(Element::PropertyArray) => [Element::ValueArray, Element::ValueRefArray],
            Some(Element::PropertyReference) => [Element::ValueReference; 2],
            _ => [Element::Value; 2],
        };
        match child.element {
            Some(Element::Qualifier) => reader.skip()?,
            Some(element) if fits.contains(&element) && value.is_null() => {
                value = read_value(reader, &child, declared)?;
            }
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(Property {
        name,
        ty: Type {
            kind: declared.kind,
            array,
        },
        value,
        origin,
    })
}

/// Reads an element that holds an instance and perhaps its path: `VALUE.NAMEDINSTANCE`,
/// `VALUE.INSTANCEWITHPATH`, and the forms of `VALUE.OBJECT...` that hold an instance.
pub(crate) fn read_instance_holder(
    reader: &mut Reader<'_>,
    tag: &Tag,
) -> Result<Instance, XmlError> {
    let mut path = None;
    let mut instance = None;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Instance) if instance.is_none() => {
                instance = Some(read_instance(reader, &child, SystemProperties::Keep)?);
            }
            _ if is_path(&child) && path.is_none() => path = Some(read_path(reader, &child)?),
            _ => return Err(misplaced(&child)),
        }
    }
    let mut instance =
        instance.ok_or_else(|| tag.invalid(format!("{} holds no INSTANCE", tag.name())))?;
    instance.path = path;
    Ok(instance)
}

/// Writes `INSTANCE`.
pub(crate) fn write_instance(writer: &mut Writer, instance: &Instance, class_origin: bool) {
    let class = Some(instance.class.as_str());
    writer.open(Element::Instance, &[(Attribute::ClassName, class)]);
    for property in &instance.properties {
        write_property(writer, property, class_origin);
    }
    writer.close(Element::Instance);
}

fn write_property(writer: &mut Writer, property: &Property, class_origin: bool) {
    let origin = property.origin.as_ref().filter(|_| class_origin);
    let (element, ty, embedded) = match property.ty.kind {
        CimType::Reference if !property.ty.array => (Element::PropertyReference, None, None),
        _ => (
            if property.ty.array {
                Element::PropertyArray
            } else {
                Element::Property
            },
            Some(type_name(property.ty)),
            embedded_attribute(property.ty, &property.value),
        ),
    };
    let attributes = [
        (Attribute::Name, Some(property.name.as_str())),
        (Attribute::Type, ty),
        (Attribute::ClassOrigin, origin.map(Name::as_str)),
        (Attribute::EmbeddedObject, embedded),
    ];
    // NULL is an element without a value; one widespread client does not read `<PROPERTY/>`.
    writer.open(element, &attributes);
    write_value(writer, property.ty.kind, &property.value);
    writer.close(element);
}

/// Writes `VALUE.NAMEDINSTANCE`.
pub(crate) fn write_named_instance(writer: &mut Writer, instance: &Instance, class_origin: bool) {
    writer.open(Element::ValueNamedInstance, &[]);
    if let Some(path) = &instance.path {
        write_name(writer, path);
    }
    write_instance(writer, instance, class_origin);
    writer.close(Element::ValueNamedInstance);
}

/// Writes an instance with its full path in `holder`.
pub(crate) fn write_instance_with_path(
    writer: &mut Writer,
    holder: Element,
    instance: &Instance,
    class_origin: bool,
) {
    writer.open(holder, &[]);
    if let Some(path) = &instance.path {
        write_full_path(writer, path);
    }
    write_instance(writer, instance, class_origin);
    writer.close(holder);
}

/// A parameter or return value: `PARAMVALUE` and `RETURNVALUE` differ only in their name.
pub(crate) fn write_typed(
    writer: &mut Writer,
    element: Element,
    name: Option<&Name>,
    ty: Type,
    value: &Value,
) {
    let attributes = [
        (Attribute::Name, name.map(Name::as_str)),
        (Attribute::ParamType, Some(type_name(ty))),
        (Attribute::EmbeddedObject, embedded_attribute(ty, value)),
    ];
    if value.is_null() {
        return writer.empty(element, &attributes);
    }
    writer.open(element, &attributes);
    write_value(writer, ty.kind, value);
    writer.close(element);
}

/// Reads what stands in `PARAMVALUE` or `RETURNVALUE`, whose start is `tag`: the type as stated
/// (a string where nothing is), the value, and whether a type was stated.
pub(crate) fn read_typed(reader: &mut Reader<'_>, tag: &Tag) -> Result<(Type, Value), XmlError> {
    let declared = Declared::of(tag, Attribute::ParamType)?;
    let mut value = None;
    while let Some(child) = reader.child()? {
        if value.is_some() {
            return Err(misplaced(&child));
        }
        value = Some(match child.element {
            _ if is_value(&child) => read_value(reader, &child, declared)?,
            _ if is_path(&child) => Value::Reference(Box::new(read_path(reader, &child)?)),
            Some(Element::Instance) => Value::Instance(Box::new(read_instance(
                reader,
                &child,
                SystemProperties::Drop,
            )?)),
            Some(Element::ValueNamedInstance) => {
                Value::Instance(Box::new(read_instance_holder(reader, &child)?))
            }
            Some(Element::Class) => {
                Value::Class(Box::new(crate::class::read_class(reader, &child)?))
            }
            _ => return Err(misplaced(&child)),
        });
    }
    let value = value.unwrap_or(Value::Null);
    let kind = match &value {
        Value::Reference(_) => CimType::Reference,
        _ => declared.kind,
    };
    let array = matches!(value, Value::Array(_));
    Ok((Type { kind, array }, value))
}
