//! The heap that each part ends with (MS-WMIO 2.2.66): strings, arrays and tables, referred to by
//! their offset.

use crate::encode::Fault;
use crate::text;
use cim::Name;

/// Set on a heap's length.
const LENGTH_FLAG: u32 = 0x8000_0000;

/// Most bytes of one heap, and of one object. Far above what any class or instance has.
pub(crate) const LARGEST: usize = 64 << 20;

/// A heap being filled.
#[derive(Default)]
pub(crate) struct Heap {
    bytes: Vec<u8>,
}

impl Heap {
    /// Where the next thing will stand.
    pub(crate) fn here(&self) -> Result<u32, Fault> {
        length(self.bytes.len())
    }

    /// Appends raw bytes; where they are.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<u32, Fault> {
        let at = self.here()?;
        self.bytes.extend_from_slice(bytes);
        length(self.bytes.len())?;
        Ok(at)
    }

    /// Appends a string; where it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<u32, Fault> {
        let at = self.here()?;
        text::push(&mut self.bytes, text).ok_or(Fault::Nul)?;
        Ok(at)
    }

    /// A reference to a name: into the dictionary where it is there.
    pub(crate) fn word(&mut self, name: &Name) -> Result<u32, Fault> {
        match text::dictionary_reference(name) {
            Some(reference) => Ok(reference),
            None => self.text(name.as_str()),
        }
    }

    /// Appends the heap with its length to a part.
    pub(crate) fn finish(self, part: &mut Vec<u8>) -> Result<(), Fault> {
        let length = length(self.bytes.len())?;
        part.extend_from_slice(&(length | LENGTH_FLAG).to_le_bytes());
        part.extend_from_slice(&self.bytes);
        Ok(())
    }
}

/// A length that fits the format.
pub(crate) fn length(bytes: usize) -> Result<u32, Fault> {
    if bytes > LARGEST {
        return Err(Fault::TooLarge);
    }
    u32::try_from(bytes).map_err(|_| Fault::TooLarge)
}

/// Puts the length of everything written since `start` in front of it: `part[start..start + 4]` was
/// left free for it.
pub(crate) fn set_length(part: &mut [u8], start: usize) -> Result<(), Fault> {
    let length = length(part.len().saturating_sub(start))?;
    if let Some(field) = part.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}
