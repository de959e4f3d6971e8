//! HRESULTs (MS-ERREF 2.1): how calls on objects end.

use std::fmt;

/// The last value of every result. An interface may use codes of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HResult(pub u32);

impl HResult {
    /// Done.
    pub const OK: HResult = HResult(0);
    /// Done, but the answer is no, or there is less than was asked for.
    pub const FALSE: HResult = HResult(1);
    /// `E_NOTIMPL`.
    pub const NOT_IMPLEMENTED: HResult = HResult(0x8000_4001);
    /// `E_NOINTERFACE`.
    pub const NO_INTERFACE: HResult = HResult(0x8000_4002);
    /// `REGDB_E_CLASSNOTREG`.
    pub const CLASS_NOT_REGISTERED: HResult = HResult(0x8004_0154);
    /// `CLASS_E_NOAGGREGATION`.
    pub const NO_AGGREGATION: HResult = HResult(0x8004_0110);
    /// `RPC_E_DISCONNECTED`: the object is gone.
    pub const DISCONNECTED: HResult = HResult(0x8001_0108);
    /// `RPC_E_VERSION_MISMATCH`.
    pub const VERSION_MISMATCH: HResult = HResult(0x8001_0110);
    /// `RPC_E_INVALID_OBJREF`.
    pub const INVALID_OBJREF: HResult = HResult(0x8001_011d);
    /// `E_ACCESSDENIED`.
    pub const ACCESS_DENIED: HResult = HResult(0x8007_0005);
    /// `E_OUTOFMEMORY`: a limit of the server.
    pub const OUT_OF_MEMORY: HResult = HResult(0x8007_000e);
    /// `E_INVALIDARG`.
    pub const INVALID_ARGUMENT: HResult = HResult(0x8007_0057);

    /// Whether it is an error.
    pub const fn is_error(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

impl fmt::Display for HResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HRESULT {:#010x}", self.0)
    }
}

impl fmt::Debug for HResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HResult({:#010x})", self.0)
    }
}

impl std::error::Error for HResult {}
