//! Which of Hyper-V's two namespaces an answer is for, and what the two call states and actions
//! otherwise. Names of classes stand in `subject`, kinds of resources in `resource_types`, codes in
//! `errors`.

use crate::errors::Codes;
use machines::model::State;
use machines::request::StateRequest;

/// The namespace of Hyper-V's first version, spelled as Hyper-V spells it.
pub const NAMESPACE: &str = "root\\virtualization";
/// The namespace of the second version.
pub const NAMESPACE_V2: &str = "root\\virtualization\\v2";

/// One of the two versions of Hyper-V's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `root\virtualization`.
    V1,
    /// `root\virtualization\v2`.
    V2,
}

impl Version {
    pub(crate) const ALL: [Version; 2] = [Version::V1, Version::V2];

    pub(crate) const fn namespace(self) -> &'static str {
        match self {
            Version::V1 => NAMESPACE,
            Version::V2 => NAMESPACE_V2,
        }
    }

    /// A state's number in `EnabledState` and `RequestedState`. V2 says with numbers of its own
    /// what CIM has a word for; the others are the same.
    pub(crate) const fn enabled_state(self, state: State) -> u16 {
        match (self, state) {
            (_, State::Running) => 2,
            (_, State::Off) => 3,
            (Version::V1, State::Paused) => 32768,
            (Version::V1, State::Saved) => 32769,
            (Version::V1, State::Starting) => 32770,
            (Version::V1, State::Stopping) => 32774,
            (Version::V2, State::Paused) => 9,
            (Version::V2, State::Saved) => 6,
            (Version::V2, State::Starting) => 10,
            (Version::V2, State::Stopping) => 4,
            (_, State::Saving) => 32773,
            (_, State::Pausing) => 32776,
            (_, State::Resuming) => 32777,
        }
    }

    /// What is asked for with a number in `RequestedState`. In V1, 11 is reserved; in V2, 10 is a
    /// reboot, which is more than one request and not in this table.
    pub(crate) const fn requested(self, number: u16) -> Option<StateRequest> {
        Some(match (self, number) {
            (_, 2) => StateRequest::Run,
            (_, 3) => StateRequest::TurnOff,
            (Version::V1, 10) | (Version::V2, 11) => StateRequest::Reset,
            (Version::V1, 32768) | (Version::V2, 9) => StateRequest::Pause,
            (Version::V1, 32769) | (Version::V2, 6) => StateRequest::Save,
            (Version::V2, 4) => StateRequest::ShutDown,
            _ => return None,
        })
    }

    /// The number of an automatic action on the wire, from the model's (which are V1's): V2 counts
    /// from 2.
    pub(crate) const fn action(self, number: u16) -> u16 {
        match self {
            Version::V1 => number,
            Version::V2 => number.saturating_add(2),
        }
    }

    /// The model's number of an automatic action; `None` if it is none in this version.
    pub(crate) const fn action_from(self, number: u16) -> Option<u16> {
        match self {
            Version::V1 => Some(number),
            Version::V2 => number.checked_sub(2),
        }
    }

    /// The return code of a cause. `declared` says whether the method's declaration has a code: the
    /// methods that V2 took over from V1 kept V1's.
    pub(crate) fn return_code(self, codes: Codes, declared: impl Fn(u32) -> bool) -> u32 {
        match self {
            Version::V1 => codes.v1,
            Version::V2 if !declared(codes.v2) && declared(codes.v1) => codes.v1,
            Version::V2 => codes.v2,
        }
    }
}
