//! The client's side, for tests and diagnosis: one connection, one call at a time.
//!
//! Its parts ([`Client::request`], [`Client::send`], [`Client::receive`]) can be used one by one, to
//! send what no honest client sends.

use crate::fault::Fault;
use crate::interface::Level;
use crate::pdu::{
    self, Answer, Bind, BindResult, Fragment, Offer, PacketType, PduError, Trailer, flags,
};
use crate::server::fragments::{Fragments, ReadError};
use crate::server::security;
use crate::syntax::SyntaxId;
use ntlm::initiator::Initiator;
use ntlm::{SIGNATURE_LENGTH, Security};
use spnego::Dialect;
use spnego::token::{Init, NTLM, Response};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use uuid::Uuid;

const FRAGMENT: u16 = 5840;

/// What goes wrong for a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection broke or was closed.
    #[error("the connection to the server broke")]
    Io(#[source] io::Error),
    /// The server sent something that is not the PDU expected.
    #[error(transparent)]
    Pdu(#[from] PduError),
    /// The call failed.
    #[error("the call failed: {0}")]
    Fault(#[source] Fault),
    /// The server refused the bind, for this reason.
    #[error("the server refused the bind for reason {0}")]
    Refused(u16),
    /// A logon token of the server cannot be read.
    #[error("the server's logon token cannot be read")]
    Token,
    /// The server's signature is wrong.
    #[error("the server's signature is wrong")]
    Signature,
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Io(error)
    }
}

impl From<ReadError> for ClientError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => ClientError::Io(io::ErrorKind::UnexpectedEof.into()),
            ReadError::Io(error) => ClientError::Io(error),
            ReadError::Pdu(error) => ClientError::Pdu(error),
        }
    }
}

/// How a client logs on.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who.
    pub initiator: Initiator,
    /// Bare NTLM or SPNEGO.
    pub dialect: Dialect,
    /// How messages will be protected.
    pub level: Level,
    /// The number of the security context; any that is not in use on the connection.
    pub context: u32,
}

impl Credentials {
    fn trailer(&self) -> Trailer {
        Trailer {
            provider: match self.dialect {
                Dialect::Ntlm => 10,
                Dialect::Negotiate => 9,
            },
            level: self.level.to_wire(),
            padding: 0,
            context: self.context,
        }
    }
}

/// One connection to a server.
pub struct Client<S> {
    fragments: Fragments<ReadHalf<S>>,
    output: WriteHalf<S>,
    call: u32,
    security: Option<(Trailer, Security)>,
    next_context: u16,
    max_transmit: u16,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    /// A client on a stream that is connected.
    pub fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Client {
            fragments: Fragments::new(read, u16::MAX),
            output: write,
            call: 0,
            security: None,
            next_context: 0,
            max_transmit: FRAGMENT,
        }
    }

    /// Binds to interfaces, which get the presentation contexts 0, 1 and so on, and logs on.
    pub async fn bind(
        &mut self,
        interfaces: &[SyntaxId],
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Answer>, ClientError> {
        let result = self
            .agree(PacketType::BIND, interfaces, credentials)
            .await?;
        self.max_transmit = result.max_receive;
        Ok(result.answers)
    }

    /// Adds presentation contexts, and logs on again if there are credentials.
    pub async fn alter_context(
        &mut self,
        interfaces: &[SyntaxId],
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Answer>, ClientError> {
        let kind = PacketType::ALTER_CONTEXT;
        Ok(self.agree(kind, interfaces, credentials).await?.answers)
    }

    async fn agree(
        &mut self,
        kind: PacketType,
        interfaces: &[SyntaxId],
        credentials: Option<&Credentials>,
    ) -> Result<BindResult, ClientError> {
        let offers = interfaces
            .iter()
            .map(|interface| {
                let id = self.next_context;
                self.next_context = self.next_context.wrapping_add(1);
                Offer {
                    id,
                    interface: *interface,
                    transfers: vec![SyntaxId::NDR],
                }
            })
            .collect();
        let Some(credentials) = credentials else {
            return Ok(self.offer(kind, offers, None).await?.0);
        };
        let negotiate = credentials.initiator.negotiate();
        let init = Init::new(&[NTLM], Some(negotiate.clone()));
        let first = match credentials.dialect {
            Dialect::Ntlm => negotiate.clone(),
            Dialect::Negotiate => init.encode(),
        };
        let auth = (credentials.trailer(), &first[..]);
        let (result, token) = self.offer(kind, offers, Some(auth)).await?;
        let security = match credentials.dialect {
            Dialect::Ntlm => self.finish_ntlm(credentials, &negotiate, &token).await?,
            Dialect::Negotiate => {
                self.finish_spnego(credentials, &negotiate, &token, &init)
                    .await?
            }
        };
        self.security = Some((credentials.trailer(), security));
        Ok(result)
    }

    async fn finish_ntlm(
        &mut self,
        credentials: &Credentials,
        negotiate: &[u8],
        token: &[u8],
    ) -> Result<Security, ClientError> {
        let (last, security) = credentials
            .initiator
            .authenticate(negotiate, token)
            .map_err(|_| ClientError::Token)?;
        let auth = Some((credentials.trailer(), &last[..]));
        let auth3 = pdu::encode(PacketType::AUTH3, flags::WHOLE, self.call, &[0; 4], auth);
        self.send(&auth3.ok_or(PduError::Length)?).await?;
        Ok(security)
    }

    async fn finish_spnego(
        &mut self,
        credentials: &Credentials,
        negotiate: &[u8],
        token: &[u8],
        init: &Init,
    ) -> Result<Security, ClientError> {
        let response = Response::decode(token).map_err(|_| ClientError::Token)?;
        let challenge = response.token.ok_or(ClientError::Token)?;
        let (last, mut security) = credentials
            .initiator
            .authenticate(negotiate, &challenge)
            .map_err(|_| ClientError::Token)?;
        let response = Response {
            token: Some(last),
            signature: Some(security.sign(&init.mechanism_list).to_vec()),
            ..Response::default()
        };
        let response = response.encode();
        let auth = Some((credentials.trailer(), &response[..]));
        let (_, token) = self
            .offer(PacketType::ALTER_CONTEXT, Vec::new(), auth)
            .await?;
        let signature = Response::decode(&token)
            .map_err(|_| ClientError::Token)?
            .signature
            .ok_or(ClientError::Token)?;
        security
            .verify(&init.mechanism_list, &signature)
            .map_err(|_| ClientError::Signature)?;
        security.restart_ciphers();
        Ok(security)
    }

    async fn offer(
        &mut self,
        kind: PacketType,
        offers: Vec<Offer>,
        auth: Option<(Trailer, &[u8])>,
    ) -> Result<(BindResult, Vec<u8>), ClientError> {
        self.call = self.call.wrapping_add(1);
        let body = Bind {
            max_transmit: FRAGMENT,
            max_receive: FRAGMENT,
            group: 0,
            offers,
        };
        let kinds = flags::WHOLE | flags::HEADER_SIGNING;
        let pdu = pdu::encode(kind, kinds, self.call, &body.encode(), auth);
        self.send(&pdu.ok_or(PduError::Length)?).await?;
        let answer = self.receive().await?;
        match answer.header.packet_type {
            PacketType::BIND_NAK => {
                let reason = answer.body_from(pdu::HEADER_LENGTH).first_chunk();
                let reason = reason.copied().map_or(0, u16::from_le_bytes);
                Err(ClientError::Refused(reason))
            }
            PacketType::FAULT => match answer.response()? {
                Err(fault) => Err(ClientError::Fault(fault)),
                Ok(_) => Err(PduError::Type.into()),
            },
            _ => Ok((answer.bind_result()?, answer.auth_value().to_vec())),
        }
    }

    /// Makes a call and waits for its result.
    pub async fn call(
        &mut self,
        context: u16,
        object: Option<Uuid>,
        opnum: u16,
        stub: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        for pdu in self.request(context, object, opnum, stub)? {
            self.send(&pdu).await?;
        }
        self.result().await
    }

    /// The fragments of a request, protected. They must be sent, in order, or nothing after them will
    /// verify.
    pub fn request(
        &mut self,
        context: u16,
        object: Option<Uuid>,
        opnum: u16,
        stub: &[u8],
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        self.call = self.call.wrapping_add(1);
        let start = pdu::request_start(stub.len(), context, opnum, object);
        let overhead =
            pdu::HEADER_LENGTH + start.len() + pdu::TRAILER_LENGTH + SIGNATURE_LENGTH + 4;
        let room = usize::from(self.max_transmit)
            .saturating_sub(overhead)
            .max(1);
        let mut parts: Vec<&[u8]> = stub.chunks(room).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        let mut pdus = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            let mut kind = match object {
                Some(_) => flags::OBJECT,
                None => 0,
            };
            kind |= if number == 0 { flags::FIRST } else { 0 };
            kind |= if number == last { flags::LAST } else { 0 };
            let body = [&start[..], part].concat();
            pdus.push(self.protected(kind, &body, start.len())?);
        }
        Ok(pdus)
    }

    /// One fragment of the last request, protected, with flags of one's own (see [`pdu::flags`]).
    pub fn fragment(
        &mut self,
        kind: u8,
        context: u16,
        opnum: u16,
        stub: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let start = pdu::request_start(stub.len(), context, opnum, None);
        let body = [&start[..], stub].concat();
        self.protected(kind, &body, start.len())
    }

    fn protected(&mut self, kind: u8, body: &[u8], start: usize) -> Result<Vec<u8>, ClientError> {
        let request = PacketType::REQUEST;
        let blank = [0; SIGNATURE_LENGTH];
        let auth = match &self.security {
            Some((trailer, _)) if trailer.level >= Level::Integrity.to_wire() => {
                Some((*trailer, &blank[..]))
            }
            _ => None,
        };
        let is_protected = auth.is_some();
        let mut pdu = pdu::encode(request, kind, self.call, body, auth).ok_or(PduError::Length)?;
        if let Some((trailer, security)) = &mut self.security
            && is_protected
        {
            let start = pdu::HEADER_LENGTH + start;
            security::protect(security, &mut pdu, start, trailer.level);
        }
        Ok(pdu)
    }

    /// Waits for the result of the last request, and checks its protection.
    pub async fn result(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut stub = Vec::new();
        loop {
            let mut fragment = self.receive().await?;
            let start = fragment.response()?.map_err(ClientError::Fault)?;
            if let Some((trailer, security)) = &mut self.security
                && trailer.level >= Level::Integrity.to_wire()
            {
                if fragment.trailer.map(|it| (it.level, it.context))
                    != Some((trailer.level, trailer.context))
                {
                    return Err(ClientError::Signature);
                }
                let (message, signature, end) = fragment.signed_parts();
                let verified = match trailer.level == Level::Privacy.to_wire() {
                    true => security.unseal(message, start..end, signature),
                    false => security.verify(message, signature),
                };
                verified.map_err(|_| ClientError::Signature)?;
            }
            stub.extend_from_slice(fragment.body_from(start));
            if fragment.header.flags & flags::LAST != 0 {
                return Ok(stub);
            }
        }
    }

    /// Protects what follows at another level than was said at the logon; a number as on the wire.
    pub fn claim_level(&mut self, level: u8) {
        if let Some((trailer, _)) = &mut self.security {
            trailer.level = level;
        }
    }

    /// The number of the last call.
    pub fn last_call(&self) -> u32 {
        self.call
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.output.write_all(bytes).await?)
    }

    /// Tells the server that nothing more will be sent.
    pub async fn finish_sending(&mut self) -> Result<(), ClientError> {
        Ok(self.output.shutdown().await?)
    }

    /// Waits for a PDU.
    pub async fn receive(&mut self) -> Result<Fragment, ClientError> {
        Ok(self.fragments.next().await?)
    }
}
