//! Object references (MS-DCOM 2.2.18), to and from bytes.

use crate::bindings::Bindings;
use dce_rpc::ndr::{NdrError, Reader, Writer};
use uuid::Uuid;

/// The longest reference that is taken from a client.
pub const LONGEST: usize = 2 << 20;

const MEOW: u32 = 0x574f_454d;
const STANDARD: u32 = 1;
const CUSTOM: u32 = 4;

/// STDOBJREF: an interface of an object of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandardReference {
    /// [`StandardReference::NO_PING`] or nothing.
    pub flags: u32,
    /// How many references the receiver holds.
    pub references: u32,
    /// The exporter.
    pub oxid: u64,
    /// The object.
    pub oid: u64,
    /// The object's interface.
    pub ipid: Uuid,
}

impl StandardReference {
    /// The object lives without pings.
    pub const NO_PING: u32 = 0x1000;

    /// Nothing.
    pub const NONE: StandardReference = StandardReference {
        flags: 0,
        references: 0,
        oxid: 0,
        oid: 0,
        ipid: Uuid::nil(),
    };

    /// Writes its 40 bytes, aligned to eight.
    pub fn write(&self, writer: &mut Writer) {
        writer.align(8).u32(self.flags).u32(self.references);
        writer.u64(self.oxid).u64(self.oid).uuid(self.ipid);
    }

    fn read_packed(reader: &mut Reader<'_>) -> Result<Self, NdrError> {
        Ok(StandardReference {
            flags: u32::from_le_bytes(reader.array()?),
            references: u32::from_le_bytes(reader.array()?),
            oxid: u64::from_le_bytes(reader.array()?),
            oid: u64::from_le_bytes(reader.array()?),
            ipid: Uuid::from_bytes_le(reader.array()?),
        })
    }
}

/// A reference to an object, or an object by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjRef {
    /// An interface of an object somewhere.
    Standard {
        /// The interface.
        interface: Uuid,
        /// The object.
        reference: StandardReference,
        /// Where the object's resolver is.
        resolver: Bindings,
    },
    /// Bytes that a class of the receiver knows how to read.
    Custom {
        /// The interface that the object has for the receiver.
        interface: Uuid,
        /// The class that reads the bytes.
        class: Uuid,
        /// The bytes.
        data: Vec<u8>,
    },
}

impl ObjRef {
    /// Reads a reference. Handler and extended references are not understood.
    pub fn decode(bytes: &[u8]) -> Result<Self, NdrError> {
        let mut reader = Reader::new(bytes);
        let signature = u32::from_le_bytes(reader.array()?);
        let kind = u32::from_le_bytes(reader.array()?);
        let interface = Uuid::from_bytes_le(reader.array()?);
        match (signature, kind) {
            (MEOW, STANDARD) => Ok(ObjRef::Standard {
                interface,
                reference: StandardReference::read_packed(&mut reader)?,
                resolver: Bindings::read_packed(&mut reader)?,
            }),
            (MEOW, CUSTOM) => {
                let class = Uuid::from_bytes_le(reader.array()?);
                let extension = u32::from_le_bytes(reader.array()?);
                // The size that follows is ignored: clients disagree about what it counts.
                reader.array::<4>()?;
                let extension = usize::try_from(extension).map_err(|_| NdrError::Count)?;
                reader.bytes(extension)?;
                Ok(ObjRef::Custom {
                    interface,
                    class,
                    data: reader.rest().to_vec(),
                })
            }
            _ => Err(NdrError::Value),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            ObjRef::Standard {
                interface,
                reference,
                resolver,
            } => {
                writer.u32(MEOW).u32(STANDARD).uuid(*interface);
                reference.write(&mut writer);
                resolver.write_packed(&mut writer);
            }
            ObjRef::Custom {
                interface,
                class,
                data,
            } => {
                writer.u32(MEOW).u32(CUSTOM).uuid(*interface).uuid(*class);
                writer
                    .u32(0)
                    .count(data.len().saturating_add(8))
                    .bytes(data);
            }
        }
        writer.into_bytes()
    }
}

/// MInterfacePointer, what a pointer to an interface points to: its count, its size, its bytes.
pub fn write_interface(writer: &mut Writer, reference: &[u8]) {
    writer
        .count(reference.len())
        .counted_bytes(reference)
        .align(4);
}

/// Reads what [`write_interface`] writes.
pub fn read_interface<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], NdrError> {
    let maximum = reader.count(LONGEST, 1)?;
    let bytes = reader.counted_bytes(maximum)?;
    reader.align(4);
    Ok(bytes)
}

/// A pointer to an interface, and what it points to.
pub fn read_interface_pointer<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, NdrError> {
    match reader.pointer()? {
        true => read_interface(reader).map(Some),
        false => Ok(None),
    }
}

/// A pointer to an interface, and what it points to.
pub fn write_interface_pointer(writer: &mut Writer, reference: Option<&[u8]>) {
    match reference {
        Some(reference) => write_interface(writer.pointer(), reference),
        None => {
            writer.null();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_back() {
        let standard = ObjRef::Standard {
            interface: Uuid::from_u128(1),
            reference: StandardReference {
                flags: 0,
                references: 5,
                oxid: 6,
                oid: 7,
                ipid: Uuid::from_u128(8),
            },
            resolver: Bindings::new(["h"]),
        };
        let custom = ObjRef::Custom {
            interface: Uuid::from_u128(1),
            class: Uuid::from_u128(2),
            data: vec![1, 2, 3],
        };
        for reference in [standard, custom] {
            let bytes = reference.encode();
            assert_eq!(ObjRef::decode(&bytes), Ok(reference));
            let mut writer = Writer::new();
            write_interface_pointer(&mut writer, Some(&bytes));
            write_interface_pointer(&mut writer, None);
            let stub = writer.into_bytes();
            let mut reader = Reader::new(&stub);
            assert_eq!(read_interface_pointer(&mut reader), Ok(Some(&bytes[..])));
            assert_eq!(read_interface_pointer(&mut reader), Ok(None));
        }
        assert!(ObjRef::decode(b"MEOW").is_err());
    }
}
