//! Who is at the other end of a connection. Basic comes with each request; Negotiate logs the
//! connection on, token by token, and then holds for all that comes on it.

use super::{Negotiate, channel};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_server::{Identity, Peer};
use ntlm::Security;
use spnego::{Dialect, Negotiation, Step};

/// The longest token that is looked at, before it is decoded.
const LONGEST_TOKEN: usize = 64 << 10;

/// How far a connection's logon is.
#[derive(Default)]
pub(super) enum Login {
    /// Nobody has begun.
    #[default]
    None,
    /// Tokens go back and forth.
    Underway(Box<Negotiation>),
    /// Done: which account it is, and what their messages are sealed with.
    Done(String, Box<Security>),
}

/// What follows from a token.
pub(super) enum Progress {
    /// Send this token with 401.
    Continue(String),
    /// Who it is; send this token with the answer.
    Done(Identity, Option<String>),
    /// No.
    Refused,
}

/// An account and what it may do now.
pub(super) fn identity(door: &Negotiate, account: &str) -> Option<Identity> {
    let role = door.roles.role(account)?;
    Some(Identity {
        user: account.to_owned(),
        role,
    })
}

impl Login {
    /// Takes the token of an `Authorization: Negotiate` header.
    pub(super) async fn step(&mut self, door: &Negotiate, peer: &Peer, token: &str) -> Progress {
        let token = (token.len() <= LONGEST_TOKEN)
            .then(|| BASE64_STANDARD.decode(token.trim()).ok())
            .flatten();
        let Some(token) = token else {
            *self = Login::None;
            return Progress::Refused;
        };
        let mut negotiation = match std::mem::take(self) {
            Login::Underway(negotiation) => negotiation,
            Login::None | Login::Done(..) => {
                let mut negotiation = door.logons.begin(peer.address(), Dialect::Negotiate);
                if let Some(bindings) = peer.certificate().and_then(channel::bindings) {
                    negotiation.bind_to_channel(bindings);
                }
                Box::new(negotiation)
            }
        };
        match negotiation.step(&token).await {
            Ok(Step::Continue(token)) => {
                *self = Login::Underway(negotiation);
                Progress::Continue(BASE64_STANDARD.encode(token))
            }
            Ok(Step::Done(token, logon)) => {
                let Some(identity) = identity(door, &logon.account) else {
                    return Progress::Refused;
                };
                *self = Login::Done(logon.account, Box::new(logon.security));
                Progress::Done(identity, token.map(|it| BASE64_STANDARD.encode(it)))
            }
            Err(refused) => {
                tokio::time::sleep(refused.delay).await;
                Progress::Refused
            }
        }
    }
}
