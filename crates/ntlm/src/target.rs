//! Attribute/value pairs (MS-NLMP 2.2.2.1): what a server says about itself, and what a client
//! repeats and adds in its response.

use crate::message::Malformed;

/// `MsvAvNbComputerName`.
pub const COMPUTER: u16 = 1;
/// `MsvAvNbDomainName`.
pub const DOMAIN: u16 = 2;
/// `MsvAvDnsComputerName`.
pub const DNS_COMPUTER: u16 = 3;
/// `MsvAvDnsDomainName`.
pub const DNS_DOMAIN: u16 = 4;
/// `MsvAvFlags`.
pub const FLAGS: u16 = 6;
/// `MsvAvTimestamp`: 100-nanosecond intervals since 1601.
pub const TIMESTAMP: u16 = 7;
/// `MsvAvChannelBindings`: MD5 of the channel's bindings, or zeroes.
pub const CHANNEL_BINDINGS: u16 = 10;

/// In the value of [`FLAGS`]: the last message carries a message integrity code.
pub const FLAG_INTEGRITY_CODE: u32 = 2;

/// More pairs than any client sends.
const MOST_PAIRS: usize = 32;

/// A list of pairs, in order, without the end mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(u16, Vec<u8>)>);

impl Pairs {
    /// Adds a pair. Values above 64 KiB are cut off there.
    pub fn push(&mut self, id: u16, value: &[u8]) {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        self.0.push((id, value.to_vec()));
    }

    /// Adds a pair with text.
    pub fn push_text(&mut self, id: u16, text: &str) {
        self.push(id, &crate::keys::utf16(text));
    }

    /// The first value of an attribute.
    pub fn get(&self, id: u16) -> Option<&[u8]> {
        let (_, value) = self.0.iter().find(|(found, _)| *found == id)?;
        Some(value)
    }

    /// The value of [`FLAGS`]; none is zero.
    pub fn flags(&self) -> u32 {
        let flags = self.get(FLAGS).and_then(|value| value.try_into().ok());
        flags.map_or(0, u32::from_le_bytes)
    }

    /// The value of [`TIMESTAMP`].
    pub fn timestamp(&self) -> Option<u64> {
        let value = self.get(TIMESTAMP)?.try_into().ok()?;
        Some(u64::from_le_bytes(value))
    }

    /// Reads pairs up to their end mark; gives what follows it, too.
    pub fn decode(mut bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut pairs = Pairs::default();
        loop {
            let (id, rest) = take_u16(bytes).ok_or(Malformed::Target)?;
            let (length, rest) = take_u16(rest).ok_or(Malformed::Target)?;
            if id == 0 {
                return Ok((pairs, rest));
            }
            if pairs.0.len() == MOST_PAIRS {
                return Err(Malformed::Target);
            }
            let (value, rest) = rest
                .split_at_checked(usize::from(length))
                .ok_or(Malformed::Target)?;
            pairs.0.push((id, value.to_vec()));
            bytes = rest;
        }
    }

    /// The bytes, with the end mark.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, value) in &self.0 {
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            bytes.extend(id.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(value.iter().take(usize::from(length)));
        }
        bytes.extend([0; 4]);
        bytes
    }
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((u16::from_le_bytes(*value), rest))
}
