//! Whether a snapshot's files still are what they were.
//!
//! Three kinds of files make a snapshot. Its manifest and its memory image carry checksums of
//! their own, over every byte. A disk layer carries none, so once it is frozen it is hashed in the
//! background (`keeper`), in segments (`segments`) that are kept beside the snapshots
//! (`sums`), with the file's size and modification time: a layer that somebody wrote to can so be
//! told from one that its disk has damaged. `verify` compares; [`layer_header`] is the quick look
//! before an apply. What comes out is in [`report`].
//!
//! Not here: repairing (nothing here writes to a layer), and whether catalog and files agree
//! (`check`).

pub(crate) mod keeper;
pub mod layer_header;
pub mod report;
mod segments;
pub(crate) mod sums;
pub(crate) mod verify;

pub use report::{CheckedFile, Damage, Depth, FileRole, FileState, Verification};
pub use sums::{SumsError, decode as decode_sums};
