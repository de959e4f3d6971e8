//! Who asks, and what that allows.

/// What an account may do. Ordered: each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Authenticated, without rights: sees no instance and may call nothing (what Hyper-V shows to
    /// such callers: empty enumerations, 32769 from methods).
    None,
    /// Reads.
    Viewer,
    /// Reads, changes the state of machines, takes and applies snapshots.
    Operator,
    /// Everything.
    Administrator,
}

/// The caller of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Account name.
    pub user: String,
    /// What the account may do.
    pub role: Role,
    /// Address of the caller, or `local`.
    pub peer: String,
}
