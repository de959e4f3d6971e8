//! Values into slots and heaps (MS-WMIO 2.2.71 to 2.2.75).

use crate::block::{self, Decoration};
use crate::encode::{ClassLayout, ClassSource, Fault};
use crate::heap::{Heap, length};
use crate::types;
use cim::{CimType, Type, Value};

/// How deep objects may stand in objects.
pub(crate) const DEEPEST: usize = 8;

/// What is needed to encode values: where the classes of embedded objects come from, and the
/// decoration they get.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) classes: &'a dyn ClassSource,
    pub(crate) decoration: Option<&'a Decoration>,
    pub(crate) depth: usize,
}

impl Values<'_> {
    /// Appends the value to `slot`: itself where it fits there, else its place in the heap. NULL is
    /// for the caller, who knows how it is marked.
    pub(crate) fn put(
        &self,
        heap: &mut Heap,
        ty: Type,
        value: &Value,
        slot: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if ty.array {
            let Value::Array(items) = value else {
                return Err(Fault::Type);
            };
            let at = self.array(heap, ty.kind, items)?;
            slot.extend_from_slice(&at.to_le_bytes());
            return Ok(());
        }
        if types::is_in_heap(ty.kind) {
            let bytes = self.heap_item(ty.kind, value)?;
            let at = heap.append(&bytes)?;
            slot.extend_from_slice(&at.to_le_bytes());
            return Ok(());
        }
        number(ty.kind, value, slot)
    }

    fn array(&self, heap: &mut Heap, kind: CimType, items: &[Value]) -> Result<u32, Fault> {
        let mut head = length(items.len())?.to_le_bytes().to_vec();
        if !types::is_in_heap(kind) {
            for item in items {
                if item.is_null() {
                    return Err(Fault::NullItem);
                }
                number(kind, item, &mut head)?;
            }
            return heap.append(&head);
        }
        // References first, then the items in the same order and without gaps: some clients
        // pass over the references and read on.
        let first = heap.here()?.saturating_add(length(4 + 4 * items.len())?);
        let mut bytes = Vec::new();
        for item in items {
            let at = first.saturating_add(length(bytes.len())?);
            head.extend_from_slice(&at.to_le_bytes());
            bytes.extend(self.heap_item(kind, item)?);
        }
        head.extend(bytes);
        heap.append(&head)
    }

    /// What stands in the heap for one string, datetime, reference or object.
    fn heap_item(&self, kind: CimType, value: &Value) -> Result<Vec<u8>, Fault> {
        let text = match (kind, value) {
            (_, Value::Null) => return Err(Fault::NullItem),
            (CimType::Object, Value::Instance(_) | Value::Class(_)) => return self.object(value),
            (CimType::String, Value::String(text)) => return encoded(text),
            // An object where a string is declared stands there as text, as with GetText.
            (CimType::String, Value::Instance(instance)) => {
                cim_xml::embedded::write_instance(instance)
            }
            (CimType::DateTime, Value::DateTime(time)) => time.to_string(),
            (CimType::Reference, Value::Reference(path)) => path.to_string(),
            _ => return Err(Fault::Type),
        };
        encoded(&text)
    }

    /// Length and object block.
    fn object(&self, value: &Value) -> Result<Vec<u8>, Fault> {
        if self.depth >= DEEPEST {
            return Err(Fault::TooDeep);
        }
        let inner = Values {
            depth: self.depth + 1,
            ..*self
        };
        let embed = |error| Fault::Embedded(Box::new(error));
        let block = match value {
            Value::Instance(instance) => {
                let lineage = self
                    .classes
                    .lineage(&instance.class)
                    .ok_or_else(|| Fault::UnknownClass(instance.class.clone()))?;
                let layout = ClassLayout::new(&lineage).map_err(embed)?;
                block::instance_block(&layout, instance, inner).map_err(embed)?
            }
            Value::Class(class) => {
                let lineage = self
                    .classes
                    .lineage(&class.name)
                    .ok_or_else(|| Fault::UnknownClass(class.name.clone()))?;
                block::encode_class(&lineage, self.decoration).map_err(embed)?
            }
            _ => return Err(Fault::Type),
        };
        let mut bytes = length(block.len())?.to_le_bytes().to_vec();
        bytes.extend(block);
        Ok(bytes)
    }
}

fn encoded(text: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    crate::text::push(&mut bytes, text).ok_or(Fault::Nul)?;
    Ok(bytes)
}

/// TRUE on the wire; FALSE is zero.
pub(crate) const TRUE: u16 = 0xffff;

fn number(kind: CimType, value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (kind, value) {
        (CimType::Boolean, Value::Boolean(value)) => {
            out.extend_from_slice(&if *value { TRUE } else { 0 }.to_le_bytes());
        }
        (CimType::Char16, Value::Char16(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Uint8, Value::Uint8(n)) => out.push(*n),
        (CimType::Sint8, Value::Sint8(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Uint16, Value::Uint16(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Sint16, Value::Sint16(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Uint32, Value::Uint32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Sint32, Value::Sint32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Uint64, Value::Uint64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Sint64, Value::Sint64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Real32, Value::Real32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (CimType::Real64, Value::Real64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        _ => return Err(Fault::Type),
    }
    Ok(())
}
