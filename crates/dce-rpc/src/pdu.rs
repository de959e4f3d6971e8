//! Protocol data units of connection-oriented RPC, to and from bytes (C706 12.6, MS-RPCE 2.2.2).
//!
//! A PDU is a header, a body and, if the header says so, a trailer with authentication. What came in
//! is a [`Fragment`], which keeps the bytes as they were, because signatures cover them; its body
//! is read by [`Fragment::bind`] and its kin. Only little-endian ASCII peers are spoken to, which
//! is all that there are.

use crate::fault::Fault;
use crate::syntax::SyntaxId;
use uuid::Uuid;

/// Bytes of the header that all PDUs have.
pub const HEADER_LENGTH: usize = 16;
/// Bytes of the trailer before its value.
pub const TRAILER_LENGTH: usize = 8;
const REPRESENTATION: [u8; 4] = [0x10, 0, 0, 0];

/// Why bytes are not a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// Another protocol, or a version of it that does not exist.
    #[error("this is not version 5 of connection-oriented RPC")]
    Version,
    /// Big-endian, EBCDIC, or another floating point.
    #[error("the peer's data representation is not little-endian ASCII IEEE")]
    Representation,
    /// Lengths contradict each other, or the body ends too early.
    #[error("a length in the PDU is wrong")]
    Length,
    /// A PDU of another type was expected.
    #[error("a PDU of this type was not expected")]
    Type,
}

/// What kind of PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketType(pub u8);

#[allow(missing_docs)] // Their names are those of the specification.
impl PacketType {
    pub const REQUEST: PacketType = PacketType(0);
    pub const RESPONSE: PacketType = PacketType(2);
    pub const FAULT: PacketType = PacketType(3);
    pub const BIND: PacketType = PacketType(11);
    pub const BIND_ACK: PacketType = PacketType(12);
    pub const BIND_NAK: PacketType = PacketType(13);
    pub const ALTER_CONTEXT: PacketType = PacketType(14);
    pub const ALTER_CONTEXT_RESPONSE: PacketType = PacketType(15);
    pub const AUTH3: PacketType = PacketType(16);
    pub const SHUTDOWN: PacketType = PacketType(17);
    pub const CO_CANCEL: PacketType = PacketType(18);
    pub const ORPHANED: PacketType = PacketType(19);
}

/// Flags of the header.
pub mod flags {
    /// The first fragment of a call.
    pub const FIRST: u8 = 0x01;
    /// The last fragment of a call.
    pub const LAST: u8 = 0x02;
    /// In a bind: signatures cover headers.
    pub const HEADER_SIGNING: u8 = 0x04;
    /// In a fault: the call had no effect.
    pub const DID_NOT_EXECUTE: u8 = 0x20;
    /// In a request: there is an object.
    pub const OBJECT: u8 = 0x80;
    /// A PDU that is whole.
    pub const WHOLE: u8 = FIRST | LAST;
}

/// The part that all PDUs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of PDU.
    pub packet_type: PacketType,
    /// See [`flags`].
    pub flags: u8,
    /// Bytes of the whole PDU.
    pub length: u16,
    /// Bytes of the trailer's value; without one there is no trailer.
    pub auth_length: u16,
    /// Which call it belongs to.
    pub call: u32,
}

impl Header {
    /// Reads a header and checks that its lengths can be true.
    pub fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, PduError> {
        let [
            version,
            minor,
            packet_type,
            flags,
            r0,
            r1,
            r2,
            r3,
            l0,
            l1,
            a0,
            a1,
            c0,
            c1,
            c2,
            c3,
        ] = *bytes;
        if version != 5 || minor > 1 {
            return Err(PduError::Version);
        }
        if [r0, r1, r2, r3] != REPRESENTATION {
            return Err(PduError::Representation);
        }
        let header = Header {
            packet_type: PacketType(packet_type),
            flags,
            length: u16::from_le_bytes([l0, l1]),
            auth_length: u16::from_le_bytes([a0, a1]),
            call: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        let trailer = match usize::from(header.auth_length) {
            0 => 0,
            length => length + TRAILER_LENGTH,
        };
        if usize::from(header.length) < HEADER_LENGTH + trailer {
            return Err(PduError::Length);
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0] = 5;
        bytes[2] = self.packet_type.0;
        bytes[3] = self.flags;
        bytes[4..8].copy_from_slice(&REPRESENTATION);
        bytes[8..10].copy_from_slice(&self.length.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.auth_length.to_le_bytes());
        bytes[12..].copy_from_slice(&self.call.to_le_bytes());
        bytes
    }
}

/// Authentication at the end of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The security provider: 9 SPNEGO, 10 NTLM.
    pub provider: u8,
    /// The level; see [`crate::Level`].
    pub level: u8,
    /// Bytes between the body and the trailer.
    pub padding: u8,
    /// Which security context of the connection.
    pub context: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_LENGTH] {
        let [a, b, c, d] = self.context.to_le_bytes();
        [self.provider, self.level, self.padding, 0, a, b, c, d]
    }
}

/// A PDU as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its header.
    pub header: Header,
    /// Its trailer, if it has one.
    pub trailer: Option<Trailer>,
    bytes: Vec<u8>,
    body_end: usize,
}

/// A presentation context that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How requests will refer to it.
    pub id: u16,
    /// The interface.
    pub interface: SyntaxId,
    /// Transfer syntaxes that the client can do.
    pub transfers: Vec<SyntaxId>,
}

/// The body of a bind or an alter_context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The largest PDU that the client will send.
    pub max_transmit: u16,
    /// The largest PDU that the client takes.
    pub max_receive: u16,
    /// Zero, or the group that the connection shall belong to.
    pub group: u32,
    /// The presentation contexts.
    pub offers: Vec<Offer>,
}

/// The body of a request's fragment, without its stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How long the whole stub may be; a hint.
    pub hint: u32,
    /// The presentation context.
    pub context: u16,
    /// The operation.
    pub opnum: u16,
    /// The object.
    pub object: Option<Uuid>,
    /// Where the stub begins in the fragment.
    pub stub_start: usize,
}

impl Fragment {
    /// Takes apart a PDU of exactly the length that its header says.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, PduError> {
        let header = Header::decode(bytes.first_chunk().ok_or(PduError::Length)?)?;
        if usize::from(header.length) != bytes.len() {
            return Err(PduError::Length);
        }
        let mut body_end = bytes.len();
        let mut trailer = None;
        if header.auth_length > 0 {
            let start = bytes.len() - usize::from(header.auth_length) - TRAILER_LENGTH;
            let found: &[u8; TRAILER_LENGTH] = bytes
                .get(start..)
                .and_then(<[u8]>::first_chunk)
                .ok_or(PduError::Length)?;
            let [provider, level, padding, _, a, b, c, d] = *found;
            trailer = Some(Trailer {
                provider,
                level,
                padding,
                context: u32::from_le_bytes([a, b, c, d]),
            });
            body_end = start
                .checked_sub(usize::from(padding))
                .filter(|end| *end >= HEADER_LENGTH)
                .ok_or(PduError::Length)?;
        }
        Ok(Fragment {
            header,
            trailer,
            bytes,
            body_end,
        })
    }

    /// The whole PDU.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The trailer's value: a token or a signature.
    pub fn auth_value(&self) -> &[u8] {
        let start = self.bytes.len() - usize::from(self.header.auth_length);
        self.bytes.get(start..).unwrap_or_default()
    }

    /// The PDU up to the signature and the signature, for checking; the body's end with its padding.
    pub(crate) fn signed_parts(&mut self) -> (&mut [u8], &mut [u8], usize) {
        let start = self.bytes.len() - usize::from(self.header.auth_length);
        let padded_end = start.saturating_sub(TRAILER_LENGTH);
        let (signed, signature) = self.bytes.split_at_mut(start);
        (signed, signature, padded_end)
    }

    /// From an offset to the end of the body.
    pub fn body_from(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.body_end).unwrap_or_default()
    }

    fn body(&self) -> Body<'_> {
        Body(self.body_from(HEADER_LENGTH))
    }

    /// The body of a bind or an alter_context.
    pub fn bind(&self) -> Result<Bind, PduError> {
        let (PacketType::BIND | PacketType::ALTER_CONTEXT) = self.header.packet_type else {
            return Err(PduError::Type);
        };
        let mut body = self.body();
        let (max_transmit, max_receive) = (body.u16()?, body.u16()?);
        let group = body.u32()?;
        let [count, _, _, _] = body.array()?;
        let mut offers = Vec::new();
        for _ in 0..count {
            let id = body.u16()?;
            let [transfers, _] = body.array()?;
            let interface = SyntaxId::from_bytes(body.array()?);
            let transfers = (0..transfers)
                .map(|_| body.array().map(SyntaxId::from_bytes))
                .collect::<Result<_, _>>()?;
            offers.push(Offer {
                id,
                interface,
                transfers,
            });
        }
        Ok(Bind {
            max_transmit,
            max_receive,
            group,
            offers,
        })
    }

    /// The body of a request.
    pub fn request(&self) -> Result<Request, PduError> {
        if self.header.packet_type != PacketType::REQUEST {
            return Err(PduError::Type);
        }
        let mut body = self.body();
        let hint = body.u32()?;
        let (context, opnum) = (body.u16()?, body.u16()?);
        let (object, stub_start) = match self.header.flags & flags::OBJECT {
            0 => (None, HEADER_LENGTH + 8),
            _ => {
                let object = Uuid::from_bytes_le(body.array()?);
                (Some(object), HEADER_LENGTH + 24)
            }
        };
        Ok(Request {
            hint,
            context,
            opnum,
            object,
            stub_start,
        })
    }

    /// Where a response's stub begins, or a fault's status: what a client needs.
    pub fn response(&self) -> Result<Result<usize, Fault>, PduError> {
        let mut body = self.body();
        body.array::<8>()?;
        match self.header.packet_type {
            PacketType::RESPONSE => Ok(Ok(HEADER_LENGTH + 8)),
            PacketType::FAULT => Ok(Err(Fault(body.u32()?))),
            _ => Err(PduError::Type),
        }
    }

    /// The limits, the group and the results of a bind_ack or an alter_context_resp: what a client
    /// needs.
    pub fn bind_result(&self) -> Result<BindResult, PduError> {
        let (PacketType::BIND_ACK | PacketType::ALTER_CONTEXT_RESPONSE) = self.header.packet_type
        else {
            return Err(PduError::Type);
        };
        let mut body = self.body();
        let (max_transmit, max_receive) = (body.u16()?, body.u16()?);
        let group = body.u32()?;
        let length = usize::from(body.u16()?);
        let address = body.take(length)?.to_vec();
        // The list begins at a multiple of four; the address at offset ten of the body.
        body.take((10 + length).next_multiple_of(4) - (10 + length))?;
        let [count, _, _, _] = body.array()?;
        let mut results = Vec::new();
        for _ in 0..count {
            let answer = Answer {
                result: body.u16()?,
                reason: body.u16()?,
                transfer: SyntaxId::from_bytes(body.array()?),
            };
            results.push(answer);
        }
        Ok(BindResult {
            max_transmit,
            max_receive,
            group,
            address,
            answers: results,
        })
    }
}

/// The answer to one [`Offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 acceptance, 2 refusal by the provider, 3 features.
    pub result: u16,
    /// Of a refusal: 1 unknown interface, 2 no common transfer syntax, 3 local limit. Of features:
    /// which.
    pub reason: u16,
    /// The transfer syntax chosen.
    pub transfer: SyntaxId,
}

impl Answer {
    /// The context exists now.
    pub const ACCEPTED: Answer = Answer {
        result: 0,
        reason: 0,
        transfer: SyntaxId::NDR,
    };
    /// There is no such interface.
    pub const UNKNOWN_INTERFACE: Answer = Answer::refused(1);
    /// No transfer syntax is common.
    pub const NO_TRANSFER_SYNTAX: Answer = Answer::refused(2);
    /// There are too many contexts.
    pub const LOCAL_LIMIT: Answer = Answer::refused(3);

    const fn refused(reason: u16) -> Self {
        Answer {
            result: 2,
            reason,
            transfer: SyntaxId::NONE,
        }
    }

    /// These features, and no context.
    pub const fn features(features: u16) -> Self {
        Answer {
            result: 3,
            reason: features,
            transfer: SyntaxId::NONE,
        }
    }
}

/// The body of a bind_ack or an alter_context_resp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindResult {
    /// The largest PDU that the server will send.
    pub max_transmit: u16,
    /// The largest PDU that the server takes.
    pub max_receive: u16,
    /// The group that the connection belongs to.
    pub group: u32,
    /// The secondary address, with its zero.
    pub address: Vec<u8>,
    /// One for each offer, in order.
    pub answers: Vec<Answer>,
}

impl BindResult {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = limits(self.max_transmit, self.max_receive, self.group);
        let length = u16::try_from(self.address.len()).unwrap_or(u16::MAX);
        body.extend(length.to_le_bytes());
        body.extend(self.address.iter().take(usize::from(length)));
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend([small(self.answers.len()), 0, 0, 0]);
        for answer in &self.answers {
            body.extend(answer.result.to_le_bytes());
            body.extend(answer.reason.to_le_bytes());
            body.extend(answer.transfer.to_bytes());
        }
        body
    }
}

impl Bind {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = limits(self.max_transmit, self.max_receive, self.group);
        body.extend([small(self.offers.len()), 0, 0, 0]);
        for offer in &self.offers {
            body.extend(offer.id.to_le_bytes());
            body.extend([small(offer.transfers.len()), 0]);
            body.extend(offer.interface.to_bytes());
            for transfer in &offer.transfers {
                body.extend(transfer.to_bytes());
            }
        }
        body
    }
}

fn limits(max_transmit: u16, max_receive: u16, group: u32) -> Vec<u8> {
    let mut body = max_transmit.to_le_bytes().to_vec();
    body.extend(max_receive.to_le_bytes());
    body.extend(group.to_le_bytes());
    body
}

/// Counts that stand in a byte never come from more than a byte's worth of elements.
fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// The body of a bind_nak: why, and that version 5.0 is spoken.
pub fn bind_nak(reason: u16) -> Vec<u8> {
    let mut body = reason.to_le_bytes().to_vec();
    body.extend([1, 5, 0, 0, 0, 0]);
    body
}

/// Reasons of a bind_nak (C706 12.6.3.1, MS-RPCE 2.2.2.5).
pub mod nak {
    /// None in particular.
    pub const NOT_SPECIFIED: u16 = 0;
    /// A limit of the server.
    pub const LOCAL_LIMIT: u16 = 2;
    /// The version is not spoken.
    pub const VERSION: u16 = 4;
    /// The security provider is not there, or refused.
    pub const AUTHENTICATION: u16 = 8;
}

/// The body of a request before its stub.
pub fn request_start(hint: usize, context: u16, opnum: u16, object: Option<Uuid>) -> Vec<u8> {
    let mut body = call_start(hint, context);
    body.extend(opnum.to_le_bytes());
    body.extend(object.iter().flat_map(|object| object.to_bytes_le()));
    body
}

/// The body of a response before its stub.
pub fn response_start(hint: usize, context: u16) -> Vec<u8> {
    let mut body = call_start(hint, context);
    body.extend([0, 0]);
    body
}

/// The body of a fault.
pub fn fault(context: u16, fault: Fault) -> Vec<u8> {
    // Windows gives the length of a PDU of this size as the hint, and clients want none to be zero.
    let mut body = call_start(HEADER_LENGTH + 8, context);
    body.extend([0, 0]);
    body.extend(fault.0.to_le_bytes());
    body.extend([0; 4]);
    body
}

fn call_start(hint: usize, context: u16) -> Vec<u8> {
    let mut body = u32::try_from(hint)
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    body.extend(context.to_le_bytes());
    body
}

/// A whole PDU. With a trailer, the body is padded to a multiple of four, in addition to the padding
/// at its end that the trailer speaks of already.
///
/// `None` if the parts do not fit into a PDU.
pub fn encode(
    packet_type: PacketType,
    flags: u8,
    call: u32,
    body: &[u8],
    auth: Option<(Trailer, &[u8])>,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_LENGTH];
    bytes.extend(body);
    let mut auth_length = 0;
    if let Some((mut trailer, value)) = auth {
        let padding = body.len().next_multiple_of(4) - body.len();
        bytes.resize(bytes.len() + padding, 0);
        trailer.padding = trailer.padding.checked_add(u8::try_from(padding).ok()?)?;
        bytes.extend(trailer.encode());
        bytes.extend(value);
        auth_length = u16::try_from(value.len()).ok()?;
    }
    let header = Header {
        packet_type,
        flags,
        length: u16::try_from(bytes.len()).ok()?,
        auth_length,
        call,
    };
    for (to, from) in bytes.iter_mut().zip(header.encode()) {
        *to = from;
    }
    Some(bytes)
}

/// Reads a body from its start.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PduError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(PduError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PduError> {
        self.take(N)?.try_into().map_err(|_| PduError::Length)
    }

    fn u16(&mut self) -> Result<u16, PduError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, PduError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
}
