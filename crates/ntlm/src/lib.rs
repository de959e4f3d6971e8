//! NTLM (MS-NLMP): the acceptor of NTLMv2 logons and the message security that follows from them.
//!
//! Only what is still defensible is spoken: NTLMv2 responses, 128-bit keys, extended session
//! security, Unicode. LM, NTLMv1, anonymous logons and datagram style are refused. Key exchange is
//! used when the client wants it, and a message integrity code is checked whenever the client's
//! response says that there is one.
//!
//! ```text
//! message     NEGOTIATE, CHALLENGE, AUTHENTICATE <-> bytes; bounded, never panics
//! target      the attribute/value pairs inside them
//! keys        passwords -> hashes -> session, signing and sealing keys
//! acceptor    the server's side of a logon: Acceptor -> Challenged -> Claim -> Session
//! security    sign, verify, seal and unseal messages of a session
//! initiator   the client's side, for tests and diagnosis
//! ```
//!
//! The acceptor does no I/O and looks up no accounts: after the last message it holds a [`Claim`]
//! with the name, and whoever drives it brings the account's NT hash to [`Claim::verify`].
//!
//! Not here: SPNEGO and the accounts' door (`spnego`), where messages travel (`dce-rpc`, HTTP).
//!
//! Start reading at [`Acceptor`], then [`Security`].

#![forbid(unsafe_code)]

pub mod acceptor;
pub mod initiator;
mod keys;
pub mod message;
mod rc4;
pub mod security;
pub mod target;

pub use acceptor::{Acceptor, Challenged, Claim, Refusal, ServerNames, Session};
pub use keys::NtHash;
pub use message::{Flags, Malformed};
pub use security::{BadSignature, SIGNATURE_LENGTH, Security};
