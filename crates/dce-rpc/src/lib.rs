//! Connection-oriented DCE/RPC (C706, MS-RPCE): a server of interfaces over TCP, authenticated by
//! NTLM or SPNEGO, with signed or sealed messages.
//!
//! ```text
//! server          Server: listeners, limits, shutdown
//!   connection    one TCP connection: fragments in, calls run, fragments out
//!   association   its state: presentation contexts, which fragment means what
//!     security    its security contexts: logons, signatures, seals
//!     assembly    a request whose fragments are coming in
//! interface       Interface and Objects, which an upper crate implements; Call, Caller, Level
//! ndr             arguments and results <-> bytes, bounded
//! pdu             PDUs <-> bytes
//! verification    what clients append to a stub to protect a header
//! fault, syntax   codes and names
//! client          the other side, for tests and diagnosis
//! ```
//!
//! # How to use it
//!
//! Implement [`Interface`] for each interface, bind a listener for each port ([`Listener::bind`]),
//! give each an [`Endpoint`] with its interfaces, and [`Server::start`]. Where requests name objects
//! (DCOM), give the endpoint an [`Objects`]: requests with an object go there whatever presentation
//! context they come on, because that is how clients send them.
//!
//! ```no_run
//! use dce_rpc::ndr::Writer;
//! use dce_rpc::{Call, Endpoint, Fault, Interface, Level, Limits, Listener, Server, SyntaxId};
//! use std::sync::Arc;
//!
//! struct Clock;
//!
//! #[async_trait::async_trait]
//! impl Interface for Clock {
//!     fn syntax(&self) -> SyntaxId {
//!         SyntaxId::new(uuid::uuid!("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), 1)
//!     }
//!
//!     fn required_level(&self) -> Level {
//!         Level::Integrity
//!     }
//!
//!     async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
//!         let seconds = call.arguments().u32()?;
//!         match call.opnum {
//!             0 => {
//!                 let mut result = Writer::new();
//!                 result.u32(seconds);
//!                 Ok(result.into_bytes())
//!             }
//!             _ => Err(Fault::OPERATION_RANGE),
//!         }
//!     }
//! }
//!
//! # async fn start(logons: Arc<spnego::Logons>) -> Result<(), dce_rpc::BindError> {
//! let listener = Listener::bind(([127, 0, 0, 1], 4242).into()).await?;
//! let endpoint = Endpoint { interfaces: vec![Arc::new(Clock)], objects: None };
//! let server = Server::start(vec![(listener, endpoint)], logons, Limits::default());
//! # Ok(())
//! # }
//! ```
//!
//! Calls on one connection run one after another. A call is dropped where it waits when its client
//! goes away or cancels it: what must be completed belongs into a task of its own.
//!
//! Not here: an endpoint mapper (ports are fixed), NDR64, datagrams, pipes, big-endian peers,
//! what an account may do.
//!
//! Start reading at [`Server::start`], then `server::association`.

#![forbid(unsafe_code)]

pub mod client;
pub mod fault;
pub mod interface;
pub mod ndr;
pub mod pdu;
mod server;
pub mod syntax;
pub mod verification;

pub use fault::Fault;
pub use interface::{Call, Caller, Connection, Identity, Interface, Level, Objects};
pub use server::{BindError, Endpoint, Limits, Listener, Server};
pub use syntax::SyntaxId;
