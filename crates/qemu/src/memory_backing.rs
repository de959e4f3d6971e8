//! Chooses between kinds of guest memory.

use crate::spec::Backing;

/// What a machine's memory is made of, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The choice.
    pub backing: Backing,
    /// Why, in a sentence.
    pub reason: String,
}

/// How far the host's pool of huge pages may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The pool may be grown up to this many MiB in all (0: never grown).
    pub pool_limit_mib: u64,
}

/// Decides for a machine of `ram_mib`, growing the pool if the policy allows (blocking for at most
/// a few seconds).
#[allow(clippy::todo, unused_variables)]
pub fn decide(ram_mib: u64, policy: Policy) -> Decision {
    todo!()
}

/// Gives pages that nobody uses back to the host, down to what was there before it was grown.
#[allow(clippy::todo)]
pub fn give_back() {
    todo!()
}
