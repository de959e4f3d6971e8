//! Object blocks (MS-WMIO 2.2.5): one class or one instance, and the wrappings it travels in.

use crate::encode::{
    self, ClassLayout, ClassSource, EncodeError, Fault, Flags, Lineage, is_absent,
};
use crate::heap::{self, Heap};
use crate::text;
use crate::types;
use crate::value::Values;
use cim::{Instance, Name};

/// Flag of an object block: a class.
pub(crate) const CLASS: u8 = 0x01;
/// Flag of an object block: an instance.
pub(crate) const INSTANCE: u8 = 0x02;
/// Flag of an object block: server and namespace follow.
pub(crate) const DECORATED: u8 = 0x04;
/// Flag of a class: it shows the shape of a query's results.
const PROTOTYPE: u8 = 0x10;
/// Flag of a prototype: a key of the class is not among the selected properties.
const KEYS_MISSING: u8 = 0x40;

/// First word of an encoding unit.
pub(crate) const SIGNATURE: u32 = 0x1234_5678;

/// Where an object is: clients make absolute paths with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoration {
    /// Name of the server.
    pub server: String,
    /// The namespace with backslashes, as `ROOT\virtualization`.
    pub namespace: String,
}

impl Decoration {
    fn push(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        text::push(out, &self.server).ok_or(Fault::Nul)?;
        text::push(out, &self.namespace).ok_or(Fault::Nul)
    }
}

fn start(class: &Name, flags: u8, decoration: Option<&Decoration>) -> Result<Vec<u8>, EncodeError> {
    let mut block = Vec::new();
    match decoration {
        Some(decoration) => {
            block.push(flags | DECORATED);
            decoration
                .push(&mut block)
                .map_err(|fault| fault.of_class(class))?;
        }
        None => block.push(flags),
    }
    Ok(block)
}

/// The object block of a class, with its methods and those of its superclass.
pub fn encode_class(
    lineage: &Lineage<'_>,
    decoration: Option<&Decoration>,
) -> Result<Vec<u8>, EncodeError> {
    let mut block = start(&lineage.class().name, CLASS, decoration)?;
    match lineage.superclass() {
        Some(superclass) => push_class(&superclass, decoration, &mut block)?,
        None => {
            encode::empty_class_part(&mut block);
            encode::empty_methods_part(&mut block);
        }
    }
    push_class(lineage, decoration, &mut block)?;
    Ok(block)
}

fn push_class(
    lineage: &Lineage<'_>,
    decoration: Option<&Decoration>,
    block: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    block.extend_from_slice(ClassLayout::new(lineage)?.part());
    encode::methods_part(lineage, decoration, block)
}

/// The object block of a prototype: the class that shows which properties a query selects (MS-WMI
/// 3.1.4.3.18, flag `WBEM_FLAG_PROTOTYPE`).
pub fn encode_prototype<S: AsRef<str>>(
    lineage: &Lineage<'_>,
    selected: &[S],
    decoration: Option<&Decoration>,
) -> Result<Vec<u8>, EncodeError> {
    let class = lineage.class();
    let is_selected = |name: &Name| selected.iter().any(|it| name.is(it.as_ref()));
    let mut flags = CLASS | PROTOTYPE;
    if class.keys().any(|key| !is_selected(&key.name)) {
        flags |= KEYS_MISSING;
    }
    let mut block = start(&class.name, flags, decoration)?;
    encode::empty_class_part(&mut block);
    encode::empty_methods_part(&mut block);
    block.extend_from_slice(ClassLayout::projected(lineage, selected)?.part());
    encode::empty_methods_part(&mut block);
    Ok(block)
}

/// The object block of an instance. Properties that the layout lacks are left out, and those that
/// the instance lacks are NULL. `classes` has the classes of embedded objects.
pub fn encode_instance(
    layout: &ClassLayout,
    instance: &Instance,
    decoration: Option<&Decoration>,
    classes: &dyn ClassSource,
) -> Result<Vec<u8>, EncodeError> {
    let values = Values {
        classes,
        decoration,
        depth: 0,
    };
    instance_block(layout, instance, values)
}

pub(crate) fn instance_block(
    layout: &ClassLayout,
    instance: &Instance,
    values: Values<'_>,
) -> Result<Vec<u8>, EncodeError> {
    let mut block = start(layout.name(), INSTANCE, values.decoration)?;
    block.extend_from_slice(layout.part());
    push_instance_part(layout, instance, values, &mut block)?;
    Ok(block)
}

/// An instance's object block without the class part, for readers that have it already.
pub(crate) fn classless_block(
    layout: &ClassLayout,
    instance: &Instance,
    values: Values<'_>,
) -> Result<Vec<u8>, EncodeError> {
    let mut block = start(layout.name(), INSTANCE, values.decoration)?;
    push_instance_part(layout, instance, values, &mut block)?;
    Ok(block)
}

/// No qualifiers, neither on the instance nor on its properties.
const NO_QUALIFIERS: [u8; 5] = [4, 0, 0, 0, 1];

fn push_instance_part(
    layout: &ClassLayout,
    instance: &Instance,
    values: Values<'_>,
    block: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let class = layout.name();
    if instance.class != *class {
        return Err(EncodeError::OtherClass {
            expected: class.clone(),
            found: instance.class.clone(),
        });
    }
    let whole = |fault: Fault| fault.of_class(class);
    let mut heap = Heap::default();
    // First in the heap: clients take a string at offset 0 for NULL.
    let name = heap.text(class.as_str()).map_err(whole)?;
    let mut flags = Flags::new(layout.slots().len());
    let mut table = Vec::new();
    for (order, slot) in layout.slots().iter().enumerate() {
        // Mostly both are in the order of the class.
        let property = instance.properties.get(order);
        let value = match property.filter(|property| property.name == slot.name) {
            Some(property) => Some(&property.value),
            None => instance.get(slot.name.as_str()),
        };
        match value {
            Some(value) if !is_absent(Some(value)) => values
                .put(&mut heap, slot.ty, value, &mut table)
                .map_err(|fault| fault.at(class, &slot.name, slot.ty))?,
            _ => {
                flags.set(order, Flags::NULL);
                table.extend(std::iter::repeat_n(0, types::slot_size(slot.ty)));
            }
        }
    }
    let mut part = vec![0; 4];
    part.push(0);
    part.extend_from_slice(&name.to_le_bytes());
    part.extend(flags.into_bytes());
    part.extend(table);
    part.extend(NO_QUALIFIERS);
    heap.finish(&mut part).map_err(whole)?;
    heap::set_length(&mut part, 0).map_err(whole)?;
    block.extend(part);
    Ok(())
}

/// An object block as a unit of its own (MS-WMIO 2.2.1): what `pObjectData` of a by-value interface
/// pointer holds.
pub fn encoding_unit(block: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(block.len() + 8);
    unit.extend_from_slice(&SIGNATURE.to_le_bytes());
    // Object blocks are shorter than 64 MiB: see EncodeError::TooLarge.
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    unit.extend_from_slice(&length.to_le_bytes());
    unit.extend_from_slice(block);
    unit
}

/// `MEOW`, and the flag of a reference that the class itself reads (MS-DCOM 2.2.18).
const OBJREF_CUSTOM: [u8; 8] = *b"MEOW\x04\0\0\0";
/// dc12a681-737f-11cf-884d-00aa004b2e24, IWbemClassObject.
const INTERFACE: [u8; 16] = [
    0x81, 0xa6, 0x12, 0xdc, 0x7f, 0x73, 0xcf, 0x11, 0x88, 0x4d, 0x00, 0xaa, 0x00, 0x4b, 0x2e, 0x24,
];
/// 4590f812-1d3a-11d0-891f-00aa004b2e24, the class that reads the unit.
const UNMARSHALER: [u8; 16] = [
    0x12, 0xf8, 0x90, 0x45, 0x3a, 0x1d, 0xd0, 0x11, 0x89, 0x1f, 0x00, 0xaa, 0x00, 0x4b, 0x2e, 0x24,
];

/// An object block as a by-value reference to `IWbemClassObject`: the bytes of a marshaled interface
/// pointer.
pub fn objref(block: &[u8]) -> Vec<u8> {
    let unit = encoding_unit(block);
    let length = u32::try_from(unit.len()).unwrap_or(u32::MAX);
    let mut reference = OBJREF_CUSTOM.to_vec();
    reference.extend(INTERFACE);
    reference.extend(UNMARSHALER);
    reference.extend(0_u32.to_le_bytes());
    reference.extend(length.to_le_bytes());
    reference.extend(unit);
    reference
}

/// The encoding unit in a by-value reference; `None` when it is a reference of another kind, or to
/// another class.
pub fn unit_of_objref(reference: &[u8]) -> Option<&[u8]> {
    let rest = reference.strip_prefix(&OBJREF_CUSTOM)?.get(16..)?;
    // The interface may be any that the object has. The length after the extension's counts
    // differently from client to client; the unit has its own.
    rest.strip_prefix(&UNMARSHALER)?.get(8..)
}
