//! WS-Management (DMTF DSP0226, DSP0227; MS-WSMV): a server that puts the broker on the wire.
//!
//! A wire translates and decides nothing: what a request means, who may do what and what an answer
//! holds is the broker's. What is decided here is SOAP, WS-Management's own operations, and how
//! they go over HTTP with its ways to log on.
//!
//! ```text
//! server          the service on an HTTP server
//!   session       one connection: who is at the other end, plain or encrypted messages
//!     login       Negotiate, bound to the TLS connection (channel)
//!     certificates  client certificates
//!     encryption  multipart/encrypted: sealed messages over plain HTTP
//! operations      one request: what is asked of the broker, and the answer
//!   enumerations  what clients have not pulled yet
//! resource        resource addresses and selectors <-> classes and paths
//!   reference     endpoint references <-> XML
//! instance        instances and values <-> XML
//! soap            envelopes, headers, faults <-> text; XML within limits
//! ```
//!
//! Not here: sockets, TLS and limits (`http-server`), logons (`spnego`), accounts and certificates
//! (the program).
//!
//! Start reading at [`Server::bind`], then `operations`.

#![forbid(unsafe_code)]

mod instance;
mod operations;
pub mod reference;
mod resource;
mod server;
pub mod soap;

pub use operations::enumerations::Limits as EnumerationLimits;
pub use operations::{Product, filter};
pub use server::encryption;
pub use server::{CertificateRefusal, Certificates, Negotiate, Roles, Server, ServerConfig};
