//! The state of one connection: what was agreed on, and what each PDU that comes in means.
//!
//! No I/O: the connection hands PDUs in and does what it is told. Logons wait for the accounts, which
//! is why this is asynchronous at all.

use super::assembly::{Assembly, TrailerKind};
use super::recent::Recent;
use super::security::{Progress, Protection, Securities, Unprotected};
use super::{Endpoint, Shared};
use crate::fault::Fault;
use crate::interface::{Caller, Connection, Level};
use crate::pdu::{
    self, Answer, Bind, BindResult, Fragment, Offer, PacketType, Request, Trailer, flags, nak,
};
use crate::syntax::SyntaxId;
use crate::verification::{self, Expected};
use ntlm::SIGNATURE_LENGTH;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is sent to a client that says it takes less, as Windows does.
pub(super) const SMALLEST_FRAGMENT: u16 = 2048;
/// Bytes of a request from somebody who has not logged on.
const ANONYMOUS_REQUEST: usize = 8 << 10;
/// Security contexts on one connection, and orphaned calls that do not end it (MS-RPCE 2.2.2.14).
const FEATURES: u16 = 3;
/// Stubs are padded to this, as Windows does.
const STUB_ALIGNMENT: usize = 16;

/// What a PDU means to the connection.
pub(super) enum Received {
    /// Nothing to do.
    Nothing,
    /// Send this.
    Send(Vec<u8>),
    /// Wait, then send this if it is there.
    Refused(Duration, Option<Vec<u8>>),
    /// Wait, send this if it is there, and close.
    Close(Duration, Option<Vec<u8>>),
    /// Make this call.
    Call(Box<Assembly>),
    /// The client does not want a call's result any more; unless it has orphaned the call, it wants
    /// to hear a fault.
    Cancelled { orphaned: bool },
}

/// The state of one connection.
pub(super) struct Association {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    connection: Arc<Connection>,
    bound: bool,
    group: u32,
    max_transmit: u16,
    contexts: Recent<u16, SyntaxId>,
    securities: Securities,
    assembly: Option<Box<Assembly>>,
    /// A call that was refused while its fragments still come in.
    refused_call: Option<u32>,
}

impl Association {
    pub(super) fn new(
        shared: Arc<Shared>,
        endpoint: Arc<Endpoint>,
        connection: Arc<Connection>,
    ) -> Self {
        // Any number but zero; clients hand it back when they open another connection.
        let group = u32::try_from(connection.id % 0xffff_fffe).unwrap_or(0) + 1;
        Association {
            contexts: Recent::new(shared.limits.presentation_contexts),
            securities: Securities::new(shared.clone(), connection.clone()),
            shared,
            endpoint,
            connection,
            bound: false,
            group,
            max_transmit: SMALLEST_FRAGMENT,
            assembly: None,
            refused_call: None,
        }
    }

    /// Whether anybody has logged on.
    pub(super) fn is_authenticated(&self) -> bool {
        self.securities.any_established()
    }

    /// Since when a request has been coming in.
    pub(super) fn assembling_since(&self) -> Option<Instant> {
        self.assembly.as_ref().map(|assembly| assembly.since)
    }

    /// Takes a PDU.
    pub(super) async fn receive(&mut self, mut fragment: Fragment) -> Received {
        match fragment.header.packet_type {
            PacketType::BIND if !self.bound => self.bind(&fragment).await,
            PacketType::ALTER_CONTEXT if self.bound => self.alter_context(&fragment).await,
            PacketType::AUTH3 if self.bound => self.auth3(&fragment).await,
            PacketType::REQUEST if self.bound => self.request(&mut fragment),
            PacketType::CO_CANCEL | PacketType::ORPHANED if self.bound => {
                self.cancel(&mut fragment)
            }
            PacketType::BIND => {
                let nak = bind_nak(fragment.header.call, nak::NOT_SPECIFIED);
                Received::Close(Duration::ZERO, nak)
            }
            _ => self.broken(fragment.header.call),
        }
    }

    /// The client broke the protocol in the midst of a call.
    fn broken(&self, call: u32) -> Received {
        let fault = self.fault(call, 0, Fault::PROTOCOL_ERROR);
        Received::Close(Duration::ZERO, fault)
    }

    /// The client broke the protocol while nothing was being done.
    fn out_of_place(call: u32) -> Received {
        let body = pdu::fault(0, Fault::PROTOCOL_ERROR);
        let flags = flags::WHOLE | flags::DID_NOT_EXECUTE;
        let fault = pdu::encode(PacketType::FAULT, flags, call, &body, None);
        Received::Close(Duration::ZERO, fault)
    }

    async fn bind(&mut self, fragment: &Fragment) -> Received {
        let call = fragment.header.call;
        let refuse = |delay, reason| Received::Close(delay, bind_nak(call, reason));
        let Ok(bind) = fragment.bind() else {
            return refuse(Duration::ZERO, nak::NOT_SPECIFIED);
        };
        self.bound = true;
        self.max_transmit = bind
            .max_receive
            .min(self.shared.limits.fragment)
            .max(SMALLEST_FRAGMENT)
            & !7;
        if bind.group != 0 {
            self.group = bind.group;
        }
        let token = match self.authenticate(fragment).await {
            None => None,
            Some((_, Progress::Unacceptable)) => {
                return refuse(Duration::ZERO, nak::AUTHENTICATION);
            }
            Some((_, Progress::Refused(delay))) => return refuse(delay, nak::AUTHENTICATION),
            Some((trailer, Progress::Token(token))) => Some((trailer, token)),
            Some((trailer, Progress::Established(token))) => token.map(|token| (trailer, token)),
        };
        let address = format!("{}\0", self.connection.local.port());
        self.bind_answer(PacketType::BIND_ACK, fragment, &bind, address, token)
    }

    async fn alter_context(&mut self, fragment: &Fragment) -> Received {
        let call = fragment.header.call;
        let Ok(bind) = fragment.bind() else {
            return Self::out_of_place(call);
        };
        if bind.offers.is_empty() && fragment.trailer.is_none() {
            return Self::out_of_place(call);
        }
        let token = match self.authenticate(fragment).await {
            None => None,
            Some((_, Progress::Unacceptable)) => return Self::out_of_place(call),
            Some((_, Progress::Refused(delay))) => {
                return Received::Refused(delay, self.fault(call, 0, Fault::ACCESS_DENIED));
            }
            Some((trailer, Progress::Token(token))) => Some((trailer, token)),
            // There is a trailer even if there is nothing to say, as Windows has it.
            Some((trailer, Progress::Established(token))) => {
                Some((trailer, token.unwrap_or_default()))
            }
        };
        let kind = PacketType::ALTER_CONTEXT_RESPONSE;
        self.bind_answer(kind, fragment, &bind, String::new(), token)
    }

    /// Gets no answer: a logon that failed is told by the fault of the next request.
    async fn auth3(&mut self, fragment: &Fragment) -> Received {
        match self.authenticate(fragment).await {
            Some((_, Progress::Refused(delay))) => Received::Refused(delay, None),
            Some((_, Progress::Established(_))) => Received::Nothing,
            Some((_, Progress::Token(_) | Progress::Unacceptable)) | None => {
                Received::Close(Duration::ZERO, None)
            }
        }
    }

    async fn authenticate(&mut self, fragment: &Fragment) -> Option<(Trailer, Progress)> {
        let trailer = fragment.trailer?;
        let token = fragment.auth_value();
        Some((trailer, self.securities.step(&trailer, token).await))
    }

    fn bind_answer(
        &mut self,
        kind: PacketType,
        fragment: &Fragment,
        bind: &Bind,
        address: String,
        token: Option<(Trailer, Vec<u8>)>,
    ) -> Received {
        let body = BindResult {
            max_transmit: self.max_transmit,
            max_receive: self.shared.limits.fragment,
            group: self.group,
            address: address.into_bytes(),
            answers: bind.offers.iter().map(|offer| self.answer(offer)).collect(),
        }
        .encode();
        let header_signing = fragment.header.flags & flags::HEADER_SIGNING;
        let auth = token.as_ref().map(|(trailer, token)| {
            let trailer = Trailer {
                padding: 0,
                ..*trailer
            };
            (trailer, &token[..])
        });
        let flags = flags::WHOLE | header_signing;
        match pdu::encode(kind, flags, fragment.header.call, &body, auth) {
            Some(pdu) => Received::Send(pdu),
            None => Received::Close(Duration::ZERO, None),
        }
    }

    fn answer(&mut self, offer: &Offer) -> Answer {
        if let Some(features) = offer.transfers.first().and_then(SyntaxId::features) {
            return Answer::features(features & FEATURES);
        }
        if !self.endpoint.offers(&offer.interface) {
            return Answer::UNKNOWN_INTERFACE;
        }
        if !offer.transfers.contains(&SyntaxId::NDR) {
            return Answer::NO_TRANSFER_SYNTAX;
        }
        self.contexts.insert(offer.id, offer.interface);
        Answer::ACCEPTED
    }

    fn request(&mut self, fragment: &mut Fragment) -> Received {
        let call = fragment.header.call;
        let Ok(request) = fragment.request() else {
            return self.broken(call);
        };
        let (caller, protection) = match self.securities.open(fragment, request.stub_start) {
            Ok(opened) => opened,
            Err(Unprotected::Fault(fault)) => {
                return self.refuse(fragment, request.context, fault);
            }
            Err(Unprotected::Fatal(fault)) => {
                let fault = self.fault(call, request.context, fault);
                return Received::Close(Duration::ZERO, fault);
            }
        };
        let kind = fragment.trailer.map(|it| (it.context, it.level));
        let first = fragment.header.flags & flags::FIRST != 0;
        let assembly = match (self.assembly.take(), first) {
            (None, true) => {
                self.refused_call = None;
                self.begin(call, &request, caller, protection, kind)
            }
            (Some(assembly), false)
                if assembly.call == call && assembly.continues(&request, kind) =>
            {
                Ok(assembly)
            }
            (None, false) if self.refused_call == Some(call) => return Received::Nothing,
            _ => return self.broken(call),
        };
        let added = assembly.and_then(|mut assembly| {
            let most = match assembly.caller.level {
                Level::None => ANONYMOUS_REQUEST,
                _ => self.shared.limits.request,
            };
            let stub = fragment.body_from(request.stub_start);
            assembly.add(stub, most, &self.shared.requests)?;
            Ok(assembly)
        });
        match added {
            Err(fault) => self.refuse(fragment, request.context, fault),
            Ok(assembly) if fragment.header.flags & flags::LAST == 0 => {
                self.assembly = Some(assembly);
                Received::Nothing
            }
            Ok(assembly) => self.complete(assembly),
        }
    }

    /// Finds who will make a call, before any of its arguments are kept.
    fn begin(
        &mut self,
        call: u32,
        request: &Request,
        caller: Caller,
        protection: Option<Protection>,
        trailer: Option<TrailerKind>,
    ) -> Result<Box<Assembly>, Fault> {
        let interface = *self
            .contexts
            .get(request.context)
            .ok_or(Fault::UNKNOWN_INTERFACE)?;
        let (target, required) = self.endpoint.target(&interface, request.object)?;
        if caller.level < required {
            return Err(Fault::ACCESS_DENIED);
        }
        Ok(Box::new(Assembly::new(
            call, request, interface, target, caller, protection, trailer,
        )))
    }

    fn complete(&mut self, mut assembly: Box<Assembly>) -> Received {
        let expected = Expected {
            interface: assembly.interface,
            context: assembly.context,
            call: assembly.call,
            opnum: assembly.opnum,
        };
        match verification::strip(&assembly.stub, &expected) {
            Ok(length) => {
                assembly.stub.truncate(length);
                Received::Call(assembly)
            }
            Err(verification::Contradiction) => {
                let fault = self.fault(assembly.call, assembly.context, Fault::ACCESS_DENIED);
                Received::Close(Duration::ZERO, fault)
            }
        }
    }

    /// Refuses a call once, and lets the rest of its fragments pass by.
    fn refuse(&mut self, fragment: &Fragment, context: u16, fault: Fault) -> Received {
        let call = fragment.header.call;
        if self.refused_call == Some(call) && fragment.header.flags & flags::FIRST == 0 {
            return Received::Nothing;
        }
        self.refused_call = Some(call);
        match self.fault(call, context, fault) {
            Some(pdu) => Received::Send(pdu),
            None => Received::Nothing,
        }
    }

    fn cancel(&mut self, fragment: &mut Fragment) -> Received {
        let call = fragment.header.call;
        // Signed ones count in the sequence, whatever becomes of them.
        if let Err(Unprotected::Fatal(_)) = self.securities.open(fragment, pdu::HEADER_LENGTH) {
            return Received::Close(Duration::ZERO, None);
        }
        let orphaned = fragment.header.packet_type == PacketType::ORPHANED;
        if self.assembly.as_ref().is_some_and(|it| it.call == call) {
            // A client that has cancelled a call still waits for its end.
            if orphaned {
                self.assembly = None;
                self.refused_call = Some(call);
            }
            return Received::Nothing;
        }
        Received::Cancelled { orphaned }
    }

    /// A fault. Faults are not signed; clients expect that.
    pub(super) fn fault(&self, call: u32, context: u16, fault: Fault) -> Option<Vec<u8>> {
        let body = pdu::fault(context, fault);
        let flags = match fault.tells_that_nothing_was_done() {
            true => flags::WHOLE | flags::DID_NOT_EXECUTE,
            false => flags::WHOLE,
        };
        pdu::encode(PacketType::FAULT, flags, call, &body, None)
    }

    /// The fragments of a call's result.
    pub(super) fn response(
        &mut self,
        call: u32,
        context: u16,
        protection: Option<Protection>,
        result: Result<Vec<u8>, Fault>,
    ) -> Vec<Vec<u8>> {
        let stub = match result {
            Ok(stub) => stub,
            Err(fault) => {
                return self.fault(call, context, fault).into_iter().collect();
            }
        };
        let stub_start = pdu::HEADER_LENGTH + 8;
        let overhead = stub_start + pdu::TRAILER_LENGTH + SIGNATURE_LENGTH;
        let room = usize::from(self.max_transmit).saturating_sub(overhead);
        let room = (room - room % STUB_ALIGNMENT).max(STUB_ALIGNMENT);
        let mut fragments = Vec::new();
        let mut rest = &stub[..];
        let mut kind = flags::FIRST;
        loop {
            let (part, after) = rest.split_at(room.min(rest.len()));
            if after.is_empty() {
                kind |= flags::LAST;
            }
            let hint = rest.len();
            fragments.extend(self.response_fragment(call, context, protection, kind, hint, part));
            rest = after;
            kind = 0;
            if rest.is_empty() {
                return fragments;
            }
        }
    }

    fn response_fragment(
        &mut self,
        call: u32,
        context: u16,
        protection: Option<Protection>,
        kind: u8,
        hint: usize,
        stub: &[u8],
    ) -> Option<Vec<u8>> {
        let mut body = pdu::response_start(hint, context);
        body.extend(stub);
        let Some(protection) = protection else {
            return pdu::encode(PacketType::RESPONSE, kind, call, &body, None);
        };
        let padding = stub.len().next_multiple_of(STUB_ALIGNMENT) - stub.len();
        body.resize(body.len() + padding, 0);
        let trailer = protection.trailer(u8::try_from(padding).ok()?);
        let blank = [0; SIGNATURE_LENGTH];
        let auth = Some((trailer, &blank[..]));
        let mut pdu = pdu::encode(PacketType::RESPONSE, kind, call, &body, auth)?;
        self.securities
            .protect(&mut pdu, pdu::HEADER_LENGTH + 8, &protection);
        Some(pdu)
    }
}

fn bind_nak(call: u32, reason: u16) -> Option<Vec<u8>> {
    let body = pdu::bind_nak(reason);
    pdu::encode(PacketType::BIND_NAK, flags::WHOLE, call, &body, None)
}
