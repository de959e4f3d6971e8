//! SPNEGO's tokens (RFC 4178 4.2, MS-SPNG 2.2), to and from bytes.

use crate::der::{Reader, element};

/// The longest token that is looked at; Kerberos tickets make them long.
pub const LONGEST_TOKEN: usize = 64 << 10;
/// More mechanisms than any client offers.
const MOST_MECHANISMS: usize = 32;

/// NTLM's object identifier, 1.3.6.1.4.1.311.2.2.10, as DER content.
pub const NTLM: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
/// Kerberos 5's, 1.2.840.113554.1.2.2.
pub const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];

const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const APPLICATION: u8 = 0x60;
const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Bytes are not the token that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SPNEGO token is broken or not the one expected")]
pub struct Malformed;

/// NegTokenInit or NegTokenInit2: a client's first token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// What the client can do, as identifiers in DER, best first.
    pub mechanisms: Vec<Vec<u8>>,
    /// The list as it was sent: what gets signed in the end.
    pub mechanism_list: Vec<u8>,
    /// The first mechanism's first token, sent in the hope that it will be chosen.
    pub token: Option<Vec<u8>>,
}

impl Init {
    /// A token for these mechanisms.
    pub fn new(mechanisms: &[&[u8]], token: Option<Vec<u8>>) -> Self {
        let list: Vec<u8> = mechanisms
            .iter()
            .flat_map(|oid| element(OID, oid))
            .collect();
        Init {
            mechanisms: mechanisms.iter().map(|oid| oid.to_vec()).collect(),
            mechanism_list: element(SEQUENCE, &list),
            token,
        }
    }

    /// Reads a token.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes).ok_or(Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST_TOKEN {
            return None;
        }
        let mut inside = Reader::new(Reader::new(bytes).take(APPLICATION)?);
        if inside.take(OID)? != SPNEGO {
            return None;
        }
        let mut choice = Reader::new(inside.take(context(0))?);
        let mut fields = Reader::new(choice.take(SEQUENCE)?);
        let mut list = Reader::new(fields.take(context(0))?);
        let (mechanism_list, list) = list.take_whole(SEQUENCE)?;
        let mut list = Reader::new(list);
        let mut mechanisms = Vec::new();
        while !list.rest().is_empty() {
            if mechanisms.len() == MOST_MECHANISMS {
                return None;
            }
            mechanisms.push(list.take(OID)?.to_vec());
        }
        fields.take_optional(context(1))?;
        let token = match fields.take_optional(context(2))? {
            Some(token) => Some(Reader::new(token).take(OCTETS)?.to_vec()),
            None => None,
        };
        while !fields.rest().is_empty() {
            fields.skip()?;
        }
        Some(Init {
            mechanisms,
            mechanism_list: mechanism_list.to_vec(),
            token,
        })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = element(context(0), &self.mechanism_list);
        if let Some(token) = &self.token {
            fields.extend(element(context(2), &element(OCTETS, token)));
        }
        let mut inside = element(OID, SPNEGO);
        inside.extend(element(context(0), &element(SEQUENCE, &fields)));
        element(APPLICATION, &inside)
    }
}

/// How a negotiation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Done.
    Completed,
    /// More tokens are needed.
    Incomplete,
    /// Refused.
    Rejected,
    /// More tokens are needed, and the list must be signed.
    RequestMic,
    /// A number that the specification does not have.
    Other(u8),
}

impl State {
    fn of(number: u8) -> Self {
        match number {
            0 => State::Completed,
            1 => State::Incomplete,
            2 => State::Rejected,
            3 => State::RequestMic,
            other => State::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            State::Completed => 0,
            State::Incomplete => 1,
            State::Rejected => 2,
            State::RequestMic => 3,
            State::Other(other) => other,
        }
    }
}

/// NegTokenResp: every token after the first, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// How the sender sees it.
    pub state: Option<State>,
    /// The mechanism chosen, in the server's first answer.
    pub mechanism: Option<Vec<u8>>,
    /// The mechanism's next token.
    pub token: Option<Vec<u8>>,
    /// The signature of the list of mechanisms.
    pub signature: Option<Vec<u8>>,
}

impl Response {
    /// Reads a token.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes).ok_or(Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST_TOKEN {
            return None;
        }
        let mut choice = Reader::new(Reader::new(bytes).take(context(1))?);
        let mut fields = Reader::new(choice.take(SEQUENCE)?);
        let mut optional = |number, tag| -> Option<Option<Vec<u8>>> {
            match fields.take_optional(context(number))? {
                Some(field) => Some(Some(Reader::new(field).take(tag)?.to_vec())),
                None => Some(None),
            }
        };
        let state = match optional(0, ENUMERATED)?.as_deref() {
            Some([number]) => Some(State::of(*number)),
            Some(_) => return None,
            None => None,
        };
        Some(Response {
            state,
            mechanism: optional(1, OID)?,
            token: optional(2, OCTETS)?,
            signature: optional(3, OCTETS)?,
        })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let state = self.state.map(|state| vec![state.number()]);
        let mut fields = Vec::new();
        for (number, tag, field) in [
            (0, ENUMERATED, &state),
            (1, OID, &self.mechanism),
            (2, OCTETS, &self.token),
            (3, OCTETS, &self.signature),
        ] {
            if let Some(field) = field {
                fields.extend(element(context(number), &element(tag, field)));
            }
        }
        element(context(1), &element(SEQUENCE, &fields))
    }
}
