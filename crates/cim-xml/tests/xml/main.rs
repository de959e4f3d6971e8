//! CIM-XML text through the crate's public interface: what is read, what is refused, what comes
//! back the way it went.

mod bounds;
mod embedded;
mod messages;
mod round_trip;
mod seeds;
