//! Fault status codes (C706 appendix E, MS-RPCE 3.1.1.5.5, MS-ERREF).

use crate::ndr::NdrError;
use std::fmt;

/// Why a call has no result, as the client is told. An interface may use codes of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault(pub u32);

impl Fault {
    /// The caller may not, or is not known yet.
    pub const ACCESS_DENIED: Fault = Fault(5);
    /// The arguments cannot be read.
    pub const BAD_STUB_DATA: Fault = Fault(0x0000_06f7);
    /// Signing or sealing failed.
    pub const SECURITY_PACKAGE: Fault = Fault(0x0000_0721);
    /// The interface has no such operation.
    pub const OPERATION_RANGE: Fault = Fault(0x1c01_0002);
    /// The endpoint has no such interface, or the presentation context was not agreed on.
    pub const UNKNOWN_INTERFACE: Fault = Fault(0x1c01_0003);
    /// The client broke the protocol.
    pub const PROTOCOL_ERROR: Fault = Fault(0x1c01_000b);
    /// Too much is going on; later.
    pub const SERVER_TOO_BUSY: Fault = Fault(0x1c01_0014);
    /// The call was cancelled.
    pub const CANCELLED: Fault = Fault(0x1c00_000d);
    /// A handle that was not given out, or not to this client.
    pub const CONTEXT_MISMATCH: Fault = Fault(0x1c00_001a);
    /// The request is larger than the server takes.
    pub const REMOTE_NO_MEMORY: Fault = Fault(0x1c00_001b);
    /// The authentication level is not one that is served.
    pub const UNSUPPORTED_LEVEL: Fault = Fault(0x1c00_001d);
}

impl Fault {
    /// Whether it tells, by itself, that nothing was done.
    pub(crate) fn tells_that_nothing_was_done(self) -> bool {
        matches!(
            self,
            Fault::OPERATION_RANGE
                | Fault::UNKNOWN_INTERFACE
                | Fault::SERVER_TOO_BUSY
                | Fault::REMOTE_NO_MEMORY
                | Fault::UNSUPPORTED_LEVEL
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Fault::ACCESS_DENIED => "access is denied",
            Fault::BAD_STUB_DATA => "the arguments cannot be read",
            Fault::SECURITY_PACKAGE => "a signature is wrong",
            Fault::OPERATION_RANGE => "the interface has no such operation",
            Fault::UNKNOWN_INTERFACE => "there is no such interface",
            Fault::PROTOCOL_ERROR => "the protocol was broken",
            Fault::SERVER_TOO_BUSY => "the server is too busy",
            Fault::CANCELLED => "the call was cancelled",
            Fault::CONTEXT_MISMATCH => "the handle is not valid",
            Fault::REMOTE_NO_MEMORY => "the request is too large",
            Fault::UNSUPPORTED_LEVEL => "the authentication level is not served",
            Fault(code) => return write!(f, "fault {code:#010x}"),
        };
        f.write_str(text)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:#010x})", self.0)
    }
}

impl std::error::Error for Fault {}

impl From<NdrError> for Fault {
    fn from(_: NdrError) -> Self {
        Fault::BAD_STUB_DATA
    }
}
