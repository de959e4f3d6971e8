//! The object encoding as its users see it: published examples, round trips, broken input, and what
//! other implementations read from our bytes.

mod arbitrary;
mod broken;
mod bytes;
mod foreign;
mod packets;
mod published;
mod round_trip;
