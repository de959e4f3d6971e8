//! One client's logon, token by token.
//!
//! ```text
//! Start --Init with an NTLM token, or bare NEGOTIATE--> Challenged --AUTHENTICATE--> Ended
//!   \--Init that prefers another--> Chosen --Response with NEGOTIATE--/
//! ```

use crate::logons::{Attempt, Logons};
use crate::token::{Init, Malformed, NTLM, Response, State};
use ntlm::{Challenged, Security};
use std::sync::Arc;
use std::time::Duration;

/// Which first tokens are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Bare NTLM messages only.
    Ntlm,
    /// SPNEGO, or bare NTLM messages, which clients send in its place.
    Negotiate,
}

/// Why a logon is refused. Clients are told no more than that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// NTLM says no.
    #[error(transparent)]
    Ntlm(#[from] ntlm::Refusal),
    /// A token cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The client does not offer NTLM.
    #[error("the client offers no mechanism that we have (NTLM)")]
    Mechanism,
    /// The list of mechanisms is not signed, or wrongly.
    #[error("the signature of the list of mechanisms is wrong or missing")]
    ListSignature,
    /// A token after the last one.
    #[error("the logon is over")]
    Ended,
}

/// A refusal, and what to do about it.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// How long to wait before the client hears of it or may try again.
    pub delay: Duration,
}

/// A client that has logged on.
#[derive(Debug)]
pub struct Logon {
    /// The account, as the service spells it.
    pub account: String,
    /// What the client said of itself.
    pub attempt: Attempt,
    /// Signs and seals the session's messages.
    pub security: Security,
}

/// What follows from a token.
#[derive(Debug)]
pub enum Step {
    /// Send this; another token will come.
    Continue(Vec<u8>),
    /// The logon is complete; send this if it is there.
    Done(Option<Vec<u8>>, Box<Logon>),
}

enum Progress {
    Start,
    /// NTLM was chosen, its first message is to come.
    Chosen(List),
    /// `None`: bare NTLM.
    Challenged(Option<List>, Box<Challenged>),
    Ended,
}

/// A client's list of mechanisms.
struct List {
    encoded: Vec<u8>,
    must_be_signed: bool,
}

/// One client's logon.
pub struct Negotiation {
    logons: Arc<Logons>,
    peer: String,
    dialect: Dialect,
    progress: Progress,
    channel_bindings: Option<[u8; 16]>,
}

impl Negotiation {
    pub(crate) fn new(logons: Arc<Logons>, peer: String, dialect: Dialect) -> Self {
        Negotiation {
            logons,
            peer,
            dialect,
            progress: Progress::Start,
            channel_bindings: None,
        }
    }

    /// Says which TLS connection the logon comes over (MD5 of its bindings, MS-NLMP 2.2.2.1), so that
    /// one that a client made for another is refused.
    pub fn bind_to_channel(&mut self, bindings: [u8; 16]) {
        self.channel_bindings = Some(bindings);
    }

    /// Takes the client's next token. After a refusal nothing more is taken.
    pub async fn step(&mut self, token: &[u8]) -> Result<Step, Refused> {
        let mut attempt = None;
        match self.advance(token, &mut attempt).await {
            Ok(step) => {
                if let Step::Done(_, logon) = &step {
                    self.logons.throttle.succeeded(&self.peer);
                    self.logons.audit.accepted(&logon.attempt, &logon.account);
                }
                Ok(step)
            }
            Err(refusal) => {
                let delay = self.logons.throttle.failed(&self.peer);
                self.logons
                    .audit
                    .refused(&self.peer, attempt.as_ref(), &refusal);
                Err(Refused { refusal, delay })
            }
        }
    }

    async fn advance(
        &mut self,
        token: &[u8],
        attempt: &mut Option<Attempt>,
    ) -> Result<Step, Refusal> {
        match std::mem::replace(&mut self.progress, Progress::Ended) {
            Progress::Start => self.start(token),
            Progress::Chosen(list) => {
                let response = Response::decode(token)?;
                let negotiate = response.token.ok_or(Malformed)?;
                self.challenge(Some(list), &negotiate)
            }
            Progress::Challenged(list, challenged) => {
                self.finish(list, *challenged, token, attempt).await
            }
            Progress::Ended => Err(Refusal::Ended),
        }
    }

    fn start(&mut self, token: &[u8]) -> Result<Step, Refusal> {
        if self.dialect == Dialect::Ntlm || token.starts_with(b"NTLMSSP\0") {
            return self.challenge(None, token);
        }
        let init = Init::decode(token)?;
        let place = init.mechanisms.iter().position(|oid| oid == NTLM);
        let list = List {
            encoded: init.mechanism_list,
            must_be_signed: place != Some(0),
        };
        match (place, init.token) {
            (None, _) => Err(Refusal::Mechanism),
            (Some(0), Some(negotiate)) => self.challenge(Some(list), &negotiate),
            (Some(place), _) => {
                self.progress = Progress::Chosen(list);
                let response = Response {
                    state: Some(match place {
                        0 => State::Incomplete,
                        _ => State::RequestMic,
                    }),
                    mechanism: Some(NTLM.to_vec()),
                    ..Response::default()
                };
                Ok(Step::Continue(response.encode()))
            }
        }
    }

    fn challenge(&mut self, list: Option<List>, negotiate: &[u8]) -> Result<Step, Refusal> {
        let mut challenged = self.logons.acceptor.challenge(negotiate)?;
        if let Some(bindings) = self.channel_bindings {
            challenged.bind_to_channel(bindings);
        }
        let message = challenged.message().to_vec();
        let reply = match &list {
            None => message,
            Some(list) => Response {
                // What was requested before the first NTLM message stays requested.
                state: Some(State::Incomplete),
                mechanism: (!list.must_be_signed).then(|| NTLM.to_vec()),
                token: Some(message),
                signature: None,
            }
            .encode(),
        };
        self.progress = Progress::Challenged(list, Box::new(challenged));
        Ok(Step::Continue(reply))
    }

    async fn finish(
        &mut self,
        list: Option<List>,
        challenged: Challenged,
        token: &[u8],
        noted: &mut Option<Attempt>,
    ) -> Result<Step, Refusal> {
        let (authenticate, signature) = match &list {
            None => (token.to_vec(), None),
            Some(_) => {
                let response = Response::decode(token)?;
                (response.token.ok_or(Malformed)?, response.signature)
            }
        };
        let claim = challenged.authenticate(&authenticate)?;
        let attempt = noted.insert(Attempt {
            peer: self.peer.clone(),
            user: claim.user().to_owned(),
            domain: claim.domain().to_owned(),
            workstation: claim.workstation().to_owned(),
        });
        let account = self.logons.accounts.find(attempt).await;
        let session = claim.verify(account.as_ref().map(|account| &account.hash))?;
        let account = account.ok_or(ntlm::Refusal::Credentials)?;
        let mut security = session.security;
        let reply = match list {
            None => None,
            Some(list) => Some(completed(&list, signature.as_deref(), &mut security)?),
        };
        Ok(Step::Done(
            reply,
            Box::new(Logon {
                account: account.name,
                attempt: attempt.clone(),
                security,
            }),
        ))
    }
}

/// The last answer. The list of mechanisms is signed if the client signed it.
fn completed(
    list: &List,
    signature: Option<&[u8]>,
    security: &mut Security,
) -> Result<Vec<u8>, Refusal> {
    let ours = match signature {
        Some(theirs) => {
            security
                .verify(&list.encoded, theirs)
                .map_err(|_| Refusal::ListSignature)?;
            let ours = security.sign(&list.encoded);
            security.restart_ciphers();
            Some(ours.to_vec())
        }
        None if list.must_be_signed => return Err(Refusal::ListSignature),
        None => None,
    };
    Ok(Response {
        state: Some(State::Completed),
        signature: ours,
        ..Response::default()
    }
    .encode())
}
