//! Instances: a class part, and the values of this instance.

use super::class::{ClassPart, PartProperty};
use super::cursor::Cursor;
use super::{DecodeError, DecodeErrorKind, Reading};
use crate::types;
use cim::{Instance, Property, Value};

/// An instance that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedInstance {
    /// Every property of the class: the sender's value, or the class's default.
    pub instance: Instance,
    /// For each property, whether the sender set it, be it to NULL.
    pub given: Vec<bool>,
}

impl DecodedInstance {
    /// The instance with only those properties that the sender set.
    pub fn into_given(self) -> Instance {
        let mut given = self.given.into_iter();
        let mut instance = self.instance;
        instance.properties.retain(|_| given.next().unwrap_or(true));
        instance
    }
}

impl Reading {
    pub(super) fn instance(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<DecodedInstance, DecodeError> {
        let class = self.class_part(cursor)?;
        let mut part = cursor.part("instance part")?;
        let _flags = part.u8()?;
        let class_name = part.u32()?;
        let tables = part.take(class.tables_length)?;
        let _qualifiers = part.part("instance qualifiers")?;
        skip_property_qualifiers(&mut part, class.properties.len())?;
        let heap = part.heap()?;

        let (flags, values) = split_tables(tables, class.properties.len())
            .ok_or_else(|| DecodeErrorKind::Truncated.at("instance part"))?;
        let ClassPart {
            name, properties, ..
        } = class;
        let mut given = Vec::with_capacity(properties.len());
        let mut decoded = Vec::with_capacity(properties.len());
        for (order, property) in properties.into_iter().enumerate() {
            let flags = NullAndDefault::of(flags, order);
            let slot = values.get(property.offset..).unwrap_or(&[]);
            let mut slot = Cursor::new(slot, "value");
            let is_default = flags.is_default
                || (!flags.is_null && is_class_name(&slot, &property, class_name)?);
            let value = if is_default {
                property.decl.default
            } else if flags.is_null {
                Value::Null
            } else {
                self.value(&mut slot, property.decl.ty, heap)
                    .map_err(|error| within(error, property.decl.name.as_str()))?
            };
            given.push(!is_default);
            decoded.push(Property {
                name: property.decl.name,
                ty: property.decl.ty,
                value,
                origin: Some(property.decl.origin),
            });
        }
        Ok(DecodedInstance {
            instance: Instance {
                class: name,
                path: None,
                properties: decoded,
            },
            given,
        })
    }
}

/// Whether a value refers to the name of the instance's class. That is no value: some clients leave
/// the reference of one that was never set at zero, without a flag, and the name stands there.
fn is_class_name(
    slot: &Cursor<'_>,
    property: &PartProperty,
    class_name: u32,
) -> Result<bool, DecodeError> {
    let ty = property.decl.ty;
    if !ty.array && !types::is_in_heap(ty.kind) {
        return Ok(false);
    }
    Ok(slot.clone().u32()? == class_name)
}

/// An error in the value of a property.
pub(super) fn within(mut error: DecodeError, property: &str) -> DecodeError {
    error.place = format!("property {property}");
    error
}

/// Flag: no property has qualifiers of its own in this instance. The other value, 2, is followed by
/// a qualifier set for each property (MS-WMIO 2.2.65).
const PROPERTY_QUALIFIERS: u8 = 2;

fn skip_property_qualifiers(part: &mut Cursor<'_>, properties: usize) -> Result<(), DecodeError> {
    if part.u8()? == PROPERTY_QUALIFIERS {
        for _ in 0..properties {
            part.part("property qualifiers")?;
        }
    }
    Ok(())
}

/// The table of flags, and the table of values.
pub(super) fn split_tables(tables: &[u8], properties: usize) -> Option<(&[u8], &[u8])> {
    tables.split_at_checked(types::flag_table_size(properties))
}

/// What the two flags of a property say.
pub(super) struct NullAndDefault {
    pub(super) is_null: bool,
    pub(super) is_default: bool,
}

impl NullAndDefault {
    pub(super) fn of(table: &[u8], property: usize) -> Self {
        let byte = table.get(property / 4).copied().unwrap_or(0);
        let bits = byte >> (property % 4 * 2);
        NullAndDefault {
            is_null: bits & crate::encode::Flags::NULL != 0,
            is_default: bits & crate::encode::Flags::DEFAULT != 0,
        }
    }
}
