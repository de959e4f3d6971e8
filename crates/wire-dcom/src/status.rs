//! How calls end, in WMI's codes (MS-WMI 2.2.11), and which one each of the broker's errors has.
//!
//! The table gives each status one code, so that a cause that reads the same in CIM-XML reads the
//! same here.

use cim::{CimError, CimStatus};
use dcom::HResult;

/// `WBEM_S_TIMEDOUT`: not (all) there yet; ask again.
pub const TIMED_OUT: HResult = HResult(0x0004_0004);
/// `WBEM_E_FAILED`.
pub const FAILED: HResult = HResult(0x8004_1001);
/// `WBEM_E_NOT_FOUND`.
pub const NOT_FOUND: HResult = HResult(0x8004_1002);
/// `WBEM_E_ACCESS_DENIED`.
pub const ACCESS_DENIED: HResult = HResult(0x8004_1003);
/// `WBEM_E_TYPE_MISMATCH`.
pub const TYPE_MISMATCH: HResult = HResult(0x8004_1005);
/// `WBEM_E_INVALID_PARAMETER`.
pub const INVALID_PARAMETER: HResult = HResult(0x8004_1008);
/// `WBEM_E_NOT_SUPPORTED`.
pub const NOT_SUPPORTED: HResult = HResult(0x8004_100c);
/// `WBEM_E_INVALID_SUPERCLASS`.
pub const INVALID_SUPERCLASS: HResult = HResult(0x8004_100d);
/// `WBEM_E_INVALID_NAMESPACE`.
pub const INVALID_NAMESPACE: HResult = HResult(0x8004_100e);
/// `WBEM_E_INVALID_CLASS`.
pub const INVALID_CLASS: HResult = HResult(0x8004_1010);
/// `WBEM_E_INVALID_OPERATION`.
pub const INVALID_OPERATION: HResult = HResult(0x8004_1016);
/// `WBEM_E_INVALID_QUERY`.
pub const INVALID_QUERY: HResult = HResult(0x8004_1017);
/// `WBEM_E_INVALID_QUERY_TYPE`: the query language.
pub const INVALID_QUERY_TYPE: HResult = HResult(0x8004_1018);
/// `WBEM_E_ALREADY_EXISTS`.
pub const ALREADY_EXISTS: HResult = HResult(0x8004_1019);
/// `WBEM_E_CLASS_HAS_CHILDREN`.
pub const CLASS_HAS_CHILDREN: HResult = HResult(0x8004_1025);
/// `WBEM_E_CLASS_HAS_INSTANCES`.
pub const CLASS_HAS_INSTANCES: HResult = HResult(0x8004_1026);
/// `WBEM_E_INVALID_METHOD`: the class has no such method.
pub const INVALID_METHOD: HResult = HResult(0x8004_102e);
/// `WBEM_E_INVALID_METHOD_PARAMETERS`.
pub const INVALID_METHOD_PARAMETERS: HResult = HResult(0x8004_102f);
/// `WBEM_E_INVALID_PROPERTY`.
pub const INVALID_PROPERTY: HResult = HResult(0x8004_1031);
/// `WBEM_E_SHUTTING_DOWN`.
pub const SHUTTING_DOWN: HResult = HResult(0x8004_1033);
/// `WBEM_E_INVALID_OBJECT_PATH`.
pub const INVALID_OBJECT_PATH: HResult = HResult(0x8004_103a);
/// `WBEM_E_METHOD_NOT_IMPLEMENTED`: declared, but not served.
pub const METHOD_NOT_IMPLEMENTED: HResult = HResult(0x8004_1055);
/// `WBEM_E_QUOTA_VIOLATION`: a limit of the server.
pub const QUOTA_VIOLATION: HResult = HResult(0x8004_106c);

/// The code of a status.
pub fn of_status(status: CimStatus) -> HResult {
    match status {
        CimStatus::Failed => FAILED,
        CimStatus::AccessDenied => ACCESS_DENIED,
        CimStatus::InvalidNamespace => INVALID_NAMESPACE,
        CimStatus::InvalidParameter => INVALID_PARAMETER,
        CimStatus::InvalidClass => INVALID_CLASS,
        CimStatus::NotFound => NOT_FOUND,
        CimStatus::NotSupported
        | CimStatus::FilteredEnumerationNotSupported
        | CimStatus::ContinuationOnErrorNotSupported
        | CimStatus::NamespaceNotEmpty => NOT_SUPPORTED,
        CimStatus::ClassHasChildren => CLASS_HAS_CHILDREN,
        CimStatus::ClassHasInstances => CLASS_HAS_INSTANCES,
        CimStatus::InvalidSuperclass => INVALID_SUPERCLASS,
        CimStatus::AlreadyExists => ALREADY_EXISTS,
        CimStatus::NoSuchProperty => INVALID_PROPERTY,
        CimStatus::TypeMismatch => TYPE_MISMATCH,
        CimStatus::QueryLanguageNotSupported => INVALID_QUERY_TYPE,
        CimStatus::InvalidQuery => INVALID_QUERY,
        CimStatus::MethodNotAvailable => METHOD_NOT_IMPLEMENTED,
        CimStatus::MethodNotFound => INVALID_METHOD,
        CimStatus::InvalidEnumerationContext
        | CimStatus::PullHasBeenAbandoned
        | CimStatus::PullCannotBeAbandoned => INVALID_OPERATION,
        CimStatus::InvalidOperationTimeout => INVALID_PARAMETER,
        CimStatus::ServerLimitsExceeded => QUOTA_VIOLATION,
        CimStatus::ServerIsShuttingDown => SHUTTING_DOWN,
    }
}

/// The code of an error, whose words go to the log: a code alone has no room for them.
pub(crate) fn of_error(error: &CimError) -> HResult {
    let code = of_status(error.status);
    tracing::debug!(%code, message = %error.message, "refused");
    code
}
