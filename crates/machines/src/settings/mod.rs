//! Configurations: what a new one holds, and how requests change it.
//!
//! Everything here is pure: a changed copy comes out, or the reason why not. Files are looked at
//! before, and what was found is handed in.

pub(crate) mod change;
pub(crate) mod defaults;
pub(crate) mod devices;
pub(crate) mod limits;
pub(crate) mod order;
