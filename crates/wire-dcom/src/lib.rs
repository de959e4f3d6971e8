//! WMI over DCOM (MS-WMI): the broker's namespaces as the clients of Windows reach them.
//!
//! A wire translates and decides nothing: what a request means, who may do what and what an answer
//! holds is the broker's. What is decided here is what MS-WMI adds to it: how results are handed
//! out piece by piece, how calls are answered before they are done, and what all that may hold.
//!
//! ```text
//! server          sockets, the class that clients activate, shutdown
//!   login         IWbemLevel1Login: an account and a namespace -> a session
//!   services      IWbemServices: what is asked of a namespace
//!     objects     GetObject, and classes and instances in WMI's form
//!     queries     everything that answers an enumerator
//!     methods     ExecMethod
//!   enumerator    IEnumWbemClassObject; smart: the same results in packets
//!     feed        what enumerators hand out: results, or events as they happen
//!   call_result   IWbemCallResult: a call that goes on after it was answered
//! session         who asks which namespace; the way into the broker
//! encoder         instances and classes of one namespace -> bytes
//! holdings        how much memory the results may take that clients have not fetched
//! stub            strings and pointers of these interfaces <-> bytes
//! status, ids     HRESULTs, interface identifiers
//! ```
//!
//! Not here: DCOM itself (`dcom`), the encoding of objects (`wmi-object`), accounts (the program),
//! calls back to clients: the asynchronous operations, which need them, are refused.
//!
//! Start reading at [`Server::bind`], then `services`.

#![forbid(unsafe_code)]

mod call_result;
mod encoder;
mod enumerator;
mod feed;
mod holdings;
pub mod ids;
mod login;
mod server;
mod services;
mod session;
mod smart;
pub mod status;
mod stub;

pub use dce_rpc::Level;
pub use holdings::HoldingLimits;
pub use server::{BindError, Configuration, Offer, Server};
pub use session::Authority;
