//! How text, and values of other types, become values of a declared type.
//!
//! Two doors: [`Value::parse_as`] for the text of one scalar, and [`Value::coerce`] for whole values
//! that came from a client with a type of their own (or none). Both are lenient in the way WMI
//! clients need: numbers and booleans arrive as strings, integers of one width where another is
//! declared. Neither ever loses information silently: what does not fit is an error.

use crate::{CimType, Name, ObjectPath, Type, Value};

/// Why a value cannot be of the type that is declared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConversionError {
    /// The text is not a literal of the type.
    #[error("{text:?} is not a value of type {expected}")]
    NotA {
        /// The declared type.
        expected: CimType,
        /// The text, cut to a readable length.
        text: String,
    },
    /// A number outside the type's range.
    #[error("{text} is out of range for {expected}")]
    OutOfRange {
        /// The declared type.
        expected: CimType,
        /// The number.
        text: String,
    },
    /// A value of a type that does not convert.
    #[error("a value of type {found} cannot stand where {expected} is declared")]
    Clash {
        /// The declared type.
        expected: Type,
        /// What came instead.
        found: String,
    },
}

/// A [`ConversionError`], and the property or parameter it happened at.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{element}: {reason}")]
pub struct CoercionError {
    /// The property or parameter.
    pub element: Name,
    /// What was wrong with its value.
    #[source]
    pub reason: ConversionError,
}

impl ConversionError {
    /// This error with the name of the property or parameter it happened at.
    pub fn at(self, element: impl Into<Name>) -> CoercionError {
        CoercionError {
            element: element.into(),
            reason: self,
        }
    }

    fn not_a(expected: CimType, text: &str) -> Self {
        ConversionError::NotA {
            expected,
            text: excerpt(text),
        }
    }
}

/// The start of `text`, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// An integer literal in one of DSP0004's forms: decimal, `0x1F`, octal `017`, binary `101b`. A
/// number with a leading zero that is not octal (`08`) is read as decimal.
pub fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    // from_str_radix takes a sign of its own; a second sign is not a number.
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let magnitude = if let Some(hex) = strip_prefix_any_case(digits, "0x") {
        if !hex.as_bytes().first()?.is_ascii_hexdigit() {
            return None;
        }
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_suffix(['b', 'B']) {
        i128::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(is_octal) {
        i128::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn is_octal(byte: u8) -> bool {
    (b'0'..=b'7').contains(&byte)
}

fn strip_prefix_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// A real literal: what Rust reads as a finite number, and `INF`, `-INF`, `NaN` in any case.
pub fn parse_real(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if unsigned.eq_ignore_ascii_case("inf") {
        return Some(if text.starts_with('-') {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    let plausible = unsigned
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    plausible.then(|| text.parse().ok()).flatten()
}

/// `TRUE` or `FALSE`, in any case.
pub fn parse_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

impl Value {
    /// The whole number `n` as a value of `kind`, which may be any numeric type.
    pub fn from_integer(n: i128, kind: CimType) -> Result<Value, ConversionError> {
        let out_of_range = || ConversionError::OutOfRange {
            expected: kind,
            text: n.to_string(),
        };
        macro_rules! narrow {
            ($variant:ident) => {
                n.try_into()
                    .map(Value::$variant)
                    .map_err(|_| out_of_range())
            };
        }
        match kind {
            CimType::Uint8 => narrow!(Uint8),
            CimType::Sint8 => narrow!(Sint8),
            CimType::Uint16 => narrow!(Uint16),
            CimType::Sint16 => narrow!(Sint16),
            CimType::Uint32 => narrow!(Uint32),
            CimType::Sint32 => narrow!(Sint32),
            CimType::Uint64 => narrow!(Uint64),
            CimType::Sint64 => narrow!(Sint64),
            CimType::Char16 => narrow!(Char16),
            CimType::Real32 => Ok(Value::Real32(n as f32)),
            CimType::Real64 => Ok(Value::Real64(n as f64)),
            _ => Err(ConversionError::not_a(kind, &n.to_string())),
        }
    }

    /// The value of type `kind` that `text` stands for. Blanks around numbers, booleans, datetimes
    /// and paths do not count. `Object` cannot be read here: embedded objects are XML (`cim-xml`)
    /// or MOF ([`crate::mof`]).
    pub fn parse_as(text: &str, kind: CimType) -> Result<Value, ConversionError> {
        let trimmed = text.trim();
        let not_a = || ConversionError::not_a(kind, text);
        match kind {
            CimType::String => Ok(Value::String(text.to_owned())),
            CimType::Boolean => parse_boolean(trimmed).map(Value::Boolean).ok_or_else(not_a),
            CimType::Char16 => parse_char16(text).map(Value::Char16).ok_or_else(not_a),
            CimType::Real32 => match parse_real(trimmed) {
                Some(real) if real.is_finite() && (real as f32).is_infinite() => {
                    Err(ConversionError::OutOfRange {
                        expected: kind,
                        text: excerpt(trimmed),
                    })
                }
                Some(real) => Ok(Value::Real32(real as f32)),
                None => integer_as(trimmed, kind).ok_or_else(not_a)?,
            },
            CimType::Real64 => match parse_real(trimmed) {
                Some(real) => Ok(Value::Real64(real)),
                None => integer_as(trimmed, kind).ok_or_else(not_a)?,
            },
            CimType::DateTime => trimmed.parse().map(Value::DateTime).map_err(|_| not_a()),
            CimType::Reference => ObjectPath::parse(trimmed)
                .map(Value::from)
                .map_err(|_| not_a()),
            CimType::Object => Err(not_a()),
            _ => integer_as(trimmed, kind).ok_or_else(not_a)?,
        }
    }

    /// This value as one of type `ty`, when that loses nothing: strings are read as
    /// [`Value::parse_as`] does, integers change width, numbers and booleans become strings,
    /// `0`, `1` and `-1` become booleans, an instance with a path becomes a reference, and a single
    /// value becomes an array of one.
    pub fn coerce(self, ty: Type) -> Result<Value, ConversionError> {
        if self.matches_type(ty) {
            return Ok(self);
        }
        match self {
            Value::Array(items) if ty.array => items
                .into_iter()
                .map(|item| item.coerce_scalar(ty.kind))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Array(items) => Err(clash(&Value::Array(items), ty)),
            scalar if ty.array => Ok(Value::Array(vec![scalar.coerce_scalar(ty.kind)?])),
            scalar => scalar.coerce_scalar(ty.kind),
        }
    }

    fn coerce_scalar(self, kind: CimType) -> Result<Value, ConversionError> {
        let ty = Type::scalar(kind);
        if self.matches_type(ty) {
            return Ok(self);
        }
        match (&self, kind) {
            (Value::String(text), _) => Value::parse_as(text, kind),
            (Value::Array(_) | Value::Class(_), _) => Err(clash(&self, ty)),
            (Value::Instance(instance), CimType::Reference) => match &instance.path {
                Some(path) => Ok(Value::from(path.clone())),
                None => Err(clash(&self, ty)),
            },
            (_, CimType::String) => self
                .to_text()
                .map(Value::String)
                .ok_or_else(|| clash(&self, ty)),
            (Value::Real32(_) | Value::Real64(_), CimType::Real32 | CimType::Real64) => {
                let text = self.to_text().unwrap_or_default();
                Value::parse_as(&text, kind)
            }
            (Value::Real32(_) | Value::Real64(_), _) if kind.is_integer() => {
                let real = self.as_f64().unwrap_or(f64::NAN);
                // Whole numbers up to 2^63 are exact here; anything else would be a guess.
                if real.fract() == 0.0 && real.abs() < 9.2e18 {
                    Value::from_integer(real as i128, kind)
                } else {
                    Err(clash(&self, ty))
                }
            }
            (_, CimType::Boolean) => match self.as_integer() {
                Some(0) => Ok(Value::Boolean(false)),
                Some(1 | -1) => Ok(Value::Boolean(true)),
                _ => Err(clash(&self, ty)),
            },
            _ if kind.is_numeric() || kind == CimType::Char16 => match self.as_integer() {
                Some(n) => Value::from_integer(n, kind),
                None => Err(clash(&self, ty)),
            },
            _ => Err(clash(&self, ty)),
        }
    }
}

fn integer_as(text: &str, kind: CimType) -> Option<Result<Value, ConversionError>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match parse_integer(text) {
        Some(n) => Some(Value::from_integer(n, kind)),
        // Too long even for 128 bits.
        None if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Err(ConversionError::OutOfRange {
                expected: kind,
                text: excerpt(text),
            }))
        }
        None => None,
    }
}

/// One UTF-16 unit: a single character, or a number as CIM-XML writers sometimes send it.
fn parse_char16(text: &str) -> Option<u16> {
    let mut units = text.encode_utf16();
    match (units.next(), units.next()) {
        (Some(unit), None) => Some(unit),
        _ => parse_integer(text.trim()).and_then(|n| u16::try_from(n).ok()),
    }
}

fn clash(value: &Value, expected: Type) -> ConversionError {
    let found = match value.type_of() {
        Some(ty) => ty.to_string(),
        None => "array".to_owned(),
    };
    ConversionError::Clash { expected, found }
}
