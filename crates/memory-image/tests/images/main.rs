//! Images made out of streams, read, verified, flattened and turned back into streams.

#![allow(clippy::unwrap_used)]

mod chains;
mod damage;
mod streams;
mod support;
