//! What went wrong with an operation, as CIM numbers it.

use std::fmt;

/// Status codes of DSP0200 (table "status codes"); the discriminant is the wire's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum CimStatus {
    Failed = 1,
    AccessDenied = 2,
    InvalidNamespace = 3,
    InvalidParameter = 4,
    InvalidClass = 5,
    NotFound = 6,
    NotSupported = 7,
    ClassHasChildren = 8,
    ClassHasInstances = 9,
    InvalidSuperclass = 10,
    AlreadyExists = 11,
    NoSuchProperty = 12,
    TypeMismatch = 13,
    QueryLanguageNotSupported = 14,
    InvalidQuery = 15,
    MethodNotAvailable = 16,
    MethodNotFound = 17,
    NamespaceNotEmpty = 20,
    InvalidEnumerationContext = 21,
    InvalidOperationTimeout = 22,
    PullHasBeenAbandoned = 23,
    PullCannotBeAbandoned = 24,
    FilteredEnumerationNotSupported = 25,
    ContinuationOnErrorNotSupported = 26,
    ServerLimitsExceeded = 27,
    ServerIsShuttingDown = 28,
}

/// A failed operation: its status, and a sentence that says what, why and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CimError {
    /// The status code.
    pub status: CimStatus,
    /// One or two sentences for the person who reads it.
    pub message: String,
}

impl CimError {
    /// An error with `status` and `message`.
    pub fn new(status: CimStatus, message: impl Into<String>) -> Self {
        CimError {
            status,
            message: message.into(),
        }
    }
}

impl fmt::Display for CimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CimError {}
