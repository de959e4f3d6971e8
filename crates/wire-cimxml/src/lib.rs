//! CIM-XML over HTTP (DMTF DSP0200): the server that puts the broker on the wire, and the client
//! that our command line uses.
//!
//! A wire translates and decides nothing: what a request means, who may do what and what an answer
//! holds is the broker's. What is decided here is HTTP (methods, headers, sizes, time-outs,
//! authentication) and the shape that DSP0200 gives to each operation.
//!
//! ```text
//! server         the service on an HTTP server
//!   http         one HTTP request: headers, credentials, body, status
//!   operations   one CIM request: parameters -> broker -> response
//! client         the same messages from the other side
//! ```
//!
//! Not here: the text of messages (`cim-xml`), sockets, TLS and limits (`http-server`), accounts and
//! certificates (the program).
//!
//! Start reading at [`Server::bind`], then `server::http`.

#![forbid(unsafe_code)]

pub mod client;
mod explanation;
mod operations;
mod server;

pub use client::{Answer, Client, ClientError, QueryAnswer, Trust};
pub use server::{Server, ServerConfig};
