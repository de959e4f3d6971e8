//! The numbers that stand for types, and how much room values take (MS-WMIO 2.2.29, 2.2.82).

use cim::{CimType, Type};

/// Set on the type of an array.
pub(crate) const ARRAY: u32 = 0x2000;
/// Set on the type of a property that the class inherited unchanged.
pub(crate) const INHERITED: u32 = 0x4000;

const CODES: [(CimType, u32); 16] = [
    (CimType::Sint16, 2),
    (CimType::Sint32, 3),
    (CimType::Real32, 4),
    (CimType::Real64, 5),
    (CimType::String, 8),
    (CimType::Boolean, 11),
    (CimType::Object, 13),
    (CimType::Sint8, 16),
    (CimType::Uint8, 17),
    (CimType::Uint16, 18),
    (CimType::Uint32, 19),
    (CimType::Sint64, 20),
    (CimType::Uint64, 21),
    (CimType::DateTime, 101),
    (CimType::Reference, 102),
    (CimType::Char16, 103),
];

/// The number of a type, with the array flag.
pub(crate) fn code(ty: Type) -> u32 {
    let kind = CODES.iter().find(|(kind, _)| *kind == ty.kind);
    let base = kind.map_or(0, |(_, code)| *code);
    if ty.array { base | ARRAY } else { base }
}

/// The type that a number stands for; the inherited flag does not matter.
pub(crate) fn from_code(code: u32) -> Option<Type> {
    let base = code & !(ARRAY | INHERITED);
    let (kind, _) = CODES.iter().find(|(_, known)| *known == base)?;
    Some(Type {
        kind: *kind,
        array: code & ARRAY != 0,
    })
}

/// Bytes of one element where it stands by itself: the number, or the reference into the heap.
pub(crate) const fn element_size(kind: CimType) -> usize {
    match kind {
        CimType::Sint8 | CimType::Uint8 => 1,
        CimType::Sint16 | CimType::Uint16 | CimType::Boolean | CimType::Char16 => 2,
        CimType::Sint64 | CimType::Uint64 | CimType::Real64 => 8,
        CimType::Sint32
        | CimType::Uint32
        | CimType::Real32
        | CimType::String
        | CimType::DateTime
        | CimType::Reference
        | CimType::Object => 4,
    }
}

/// Bytes of a value in a value table: arrays are references into the heap.
pub(crate) const fn slot_size(ty: Type) -> usize {
    if ty.array { 4 } else { element_size(ty.kind) }
}

/// Whether elements live in the heap and are referred to from their slot.
pub(crate) const fn is_in_heap(kind: CimType) -> bool {
    matches!(
        kind,
        CimType::String | CimType::DateTime | CimType::Reference | CimType::Object
    )
}

/// Bytes of the table of NULL and default flags of `properties` properties (MS-WMIO 2.2.26).
pub(crate) const fn flag_table_size(properties: usize) -> usize {
    properties.div_ceil(4)
}
