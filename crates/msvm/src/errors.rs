//! The one table of causes: which return code, job error code, status and HRESULT each cause of
//! [`machines::Error`] has on the wires. The texts (what happened, why, what to do) are the cause's
//! own and the same everywhere.
//!
//! How `CreateVirtualSystemSnapshot` comes to its documented return codes:
//!
//! - 0 never: taking a snapshot is always a job, and clients read `Job` without looking further.
//! - 4096: the job has started.
//! - 32768: the machine has as many snapshots as it may have, or the host failed us (its file
//!   system, the catalog).
//! - 32769: the account's role does not allow it.
//! - 32770: a device of the machine cannot be captured.
//! - 32771 (status unknown) cannot occur: every cause is in this table, and a test says so.
//! - 32772: the machine's owner did not answer in time.
//! - 32773: `SourceSystem` is NULL, malformed, of another class, the host, or unknown.
//! - 32774: another operation is under way on the machine.
//! - 32775: the machine is in a state that has no snapshots (paused, between states, or its guest
//!   stands still for want of its disk).
//! - 32776 (incorrect data type) cannot occur: what cannot be read as the declared type is a wrong
//!   parameter, 32773, which is what clients know.
//! - 32777: the machine's QEMU does not answer, its files are missing or damaged, or the service is
//!   ending.
//! - 32778: there is not enough memory to take the guest's in.

use cim::CimStatus;

/// Return codes of methods. The vendor range (327xx) is V1's; V2 has DMTF's besides.
#[allow(dead_code)]
pub(crate) mod code {
    pub(crate) const COMPLETED: u32 = 0;
    pub(crate) const JOB_STARTED: u32 = 4096;
    pub(crate) const FAILED: u32 = 32768;
    pub(crate) const ACCESS_DENIED: u32 = 32769;
    pub(crate) const NOT_SUPPORTED: u32 = 32770;
    pub(crate) const TIMEOUT: u32 = 32772;
    pub(crate) const INVALID_PARAMETER: u32 = 32773;
    pub(crate) const IN_USE: u32 = 32774;
    pub(crate) const INVALID_STATE: u32 = 32775;
    pub(crate) const NOT_AVAILABLE: u32 = 32777;
    pub(crate) const OUT_OF_MEMORY: u32 = 32778;
    /// Jobs' RequestStateChange only (DMTF's numbers).
    pub(crate) const INVALID_TRANSITION: u32 = 4097;
    pub(crate) const NO_TIMEOUT_PARAMETER: u32 = 4098;
}

/// What a cause is called on each wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Return code of a V1 method.
    pub v1: u32,
    /// Return code of a V2 method.
    pub v2: u32,
    /// `ErrorCode` of a job that failed with it.
    pub job: u16,
    /// WBEM HRESULT.
    pub hresult: u32,
    /// CIM status.
    pub status: CimStatus,
}

const WBEM_E_FAILED: u32 = 0x8004_1001;
const WBEM_E_ACCESS_DENIED: u32 = 0x8004_1003;
const WBEM_E_NOT_FOUND: u32 = 0x8004_1002;
const WBEM_E_OUT_OF_MEMORY: u32 = 0x8004_1006;
const WBEM_E_INVALID_PARAMETER: u32 = 0x8004_1008;
const WBEM_E_NOT_SUPPORTED: u32 = 0x8004_100C;
const WBEM_E_INVALID_OPERATION: u32 = 0x8004_1016;
const WBEM_E_SHUTTING_DOWN: u32 = 0x8004_1033;
const WBEM_E_TIMED_OUT: u32 = 0x8004_1069;
const WBEM_E_SERVER_TOO_BUSY: u32 = 0x8004_1045;
const WBEM_E_TRANSPORT_FAILURE: u32 = 0x8004_1015;
const WBEM_E_CALL_CANCELLED: u32 = 0x8004_1032;

/// One kind of failure; causes share them. A job's `ErrorCode` is the code that the method would
/// have returned.
const fn kind(v1: u32, v2: u32, hresult: u32, status: CimStatus) -> Codes {
    assert!(v1 <= u16::MAX as u32, "return codes fit a job's ErrorCode");
    Codes {
        v1,
        v2,
        job: v1 as u16,
        hresult,
        status,
    }
}

pub(crate) const FAILED: Codes = kind(code::FAILED, 2, WBEM_E_FAILED, CimStatus::Failed);
pub(crate) const UNSUPPORTED: Codes = kind(
    code::NOT_SUPPORTED,
    1,
    WBEM_E_NOT_SUPPORTED,
    CimStatus::NotSupported,
);
const TIMED_OUT: Codes = kind(code::TIMEOUT, 3, WBEM_E_TIMED_OUT, CimStatus::Failed);
const ABSENT: Codes = kind(
    code::INVALID_PARAMETER,
    4,
    WBEM_E_NOT_FOUND,
    CimStatus::NotFound,
);
pub(crate) const WRONG: Codes = kind(
    code::INVALID_PARAMETER,
    4,
    WBEM_E_INVALID_PARAMETER,
    CimStatus::InvalidParameter,
);
// V2 has no DMTF code for it; the vendor range keeps V1's.
const BUSY: Codes = kind(
    code::IN_USE,
    code::IN_USE,
    WBEM_E_SERVER_TOO_BUSY,
    CimStatus::Failed,
);
const WRONG_STATE: Codes = kind(
    code::INVALID_STATE,
    5,
    WBEM_E_INVALID_OPERATION,
    CimStatus::Failed,
);
const ALREADY: Codes = kind(
    code::INVALID_STATE,
    code::INVALID_STATE,
    WBEM_E_INVALID_OPERATION,
    CimStatus::Failed,
);
pub(crate) const UNAVAILABLE: Codes = kind(
    code::NOT_AVAILABLE,
    code::NOT_AVAILABLE,
    WBEM_E_TRANSPORT_FAILURE,
    CimStatus::Failed,
);
const ENDING: Codes = kind(
    code::NOT_AVAILABLE,
    code::NOT_AVAILABLE,
    WBEM_E_SHUTTING_DOWN,
    CimStatus::ServerIsShuttingDown,
);
const NO_MEMORY: Codes = kind(
    code::OUT_OF_MEMORY,
    code::OUT_OF_MEMORY,
    WBEM_E_OUT_OF_MEMORY,
    CimStatus::ServerLimitsExceeded,
);
/// The account's role does not allow it.
pub(crate) const DENIED: Codes = kind(
    code::ACCESS_DENIED,
    code::ACCESS_DENIED,
    WBEM_E_ACCESS_DENIED,
    CimStatus::AccessDenied,
);
// Only of a job's RequestStateChange, whose codes are DMTF's in both versions.
pub(crate) const WRONG_TRANSITION: Codes = kind(
    code::INVALID_TRANSITION,
    code::INVALID_TRANSITION,
    WBEM_E_INVALID_OPERATION,
    CimStatus::Failed,
);
pub(crate) const NO_TIMEOUT: Codes = kind(
    code::NO_TIMEOUT_PARAMETER,
    code::NO_TIMEOUT_PARAMETER,
    WBEM_E_INVALID_PARAMETER,
    CimStatus::InvalidParameter,
);
const CANCELLED: Codes = kind(code::FAILED, 2, WBEM_E_CALL_CANCELLED, CimStatus::Failed);

/// Every cause by its stable name ([`machines::Error::code`]).
pub const TABLE: &[(&str, Codes)] = &[
    // Things that are not there.
    ("NoSuchMachine", ABSENT),
    ("NoSuchSnapshot", ABSENT),
    ("NoSuchJob", ABSENT),
    ("NoSuchDevice", ABSENT),
    ("ForeignSnapshot", WRONG),
    // States.
    ("WrongState", WRONG_STATE),
    ("AlreadyInState", ALREADY),
    ("Busy", BUSY),
    ("JobEnded", WRONG_STATE),
    ("NotCancellable", WRONG_STATE),
    ("Cancelled", CANCELLED),
    ("ServiceRestarted", FAILED),
    ("ServiceStopping", ENDING),
    ("Unsettled", UNAVAILABLE),
    // Values.
    ("InvalidName", WRONG),
    ("InvalidMemory", WRONG),
    ("InvalidProcessorCount", WRONG),
    ("InvalidBootOrder", WRONG),
    ("InvalidValue", WRONG),
    ("NotChangeable", WRONG),
    ("DynamicMemory", UNSUPPORTED),
    ("ChangedTwice", WRONG),
    // Devices.
    ("NotAddable", WRONG),
    ("NotRemovable", WRONG),
    ("NoParent", WRONG),
    ("WrongParent", WRONG),
    ("NoSuchSlot", WRONG),
    ("SlotTaken", WRONG),
    ("NoFreeSlot", WRONG),
    ("HasChildren", WRONG),
    ("TooManyDevices", WRONG),
    ("NoHotPlug", WRONG_STATE),
    ("InvalidMac", WRONG),
    // Files.
    ("OneFile", WRONG),
    ("PathNotAbsolute", WRONG),
    ("FileNotFound", WRONG),
    ("NotAFile", WRONG),
    ("NotADirectory", WRONG),
    ("UnreadableImage", WRONG),
    ("DiskInUse", BUSY),
    ("InsufficientSpace", FAILED),
    ("InsufficientMemory", NO_MEMORY),
    ("Io", FAILED),
    // Snapshots.
    ("TooManySnapshots", FAILED),
    ("TornSnapshot", FAILED),
    ("NoGuestAgent", UNAVAILABLE),
    ("GuestNotQuiesced", FAILED),
    ("GuestStandsStill", WRONG_STATE),
    ("ChainDiffers", UNAVAILABLE),
    ("NoSuchLayer", UNAVAILABLE),
    ("LayerFileMissing", UNAVAILABLE),
    ("NotCapturable", UNSUPPORTED),
    ("DamagedImage", UNAVAILABLE),
    ("DamagedManifest", UNAVAILABLE),
    ("DamagedSnapshot", UNAVAILABLE),
    ("DamagedSums", UNAVAILABLE),
    ("LayerChanging", UNAVAILABLE),
    ("RehearsalFailed", FAILED),
    // The guest and QEMU.
    ("GuestDied", UNAVAILABLE),
    ("GuestIgnoredShutdown", TIMED_OUT),
    ("ShutdownNotAwaited", CANCELLED),
    ("NoQemu", UNAVAILABLE),
    ("Qemu", UNAVAILABLE),
    // The service.
    ("NoAnswer", TIMED_OUT),
    ("Locked", UNAVAILABLE),
    ("ForeignDataDirectory", UNAVAILABLE),
    ("CatalogOpen", UNAVAILABLE),
    ("CatalogTooNew", UNAVAILABLE),
    ("CatalogDamaged", UNAVAILABLE),
    ("CatalogLost", UNAVAILABLE),
    ("CatalogThere", WRONG_STATE),
    ("CatalogClosed", ENDING),
    ("CatalogStorage", FAILED),
    ("Unknown", FAILED),
];

/// The codes of the cause called `name`. One that is not in the table (a job recorded by another
/// version of the service) is a plain failure.
pub fn codes(name: &str) -> Codes {
    TABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(FAILED, |(_, codes)| *codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The sources that give causes their names. They are read as text, because an enum whose
    /// variants hold data cannot be walked: a name is a literal alone on its line, the first of the
    /// three that explain a cause.
    const SOURCES: [&str; 2] = [
        include_str!("../../machines/src/error.rs"),
        include_str!("../../machines/src/catalog/mod.rs"),
    ];

    fn names_in(source: &str) -> impl Iterator<Item = &str> {
        source.lines().filter_map(|line| {
            let name = line.trim().strip_prefix('"')?.strip_suffix("\",")?;
            let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_name.then_some(name)
        })
    }

    #[test]
    fn every_cause_is_in_the_table_and_nothing_else() {
        let causes: BTreeSet<_> = SOURCES.into_iter().flat_map(names_in).collect();
        let table: BTreeSet<_> = TABLE.iter().map(|(name, _)| *name).collect();
        assert!(causes.len() > 50, "{causes:?}");
        assert_eq!(table, causes);
        assert_eq!(
            TABLE.len(),
            table.len(),
            "a cause stands in the table twice"
        );
    }

    #[test]
    fn a_cause_has_the_code_that_clients_know() {
        for (name, v1) in [
            ("AlreadyInState", 32775),
            ("WrongState", 32775),
            ("Busy", 32774),
            ("NotCapturable", 32770),
            ("NoAnswer", 32772),
            ("InsufficientMemory", 32778),
            ("LayerFileMissing", 32777),
            ("TooManySnapshots", 32768),
            ("ForeignSnapshot", 32773),
        ] {
            let codes = codes(name);
            assert_eq!((codes.v1, u32::from(codes.job)), (v1, v1), "{name}");
        }
        assert_eq!(codes("a cause of a later version"), FAILED);
    }
}
