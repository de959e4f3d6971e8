//! The security contexts of one connection: logons under way, and the keys of those that are done.
//!
//! Clients make new contexts as they go along (some for every interface), so there are many, told
//! apart by the number in each trailer.

use super::Shared;
use super::recent::Recent;
use crate::fault::Fault;
use crate::interface::{Caller, Connection, Identity, Level};
use crate::pdu::{Fragment, Trailer};
use ntlm::{SIGNATURE_LENGTH, Security};
use spnego::{Dialect, Negotiation, Step};
use std::sync::Arc;
use std::time::Duration;

const SPNEGO: u8 = 9;
const NTLM: u8 = 10;
/// Logons under way at one time on one connection; each holds its messages.
const MOST_NEGOTIATIONS: usize = 4;

enum State {
    Negotiating(Box<Negotiation>),
    Established(Box<Security>, Arc<Identity>),
    Failed,
}

struct Context {
    provider: u8,
    level: Level,
    state: State,
}

/// How a logon stands after a token.
pub(super) enum Progress {
    /// Send this; more is to come.
    Token(Vec<u8>),
    /// Complete; send this if it is there.
    Established(Option<Vec<u8>>),
    /// Refused; wait so long.
    Refused(Duration),
    /// The provider or the level is not served, or the token is out of place.
    Unacceptable,
}

/// How a request was protected, and thus how its response will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protection {
    context: u32,
    provider: u8,
    level: u8,
}

/// What a check of a PDU found wrong.
pub(super) enum Unprotected {
    /// Refuse the call.
    Fault(Fault),
    /// The connection's state cannot be trusted any more.
    Fatal(Fault),
}

/// The security contexts of one connection.
pub(super) struct Securities {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    contexts: Recent<u32, Context>,
    /// Who calls if a request says nothing: whoever logged on at the level connect.
    connected: Option<Arc<Identity>>,
}

impl Securities {
    pub(super) fn new(shared: Arc<Shared>, connection: Arc<Connection>) -> Self {
        Securities {
            contexts: Recent::new(shared.limits.security_contexts),
            shared,
            connection,
            connected: None,
        }
    }

    /// Whether anybody has logged on.
    pub(super) fn any_established(&self) -> bool {
        self.contexts
            .values()
            .any(|context| matches!(context.state, State::Established(..)))
    }

    /// Takes the token of a bind, an alter_context or an auth3.
    pub(super) async fn step(&mut self, trailer: &Trailer, token: &[u8]) -> Progress {
        let Some(level) = Level::from_wire(trailer.level) else {
            return Progress::Unacceptable;
        };
        let mut context = match self.contexts.remove(trailer.context) {
            Some(context) if context.provider == trailer.provider && context.level == level => {
                context
            }
            Some(context) => {
                self.contexts.insert(trailer.context, context);
                return Progress::Unacceptable;
            }
            None => match self.begin(trailer.provider, level) {
                Some(context) => context,
                None => return Progress::Unacceptable,
            },
        };
        let progress = self.advance(&mut context, token).await;
        self.contexts.insert(trailer.context, context);
        progress
    }

    fn begin(&self, provider: u8, level: Level) -> Option<Context> {
        let dialect = match provider {
            NTLM => Dialect::Ntlm,
            SPNEGO => Dialect::Negotiate,
            _ => return None,
        };
        let under_way = self
            .contexts
            .values()
            .filter(|context| matches!(context.state, State::Negotiating(_)));
        if under_way.count() >= MOST_NEGOTIATIONS {
            return None;
        }
        let peer = self.connection.peer.ip().to_string();
        let negotiation = self.shared.logons.begin(&peer, dialect);
        Some(Context {
            provider,
            level,
            state: State::Negotiating(Box::new(negotiation)),
        })
    }

    async fn advance(&mut self, context: &mut Context, token: &[u8]) -> Progress {
        let State::Negotiating(negotiation) = &mut context.state else {
            return Progress::Unacceptable;
        };
        match negotiation.step(token).await {
            Ok(Step::Continue(reply)) => Progress::Token(reply),
            Ok(Step::Done(reply, logon)) => {
                let identity = Arc::new(Identity {
                    account: logon.account,
                    workstation: logon.attempt.workstation,
                });
                if context.level == Level::Connect {
                    self.connected = Some(identity.clone());
                }
                context.state = State::Established(Box::new(logon.security), identity);
                Progress::Established(reply)
            }
            Err(refused) => {
                context.state = State::Failed;
                Progress::Refused(refused.delay)
            }
        }
    }

    /// Checks a PDU and decrypts what begins at `confidential_start`. Gives who sent it, and how the
    /// answer must be protected.
    pub(super) fn open(
        &mut self,
        fragment: &mut Fragment,
        confidential_start: usize,
    ) -> Result<(Caller, Option<Protection>), Unprotected> {
        let Some(trailer) = fragment.trailer else {
            let identity = self.connected.clone();
            let level = match identity {
                Some(_) => Level::Connect,
                None => Level::None,
            };
            return Ok((self.caller(identity, level), None));
        };
        let denied = Unprotected::Fault(Fault::ACCESS_DENIED);
        let Some(context) = self.contexts.get(trailer.context) else {
            return Err(denied);
        };
        let State::Established(security, identity) = &mut context.state else {
            return Err(denied);
        };
        let Some(level) = Level::from_wire(trailer.level) else {
            return Err(Unprotected::Fatal(Fault::UNSUPPORTED_LEVEL));
        };
        // A client may protect more than it said, never less.
        if trailer.provider != context.provider || level < context.level {
            return Err(Unprotected::Fatal(Fault::ACCESS_DENIED));
        }
        let identity = identity.clone();
        if level == Level::Connect {
            return Ok((self.caller(Some(identity), level), None));
        }
        let (signed, signature, end) = fragment.signed_parts();
        let verified = match level {
            Level::Privacy => security.unseal(signed, confidential_start..end, signature),
            _ => security.verify(signed, signature),
        };
        if verified.is_err() {
            return Err(Unprotected::Fatal(Fault::SECURITY_PACKAGE));
        }
        let protection = Protection {
            context: trailer.context,
            provider: trailer.provider,
            level: trailer.level,
        };
        Ok((self.caller(Some(identity), level), Some(protection)))
    }

    fn caller(&self, identity: Option<Arc<Identity>>, level: Level) -> Caller {
        Caller {
            connection: self.connection.clone(),
            identity,
            level,
        }
    }

    /// Signs or seals a PDU that was encoded with [`Protection::trailer`].
    pub(super) fn protect(&mut self, pdu: &mut [u8], stub_start: usize, protection: &Protection) {
        let Some(Context {
            state: State::Established(security, _),
            ..
        }) = self.contexts.get(protection.context)
        else {
            return;
        };
        protect(security, pdu, stub_start, protection.level);
    }
}

/// Signs or seals a PDU with a trailer whose value is zeroes.
pub(crate) fn protect(security: &mut Security, pdu: &mut [u8], stub_start: usize, level: u8) {
    let Some(end) = pdu.len().checked_sub(SIGNATURE_LENGTH) else {
        return;
    };
    let (message, value) = pdu.split_at_mut(end);
    let padded_end = end.saturating_sub(crate::pdu::TRAILER_LENGTH);
    let signature = match Level::from_wire(level) {
        Some(Level::Privacy) => security.seal(message, stub_start..padded_end),
        _ => security.sign(message),
    };
    value.copy_from_slice(&signature);
}

impl Protection {
    pub(super) fn trailer(&self, padding: u8) -> Trailer {
        Trailer {
            provider: self.provider,
            level: self.level,
            padding,
            context: self.context,
        }
    }
}
