//! Qualifiers into a qualifier set (MS-WMIO 2.2.59 to 2.2.64), and how their flavors are written.

use crate::block::Decoration;
use crate::encode::{Fault, NoClasses};
use crate::heap::{Heap, length};
use crate::types;
use crate::value::Values;
use cim::{CimType, Name, Qualifier, Type, Value};

/// Flavor: instances have it too.
pub(crate) const TO_INSTANCE: u8 = 0x01;
/// Flavor: subclasses inherit it.
pub(crate) const TO_SUBCLASS: u8 = 0x02;
/// Flavor: subclasses may not change it.
pub(crate) const NOT_OVERRIDABLE: u8 = 0x10;
/// Flavor: it came from the superclass.
pub(crate) const PROPAGATED: u8 = 0x20;
/// Flavor: translatable text.
pub(crate) const AMENDED: u8 = 0x80;

/// The qualifier that names the type of each property in words.
pub(crate) const CIMTYPE: &str = "CIMTYPE";

/// Qualifiers that WMI's own declarations also give to instances; CIM has no such flavor.
const OF_INSTANCES: [&str; 8] = [
    "key",
    "association",
    "singleton",
    "dynamic",
    "provider",
    "locale",
    "uuid",
    "id",
];

/// A qualifier set being filled; its values go to the heap of the part it stands in.
pub(crate) struct QualifierSet {
    bytes: Vec<u8>,
}

impl QualifierSet {
    pub(crate) fn new() -> Self {
        QualifierSet { bytes: vec![0; 4] }
    }

    /// Adds the type of a property in words: `uint16`, `ref:CIM_X`, `object:X`.
    pub(crate) fn cim_type(
        &mut self,
        heap: &mut Heap,
        text: &str,
        propagated: bool,
    ) -> Result<(), Fault> {
        let inherited = if propagated { PROPAGATED } else { 0 };
        self.add(
            heap,
            &Name::new(CIMTYPE),
            TO_INSTANCE | TO_SUBCLASS | inherited,
            Type::scalar(CimType::String),
            &Value::from(text),
        )
    }

    /// Adds `own`, marked as inherited where `superior`, the same element's qualifiers in the
    /// superclass, hand it down unchanged. Qualifiers without a value are left out: WMI has none.
    pub(crate) fn extend(
        &mut self,
        heap: &mut Heap,
        own: &[Qualifier],
        superior: &[Qualifier],
    ) -> Result<(), Fault> {
        for qualifier in own {
            if qualifier.value.is_null() || qualifier.name.is(CIMTYPE) {
                continue;
            }
            let inherited = superior.iter().any(|above| {
                above.to_subclass && above.name == qualifier.name && above.value == qualifier.value
            });
            let flavor = flavor(qualifier) | if inherited { PROPAGATED } else { 0 };
            let (ty, value) = in_wmi_type(qualifier);
            self.add(heap, &qualifier.name, flavor, ty, &value)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        heap: &mut Heap,
        name: &Name,
        flavor: u8,
        ty: Type,
        value: &Value,
    ) -> Result<(), Fault> {
        let name = heap.word(name)?;
        self.bytes.extend_from_slice(&name.to_le_bytes());
        self.bytes.push(flavor);
        self.bytes.extend_from_slice(&types::code(ty).to_le_bytes());
        let values = Values {
            classes: &NoClasses,
            decoration: None::<&Decoration>,
            depth: 0,
        };
        values.put(heap, ty, value, &mut self.bytes)
    }

    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Fault> {
        let length = length(self.bytes.len())?;
        if let Some(field) = self.bytes.get_mut(..4) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        Ok(self.bytes)
    }
}

fn flavor(qualifier: &Qualifier) -> u8 {
    let mut flavor = 0;
    if OF_INSTANCES.iter().any(|name| qualifier.name.is(name)) {
        flavor |= TO_INSTANCE;
    }
    if qualifier.to_subclass {
        flavor |= TO_SUBCLASS;
    }
    if !qualifier.overridable {
        flavor |= NOT_OVERRIDABLE;
    }
    if qualifier.translatable {
        flavor |= AMENDED;
    }
    flavor
}

/// WMI's qualifiers are strings, booleans, sint32, real64, and arrays of these. What CIM declares
/// otherwise becomes one of them where that loses nothing.
fn in_wmi_type(qualifier: &Qualifier) -> (Type, Value) {
    let wmi = match qualifier.ty.kind {
        kind if kind.is_integer() => CimType::Sint32,
        CimType::Real32 => CimType::Real64,
        _ => return (qualifier.ty, qualifier.value.clone()),
    };
    let ty = Type {
        kind: wmi,
        array: qualifier.ty.array,
    };
    match qualifier.value.clone().coerce(ty) {
        Ok(value) => (ty, value),
        Err(_) => (qualifier.ty, qualifier.value.clone()),
    }
}
