//! The table of legal transitions: what each verb means in each state.

use crate::error::Error;
use crate::model::{JobKind, State};

/// What can be asked of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Run,
    TurnOff,
    ShutDown,
    Reset,
    Pause,
    Save,
    Destroy,
    CreateSnapshot,
    ApplySnapshot,
    RemoveSnapshot,
    RemoveSnapshotTree,
    /// Names, notes, global settings: nothing the guest can see.
    Describe,
    /// Devices and resources; what may be plugged while the guest lives is decided per device.
    Configure,
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The machine already is what is asked for.
    AlreadySo,
    /// A job will do it.
    Job(JobKind),
    /// It is done before the answer.
    AtOnce,
    /// Not in this state.
    Refused,
}

use Answer::{AlreadySo, AtOnce, Refused};

const fn job(kind: JobKind) -> Answer {
    Answer::Job(kind)
}

/// All verbs, in the order of the table's columns.
pub const VERBS: [Verb; 13] = [
    Verb::Run,
    Verb::TurnOff,
    Verb::ShutDown,
    Verb::Reset,
    Verb::Pause,
    Verb::Save,
    Verb::Destroy,
    Verb::CreateSnapshot,
    Verb::ApplySnapshot,
    Verb::RemoveSnapshot,
    Verb::RemoveSnapshotTree,
    Verb::Describe,
    Verb::Configure,
];

/// All states, in the order of the table's rows.
pub const STATES: [State; 9] = [
    State::Off,
    State::Running,
    State::Paused,
    State::Saved,
    State::Starting,
    State::Stopping,
    State::Saving,
    State::Pausing,
    State::Resuming,
];

const REMOVE: Answer = job(JobKind::RemoveSnapshot);
const REMOVE_TREE: Answer = job(JobKind::RemoveSnapshotTree);
const SNAPSHOT: Answer = job(JobKind::CreateSnapshot);
const APPLY: Answer = job(JobKind::ApplySnapshot);
const TURN_OFF: Answer = job(JobKind::TurnOff);

/// In a state that passes, everything waits for the state to settle. (Not for a guest that has been
/// asked to shut down: see [`shutdown`](super::shutdown).)
const PASSING: [Answer; 13] = [Refused; 13];

/// States x verbs.
#[rustfmt::skip]
const TABLE: [[Answer; 13]; 9] = [
    //             Run                    TurnOff    ShutDown                Reset                Pause                Save                Destroy                Create    Apply    Remove  Tree         Describe Configure
    /* Off      */ [job(JobKind::Start),   AlreadySo, AlreadySo,              Refused,             Refused,             Refused,            job(JobKind::Destroy), SNAPSHOT, APPLY,   REMOVE, REMOVE_TREE, AtOnce,  AtOnce],
    /* Running  */ [AlreadySo,             TURN_OFF,  job(JobKind::ShutDown), job(JobKind::Reset), job(JobKind::Pause), job(JobKind::Save), Refused,               SNAPSHOT, Refused, REMOVE, REMOVE_TREE, AtOnce,  AtOnce],
    /* Paused   */ [job(JobKind::Resume),  TURN_OFF,  Refused,                job(JobKind::Reset), AlreadySo,           job(JobKind::Save), Refused,               Refused,  Refused, REMOVE, REMOVE_TREE, AtOnce,  AtOnce],
    /* Saved    */ [job(JobKind::Restore), TURN_OFF,  Refused,                Refused,             Refused,             AlreadySo,          job(JobKind::Destroy), SNAPSHOT, APPLY,   REMOVE, REMOVE_TREE, AtOnce,  AtOnce],
    /* Starting */ PASSING,
    /* Stopping */ PASSING,
    /* Saving   */ PASSING,
    /* Pausing  */ PASSING,
    /* Resuming */ PASSING,
];

/// What `verb` means in `state`.
pub fn answer(state: State, verb: Verb) -> Answer {
    let row = STATES.iter().position(|s| *s == state);
    let column = VERBS.iter().position(|v| *v == verb);
    row.zip(column)
        .and_then(|(r, c)| TABLE.get(r)?.get(c))
        .copied()
        .unwrap_or(Refused)
}

/// The table's answer, or the refusal.
pub(crate) fn check(state: State, verb: Verb) -> Result<Answer, Error> {
    match answer(state, verb) {
        AlreadySo => Err(Error::AlreadyInState { state }),
        Refused => Err(Error::WrongState {
            state,
            verb: verb.phrase(),
        }),
        allowed => Ok(allowed),
    }
}

impl Verb {
    /// What the verb does, to follow "does not allow it to".
    pub fn phrase(self) -> &'static str {
        match self {
            Verb::Run => "start",
            Verb::TurnOff => "be turned off",
            Verb::ShutDown => "be shut down",
            Verb::Reset => "be reset",
            Verb::Pause => "be paused",
            Verb::Save => "be saved",
            Verb::Destroy => "be destroyed",
            Verb::CreateSnapshot => "have a snapshot taken",
            Verb::ApplySnapshot => "have a snapshot applied",
            Verb::RemoveSnapshot | Verb::RemoveSnapshotTree => "have snapshots removed",
            Verb::Describe => "be renamed or described",
            Verb::Configure => "be configured",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair, from the rules in words rather than from the table.
    fn rule(state: State, verb: Verb) -> Answer {
        use JobKind as K;
        let lasting = matches!(
            state,
            State::Off | State::Running | State::Paused | State::Saved
        );
        if !lasting {
            return Refused;
        }
        let alive = matches!(state, State::Running | State::Paused);
        match verb {
            Verb::Describe | Verb::Configure => AtOnce,
            Verb::RemoveSnapshot => job(K::RemoveSnapshot),
            Verb::RemoveSnapshotTree => job(K::RemoveSnapshotTree),
            Verb::CreateSnapshot if state != State::Paused => job(K::CreateSnapshot),
            Verb::ApplySnapshot if !alive => job(K::ApplySnapshot),
            Verb::Destroy if !alive => job(K::Destroy),
            Verb::Run => match state {
                State::Off => job(K::Start),
                State::Saved => job(K::Restore),
                State::Paused => job(K::Resume),
                _ => AlreadySo,
            },
            Verb::TurnOff if state == State::Off => AlreadySo,
            Verb::TurnOff => job(K::TurnOff),
            Verb::ShutDown if state == State::Off => AlreadySo,
            Verb::ShutDown if state == State::Running => job(K::ShutDown),
            Verb::Reset if alive => job(K::Reset),
            Verb::Pause if state == State::Paused => AlreadySo,
            Verb::Pause if state == State::Running => job(K::Pause),
            Verb::Save if state == State::Saved => AlreadySo,
            Verb::Save if alive => job(K::Save),
            _ => Refused,
        }
    }

    #[test]
    fn the_table_says_what_the_rules_say() {
        for state in STATES {
            for verb in VERBS {
                assert_eq!(
                    answer(state, verb),
                    rule(state, verb),
                    "{state:?} x {verb:?}"
                );
            }
        }
    }

    #[test]
    fn every_refusal_has_its_own_cause() {
        for state in STATES {
            for verb in VERBS {
                match (answer(state, verb), check(state, verb)) {
                    (AlreadySo, Err(Error::AlreadyInState { state: there })) => {
                        assert_eq!(there, state);
                    }
                    (Refused, Err(Error::WrongState { state: there, .. })) => {
                        assert_eq!(there, state);
                    }
                    (wanted, Ok(given)) => assert_eq!(wanted, given),
                    other => panic!("{state:?} x {verb:?}: {other:?}"),
                }
            }
        }
    }
}
