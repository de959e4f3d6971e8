//! The server as clients see it: what they may do, and what is refused.

#![allow(clippy::unwrap_used)]

mod binding;
mod calls;
mod limits;
mod logons;
mod samba;
mod service;
mod strangers;
mod tampering;
