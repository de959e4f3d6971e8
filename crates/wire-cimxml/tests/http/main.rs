//! The server as clients meet it, over real sockets: raw bytes for what no client library would
//! send, our own client for the operations.

#[path = "../../examples/bookshop/model.rs"]
mod model;

mod abuse;
mod calls;
mod protocol;
mod sockets;
mod support;
