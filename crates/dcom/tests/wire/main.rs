//! DCOM as clients see it: ours, and impacket.

#![allow(clippy::unwrap_used)]

mod activation;
mod impacket;
mod objects;
mod resolver;
mod service;
mod strangers;
