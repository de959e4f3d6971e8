//! Open and pull sessions (DSP0200 5.4.2.24 and following): a client takes an answer in portions.
//!
//! A session holds the answer of the moment it was opened, whole or as a stream that makes objects as
//! they are taken; what that may cost is bounded ([`Limits`]). Sessions belong to the user who opened them, have
//! names that cannot be guessed, and end by themselves when nobody pulls for a while.
//!
//! Not here: how the answer came about (the [`Broker`](crate::Broker)'s operations).

use crate::access::Context;
use crate::provider::Instances;
use cim::{CimError, CimStatus, Instance, KeyValue, Keys, ObjectPath, Value};
use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What an object that is not made yet costs: the handle from which it will be.
const SIZE_IN_STREAM: usize = 64;

/// How much open sessions may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of one user.
    pub sessions_per_user: usize,
    /// Sessions of all users.
    pub sessions: usize,
    /// Objects held by all sessions.
    pub objects: usize,
    /// Bytes held by all sessions, as far as they can be estimated.
    pub bytes: usize,
    /// How long a session waits for the next pull when the client does not say.
    pub default_timeout: Duration,
    /// The longest wait that a client may ask for.
    pub max_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_per_user: 64,
            sessions: 512,
            objects: 2_000_000,
            bytes: 1 << 30,
            default_timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(1800),
        }
    }
}

/// What a session hands out; each kind has a pull operation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Instances with their paths (`PullInstancesWithPath`).
    InstancesWithPath,
    /// Paths (`PullInstancePaths`).
    Paths,
    /// Instances of a query (`PullInstances`).
    QueryInstances,
}

impl Kind {
    fn pull_operation(self) -> &'static str {
        match self {
            Kind::InstancesWithPath => "PullInstancesWithPath",
            Kind::Paths => "PullInstancePaths",
            Kind::QueryInstances => "PullInstances",
        }
    }
}

/// An answer, or a portion of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Objects {
    /// Instances.
    Instances(Vec<Instance>),
    /// Paths.
    Paths(Vec<ObjectPath>),
}

impl Objects {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Objects::Instances(instances) => instances.len(),
            Objects::Paths(paths) => paths.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an Open operation says besides what it enumerates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// `FilterQueryLanguage`.
    pub filter_query_language: Option<String>,
    /// `FilterQuery`.
    pub filter_query: Option<String>,
    /// `OperationTimeout`, in seconds; `None` for the server's default.
    pub operation_timeout: Option<u32>,
    /// `ContinueOnError`.
    pub continue_on_error: bool,
    /// `MaxObjectCount`: how many objects the answer to Open may hold.
    pub max_object_count: u32,
}

impl OpenOptions {
    /// Refuses what is not offered. For the wires: before the answer is computed.
    pub fn check(&self, limits: &Limits) -> Result<Duration, CimError> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.trim().is_empty());
        if given(&self.filter_query_language) || given(&self.filter_query) {
            return Err(CimError::new(
                CimStatus::FilteredEnumerationNotSupported,
                "Filtered enumerations are not supported. Leave out FilterQuery and \
                 FilterQueryLanguage, or use OpenQueryInstances with WQL.",
            ));
        }
        self.check_query(limits)
    }

    /// [`OpenOptions::check`] for OpenQueryInstances, where the filter is the query.
    pub fn check_query(&self, limits: &Limits) -> Result<Duration, CimError> {
        if self.continue_on_error {
            return Err(CimError::new(
                CimStatus::ContinuationOnErrorNotSupported,
                "ContinueOnError is not supported. Leave it out or set it to false.",
            ));
        }
        let Some(seconds) = self.operation_timeout else {
            return Ok(limits.default_timeout);
        };
        let timeout = Duration::from_secs(seconds.into());
        if timeout.is_zero() || timeout > limits.max_timeout {
            return Err(CimError::new(
                CimStatus::InvalidOperationTimeout,
                format!(
                    "OperationTimeout is {seconds}; this server grants 1 to {} seconds (0, never, \
                     is not granted). Leave it out for {} seconds.",
                    limits.max_timeout.as_secs(),
                    limits.default_timeout.as_secs()
                ),
            ));
        }
        Ok(timeout)
    }
}

/// The answer to an Open or a Pull.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The next objects.
    pub objects: Objects,
    /// The name of the session while there is more to come; `None` means end of sequence.
    pub context: Option<String>,
}

/// What is left of an answer, and who may take it.
struct Session {
    user: String,
    kind: Kind,
    rest: Rest,
    timeout: Duration,
    expires: Instant,
    bytes: usize,
}

enum Rest {
    Instances(std::vec::IntoIter<Instance>),
    Paths(std::vec::IntoIter<ObjectPath>),
    Stream(Peekable<Instances>),
}

impl Rest {
    fn len(&self) -> usize {
        match self {
            Rest::Instances(rest) => rest.len(),
            Rest::Paths(rest) => rest.len(),
            // The most that can come.
            Rest::Stream(rest) => {
                let (least, most) = rest.size_hint();
                most.unwrap_or(least)
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<Objects, CimError> {
        Ok(match self {
            Rest::Instances(rest) => Objects::Instances(rest.by_ref().take(count).collect()),
            Rest::Paths(rest) => Objects::Paths(rest.by_ref().take(count).collect()),
            Rest::Stream(rest) => {
                let taken: Result<_, _> = rest.by_ref().take(count).collect();
                Objects::Instances(taken?)
            }
        })
    }

    /// Whether nothing is left. Of a stream, the next object is made for it.
    fn is_over(&mut self) -> bool {
        match self {
            Rest::Instances(rest) => rest.len() == 0,
            Rest::Paths(rest) => rest.len() == 0,
            Rest::Stream(rest) => rest.peek().is_none(),
        }
    }
}

impl From<Objects> for Rest {
    fn from(objects: Objects) -> Self {
        match objects {
            Objects::Instances(instances) => Rest::Instances(instances.into_iter()),
            Objects::Paths(paths) => Rest::Paths(paths.into_iter()),
        }
    }
}

/// All open sessions.
#[derive(Default)]
pub struct Enumerations {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Uuid, Session>,
    stopping: bool,
}

impl Enumerations {
    /// Without sessions.
    pub fn new(limits: Limits) -> Self {
        Enumerations {
            limits,
            state: Mutex::default(),
        }
    }

    /// What sessions may hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The first portion of `objects`, and a session for the rest if there is a rest. `timeout`
    /// comes from [`OpenOptions::check`].
    pub fn open(
        &self,
        context: &Context,
        kind: Kind,
        objects: Objects,
        timeout: Duration,
        max_object_count: u32,
    ) -> Result<Batch, CimError> {
        self.open_rest(
            context,
            kind,
            Rest::from(objects),
            timeout,
            max_object_count,
        )
    }

    /// [`Enumerations::open`] over instances that are made as they are pulled. One that cannot be made
    /// ends the session.
    pub fn open_stream(
        &self,
        context: &Context,
        kind: Kind,
        instances: Instances,
        timeout: Duration,
        max_object_count: u32,
    ) -> Result<Batch, CimError> {
        let rest = Rest::Stream(instances.peekable());
        self.open_rest(context, kind, rest, timeout, max_object_count)
    }

    fn open_rest(
        &self,
        context: &Context,
        kind: Kind,
        mut rest: Rest,
        timeout: Duration,
        max_object_count: u32,
    ) -> Result<Batch, CimError> {
        let first = rest.take(count_of(max_object_count))?;
        if rest.is_over() {
            return Ok(Batch {
                objects: first,
                context: None,
            });
        }
        let mut state = self.swept();
        if state.stopping {
            return Err(stopping());
        }
        let session = Session {
            user: context.user.clone(),
            kind,
            bytes: size_of_rest(&rest),
            rest,
            timeout,
            expires: Instant::now() + timeout,
        };
        self.admit(&state, &session)?;
        let id = Uuid::new_v4();
        state.sessions.insert(id, session);
        Ok(Batch {
            objects: first,
            context: Some(id.to_string()),
        })
    }

    /// The next portion of a session. Zero objects only start its time-out anew.
    pub fn pull(
        &self,
        context: &Context,
        kind: Kind,
        id: &str,
        max_object_count: u32,
    ) -> Result<Batch, CimError> {
        let mut state = self.swept();
        if state.stopping {
            return Err(stopping());
        }
        let id = owned_session(&state, context, id)?;
        let session = state.sessions.get(&id).ok_or_else(unknown_session)?;
        if session.kind != kind {
            return Err(CimError::new(
                CimStatus::InvalidParameter,
                format!(
                    "This enumeration was opened for {}, not for {}.",
                    session.kind.pull_operation(),
                    kind.pull_operation()
                ),
            ));
        }
        // Making objects takes its time, and others pull meanwhile: this session is not there for as long.
        let mut session = state.sessions.remove(&id).ok_or_else(unknown_session)?;
        drop(state);
        let before = session.rest.len();
        let objects = session.rest.take(count_of(max_object_count))?;
        if session.rest.is_over() {
            return Ok(Batch {
                objects,
                context: None,
            });
        }
        session.expires = Instant::now() + session.timeout;
        // The memory of the objects that went out is free again, in proportion.
        session.bytes = session.bytes / before.max(1) * session.rest.len();
        let mut state = self.swept();
        if state.stopping {
            return Err(stopping());
        }
        state.sessions.insert(id, session);
        Ok(Batch {
            objects,
            context: Some(id.to_string()),
        })
    }

    /// Ends a session early. While it is being pulled from, it is not known.
    pub fn close(&self, context: &Context, id: &str) -> Result<(), CimError> {
        let mut state = self.swept();
        let id = owned_session(&state, context, id)?;
        state.sessions.remove(&id);
        Ok(())
    }

    /// How many objects a session still holds.
    pub fn remaining(&self, context: &Context, id: &str) -> Result<u64, CimError> {
        let state = self.swept();
        let id = owned_session(&state, context, id)?;
        let session = state.sessions.get(&id).ok_or_else(unknown_session)?;
        Ok(u64::try_from(session.rest.len()).unwrap_or(u64::MAX))
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.swept().sessions.len()
    }

    /// Ends all sessions and opens no more: their clients hear that the server stops.
    pub fn stop(&self) {
        let mut state = self.swept();
        state.stopping = true;
        state.sessions.clear();
    }

    /// The state without the sessions whose time is over. Every operation begins so; a quiet server
    /// may call [`Enumerations::open_sessions`] now and then to free their memory sooner.
    fn swept(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic halfway through a change, so a poisoned state is still whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.sessions.retain(|_, session| session.expires > now);
        state
    }

    fn admit(&self, state: &State, new: &Session) -> Result<(), CimError> {
        let sessions = || state.sessions.values();
        let refuse = |what: String| {
            Err(CimError::new(
                CimStatus::ServerLimitsExceeded,
                format!("{what} Finish or close an open enumeration, or ask for less at once."),
            ))
        };
        let of_user = sessions().filter(|s| s.user == new.user).count();
        if of_user >= self.limits.sessions_per_user {
            return refuse(format!("The account has {of_user} open enumerations."));
        }
        if state.sessions.len() >= self.limits.sessions {
            let open = state.sessions.len();
            return refuse(format!("The server has {open} open enumerations."));
        }
        let objects = sessions().map(|s| s.rest.len()).sum::<usize>() + new.rest.len();
        let bytes = sessions().map(|s| s.bytes).sum::<usize>() + new.bytes;
        if objects > self.limits.objects || bytes > self.limits.bytes {
            return refuse(format!(
                "Open enumerations would hold {objects} objects in about {bytes} bytes."
            ));
        }
        Ok(())
    }
}

fn count_of(max_object_count: u32) -> usize {
    usize::try_from(max_object_count).unwrap_or(usize::MAX)
}

/// The session called `id`, if it belongs to the caller; another user's is as good as none.
fn owned_session(state: &State, context: &Context, id: &str) -> Result<Uuid, CimError> {
    let id = Uuid::try_parse(id.trim()).map_err(|_| unknown_session())?;
    match state.sessions.get(&id) {
        Some(session) if session.user == context.user => Ok(id),
        _ => Err(unknown_session()),
    }
}

fn unknown_session() -> CimError {
    CimError::new(
        CimStatus::InvalidEnumerationContext,
        "There is no such open enumeration: it was finished, closed, timed out, or opened by \
         another account. Open it again.",
    )
}

fn stopping() -> CimError {
    CimError::new(
        CimStatus::ServerIsShuttingDown,
        "The server is stopping. Open the enumeration again when it is back.",
    )
}

fn size_of_rest(rest: &Rest) -> usize {
    match rest {
        Rest::Instances(rest) => rest.as_slice().iter().map(size_of_instance).sum(),
        Rest::Paths(rest) => rest.as_slice().iter().map(size_of_path).sum(),
        Rest::Stream(_) => rest.len().saturating_mul(SIZE_IN_STREAM),
    }
}

/// Bytes that an instance takes, as far as they can be estimated.
pub fn size_of_instance(instance: &Instance) -> usize {
    let properties: usize = instance
        .properties
        .iter()
        .map(|property| size_of::<cim::Property>() + size_of_value(&property.value))
        .sum();
    size_of::<Instance>() + properties + instance.path.as_ref().map_or(0, size_of_path)
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Reference(path) => size_of_path(path),
        Value::Instance(instance) => size_of_instance(instance),
        Value::Array(items) => items
            .iter()
            .map(|item| size_of::<Value>() + size_of_value(item))
            .sum(),
        _ => 0,
    }
}

/// Bytes that a path takes, as far as they can be estimated.
pub fn size_of_path(path: &ObjectPath) -> usize {
    let key_size = |value: &KeyValue| match value {
        KeyValue::String(text) => size_of::<KeyValue>() + text.len(),
        KeyValue::Reference(path) => size_of::<KeyValue>() + size_of_path(path),
        _ => size_of::<KeyValue>(),
    };
    let keys: usize = match &path.keys {
        Keys::Named(keys) => keys
            .iter()
            .map(|(_, value)| size_of::<cim::Name>() + key_size(value))
            .sum(),
        Keys::Unnamed(value) => key_size(value),
        Keys::Class | Keys::Singleton => 0,
    };
    size_of::<ObjectPath>() + path.host.as_ref().map_or(0, String::len) + keys
}
