//! Logons as the wires need them: SPNEGO (RFC 4178, MS-SPNG) or bare NTLM, the accounts' door, what
//! is audited, and what slows guessing down.
//!
//! ```text
//! logons        Logons: accounts, audit and throttle of a service; Logons::begin
//!   negotiation one client's logon, token by token, in either dialect
//!     token     NegTokenInit, NegTokenResp <-> bytes
//!       der     the little DER that they need, bounded
//! throttle      failures of each peer, and how long to wait for them
//! ```
//!
//! A wire makes a [`Negotiation`] for each logon, feeds it the client's tokens and sends back what it
//! gives. When it is done there is a [`Logon`]: the account's name and the session's signing and
//! sealing. When it is refused, the wire waits as long as [`Refused::delay`] says before it answers
//! or reads on. Nothing here sleeps or does I/O.
//!
//! NTLM is the one mechanism. A client that prefers another (Kerberos) is told so and continues
//! with NTLM, and then both sides sign the list of mechanisms so that nobody can have shortened it.
//!
//! Not here: NTLM itself (`ntlm`), where tokens travel, what an account may do.
//!
//! Start reading at [`Logons`], then [`Negotiation::step`].

#![forbid(unsafe_code)]

mod der;
mod logons;
mod negotiation;
mod throttle;
pub mod token;

pub use logons::{Account, Accounts, Attempt, Audit, Logons, Lookup};
pub use negotiation::{Dialect, Logon, Negotiation, Refusal, Refused, Step};
pub use throttle::Throttle;
