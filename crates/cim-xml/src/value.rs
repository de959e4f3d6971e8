//! `VALUE`, `VALUE.ARRAY`, `VALUE.REFERENCE`, `VALUE.REFARRAY`.

use crate::class::write_class;
use crate::element::{Attribute, Element};
use crate::embedded;
use crate::path::{read_reference_target, write_reference_target};
use crate::reader::{Reader, Tag, misplaced};
use crate::writer::Writer;
use crate::{Limits, XmlError};
use cim::{CimType, Type, Value};

/// How the text of a `VALUE` is to be understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    /// The stated type; `Object` where `EmbeddedObject` stands beside it.
    pub(crate) kind: CimType,
}

impl Declared {
    /// From an element with a type attribute (`TYPE` or `PARAMTYPE`) and perhaps `EmbeddedObject`.
    /// Without a type it is a string.
    pub(crate) fn of(tag: &Tag, type_attribute: Attribute) -> Result<Self, XmlError> {
        let kind = match tag.attribute(type_attribute) {
            None => CimType::String,
            Some(name) => CimType::from_name(name.trim())
                .ok_or_else(|| tag.invalid(format!("there is no type called {name:?}")))?,
        };
        let embedded = tag.attribute(Attribute::EmbeddedObject).is_some();
        Ok(Declared {
            kind: if embedded && kind == CimType::String {
                CimType::Object
            } else {
                kind
            },
        })
    }

    /// The value that `text` stands for; what is not a literal of the type stays a string.
    fn value(self, text: String, limits: &Limits) -> Value {
        match self.kind {
            CimType::String => Value::String(text),
            CimType::Object => match embedded::parse_within(&text, limits) {
                Some(value) => value,
                None => Value::String(text),
            },
            kind => match Value::parse_as(&text, kind) {
                Ok(value) => value,
                Err(_) => Value::String(text),
            },
        }
    }
}

/// Reads `VALUE`, `VALUE.ARRAY`, `VALUE.REFERENCE` or `VALUE.REFARRAY`, whose start is `tag`.
pub(crate) fn read_value(
    reader: &mut Reader<'_>,
    tag: &Tag,
    declared: Declared,
) -> Result<Value, XmlError> {
    match tag.element {
        Some(Element::Value) => {
            let text = reader.text()?;
            Ok(declared.value(text, reader.limits()))
        }
        Some(Element::ValueReference) => {
            let path = read_reference_target(reader, tag)?;
            Ok(Value::Reference(Box::new(path)))
        }
        Some(array @ (Element::ValueArray | Element::ValueRefArray)) => {
            let of = match array {
                Element::ValueArray => Element::Value,
                _ => Element::ValueReference,
            };
            let mut items = Vec::new();
            while let Some(item) = reader.child()? {
                items.push(match item.element {
                    Some(Element::ValueNull) => {
                        reader.end()?;
                        Value::Null
                    }
                    Some(element) if element == of => read_value(reader, &item, declared)?,
                    _ => return Err(misplaced(&item)),
                });
            }
            Ok(Value::Array(items))
        }
        _ => Err(misplaced(tag)),
    }
}

/// Whether `tag` starts one of the elements that [`read_value`] reads.
pub(crate) fn is_value(tag: &Tag) -> bool {
    matches!(
        tag.element,
        Some(
            Element::Value | Element::ValueArray | Element::ValueReference | Element::ValueRefArray
        )
    )
}

/// Writes the element that holds `value`, which is declared to be of `kind`; nothing for NULL.
pub(crate) fn write_value(writer: &mut Writer, kind: CimType, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(items) => {
            let references = kind == CimType::Reference
                || items.iter().any(|item| matches!(item, Value::Reference(_)));
            let element = if references {
                Element::ValueRefArray
            } else {
                Element::ValueArray
            };
            writer.open(element, &[]);
            for item in items {
                match item {
                    // The DTD has no array of arrays: such an item has no text to write.
                    Value::Null | Value::Array(_) => writer.empty(Element::ValueNull, &[]),
                    item => write_value(writer, kind, item),
                }
            }
            writer.close(element);
        }
        Value::Reference(path) => {
            writer.open(Element::ValueReference, &[]);
            write_reference_target(writer, path);
            writer.close(Element::ValueReference);
        }
        Value::Instance(instance) => {
            writer.leaf(Element::Value, &embedded::write_instance(instance));
        }
        Value::Class(class) => {
            let mut inner = Writer::default();
            write_class(&mut inner, class, true);
            writer.leaf(Element::Value, &inner.finish());
        }
        scalar => writer.leaf(Element::Value, &scalar.to_text().unwrap_or_default()),
    }
}

/// The `TYPE` or `PARAMTYPE` of `ty`: embedded objects are strings there.
pub(crate) fn type_name(ty: Type) -> &'static str {
    match ty.kind {
        CimType::Object => CimType::String.name(),
        kind => kind.name(),
    }
}

/// The `EmbeddedObject` attribute that must stand beside `value`, if it holds embedded objects. A
/// string does only where the type says so, and only if it is XML: clients parse what bears the
/// attribute. NULL holds none, and one widespread client does not know the attribute on arrays.
pub(crate) fn embedded_attribute(ty: Type, value: &Value) -> Option<&'static str> {
    const INSTANCE: Option<&str> = Some("instance");
    const OBJECT: Option<&str> = Some("object");
    match value {
        Value::Instance(_) => INSTANCE,
        Value::Class(_) => OBJECT,
        Value::Array(items) => {
            let mut found = None;
            for item in items {
                match embedded_attribute(ty, item) {
                    None if item.is_null() => {}
                    None => return None,
                    Some("object") => found = OBJECT,
                    other => found = found.or(other),
                }
            }
            found
        }
        Value::String(text) if ty.kind == CimType::Object => {
            let text = text.trim_start();
            if text.starts_with("<CLASS") {
                OBJECT
            } else if text.starts_with('<') {
                INSTANCE
            } else {
                None
            }
        }
        _ => None,
    }
}
