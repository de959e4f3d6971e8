//! Packets of the smart enumerator (MS-WMI 2.2.14): several objects in one buffer, the class part of
//! each class only once.
//!
//! A client keeps the class parts it has seen by their id, for as long as it uses the same proxy
//! identifier. [`Sent`] is the server's side of that memory: one for each proxy identifier.

use crate::block::{self, Decoration};
use crate::encode::{ClassLayout, ClassSource, EncodeError};
use crate::value::Values;
use cim::Instance;
use std::collections::HashSet;

const MAGIC: &[u8; 8] = b"WBEMDATA";
/// From the byte order to the packet type.
const HEADER: u32 = 26;
const VERSION: u8 = 1;
/// `IWbemWCOSmartEnum::Next`.
const SMART_NEXT: u8 = 1;
const NEXT_HEADER: u32 = 8;
const OBJECTS_HEADER: u32 = 12;
const OBJECT_HEADER: u32 = 9;
const CLASS_HEADER: u32 = 8;
const INSTANCE_HEADER: u32 = 24;

/// A class.
const CLASS: u8 = 1;
/// An instance with its class part.
const INSTANCE: u8 = 2;
/// An instance whose class part the client has.
const CLASSLESS: u8 = 3;

/// Most classes whose ids are kept for one client; instances of others go with their class part.
const MOST_CLASSES: usize = 1024;

/// The class parts that a client has been sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    ids: HashSet<[u8; 16]>,
}

/// A packet being filled.
#[derive(Debug, Default)]
pub struct Packet {
    objects: Vec<u8>,
    count: u32,
}

impl Packet {
    /// An empty packet.
    pub fn new() -> Self {
        Packet::default()
    }

    /// How many objects are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the objects take so far: answers have a size that they should not exceed.
    pub fn size(&self) -> usize {
        self.objects.len()
    }

    /// Adds an instance: with the class part, unless `sent` has it.
    pub fn instance(
        &mut self,
        layout: &ClassLayout,
        instance: &Instance,
        decoration: Option<&Decoration>,
        classes: &dyn ClassSource,
        sent: &mut Sent,
    ) -> Result<(), EncodeError> {
        let values = Values {
            classes,
            decoration,
            depth: 0,
        };
        let known = sent.ids.contains(&layout.id());
        let (kind, block) = if known {
            (CLASSLESS, block::classless_block(layout, instance, values)?)
        } else {
            (INSTANCE, block::instance_block(layout, instance, values)?)
        };
        let mut object = INSTANCE_HEADER.to_le_bytes().to_vec();
        object.extend(size(block.len()).to_le_bytes());
        object.extend(layout.id());
        object.extend(block);
        self.object(kind, &object);
        if !known && sent.ids.len() < MOST_CLASSES {
            sent.ids.insert(layout.id());
        }
        Ok(())
    }

    /// Adds a class, as [`crate::encode_class`] made it.
    pub fn class(&mut self, block: &[u8]) {
        let mut object = CLASS_HEADER.to_le_bytes().to_vec();
        object.extend(size(block.len()).to_le_bytes());
        object.extend(block);
        self.object(CLASS, &object);
    }

    fn object(&mut self, kind: u8, object: &[u8]) {
        self.objects.extend(OBJECT_HEADER.to_le_bytes());
        self.objects.extend(size(object.len()).to_le_bytes());
        self.objects.push(kind);
        self.objects.extend_from_slice(object);
        self.count = self.count.saturating_add(1);
    }

    /// The whole packet.
    pub fn finish(self) -> Vec<u8> {
        let objects = size(self.objects.len());
        let next = objects.saturating_add(OBJECTS_HEADER);
        let mut packet = 0_u32.to_le_bytes().to_vec();
        packet.extend(MAGIC);
        packet.extend(HEADER.to_le_bytes());
        packet.extend(next.saturating_add(NEXT_HEADER).to_le_bytes());
        packet.extend(0_u32.to_le_bytes());
        packet.extend([VERSION, SMART_NEXT]);
        packet.extend(NEXT_HEADER.to_le_bytes());
        packet.extend(next.to_le_bytes());
        packet.extend(OBJECTS_HEADER.to_le_bytes());
        packet.extend(objects.to_le_bytes());
        packet.extend(self.count.to_le_bytes());
        packet.extend(self.objects);
        packet
    }
}

/// Lengths fit: no object is longer than 64 MiB, and callers end a packet long before 4 GiB.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
