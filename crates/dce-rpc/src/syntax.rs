//! Names of interfaces and of transfer syntaxes (C706 12.6.3.1).

use std::fmt;
use uuid::{Uuid, uuid};

/// An interface or a transfer syntax: a UUID and a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SyntaxId {
    /// Its identifier.
    pub uuid: Uuid,
    /// Major version; another one is another interface.
    pub major: u16,
    /// Minor version; a server serves those up to its own.
    pub minor: u16,
}

impl SyntaxId {
    /// NDR 2.0, the one transfer syntax that is spoken here.
    pub const NDR: SyntaxId = SyntaxId::new(uuid!("8a885d04-1ceb-11c9-9fe8-08002b104860"), 2);
    /// NDR64, which is refused.
    pub const NDR64: SyntaxId = SyntaxId::new(uuid!("71710533-beba-4937-8319-b5dbef9ccc36"), 1);
    /// Nothing: what stands where a syntax was refused.
    pub const NONE: SyntaxId = SyntaxId::new(Uuid::nil(), 0);

    /// Version `major.0` of an identifier.
    pub const fn new(uuid: Uuid, major: u16) -> Self {
        SyntaxId {
            uuid,
            major,
            minor: 0,
        }
    }

    /// Whether a server that has this interface serves a client that asks for `wanted`.
    pub fn serves(&self, wanted: &SyntaxId) -> bool {
        self.uuid == wanted.uuid && self.major == wanted.major && wanted.minor <= self.minor
    }

    /// The features that a client asks for at bind time, if this is such a question and not a syntax
    /// (MS-RPCE 2.2.2.14).
    pub fn features(&self) -> Option<u16> {
        const QUESTION: [u8; 8] = [0x2c, 0x1c, 0xb7, 0x6c, 0x12, 0x98, 0x40, 0x45];
        match self.uuid.to_bytes_le() {
            [a, b, c, d, e, f, g, h, low, high, 0, 0, 0, 0, 0, 0]
                if [a, b, c, d, e, f, g, h] == QUESTION && self.major == 1 =>
            {
                Some(u16::from_le_bytes([low, high]))
            }
            _ => None,
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 20]) -> Self {
        let [
            u0,
            u1,
            u2,
            u3,
            u4,
            u5,
            u6,
            u7,
            u8,
            u9,
            u10,
            u11,
            u12,
            u13,
            u14,
            u15,
            a,
            b,
            c,
            d,
        ] = bytes;
        SyntaxId {
            uuid: Uuid::from_bytes_le([
                u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11, u12, u13, u14, u15,
            ]),
            major: u16::from_le_bytes([a, b]),
            minor: u16::from_le_bytes([c, d]),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.uuid.to_bytes_le());
        bytes[16..18].copy_from_slice(&self.major.to_le_bytes());
        bytes[18..].copy_from_slice(&self.minor.to_le_bytes());
        bytes
    }
}

impl fmt::Display for SyntaxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}.{}", self.uuid, self.major, self.minor)
    }
}
