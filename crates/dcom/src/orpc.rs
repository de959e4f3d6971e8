//! ORPCTHIS and ORPCTHAT (MS-DCOM 2.2.13): what stands before the arguments and the results of every
//! call on an object.

use dce_rpc::ndr::{NdrError, Reader, Writer};
use uuid::Uuid;

/// The major version of the protocol; there is no other.
pub const MAJOR: u16 = 5;
/// The highest minor version, which is ours.
pub const MINOR: u16 = 7;

/// More extensions than any client sends.
const MOST_EXTENSIONS: usize = 64;
/// More bytes than any extension has.
const LONGEST_EXTENSION: usize = 64 << 10;

/// What a client says with every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrpcThis {
    /// Version of the protocol.
    pub major: u16,
    /// The client's highest minor version.
    pub minor: u16,
    /// Which chain of calls this is one of.
    pub causality: Uuid,
}

impl OrpcThis {
    /// Reads it, and skips its extensions.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, NdrError> {
        let (major, minor) = (reader.u16()?, reader.u16()?);
        let (_flags, _reserved) = (reader.u32()?, reader.u32()?);
        let causality = reader.uuid()?;
        if reader.pointer()? {
            skip_extensions(reader)?;
        }
        Ok(OrpcThis {
            major,
            minor,
            causality,
        })
    }

    /// Whether we can serve the client.
    pub fn is_served(&self) -> bool {
        self.major == MAJOR && (1..=MINOR).contains(&self.minor)
    }

    /// Writes it without extensions, as a client does.
    pub fn write(&self, writer: &mut Writer) {
        writer.u16(self.major).u16(self.minor).u32(0).u32(0);
        writer.uuid(self.causality).null();
    }
}

/// ORPC_EXTENT_ARRAY: a rounded-up array of pointers, then what they point to.
fn skip_extensions(reader: &mut Reader<'_>) -> Result<(), NdrError> {
    let (_size, _reserved) = (reader.u32()?, reader.u32()?);
    if !reader.pointer()? {
        return Ok(());
    }
    let count = reader.count(MOST_EXTENSIONS, 4)?;
    let mut there = 0;
    for _ in 0..count {
        there += usize::from(reader.pointer()?);
    }
    for _ in 0..there {
        // The array's count comes before the structure that it ends.
        let length = reader.count(LONGEST_EXTENSION, 1)?;
        reader.uuid()?;
        reader.u32()?;
        reader.bytes(length)?;
    }
    Ok(())
}

/// Begins results: ORPCTHAT without extensions.
pub fn results() -> Writer {
    let mut writer = Writer::new();
    writer.u32(0).null();
    writer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_skipped() {
        let mut writer = Writer::new();
        writer.u16(5).u16(7).u32(0).u32(0).uuid(Uuid::from_u128(9));
        writer.pointer().u32(1).u32(0).pointer();
        writer.u32(2).pointer().null();
        writer.u32(8).uuid(Uuid::from_u128(1)).u32(5).bytes(&[7; 8]);
        writer.u32(0x1234_5678);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        let this = OrpcThis::read(&mut reader).unwrap();
        assert_eq!(this.causality, Uuid::from_u128(9));
        assert!(this.is_served());
        assert_eq!(reader.u32(), Ok(0x1234_5678));
        for end in 0..bytes.len() - 4 {
            assert!(OrpcThis::read(&mut Reader::new(&bytes[..end])).is_err());
        }
    }
}
