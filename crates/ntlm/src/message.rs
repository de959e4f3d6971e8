//! The three messages of a logon, to and from bytes (MS-NLMP 2.2.1).
//!
//! Parsers accept every layout that the specification allows (payloads in any order, with or
//! without version and integrity code) and read nothing outside the message.

use crate::keys::utf16;
use crate::target::Pairs;

/// The longest message that is looked at: names and pairs are short.
pub const LONGEST_MESSAGE: usize = 16 << 10;
/// The longest name that is looked at, in bytes of UTF-16.
const LONGEST_NAME: usize = 1024;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// Where the integrity code stands in an AUTHENTICATE message that has one.
pub(crate) const CODE_OFFSET: usize = 72;
pub(crate) const CODE_END: usize = CODE_OFFSET + 16;
/// The version field: none in particular, NTLM revision 15.
const VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin as an NTLM message, or is of another type.
    #[error("this is not the NTLM message that was expected")]
    Type,
    /// A fixed field is missing.
    #[error("the NTLM message is too short")]
    Short,
    /// It is longer than [`LONGEST_MESSAGE`].
    #[error("the NTLM message is too long")]
    Long,
    /// A payload lies outside the message or is too long.
    #[error("a field of the NTLM message lies outside it")]
    Field,
    /// A name is not UTF-16.
    #[error("a name in the NTLM message is not UTF-16")]
    Text,
    /// Attribute/value pairs do not end within their field.
    #[error("the target information of the NTLM message is broken")]
    Target,
}

/// Negotiate flags (MS-NLMP 2.2.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Text is UTF-16.
    pub const UNICODE: Flags = Flags(0x0000_0001);
    /// The client wants to know whom it talks to.
    pub const REQUEST_TARGET: Flags = Flags(0x0000_0004);
    /// Messages will be signed.
    pub const SIGN: Flags = Flags(0x0000_0010);
    /// Messages will be encrypted.
    pub const SEAL: Flags = Flags(0x0000_0020);
    /// Connectionless.
    pub const DATAGRAM: Flags = Flags(0x0000_0040);
    /// NTLM at all.
    pub const NTLM: Flags = Flags(0x0000_0200);
    /// No user.
    pub const ANONYMOUS: Flags = Flags(0x0000_0800);
    /// A signature even where nobody looks at it.
    pub const ALWAYS_SIGN: Flags = Flags(0x0000_8000);
    /// The target name is a server's.
    pub const TARGET_TYPE_SERVER: Flags = Flags(0x0002_0000);
    /// Extended session security: keys for each direction, HMAC signatures.
    pub const EXTENDED_SESSION_SECURITY: Flags = Flags(0x0008_0000);
    /// There are attribute/value pairs.
    pub const TARGET_INFO: Flags = Flags(0x0080_0000);
    /// There is a version field.
    pub const VERSION: Flags = Flags(0x0200_0000);
    /// Keys of 128 bits.
    pub const BITS_128: Flags = Flags(0x2000_0000);
    /// The client makes the session key.
    pub const KEY_EXCHANGE: Flags = Flags(0x4000_0000);
    /// Keys of 56 bits, if 128 were not there.
    pub const BITS_56: Flags = Flags(0x8000_0000);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

/// NEGOTIATE_MESSAGE: what the client can do. Its domain and workstation are of no use and are not
/// read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    /// What the client can do.
    pub flags: Flags,
}

impl Negotiate {
    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::of(bytes, 1)?;
        Ok(Negotiate {
            flags: Flags(fields.u32(12)?),
        })
    }

    /// The bytes of a message without domain and workstation.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = start(1);
        bytes.extend(self.flags.0.to_le_bytes());
        bytes.extend([0; 16]);
        if self.flags.contains(Flags::VERSION) {
            bytes.extend(VERSION);
        }
        bytes
    }
}

/// CHALLENGE_MESSAGE: the server's random number, and who the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What both can do, and what the target is.
    pub flags: Flags,
    /// The random number.
    pub challenge: [u8; 8],
    /// The server's name.
    pub target: String,
    /// What the server says about itself.
    pub pairs: Pairs,
}

impl Challenge {
    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::of(bytes, 2)?;
        Ok(Challenge {
            flags: Flags(fields.u32(20)?),
            challenge: fields.array(24)?,
            target: text(fields.payload(12, LONGEST_NAME)?)?,
            pairs: match fields.payload(40, LONGEST_MESSAGE)? {
                [] => Pairs::default(),
                pairs => Pairs::decode(pairs)?.0,
            },
        })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Payload::from_offset(56);
        let target = payload.add(&utf16(&self.target));
        let pairs = payload.add(&self.pairs.encode());
        let mut bytes = start(2);
        bytes.extend(target);
        bytes.extend(self.flags.0.to_le_bytes());
        bytes.extend(self.challenge);
        bytes.extend([0; 8]);
        bytes.extend(pairs);
        bytes.extend(VERSION);
        bytes.extend(payload.bytes);
        bytes
    }
}

/// AUTHENTICATE_MESSAGE: who the client claims to be, and its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// What was agreed on, as the client sees it.
    pub flags: Flags,
    /// `LmChallengeResponse`; nothing follows from it.
    pub lm_response: Vec<u8>,
    /// `NtChallengeResponse`.
    pub nt_response: Vec<u8>,
    /// The user's domain, as the client spells it.
    pub domain: String,
    /// The user's name, as the client spells it.
    pub user: String,
    /// The client's machine.
    pub workstation: String,
    /// `EncryptedRandomSessionKey`.
    pub session_key: Option<[u8; 16]>,
    /// The integrity code, if there is room for one before the payload. Only the response tells
    /// whether it is one.
    pub integrity_code: Option<[u8; 16]>,
}

impl Authenticate {
    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::of(bytes, 3)?;
        let flags = Flags(fields.u32(60)?);
        let name = |at| text(fields.payload(at, LONGEST_NAME)?);
        let session_key = match fields.payload(52, 16)? {
            [] => None,
            key => Some(key.try_into().map_err(|_| Malformed::Field)?),
        };
        Ok(Authenticate {
            flags,
            lm_response: fields.payload(12, LONGEST_MESSAGE)?.to_vec(),
            nt_response: fields.payload(20, LONGEST_MESSAGE)?.to_vec(),
            domain: name(28)?,
            user: name(36)?,
            workstation: name(44)?,
            session_key,
            integrity_code: fields
                .payload_start(&[12, 20, 28, 36, 44, 52])?
                .ge(&CODE_END)
                .then(|| fields.array(CODE_OFFSET))
                .transpose()?,
        })
    }

    /// The bytes, with a version field, and with room for an integrity code if there is one.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = match self.integrity_code {
            Some(_) => CODE_END,
            None => CODE_OFFSET,
        };
        let mut payload = Payload::from_offset(fixed);
        let domain = payload.add(&utf16(&self.domain));
        let user = payload.add(&utf16(&self.user));
        let workstation = payload.add(&utf16(&self.workstation));
        let lm = payload.add(&self.lm_response);
        let nt = payload.add(&self.nt_response);
        let key = payload.add(self.session_key.as_ref().map_or(&[], |key| &key[..]));
        let mut bytes = start(3);
        for field in [lm, nt, domain, user, workstation, key] {
            bytes.extend(field);
        }
        bytes.extend(self.flags.0.to_le_bytes());
        bytes.extend(VERSION);
        if let Some(code) = self.integrity_code {
            bytes.extend(code);
        }
        bytes.extend(payload.bytes);
        bytes
    }
}

/// NTLMv2_CLIENT_CHALLENGE, the part of the response that the proof covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChallenge {
    /// When the client made it: 100-nanosecond intervals since 1601.
    pub time: u64,
    /// The client's random number.
    pub challenge: [u8; 8],
    /// What the server said, with the client's additions.
    pub pairs: Pairs,
}

impl ClientChallenge {
    /// Reads what follows the proof in `NtChallengeResponse`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed: &[u8; 28] = bytes.first_chunk().ok_or(Malformed::Short)?;
        let [1, 1, _, _, _, _, _, _, rest @ ..] = fixed else {
            return Err(Malformed::Type);
        };
        let time = rest.first_chunk().ok_or(Malformed::Short)?;
        let challenge = rest.get(8..).and_then(<[u8]>::first_chunk);
        Ok(ClientChallenge {
            time: u64::from_le_bytes(*time),
            challenge: *challenge.ok_or(Malformed::Short)?,
            pairs: Pairs::decode(bytes.get(28..).ok_or(Malformed::Short)?)?.0,
        })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.time.to_le_bytes());
        bytes.extend(self.challenge);
        bytes.extend([0; 4]);
        bytes.extend(self.pairs.encode());
        bytes.extend([0; 4]);
        bytes
    }
}

fn start(message_type: u32) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend(message_type.to_le_bytes());
    bytes
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return Err(Malformed::Text);
    };
    char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit)))
        .collect::<Result<_, _>>()
        .map_err(|_| Malformed::Text)
}

/// Reads fields of a message by offset.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], message_type: u32) -> Result<Self, Malformed> {
        if bytes.len() > LONGEST_MESSAGE {
            return Err(Malformed::Long);
        }
        let fields = Fields(bytes);
        if bytes.first_chunk() != Some(SIGNATURE) || fields.u32(8)? != message_type {
            return Err(Malformed::Type);
        }
        Ok(fields)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Malformed> {
        let found = self.0.get(at..).and_then(<[u8]>::first_chunk);
        found.copied().ok_or(Malformed::Short)
    }

    fn u32(&self, at: usize) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    /// Length and offset of the payload whose descriptor is at `at`.
    fn descriptor(&self, at: usize) -> Result<(usize, usize), Malformed> {
        let length = u16::from_le_bytes(self.array(at)?);
        let offset = self.u32(at + 4)?;
        let offset = usize::try_from(offset).map_err(|_| Malformed::Field)?;
        Ok((usize::from(length), offset))
    }

    fn payload(&self, at: usize, longest: usize) -> Result<&'a [u8], Malformed> {
        let (length, offset) = self.descriptor(at)?;
        if length == 0 {
            return Ok(&[]);
        }
        let end = offset.checked_add(length).ok_or(Malformed::Field)?;
        let payload = self.0.get(offset..end).ok_or(Malformed::Field)?;
        if length > longest {
            return Err(Malformed::Field);
        }
        Ok(payload)
    }

    /// Where the first payload that is not empty begins.
    fn payload_start(&self, descriptors: &[usize]) -> Result<usize, Malformed> {
        let mut first = self.0.len();
        for at in descriptors {
            let (length, offset) = self.descriptor(*at)?;
            if length > 0 {
                first = first.min(offset);
            }
        }
        Ok(first)
    }
}

/// Collects payloads behind the fixed part and makes their descriptors.
struct Payload {
    offset: usize,
    bytes: Vec<u8>,
}

impl Payload {
    fn from_offset(offset: usize) -> Self {
        Payload {
            offset,
            bytes: Vec::new(),
        }
    }

    fn add(&mut self, field: &[u8]) -> [u8; 8] {
        let field = field.get(..usize::from(u16::MAX)).unwrap_or(field);
        let length = u16::try_from(field.len()).unwrap_or(u16::MAX).to_le_bytes();
        let offset = self.offset + self.bytes.len();
        let offset = u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes();
        self.bytes.extend(field);
        let mut descriptor = [0; 8];
        descriptor[..2].copy_from_slice(&length);
        descriptor[2..4].copy_from_slice(&length);
        descriptor[4..].copy_from_slice(&offset);
        descriptor
    }
}
