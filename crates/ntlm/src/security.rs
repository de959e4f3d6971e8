//! Messages of a session: signed, or sealed, which is signed and encrypted (MS-NLMP 3.4).
//!
//! Each direction has a key stream and a sequence number, so both sides must see every message in
//! order. A message that does not verify ends the session: [`Security`] refuses everything after it.
//!
//! RPC signs more than it encrypts (headers are covered, but readable); HTTP encrypts the whole
//! message. Both are [`Security::seal`] with the part to encrypt.

use crate::keys::{self, Direction, Key};
use crate::rc4::Rc4;
use hmac::Mac;
use std::fmt;
use std::ops::Range;

/// Bytes of a signature.
pub const SIGNATURE_LENGTH: usize = 16;

const VERSION: [u8; 4] = [1, 0, 0, 0];

/// A message was changed, repeated, left out, or made with other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message's signature is wrong")]
pub struct BadSignature;

#[derive(Clone)]
struct Stream {
    signing_key: Key,
    cipher: Rc4,
    sequence: u32,
}

impl Stream {
    fn new(session_key: &Key, direction: Direction) -> Self {
        Stream {
            signing_key: keys::signing_key(session_key, direction),
            cipher: Rc4::new(&keys::sealing_key(session_key, direction)),
            sequence: 0,
        }
    }

    /// The signature's middle before it is encrypted.
    fn code(&self, message: &[u8]) -> [u8; 8] {
        let sequence = self.sequence.to_le_bytes();
        let code = keys::hmac_md5(&self.signing_key, &[&sequence, message]).finalize();
        let [code @ .., _, _, _, _, _, _, _, _]: [u8; 16] = code.into_bytes().into();
        code
    }

    fn signature(&mut self, mut code: [u8; 8], encrypted: bool) -> [u8; SIGNATURE_LENGTH] {
        if encrypted {
            self.cipher.apply(&mut code);
        }
        let mut signature = [0; SIGNATURE_LENGTH];
        signature[..4].copy_from_slice(&VERSION);
        signature[4..12].copy_from_slice(&code);
        signature[12..].copy_from_slice(&self.sequence.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        signature
    }
}

/// The keys and counters of one session, from one side.
#[derive(Clone)]
pub struct Security {
    session_key: Key,
    sending: Direction,
    send: Stream,
    receive: Stream,
    key_exchange: bool,
    broken: bool,
}

impl Security {
    pub(crate) fn of_server(session_key: Key, key_exchange: bool) -> Self {
        Self::new(session_key, Direction::ToClient, key_exchange)
    }

    pub(crate) fn of_client(session_key: Key, key_exchange: bool) -> Self {
        Self::new(session_key, Direction::ToServer, key_exchange)
    }

    fn new(session_key: Key, sending: Direction, key_exchange: bool) -> Self {
        let receiving = match sending {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        };
        Security {
            send: Stream::new(&session_key, sending),
            receive: Stream::new(&session_key, receiving),
            session_key,
            sending,
            key_exchange,
            broken: false,
        }
    }

    /// The signature of a message that is sent as it is.
    pub fn sign(&mut self, message: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        let code = self.send.code(message);
        self.send.signature(code, self.key_exchange)
    }

    /// Checks the signature of a message that came as it is.
    pub fn verify(&mut self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.check(message, signature)
    }

    /// Signs a message and encrypts a part of it in place.
    ///
    /// Of a part that reaches beyond the message, all that is in the message is encrypted.
    pub fn seal(
        &mut self,
        message: &mut [u8],
        confidential: Range<usize>,
    ) -> [u8; SIGNATURE_LENGTH] {
        let code = self.send.code(message);
        let (_, from_start) = message.split_at_mut(confidential.start.min(message.len()));
        let length = confidential.len().min(from_start.len());
        let (part, _) = from_start.split_at_mut(length);
        self.send.cipher.apply(part);
        self.send.signature(code, self.key_exchange)
    }

    /// Decrypts a part of a message in place and checks its signature.
    pub fn unseal(
        &mut self,
        message: &mut [u8],
        confidential: Range<usize>,
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        match message.get_mut(confidential) {
            Some(part) if !self.broken => self.receive.cipher.apply(part),
            _ => {
                self.broken = true;
                return Err(BadSignature);
            }
        }
        self.check(message, signature)
    }

    fn check(&mut self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let code = self.receive.code(message);
        let expected = self.receive.signature(code, self.key_exchange);
        // Compared through a second HMAC with the same key, which takes the same time for all.
        let tag = |bytes: &[u8]| keys::hmac_md5(&self.receive.signing_key, &[bytes]);
        let same = tag(&expected).finalize() == tag(signature).finalize();
        if same && !self.broken {
            return Ok(());
        }
        self.broken = true;
        Err(BadSignature)
    }

    /// Starts both key streams again, but not the sequence numbers, as SPNEGO has it after its list
    /// of mechanisms was signed (MS-SPNG 3.1.5.1).
    pub fn restart_ciphers(&mut self) {
        let fresh = Self::new(self.session_key, self.sending, self.key_exchange);
        self.send.cipher = fresh.send.cipher;
        self.receive.cipher = fresh.receive.cipher;
    }

    /// Bytes that both sides know and nobody else does.
    pub fn session_key(&self) -> &[u8; 16] {
        &self.session_key
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("key_exchange", &self.key_exchange)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
