//! The client's side of a logon, for tests and diagnosis.

use crate::acceptor::{integrity_code, now};
use crate::keys::{self, NtHash};
use crate::message::{Authenticate, Challenge, ClientChallenge, Flags, Malformed, Negotiate};
use crate::security::Security;
use crate::target;
use hmac::Mac;

/// Who logs on, and how.
#[derive(Clone, Debug)]
pub struct Initiator {
    /// The user.
    pub user: String,
    /// The user's domain; may be empty.
    pub domain: String,
    /// The user's hash.
    pub hash: NtHash,
    /// Whether the client makes the session key.
    pub key_exchange: bool,
    /// Whether the messages of the logon are protected by an integrity code.
    pub integrity_code: bool,
}

impl Initiator {
    /// A logon as most clients do it.
    pub fn new(user: &str, password: &str) -> Self {
        Initiator {
            user: user.to_owned(),
            domain: String::new(),
            hash: NtHash::of_password(password),
            key_exchange: true,
            integrity_code: true,
        }
    }

    /// The first message.
    pub fn negotiate(&self) -> Vec<u8> {
        let mut flags = Flags::UNICODE
            .union(Flags::REQUEST_TARGET)
            .union(Flags::SIGN)
            .union(Flags::SEAL)
            .union(Flags::NTLM)
            .union(Flags::ALWAYS_SIGN)
            .union(Flags::EXTENDED_SESSION_SECURITY)
            .union(Flags::VERSION)
            .union(Flags::BITS_128);
        if self.key_exchange {
            flags = flags.union(Flags::KEY_EXCHANGE);
        }
        Negotiate { flags }.encode()
    }

    /// The last message, and the session it opens if the server accepts it.
    pub fn authenticate(
        &self,
        negotiate: &[u8],
        challenge: &[u8],
    ) -> Result<(Vec<u8>, Security), Malformed> {
        let asked = Challenge::decode(challenge)?;
        let mut pairs = asked.pairs;
        if self.integrity_code {
            let flags = target::FLAG_INTEGRITY_CODE.to_le_bytes();
            pairs.push(target::FLAGS, &flags);
        }
        let response = ClientChallenge {
            time: pairs.timestamp().unwrap_or_else(now),
            challenge: random()?,
            pairs,
        };
        let response = response.encode();
        let key = keys::response_key(&self.hash, &self.user, &self.domain);
        let proof = keys::hmac_md5_of(&key, &[&asked.challenge, &response]);
        let base_key = keys::hmac_md5_of(&key, &[&proof]);
        let key_exchange = self.key_exchange && asked.flags.contains(Flags::KEY_EXCHANGE);
        let session_key = if key_exchange { random()? } else { base_key };
        let mut message = Authenticate {
            flags: asked.flags,
            lm_response: vec![0; 24],
            nt_response: [&proof[..], &response].concat(),
            domain: self.domain.clone(),
            user: self.user.clone(),
            workstation: "CLIENT".to_owned(),
            session_key: key_exchange.then(|| keys::exchange(&base_key, &session_key)),
            integrity_code: self.integrity_code.then_some([0; 16]),
        };
        if self.integrity_code {
            let code = integrity_code(&session_key, negotiate, challenge, &message.encode());
            message.integrity_code = Some(code.finalize().into_bytes().into());
        }
        Ok((
            message.encode(),
            Security::of_client(session_key, key_exchange),
        ))
    }
}

fn random<const N: usize>() -> Result<[u8; N], Malformed> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Malformed::Short)?;
    Ok(bytes)
}
