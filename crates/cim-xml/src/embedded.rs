//! The text form of an object inside a string: what WMI's `GetText` makes and what `EmbeddedObject`
//! parameters hold.
//!
//! On input: with or without an XML declaration, blanks around it, WMI's system properties (passed
//! over), `CLASSORIGIN` and `PROPAGATED`. On output: one line, `NAME` and `TYPE` only, as Hyper-V's
//! own texts are. Types are as the text states them; the broker converts to what the class declares.

use crate::class::{self, read_class};
use crate::element::Element;
use crate::instance::{self, SystemProperties, read_instance, read_instance_holder};
use crate::reader::{Reader, misplaced};
use crate::writer::Writer;
use crate::{Limits, XmlError};
use cim::{Class, Instance, Name, Value};

/// Reads an instance from its text.
///
/// ```
/// let text = r#"<INSTANCE CLASSNAME="X"><PROPERTY NAME="N" TYPE="uint16"><VALUE>7</VALUE></PROPERTY></INSTANCE>"#;
/// let instance = cim_xml::embedded::parse_instance(text).unwrap();
/// assert_eq!(instance.get("n"), Some(&cim::Value::Uint16(7)));
/// assert_eq!(cim_xml::embedded::write_instance(&instance), text);
/// ```
pub fn parse_instance(text: &str) -> Result<Instance, XmlError> {
    let mut reader = Reader::from_text(text.trim(), Limits::REQUEST)?;
    match parse_object(&mut reader)? {
        Value::Instance(instance) => Ok(*instance),
        _ => Err(reader.invalid("a class stands where an instance should")),
    }
}

/// Reads an instance or a class from its text.
pub fn parse(text: &str) -> Result<Value, XmlError> {
    parse_object(&mut Reader::from_text(text.trim(), Limits::REQUEST)?)
}

/// The text of an instance.
pub fn write_instance(instance: &Instance) -> String {
    let mut writer = Writer::default();
    instance::write_instance(&mut writer, instance, false);
    writer.finish()
}

/// The text of a class. `derivation` is its superclasses, nearest first, if they are to be in it;
/// `class_origin` says whether each member names the class that introduced it.
pub fn write_class(class: &Class, derivation: Option<&[Name]>, class_origin: bool) -> String {
    let names = |classes: &[Name]| {
        let names: Vec<&str> = classes.iter().map(Name::as_str).collect();
        names.join(",")
    };
    let derivation = derivation.map(names);
    let mut writer = Writer::default();
    class::write_class_with(&mut writer, class, class_origin, derivation.as_deref());
    writer.finish()
}

/// The object in `text`, inside a document that is itself read within `limits`; `None` when it is
/// not the text of an object, or embedded too deep.
pub(crate) fn parse_within(text: &str, limits: &Limits) -> Option<Value> {
    let inner = Limits {
        embedding: limits.embedding.checked_sub(1)?,
        ..*limits
    };
    let mut reader = Reader::from_text(text.trim(), inner).ok()?;
    parse_object(&mut reader).ok()
}

fn parse_object(reader: &mut Reader<'_>) -> Result<Value, XmlError> {
    let root = reader.root()?;
    let value = match root.element {
        Some(Element::Instance) => {
            let instance = read_instance(reader, &root, SystemProperties::Drop)?;
            Value::Instance(Box::new(instance))
        }
        Some(Element::ValueNamedInstance | Element::ValueInstanceWithPath) => {
            Value::Instance(Box::new(read_instance_holder(reader, &root)?))
        }
        Some(Element::Class) => Value::Class(Box::new(read_class(reader, &root)?)),
        _ => return Err(misplaced(&root)),
    };
    reader.finish()?;
    Ok(value)
}
