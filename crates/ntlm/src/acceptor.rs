//! The server's side of a logon (MS-NLMP 3.2).
//!
//! ```text
//! Acceptor --NEGOTIATE--> Challenged --AUTHENTICATE--> Claim --the account's hash--> Session
//!                         (sends CHALLENGE)            (knows the name)
//! ```
//!
//! Each step consumes the one before, so a challenge serves one attempt only.

use crate::keys::{self, Key, NtHash};
use crate::message::{
    Authenticate, CODE_OFFSET, Challenge, ClientChallenge, Flags, Malformed, Negotiate,
};
use crate::security::Security;
use crate::target::{self, Pairs};
use hmac::Mac;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a client must have agreed to in the end.
const REQUIRED: Flags = Flags::UNICODE
    .union(Flags::EXTENDED_SESSION_SECURITY)
    .union(Flags::BITS_128);
/// What we take over if the client offers it.
const KNOWN: Flags = REQUIRED
    .union(Flags::REQUEST_TARGET)
    .union(Flags::SIGN)
    .union(Flags::SEAL)
    .union(Flags::NTLM)
    .union(Flags::ALWAYS_SIGN)
    .union(Flags::KEY_EXCHANGE)
    .union(Flags::BITS_56);
/// How far a client's clock may be from ours: 36 hours, as Windows has it. Challenges are random and
/// serve once, so nothing rests on clocks.
const LARGEST_SKEW: u64 = 36 * 3600 * 10_000_000;
/// An NTLMv1 response has exactly this length; a proof alone is shorter.
const SHORTEST_RESPONSE: usize = 44;
const PROOF: usize = 16;
/// Between 1601 and 1970, in seconds.
const EPOCHS_APART: u64 = 11_644_473_600;

/// Why a logon is refused. Clients are told no more than that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A message cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The client cannot do, or does not want, what we require.
    #[error("the client does not offer Unicode, extended session security and 128-bit keys")]
    Weak,
    /// A logon without a user.
    #[error("anonymous logons are not accepted")]
    Anonymous,
    /// LM or NTLMv1.
    #[error("the client answered with LM or NTLMv1; only NTLMv2 is accepted")]
    OldResponse,
    /// No account, no NTLM for it, or another password.
    #[error("no account that may use NTLM has this name and password")]
    Credentials,
    /// The messages of the logon were changed on their way.
    #[error("the logon's integrity code is wrong: its messages were changed on their way")]
    IntegrityCode,
    /// The client's clock is off.
    #[error("the client's clock differs from ours by more than 36 hours")]
    Clock,
    /// The logon was made for another TLS connection.
    #[error("the logon belongs to another TLS connection (channel bindings differ)")]
    ChannelBindings,
    /// The system gives no random numbers.
    #[error("the system has no random numbers to give")]
    Random,
}

/// The names under which a server presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    /// NetBIOS name of the machine, upper case, 15 characters at most.
    pub computer: String,
    /// NetBIOS name of the domain; the machine's own outside a domain.
    pub domain: String,
    /// DNS name of the machine.
    pub dns_computer: String,
    /// DNS name of the domain, which may be empty.
    pub dns_domain: String,
}

impl ServerNames {
    /// The names of a machine that is in no domain.
    pub fn of_host(host: &str) -> Self {
        let first = host.split('.').next().unwrap_or(host);
        let computer: String = first.to_uppercase().chars().take(15).collect();
        let dns_domain = host.split_once('.').map_or("", |(_, domain)| domain);
        ServerNames {
            domain: computer.clone(),
            computer,
            dns_computer: host.to_owned(),
            dns_domain: dns_domain.to_owned(),
        }
    }
}

/// Begins logons.
#[derive(Clone, Debug)]
pub struct Acceptor {
    names: ServerNames,
}

impl Acceptor {
    /// An acceptor that presents itself under `names`.
    pub fn new(names: ServerNames) -> Self {
        Acceptor { names }
    }

    /// Answers a NEGOTIATE message with a random challenge.
    pub fn challenge(&self, negotiate: &[u8]) -> Result<Challenged, Refusal> {
        let mut challenge = [0; 8];
        getrandom::fill(&mut challenge).map_err(|_| Refusal::Random)?;
        self.challenge_with(negotiate, challenge, now())
    }

    /// As [`Acceptor::challenge`], with the random number and the time given (100-nanosecond
    /// intervals since 1601): for replaying recorded logons.
    pub fn challenge_with(
        &self,
        negotiate: &[u8],
        challenge: [u8; 8],
        now: u64,
    ) -> Result<Challenged, Refusal> {
        let offered = Negotiate::decode(negotiate)?.flags;
        if !offered.contains(REQUIRED) || offered.contains(Flags::DATAGRAM) {
            return Err(Refusal::Weak);
        }
        let flags = offered
            .intersection(KNOWN)
            .union(Flags::TARGET_INFO)
            .union(Flags::TARGET_TYPE_SERVER)
            .union(Flags::VERSION);
        let mut pairs = Pairs::default();
        pairs.push_text(target::DOMAIN, &self.names.domain);
        pairs.push_text(target::COMPUTER, &self.names.computer);
        pairs.push_text(target::DNS_DOMAIN, &self.names.dns_domain);
        pairs.push_text(target::DNS_COMPUTER, &self.names.dns_computer);
        pairs.push(target::TIMESTAMP, &now.to_le_bytes());
        let message = Challenge {
            flags,
            challenge,
            target: self.names.computer.clone(),
            pairs,
        };
        Ok(Challenged {
            flags,
            challenge,
            now,
            negotiate: negotiate.to_vec(),
            message: message.encode(),
            channel_bindings: None,
        })
    }
}

/// A logon whose challenge is on its way.
#[derive(Debug)]
pub struct Challenged {
    flags: Flags,
    challenge: [u8; 8],
    now: u64,
    negotiate: Vec<u8>,
    message: Vec<u8>,
    channel_bindings: Option<[u8; 16]>,
}

impl Challenged {
    /// The CHALLENGE message to send.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Requires that a client that binds its logon to a channel has bound it to this one.
    pub fn bind_to_channel(&mut self, bindings: [u8; 16]) {
        self.channel_bindings = Some(bindings);
    }

    /// Reads the AUTHENTICATE message.
    pub fn authenticate(self, authenticate: &[u8]) -> Result<Claim, Refusal> {
        let message = Authenticate::decode(authenticate)?;
        if message.user.is_empty() || message.flags.contains(Flags::ANONYMOUS) {
            return Err(Refusal::Anonymous);
        }
        let flags = message.flags.intersection(self.flags);
        if !flags.contains(REQUIRED) {
            return Err(Refusal::Weak);
        }
        if message.nt_response.len() < SHORTEST_RESPONSE {
            return Err(Refusal::OldResponse);
        }
        let (proof, response) = message
            .nt_response
            .split_first_chunk::<PROOF>()
            .ok_or(Refusal::OldResponse)?;
        let client = ClientChallenge::decode(response)?;
        if client.time.abs_diff(self.now) > LARGEST_SKEW {
            return Err(Refusal::Clock);
        }
        self.check_channel(&client.pairs)?;
        let has_code = client.pairs.flags() & target::FLAG_INTEGRITY_CODE != 0;
        Ok(Claim {
            proof: *proof,
            response: response.to_vec(),
            code: has_code.then_some(message.integrity_code),
            key_exchange: flags.contains(Flags::KEY_EXCHANGE),
            session_key: message.session_key,
            user: message.user,
            domain: message.domain,
            workstation: message.workstation,
            authenticate: authenticate.to_vec(),
            challenged: self,
        })
    }

    fn check_channel(&self, pairs: &Pairs) -> Result<(), Refusal> {
        match (self.channel_bindings, pairs.get(target::CHANNEL_BINDINGS)) {
            (Some(ours), Some(theirs)) if theirs != [0; 16] && theirs != ours => {
                Err(Refusal::ChannelBindings)
            }
            _ => Ok(()),
        }
    }
}

/// A client's claim to be somebody, not yet believed.
#[derive(Debug)]
pub struct Claim {
    user: String,
    domain: String,
    workstation: String,
    proof: [u8; PROOF],
    response: Vec<u8>,
    /// Set if there must be an integrity code; then with the code, if there is one.
    code: Option<Option<[u8; 16]>>,
    key_exchange: bool,
    session_key: Option<Key>,
    authenticate: Vec<u8>,
    challenged: Challenged,
}

impl Claim {
    /// The user, as the client spells it.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's domain, as the client spells it; often empty or the client's own machine.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What the client calls its machine.
    pub fn workstation(&self) -> &str {
        &self.workstation
    }

    /// Checks the client's proof against the account's hash. `None` is an account that does not
    /// exist or may not use NTLM; it takes as long as a wrong password.
    pub fn verify(self, account: Option<&NtHash>) -> Result<Session, Refusal> {
        let nobody = NtHash::from_bytes([0; 16]);
        let hash = account.unwrap_or(&nobody);
        let key = keys::response_key(hash, &self.user, &self.domain);
        let proof = keys::hmac_md5(&key, &[&self.challenged.challenge, &self.response]);
        // The comparison takes the same time for all proofs.
        if proof.verify_slice(&self.proof).is_err() || account.is_none() {
            return Err(Refusal::Credentials);
        }
        let base_key = keys::hmac_md5_of(&key, &[&self.proof]);
        let session_key = match (self.key_exchange, self.session_key) {
            (true, Some(encrypted)) => keys::exchange(&base_key, &encrypted),
            (true, None) => return Err(Malformed::Field.into()),
            (false, _) => base_key,
        };
        self.check_code(&session_key)?;
        Ok(Session {
            security: Security::of_server(session_key, self.key_exchange),
            user: self.user,
            domain: self.domain,
            workstation: self.workstation,
        })
    }

    fn check_code(&self, session_key: &Key) -> Result<(), Refusal> {
        let Some(code) = self.code else {
            return Ok(());
        };
        let code = code.ok_or(Refusal::IntegrityCode)?;
        integrity_code(
            session_key,
            &self.challenged.negotiate,
            &self.challenged.message,
            &self.authenticate,
        )
        .verify_slice(&code)
        .map_err(|_| Refusal::IntegrityCode)
    }
}

/// Over the three messages, the last with zeroes where its code goes.
pub(crate) fn integrity_code(
    session_key: &Key,
    negotiate: &[u8],
    challenge: &[u8],
    authenticate: &[u8],
) -> hmac::Hmac<md5::Md5> {
    let mut blank = authenticate.to_vec();
    blank
        .iter_mut()
        .skip(CODE_OFFSET)
        .take(16)
        .for_each(|byte| *byte = 0);
    keys::hmac_md5(session_key, &[negotiate, challenge, &blank])
}

/// A client that has proved who it is.
#[derive(Debug)]
pub struct Session {
    /// The user, as the client spells it.
    pub user: String,
    /// The user's domain, as the client spells it.
    pub domain: String,
    /// What the client calls its machine.
    pub workstation: String,
    /// Signs and seals the session's messages.
    pub security: Security,
}

/// The time in 100-nanosecond intervals since 1601.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let ticks = (since.as_secs() + EPOCHS_APART).saturating_mul(10_000_000);
    ticks.saturating_add(u64::from(since.subsec_nanos() / 100))
}
