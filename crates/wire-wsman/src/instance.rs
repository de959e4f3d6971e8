//! Instances and values, both ways (DSP0230 section 7, MS-WSMV 2.2.4).
//!
//! Every property of an answer is there, null ones with `xsi:nil`: some clients give up on an item
//! that lacks one. Array items are repeated elements. Embedded objects that are declared as strings
//! are their CIM-XML text, others are elements.

use crate::reference::read_reference;
use crate::resource::{Family, path_of};
use crate::soap::duration::{Spelled, cim_text, spell};
use crate::soap::fault::Fault;
use crate::soap::uri;
use crate::soap::writer::Writer;
use crate::soap::xml::Element;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cim::mof::Repository;
use cim::{CimType, Instance, Name, Property, Type, Value};
use std::collections::HashMap;

/// How deep embedded instances may stand in each other.
const DEEPEST: usize = 8;
/// The type whose values go as base64.
const BYTES: Type = Type::array(CimType::Uint8);
/// Characters of base64 that are read: a byte becomes a value of many.
const LONGEST_BASE64: usize = 256 << 10;

/// What an instance is written as.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// The class that it is shown as; its own without one.
    pub class: Option<&'a Name>,
    /// Whether null properties are left out.
    pub without_nil: bool,
}

/// Writes an instance.
pub fn write_instance(w: &mut Writer, instance: &Instance, family: &Family, form: Form<'_>) {
    let class = form.class.unwrap_or(&instance.class);
    let namespace = instance.path.as_ref().and_then(|it| it.namespace.as_ref());
    let address = family.class_uri(namespace, class);
    let name = format!("p:{class}");
    let attributes = [
        ("xmlns:p", address.as_str()),
        ("xsi:type", &format!("p:{class}_Type")),
    ];
    w.open_with(&name, &attributes);
    for property in &instance.properties {
        if !(form.without_nil && property.value.is_null()) {
            write_property(w, property, family);
        }
    }
    w.close();
}

/// Writes a property or a parameter, in the namespace of prefix `p`.
pub fn write_property(w: &mut Writer, property: &Property, family: &Family) {
    write_member(w, property, family, 0);
}

/// Each level of embedded objects has a prefix of its own: `p`, `p1`, ...
fn prefix(depth: usize) -> String {
    match depth {
        0 => "p".to_owned(),
        depth => format!("p{depth}"),
    }
}

fn write_member(w: &mut Writer, property: &Property, family: &Family, depth: usize) {
    let name = format!("{}:{}", prefix(depth), property.name);
    match &property.value {
        Value::Null => {
            w.empty(&name, &[("xsi:nil", "true")]);
        }
        // DSP0230: bytes are one element, in base64.
        Value::Array(items) if property.ty.kind == CimType::Uint8 && !items.is_empty() => {
            let bytes = items.iter().filter_map(|item| match item {
                Value::Uint8(byte) => Some(*byte),
                _ => None,
            });
            w.leaf(&name, &BASE64_STANDARD.encode(bytes.collect::<Vec<_>>()));
        }
        Value::Array(items) => {
            for item in items {
                write_value(w, &name, item, property.ty, family, depth);
            }
        }
        value => write_value(w, &name, value, property.ty, family, depth),
    }
}

fn write_value(w: &mut Writer, name: &str, value: &Value, ty: Type, family: &Family, depth: usize) {
    match value {
        Value::Null | Value::Array(_) => {
            w.empty(name, &[("xsi:nil", "true")]);
        }
        Value::Reference(path) => {
            w.open(name);
            family.reference(path).write(w);
            w.close();
        }
        Value::DateTime(value) => {
            w.open(name);
            match spell(*value) {
                Spelled::Moment(text) => w.leaf("cim:Datetime", &text),
                Spelled::Interval(text) => w.leaf("cim:Interval", &text),
            };
            w.close();
        }
        Value::Instance(instance) if ty.kind == CimType::Object => {
            let namespace = instance.path.as_ref().and_then(|it| it.namespace.as_ref());
            let address = family.class_uri(namespace, &instance.class);
            let inner = prefix(depth + 1);
            let attributes = [
                (&*format!("xmlns:{inner}"), address.as_str()),
                ("xsi:type", &format!("{inner}:{}_Type", instance.class)),
            ];
            w.open_with(name, &attributes);
            for property in &instance.properties {
                write_member(w, property, family, depth + 1);
            }
            w.close();
        }
        Value::Instance(instance) => {
            w.leaf(name, &cim_xml::embedded::write_instance(instance));
        }
        Value::Class(class) => {
            w.leaf(name, &cim::mof::print_class(class, cim::mof::Members::Own));
        }
        Value::Boolean(value) => {
            w.leaf(name, if *value { "true" } else { "false" });
        }
        other => {
            w.leaf(name, &other.to_text().unwrap_or_default());
        }
    }
}

/// Reads what clients give. Most types are the broker's business, and text stays text; only what
/// XML spells in its own way is settled here.
pub struct ValueReader<'a> {
    /// The classes that embedded instances may be of.
    pub schema: &'a Repository,
}

impl ValueReader<'_> {
    /// The value of a parameter or a property declared as `ty`, in one or more elements of its name.
    pub fn value(&self, elements: &[&Element], ty: Option<Type>) -> Result<Value, Fault> {
        self.values(elements, ty, 0)
    }

    fn values(
        &self,
        elements: &[&Element],
        ty: Option<Type>,
        depth: usize,
    ) -> Result<Value, Fault> {
        match elements {
            [] => Ok(Value::Null),
            [one] if ty == Some(BYTES) && one.children.is_empty() && !one.is_nil() => bytes(one),
            [one] => self.item(one, ty, depth),
            several => several
                .iter()
                .map(|it| self.item(it, ty, depth))
                .collect::<Result<_, _>>()
                .map(Value::Array),
        }
    }

    fn item(&self, element: &Element, ty: Option<Type>, depth: usize) -> Result<Value, Fault> {
        if element.is_nil() {
            return Ok(Value::Null);
        }
        if element.children.is_empty() {
            let text = element.text.as_str();
            return Ok(match (ty.map(|it| it.kind), text.trim()) {
                (Some(CimType::Boolean), "1") => Value::Boolean(true),
                (Some(CimType::Boolean), "0") => Value::Boolean(false),
                (Some(CimType::DateTime), _) => Value::String(datetime_text(text)),
                _ => Value::String(text.to_owned()),
            });
        }
        if let Some(reference) = read_reference(element) {
            return Ok(Value::from(path_of(&reference?)?));
        }
        if let [only] = element.children.as_slice() {
            if &*only.namespace == uri::CIM_COMMON {
                return Ok(Value::String(datetime_text(&only.text)));
            }
            if ["INSTANCE", "CLASS", "VALUE.NAMEDINSTANCE"].contains(&only.local.as_str()) {
                return Ok(Value::String(plain_text(only)));
            }
        }
        let instance = self.instance(element, None, depth)?;
        Ok(Value::Instance(Box::new(instance)))
    }

    /// An instance whose properties are child elements. Its class is `class`, or what `xsi:type`
    /// says, or the last part of its properties' namespace.
    pub fn instance(
        &self,
        element: &Element,
        class: Option<&Name>,
        depth: usize,
    ) -> Result<Instance, Fault> {
        if depth >= DEEPEST {
            let reason =
                format!("Embedded instances stand in each other deeper than {DEEPEST} levels.");
            return Err(Fault::schema(reason));
        }
        let stated = element.attribute("type").map(|it| {
            let local = it.rsplit_once(':').map_or(it, |(_, local)| local).trim();
            local.strip_suffix("_Type").unwrap_or(local)
        });
        let of_members = || {
            let child = element.children.first()?;
            child.namespace.rsplit_once('/').map(|(_, last)| last)
        };
        let name = match (class, stated) {
            (Some(class), _) => class.clone(),
            (None, Some(stated)) => Name::new(stated),
            (None, None) => Name::new(of_members().unwrap_or_default()),
        };
        let declared = self.schema.class(&name);
        let mut properties: Vec<Property> = Vec::new();
        for (name, elements) in grouped(&element.children) {
            let decl = declared.and_then(|class| class.property(name));
            let value = self.values(&elements, decl.map(|it| it.ty), depth + 1)?;
            let ty = value.type_of().unwrap_or(Type::scalar(CimType::String));
            properties.push(Property {
                name: Name::new(name),
                ty,
                value,
                origin: None,
            });
        }
        Ok(Instance {
            class: name,
            path: None,
            properties,
        })
    }
}

/// An array of bytes in one element: one of them, as a number of up to three digits, or all of them in
/// base64 (DSP0230 7.2.2, and how they go out), which has a multiple of four.
fn bytes(element: &Element) -> Result<Value, Fault> {
    let text = element.trimmed();
    let wrong = |reason: String| {
        let reason = format!("{}: {reason}", element.local);
        Fault::parameter("InvalidValue", &reason)
    };
    let is_number = text.len() < 4 && text.parse::<u8>().is_ok();
    if is_number {
        return Ok(Value::String(text.to_owned()));
    }
    if text.len() > LONGEST_BASE64 {
        return Err(wrong(format!(
            "base64 of {} characters; there may be {LONGEST_BASE64}.",
            text.len()
        )));
    }
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = BASE64_STANDARD.decode(packed).map_err(|error| {
        wrong(format!(
            "neither a number from 0 to 255 nor base64 of bytes ({error})."
        ))
    })?;
    Ok(Value::Array(
        decoded.into_iter().map(Value::Uint8).collect(),
    ))
}

/// Elements by name, in the order in which the names first come.
pub fn grouped(elements: &[Element]) -> Vec<(&str, Vec<&Element>)> {
    let mut groups: Vec<(&str, Vec<&Element>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for element in elements {
        let name = element.local.as_str();
        let place = *places.entry(name).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, group)) => group.push(element),
            None => groups.push((name, vec![element])),
        }
    }
    groups
}

/// XML's datetimes as CIM writes them; what is none of them stays as it is.
fn datetime_text(text: &str) -> String {
    cim_text(text).unwrap_or_else(|| text.trim().to_owned())
}

/// CIM-XML that came as elements, as the text that it would have been.
fn plain_text(element: &Element) -> String {
    let mut w = Writer::default();
    write_plain(&mut w, element);
    w.finish()
}

fn write_plain(w: &mut Writer, element: &Element) {
    let attributes: Vec<(&str, &str)> = element
        .attributes
        .iter()
        .map(|it| (it.local.as_str(), it.value.as_str()))
        .collect();
    w.open_with(&element.local, &attributes);
    if element.children.is_empty() {
        w.text(&element.text);
    }
    for child in &element.children {
        write_plain(w, child);
    }
    w.close();
}

#[cfg(test)]
mod tests {
    use super::{BYTES, LONGEST_BASE64, ValueReader};
    use crate::soap::xml::{Limits, parse};
    use cim::mof::Repository;
    use cim::{CimType, Type, Value};

    fn read(content: &str, ty: Type) -> Option<Value> {
        let text = format!("<all>{content}</all>");
        let all = parse(text.as_bytes(), Limits::REQUEST).expect("XML").root;
        let schema = Repository::compile(&[]).expect("an empty schema");
        let elements: Vec<_> = all.children.iter().collect();
        ValueReader { schema: &schema }
            .value(&elements, Some(ty))
            .ok()
    }

    #[test]
    fn bytes_come_as_numbers_and_as_base64() {
        let bytes = |bytes: &[u8]| {
            Some(Value::Array(
                bytes.iter().map(|it| Value::Uint8(*it)).collect(),
            ))
        };
        let text = |text: &str| Value::from(text.to_owned());
        assert_eq!(
            read("<c>HmF/4A==</c>", BYTES),
            bytes(&[0x1e, 0x61, 0x7f, 0xe0])
        );
        assert_eq!(
            read("<c> Hm\nF/\n4A==</c>", BYTES),
            bytes(&[0x1e, 0x61, 0x7f, 0xe0])
        );
        // Four digits are no number that fits, and base64 of three bytes.
        assert_eq!(read("<c>1234</c>", BYTES), bytes(&[0xd7, 0x6d, 0xf8]));
        assert_eq!(read("<c></c>", BYTES), bytes(&[]));
        assert_eq!(read("<c>30</c>", BYTES), Some(text("30")));
        let several = Value::Array(vec![text("30"), text("158")]);
        assert_eq!(read("<c>30</c><c>158</c>", BYTES), Some(several));
        let long = "A".repeat(LONGEST_BASE64 + 4);
        for wrong in ["300", "HmF", "HmF/4A", "-1", "a b!", &long] {
            assert_eq!(read(&format!("<c>{wrong}</c>"), BYTES), None, "{wrong:.9}");
        }
        // One byte is no array, and text none of bytes.
        for ty in [Type::scalar(CimType::Uint8), Type::array(CimType::String)] {
            assert_eq!(read("<c>HmF/4A==</c>", ty), Some(text("HmF/4A==")));
        }
    }
}
