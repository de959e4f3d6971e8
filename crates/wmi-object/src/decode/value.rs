//! Values from their slots and heaps.

use super::cursor::{Cursor, Heap};
use super::{DecodeError, DecodeErrorKind, Object, Reading};
use crate::types;
use cim::{CimType, ObjectPath, Type, Value};

impl Reading {
    /// The value whose slot `slot` stands at. A reference or datetime without text is NULL: that is
    /// how some clients write one that was never set.
    pub(super) fn value(
        &mut self,
        slot: &mut Cursor<'_>,
        ty: Type,
        heap: Heap<'_>,
    ) -> Result<Value, DecodeError> {
        if ty.array {
            let reference = slot.u32()?;
            return self.array(reference, ty.kind, heap);
        }
        if types::is_in_heap(ty.kind) {
            let reference = slot.u32()?;
            let mut at = heap.at(reference, "value")?;
            return self.heap_item(&mut at, ty.kind);
        }
        number(slot, ty.kind)
    }

    fn array(
        &mut self,
        reference: u32,
        kind: CimType,
        heap: Heap<'_>,
    ) -> Result<Value, DecodeError> {
        let mut at = heap.at(reference, "array")?;
        let count = at.length()?;
        let size = types::element_size(kind);
        let bytes = count.checked_mul(size);
        let bytes = bytes.ok_or_else(|| at.fault(DecodeErrorKind::Truncated))?;
        let mut elements = Cursor::new(at.take(bytes)?, "array");
        // An item of the model takes more room than its bytes.
        self.spend(bytes.saturating_add(count.saturating_mul(16)), "array")?;
        let mut items = Vec::with_capacity(count);
        while !elements.is_empty() {
            let item = if types::is_in_heap(kind) {
                let mut at = heap.at(elements.u32()?, "array item")?;
                self.heap_item(&mut at, kind)?
            } else {
                number(&mut elements, kind)?
            };
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn heap_item(&mut self, at: &mut Cursor<'_>, kind: CimType) -> Result<Value, DecodeError> {
        if kind == CimType::Object {
            let length = at.length()?;
            return self.embedded(at.take(length)?);
        }
        let text = at.text()?;
        self.spend(text.len().saturating_add(16), "string")?;
        match kind {
            CimType::DateTime if text.is_empty() => Ok(Value::Null),
            CimType::DateTime => match text.parse() {
                Ok(time) => Ok(Value::DateTime(time)),
                Err(_) => Err(at.fault(DecodeErrorKind::DateTime(excerpt(&text)))),
            },
            CimType::Reference if text.is_empty() => Ok(Value::Null),
            // What to make of text that is no path is the callee's to say, as on other wires.
            CimType::Reference => Ok(match ObjectPath::parse(&text) {
                Ok(path) => Value::Reference(Box::new(path)),
                Err(_) => Value::String(text),
            }),
            _ => Ok(Value::String(text)),
        }
    }

    fn embedded(&mut self, block: &[u8]) -> Result<Value, DecodeError> {
        if self.depth >= self.limits.depth {
            return Err(DecodeErrorKind::Limit("objects inside objects").at("embedded object"));
        }
        self.depth += 1;
        let decoded = self.block(block);
        self.depth -= 1;
        Ok(match decoded?.object {
            Object::Instance(instance) => Value::Instance(Box::new(instance.into_given())),
            Object::Class { class, .. } => Value::Class(Box::new(class)),
        })
    }
}

/// The start of a text, for an error.
fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

fn number(at: &mut Cursor<'_>, kind: CimType) -> Result<Value, DecodeError> {
    let bytes = at.take(types::element_size(kind))?;
    let truncated = || at.fault(DecodeErrorKind::Truncated);
    macro_rules! from_bytes {
        ($variant:ident, $number:ty) => {
            bytes
                .try_into()
                .map(|bytes| Value::$variant(<$number>::from_le_bytes(bytes)))
                .map_err(|_| truncated())
        };
    }
    match kind {
        // Windows writes 0xffff, some clients 1.
        CimType::Boolean => Ok(Value::Boolean(bytes != [0, 0])),
        CimType::Char16 => from_bytes!(Char16, u16),
        CimType::Uint8 => from_bytes!(Uint8, u8),
        CimType::Sint8 => from_bytes!(Sint8, i8),
        CimType::Uint16 => from_bytes!(Uint16, u16),
        CimType::Sint16 => from_bytes!(Sint16, i16),
        CimType::Uint32 => from_bytes!(Uint32, u32),
        CimType::Sint32 => from_bytes!(Sint32, i32),
        CimType::Uint64 => from_bytes!(Uint64, u64),
        CimType::Sint64 => from_bytes!(Sint64, i64),
        CimType::Real32 => from_bytes!(Real32, f32),
        CimType::Real64 => from_bytes!(Real64, f64),
        CimType::String | CimType::DateTime | CimType::Reference | CimType::Object => {
            Err(truncated())
        }
    }
}
