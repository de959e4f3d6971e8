//! WMI's interfaces over a small broker, as their callers see them.

#![allow(clippy::unwrap_used)]

mod calls;
mod objects;
mod results;
mod shop;
mod strangers;
