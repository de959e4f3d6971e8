//! Reading from bytes that may be anything.

use super::{DecodeError, DecodeErrorKind};
use crate::text;

/// A position in a part of an object.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// What is being read, for errors.
    place: &'static str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], place: &'static str) -> Self {
        Cursor { rest: bytes, place }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn fault(&self, kind: DecodeErrorKind) -> DecodeError {
        kind.at(self.place)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.fault(DecodeErrorKind::Truncated)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.fault(DecodeErrorKind::Truncated)),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A length or count.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.u32()?;
        usize::try_from(length).map_err(|_| self.fault(DecodeErrorKind::Truncated))
    }

    /// A string.
    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let (text, length) =
            text::read(self.rest).ok_or_else(|| self.fault(DecodeErrorKind::Text))?;
        self.take(length)?;
        Ok(text)
    }

    /// A part that starts with its own length, which counts itself: what follows the length.
    pub(super) fn part(&mut self, place: &'static str) -> Result<Cursor<'a>, DecodeError> {
        let length = self.length()?;
        let Some(inner) = length.checked_sub(4) else {
            return Err(self.fault(DecodeErrorKind::Truncated));
        };
        Ok(Cursor::new(self.take(inner)?, place))
    }

    /// A heap, whose length has its top bit set.
    pub(super) fn heap(&mut self) -> Result<Heap<'a>, DecodeError> {
        let length = self.u32()? & 0x7fff_ffff;
        let length = usize::try_from(length).map_err(|_| self.fault(DecodeErrorKind::Truncated))?;
        Ok(Heap {
            bytes: self.take(length)?,
        })
    }
}

/// What references point into.
#[derive(Clone, Copy)]
pub(super) struct Heap<'a> {
    bytes: &'a [u8],
}

impl<'a> Heap<'a> {
    /// A reader at the place that `reference` names.
    pub(super) fn at(
        &self,
        reference: u32,
        place: &'static str,
    ) -> Result<Cursor<'a>, DecodeError> {
        usize::try_from(reference)
            .ok()
            .and_then(|at| self.bytes.get(at..))
            .map(|rest| Cursor::new(rest, place))
            .ok_or_else(|| DecodeErrorKind::Truncated.at(place))
    }

    /// A name: in the heap, or a word of the dictionary.
    pub(super) fn name(&self, reference: u32, place: &'static str) -> Result<String, DecodeError> {
        let name = match text::dictionary_word(reference) {
            Some(Some(word)) => word.to_owned(),
            Some(None) => return Err(DecodeErrorKind::Truncated.at(place)),
            None => self.at(reference, place)?.text()?,
        };
        if name.is_empty() {
            return Err(DecodeErrorKind::Name(name).at(place));
        }
        Ok(name)
    }
}
