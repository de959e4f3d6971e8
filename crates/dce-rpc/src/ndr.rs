//! NDR 2.0, little-endian (C706 chapter 14): arguments and results of calls to and from bytes.
//!
//! [`Reader`] checks every count against what is left before anything is reserved, so a request
//! costs memory in proportion to its own size. Alignment counts from the start of the stub.
//!
//! Pointers are written where they stand, their referents where C706 14.3.12 puts them; who describes
//! a structure writes both in order. There is no schema compiler.

use uuid::Uuid;

/// Bytes are not the arguments they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NdrError {
    /// They end too early.
    #[error("the data ends too early")]
    End,
    /// A count is larger than what follows, or than is accepted.
    #[error("a count is too large")]
    Count,
    /// Text is not UTF-16.
    #[error("text is not UTF-16")]
    Text,
    /// A value is not one of those allowed.
    #[error("a value is not allowed there")]
    Value,
}

/// Takes values out of a stub.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of a stub, or of anything that has an alignment of its own.
    pub fn new(data: &'a [u8]) -> Self {
        Reader { data, at: 0 }
    }

    /// Bytes taken so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    /// Goes on to a multiple of `to`. Padding may be missing at the very end.
    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to.max(1)).min(self.data.len());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], NdrError> {
        let end = self.at.checked_add(count).ok_or(NdrError::End)?;
        let bytes = self.data.get(self.at..end).ok_or(NdrError::End)?;
        self.at = end;
        Ok(bytes)
    }

    /// So many bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], NdrError> {
        self.bytes(N)?.try_into().map_err(|_| NdrError::End)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, NdrError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A short.
    pub fn u16(&mut self) -> Result<u16, NdrError> {
        self.align(2);
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A long.
    pub fn u32(&mut self) -> Result<u32, NdrError> {
        self.align(4);
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A signed long.
    pub fn i32(&mut self) -> Result<i32, NdrError> {
        self.align(4);
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A hyper.
    pub fn u64(&mut self) -> Result<u64, NdrError> {
        self.align(8);
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A UUID.
    pub fn uuid(&mut self) -> Result<Uuid, NdrError> {
        self.align(4);
        Ok(Uuid::from_bytes_le(self.array()?))
    }

    /// A unique or full pointer: whether there is a referent.
    pub fn pointer(&mut self) -> Result<bool, NdrError> {
        Ok(self.u32()? != 0)
    }

    /// A count of elements of at least `size` bytes each, of which no more than `most` are accepted
    /// and no more can come than bytes are left.
    pub fn count(&mut self, most: usize, size: usize) -> Result<usize, NdrError> {
        let count = usize::try_from(self.u32()?).map_err(|_| NdrError::Count)?;
        let bytes = count.checked_mul(size.max(1)).ok_or(NdrError::Count)?;
        if count > most || bytes > self.remaining() {
            return Err(NdrError::Count);
        }
        Ok(count)
    }

    /// A conformant array of bytes: its count and itself.
    pub fn counted_bytes(&mut self, most: usize) -> Result<&'a [u8], NdrError> {
        let count = self.count(most, 1)?;
        self.bytes(count)
    }

    /// A conformant varying string of 16-bit characters, without its terminating zero.
    pub fn wide_string(&mut self, most: usize) -> Result<String, NdrError> {
        let most_units = most.saturating_add(1);
        let maximum = usize::try_from(self.u32()?).map_err(|_| NdrError::Count)?;
        let offset = self.u32()?;
        let actual = self.count(most_units, 2)?;
        if offset != 0 || actual > maximum {
            return Err(NdrError::Value);
        }
        let mut units = self.units(actual)?;
        if units.last() == Some(&0) {
            units.pop();
        }
        text(&units)
    }

    /// Characters of 16 bits.
    pub fn units(&mut self, count: usize) -> Result<Vec<u16>, NdrError> {
        self.align(2);
        let bytes = self.bytes(count.checked_mul(2).ok_or(NdrError::Count)?)?;
        let (units, _) = bytes.as_chunks();
        Ok(units.iter().map(|unit| u16::from_le_bytes(*unit)).collect())
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or_default()
    }
}

/// Text of UTF-16 units.
pub fn text(units: &[u16]) -> Result<String, NdrError> {
    String::from_utf16(units).map_err(|_| NdrError::Text)
}

/// The first referent's identifier; the next ones follow in steps of four, as Windows has it.
const FIRST_REFERENT: u32 = 0x0002_0000;

/// Puts values into a stub.
#[derive(Clone, Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    referent: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty stub.
    pub fn new() -> Self {
        Writer {
            bytes: Vec::new(),
            referent: FIRST_REFERENT,
        }
    }

    /// Bytes written so far.
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// Zeroes up to a multiple of `to`.
    pub fn align(&mut self, to: usize) -> &mut Self {
        let end = self.bytes.len().next_multiple_of(to.max(1));
        self.bytes.resize(end, 0);
        self
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// A short.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.align(2).bytes(&value.to_le_bytes())
    }

    /// A long.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.align(4).bytes(&value.to_le_bytes())
    }

    /// A signed long.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.align(4).bytes(&value.to_le_bytes())
    }

    /// A hyper.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.align(8).bytes(&value.to_le_bytes())
    }

    /// A UUID.
    pub fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.align(4).bytes(&value.to_bytes_le())
    }

    /// A pointer that has a referent, which the caller writes where it belongs.
    pub fn pointer(&mut self) -> &mut Self {
        let referent = self.referent;
        self.referent = self.referent.wrapping_add(4);
        self.u32(referent)
    }

    /// A pointer to nothing.
    pub fn null(&mut self) -> &mut Self {
        self.u32(0)
    }

    /// A count. Nothing that is counted here reaches 2^32.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// A conformant array of bytes: its count and itself.
    pub fn counted_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).bytes(bytes)
    }

    /// A conformant varying string of 16-bit characters, with its terminating zero.
    pub fn wide_string(&mut self, text: &str) -> &mut Self {
        let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
        self.count(units.len()).u32(0).count(units.len());
        for unit in units {
            self.u16(unit);
        }
        self
    }

    /// The stub.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = Uuid::from_u128(7);
        let mut writer = Writer::new();
        writer.u8(1).u16(2).u8(3).u64(4).u8(5).uuid(id).i32(-6);
        writer.pointer().wide_string("grün").counted_bytes(b"xyz");
        writer.null();
        let stub = writer.into_bytes();
        let mut reader = Reader::new(&stub);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u8(), Ok(3));
        assert_eq!(reader.u64(), Ok(4));
        assert_eq!(reader.position(), 16);
        assert_eq!(reader.u8(), Ok(5));
        assert_eq!(reader.uuid(), Ok(id));
        assert_eq!(reader.i32(), Ok(-6));
        assert_eq!(reader.pointer(), Ok(true));
        assert_eq!(reader.wide_string(4).as_deref(), Ok("grün"));
        assert_eq!(reader.counted_bytes(3), Ok(&b"xyz"[..]));
        assert_eq!(reader.pointer(), Ok(false));
        assert_eq!(reader.remaining(), 0);
        assert_eq!(reader.u8(), Err(NdrError::End));
    }

    #[test]
    fn counts_are_checked_before_memory_is_taken() {
        let huge = [0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4];
        assert_eq!(
            Reader::new(&huge).counted_bytes(usize::MAX),
            Err(NdrError::Count)
        );
        assert_eq!(
            Reader::new(&huge).count(usize::MAX, 8),
            Err(NdrError::Count)
        );
        let four = [4, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(Reader::new(&four).counted_bytes(3), Err(NdrError::Count));
        assert_eq!(Reader::new(&four).count(4, 2), Err(NdrError::Count));
        assert_eq!(Reader::new(&four).counted_bytes(4), Ok(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn strings_that_lie_about_themselves_are_refused() {
        let string = |maximum: u32, offset: u32, actual: u32, units: &[u16]| {
            let mut writer = Writer::new();
            writer.u32(maximum).u32(offset).u32(actual);
            for unit in units {
                writer.u16(*unit);
            }
            Reader::new(&writer.into_bytes()).wide_string(8)
        };
        assert_eq!(string(2, 0, 2, &[97, 0]).as_deref(), Ok("a"));
        assert_eq!(string(1, 0, 1, &[97]).as_deref(), Ok("a"));
        assert_eq!(string(1, 0, 2, &[97, 0]), Err(NdrError::Value));
        assert_eq!(string(2, 1, 2, &[97, 0]), Err(NdrError::Value));
        assert_eq!(string(9, 0, 9, &[97, 0]), Err(NdrError::Count));
        assert_eq!(string(1, 0, 1, &[0xd800]), Err(NdrError::Text));
    }
}
