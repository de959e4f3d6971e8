//! HTTP as the wires need it: listening, TLS, connections, limits on everything that a client can
//! make grow, credentials, shutdown. What a request means is the [`Service`]'s to say.
//!
//! ```text
//! server           what is listened on, start and shutdown
//!   connection     one connection: accepted within the limit, TLS, served request by request
//!     stall        a client that stops reading is cut off
//! peer             who is at the other end, and what it has proved
//!   authentication the door to the accounts; guessing is slowed down
//!   client_certificate  asks for them in the TLS handshake
//! x509             the few fields of certificates that are needed
//! body             a request's body within its limits; an answer's, in chunks when it is long
//! ```
//!
//! Not here: protocols over HTTP, accounts, and which certificates are whose (the program).
//!
//! Start reading at [`Service`], then [`Server::bind`].

#![forbid(unsafe_code)]

mod authentication;
mod body;
mod client_certificate;
mod connection;
mod limits;
mod peer;
mod server;
mod stall;
pub mod x509;

pub use authentication::{Authenticator, Identity, Verification};
pub use body::{AnswerBody, BodyError, ReceivedBody, answer_body, discard, set_header};
pub use client_certificate::{LARGEST_CERTIFICATES, ask_for_certificates, can_be_proved};
pub use limits::HttpLimits;
pub use peer::Peer;
pub use server::{BindError, Listen, LocalAddress, Server, ServerConfig, Service, Tls};
