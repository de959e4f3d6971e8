//! Types and values (DSP0004 5.2): what they are, and how to look into them. How text and values
//! of other types become values of a declared type is in [`crate::convert`].

use crate::{Class, DateTime, Instance, KeyValue, ObjectPath};
use std::fmt;

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

impl CimType {
    /// The keyword of MOF and of CIM-XML's `TYPE` attribute. `Object` is WMI's word; CIM-XML writes
    /// `string` there.
    pub const fn name(self) -> &'static str {
        match self {
            CimType::Boolean => "boolean",
            CimType::String => "string",
            CimType::Char16 => "char16",
            CimType::Uint8 => "uint8",
            CimType::Sint8 => "sint8",
            CimType::Uint16 => "uint16",
            CimType::Sint16 => "sint16",
            CimType::Uint32 => "uint32",
            CimType::Sint32 => "sint32",
            CimType::Uint64 => "uint64",
            CimType::Sint64 => "sint64",
            CimType::Real32 => "real32",
            CimType::Real64 => "real64",
            CimType::DateTime => "datetime",
            CimType::Reference => "reference",
            CimType::Object => "object",
        }
    }

    /// The type that `name` stands for, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [CimType; 16] = [
            CimType::Boolean,
            CimType::String,
            CimType::Char16,
            CimType::Uint8,
            CimType::Sint8,
            CimType::Uint16,
            CimType::Sint16,
            CimType::Uint32,
            CimType::Sint32,
            CimType::Uint64,
            CimType::Sint64,
            CimType::Real32,
            CimType::Real64,
            CimType::DateTime,
            CimType::Reference,
            CimType::Object,
        ];
        if name.eq_ignore_ascii_case("ref") {
            return Some(CimType::Reference);
        }
        ALL.into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Whether values are whole numbers (`char16` is not).
    pub const fn is_integer(self) -> bool {
        self.integer_range().is_some()
    }

    /// Whether values are numbers.
    pub const fn is_numeric(self) -> bool {
        self.is_integer() || matches!(self, CimType::Real32 | CimType::Real64)
    }

    /// Smallest and largest value of an integer type.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        Some(match self {
            CimType::Uint8 => (0, u8::MAX as i128),
            CimType::Sint8 => (i8::MIN as i128, i8::MAX as i128),
            CimType::Uint16 => (0, u16::MAX as i128),
            CimType::Sint16 => (i16::MIN as i128, i16::MAX as i128),
            CimType::Uint32 => (0, u32::MAX as i128),
            CimType::Sint32 => (i32::MIN as i128, i32::MAX as i128),
            CimType::Uint64 => (0, u64::MAX as i128),
            CimType::Sint64 => (i64::MIN as i128, i64::MAX as i128),
            _ => return None,
        })
    }
}

impl fmt::Display for CimType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.array {
            f.write_str("[]")
        } else {
            Ok(())
        }
    }
}

impl Value {
    /// Whether this is NULL.
    pub const fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A boolean.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// A whole number of any integer type.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match self {
            Value::Uint8(n) => i128::from(*n),
            Value::Sint8(n) => i128::from(*n),
            Value::Uint16(n) => i128::from(*n),
            Value::Sint16(n) => i128::from(*n),
            Value::Uint32(n) => i128::from(*n),
            Value::Sint32(n) => i128::from(*n),
            Value::Uint64(n) => i128::from(*n),
            Value::Sint64(n) => i128::from(*n),
            _ => return None,
        })
    }

    /// A whole number that fits, whatever its integer type.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_integer().and_then(|n| u64::try_from(n).ok())
    }

    /// A whole number that fits, whatever its integer type.
    pub fn as_u32(&self) -> Option<u32> {
        self.as_integer().and_then(|n| u32::try_from(n).ok())
    }

    /// A whole number that fits, whatever its integer type.
    pub fn as_u16(&self) -> Option<u16> {
        self.as_integer().and_then(|n| u16::try_from(n).ok())
    }

    /// A whole number that fits, whatever its integer type.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_integer().and_then(|n| i64::try_from(n).ok())
    }

    /// Any number; integers above 2^53 lose precision.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Real32(n) => Some(f64::from(*n)),
            Value::Real64(n) => Some(*n),
            other => other.as_integer().map(|n| n as f64),
        }
    }

    /// A datetime.
    pub const fn as_datetime(&self) -> Option<DateTime> {
        match self {
            Value::DateTime(value) => Some(*value),
            _ => None,
        }
    }

    /// A reference.
    pub fn as_reference(&self) -> Option<&ObjectPath> {
        match self {
            Value::Reference(path) => Some(path),
            _ => None,
        }
    }

    /// A decoded embedded instance.
    pub fn as_instance(&self) -> Option<&Instance> {
        match self {
            Value::Instance(instance) => Some(instance),
            _ => None,
        }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The type this value is of by itself. `None` for NULL and for arrays without a non-NULL item.
    pub fn type_of(&self) -> Option<Type> {
        let kind = match self {
            Value::Null => return None,
            Value::Boolean(_) => CimType::Boolean,
            Value::String(_) => CimType::String,
            Value::Char16(_) => CimType::Char16,
            Value::Uint8(_) => CimType::Uint8,
            Value::Sint8(_) => CimType::Sint8,
            Value::Uint16(_) => CimType::Uint16,
            Value::Sint16(_) => CimType::Sint16,
            Value::Uint32(_) => CimType::Uint32,
            Value::Sint32(_) => CimType::Sint32,
            Value::Uint64(_) => CimType::Uint64,
            Value::Sint64(_) => CimType::Sint64,
            Value::Real32(_) => CimType::Real32,
            Value::Real64(_) => CimType::Real64,
            Value::DateTime(_) => CimType::DateTime,
            Value::Reference(_) => CimType::Reference,
            Value::Instance(_) | Value::Class(_) => CimType::Object,
            Value::Array(items) => {
                let item = items.iter().find_map(Value::type_of)?;
                return (!item.array).then(|| Type::array(item.kind));
            }
        };
        Some(Type::scalar(kind))
    }

    /// Whether this value may stand where `ty` is declared: NULL anywhere, arrays item by item, and
    /// a decoded embedded object also where `string` is declared (that is how CIM declares them).
    pub fn matches_type(&self, ty: Type) -> bool {
        match self {
            Value::Null => true,
            Value::Array(items) => ty.array && items.iter().all(|item| item.is_scalar_of(ty.kind)),
            scalar => !ty.array && scalar.is_scalar_of(ty.kind),
        }
    }

    fn is_scalar_of(&self, kind: CimType) -> bool {
        match self {
            Value::Null => true,
            Value::Array(_) => false,
            Value::Instance(_) | Value::Class(_) => {
                matches!(kind, CimType::Object | CimType::String)
            }
            scalar => scalar.type_of() == Some(Type::scalar(kind)),
        }
    }

    /// The text that CIM writes for a scalar, without quotes or escapes: `TRUE`, `10`, `INF`,
    /// a datetime's 25 characters, a path. `None` for NULL, arrays and embedded objects.
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Value::Null | Value::Array(_) | Value::Instance(_) | Value::Class(_) => return None,
            Value::Boolean(true) => "TRUE".to_owned(),
            Value::Boolean(false) => "FALSE".to_owned(),
            Value::String(text) => text.clone(),
            Value::Char16(unit) => String::from_utf16_lossy(&[*unit]),
            Value::Real32(n) => real_text(f64::from(*n), format!("{n:?}")),
            Value::Real64(n) => real_text(*n, format!("{n:?}")),
            Value::DateTime(value) => value.to_string(),
            Value::Reference(path) => path.to_string(),
            integer => integer.as_integer()?.to_string(),
        })
    }
}

fn real_text(value: f64, finite: String) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "INF" } else { "-INF" }.to_owned()
    } else {
        finite
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {$(
        impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}

value_from! {
    bool => Boolean, String => String, &str => String, &String => String,
    u8 => Uint8, i8 => Sint8, u16 => Uint16, i16 => Sint16,
    u32 => Uint32, i32 => Sint32, u64 => Uint64, i64 => Sint64,
    f32 => Real32, f64 => Real64, DateTime => DateTime,
}

impl From<ObjectPath> for Value {
    fn from(path: ObjectPath) -> Self {
        Value::Reference(Box::new(path))
    }
}

impl From<Instance> for Value {
    fn from(instance: Instance) -> Self {
        Value::Instance(Box::new(instance))
    }
}

impl From<Class> for Value {
    fn from(class: Class) -> Self {
        Value::Class(Box::new(class))
    }
}

impl From<KeyValue> for Value {
    fn from(key: KeyValue) -> Self {
        match key {
            KeyValue::String(text) => Value::String(text),
            KeyValue::Boolean(value) => Value::Boolean(value),
            KeyValue::Signed(n) => Value::Sint64(n),
            KeyValue::Unsigned(n) => Value::Uint64(n),
            KeyValue::Reference(path) => Value::Reference(path),
        }
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value> + Clone> From<&[T]> for Value {
    fn from(items: &[T]) -> Self {
        Value::Array(items.iter().cloned().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}
