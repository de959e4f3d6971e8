//! Types and values (DSP0004 5.2).

use crate::{Class, DateTime, Instance, ObjectPath};

/// The intrinsic types of DSP0004 table 2, and reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CimType {
    Boolean,
    String,
    Char16,
    Uint8,
    Sint8,
    Uint16,
    Sint16,
    Uint32,
    Sint32,
    Uint64,
    Sint64,
    Real32,
    Real64,
    DateTime,
    Reference,
    /// An embedded object: WMI's `object:X`; on CIM-XML a string with `EmbeddedObject`.
    Object,
}

/// A type with its arrayness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// The element type.
    pub kind: CimType,
    /// Whether this is an array of `kind`.
    pub array: bool,
}

impl Type {
    /// A single value of `kind`.
    pub const fn scalar(kind: CimType) -> Self {
        Type { kind, array: false }
    }

    /// An array of `kind`.
    pub const fn array(kind: CimType) -> Self {
        Type { kind, array: true }
    }
}

/// A value. The declared [`Type`] stands beside it (property, parameter), so that `Null` can be
/// of any type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Null,
    Boolean(bool),
    String(String),
    Char16(u16),
    Uint8(u8),
    Sint8(i8),
    Uint16(u16),
    Sint16(i16),
    Uint32(u32),
    Sint32(i32),
    Uint64(u64),
    Sint64(i64),
    Real32(f32),
    Real64(f64),
    DateTime(DateTime),
    Reference(Box<ObjectPath>),
    /// An embedded instance, decoded. Wires print it the way their protocol wants.
    Instance(Box<Instance>),
    /// An embedded class, decoded.
    Class(Box<Class>),
    /// An array; its items are of one type, or `Null`.
    Array(Vec<Value>),
}
