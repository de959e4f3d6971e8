//! What clients have asked for and not pulled yet: bounded in number and bytes, each for its user
//! alone, ended when nobody pulls for a while.
//!
//! An enumeration that is being pulled from is taken out; a second pull of it at the same time finds
//! none. What waits is the broker's scan, so that an enumeration of ten thousand objects costs their
//! names, not the objects.

use super::filter::Polymorphism;
use crate::resource::Family;
use crate::soap::fault::Fault;
use cim::Name;
use cim_broker::scan::Scan;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Enumerations of one user.
    pub per_user: usize,
    /// Enumerations of all users.
    pub all: usize,
    /// Bytes in all of them, as far as they can be estimated.
    pub bytes: usize,
    /// How long one waits for the next pull when the client does not say.
    pub lifetime: Duration,
    /// The longest that a client may ask for.
    pub longest_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            per_user: 64,
            all: 512,
            bytes: 256 << 20,
            lifetime: Duration::from_secs(300),
            longest_lifetime: Duration::from_secs(3600),
        }
    }
}

/// What the items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The objects.
    Objects,
    /// Their endpoint references.
    References,
    /// Both.
    Both,
}

/// An enumeration.
#[derive(Debug)]
pub struct Enumeration {
    /// How addresses are made.
    pub family: Family,
    /// What the items are.
    pub mode: Mode,
    /// The class that was asked for, and what its subclasses mean.
    pub subclasses: Option<(Name, Polymorphism)>,
    /// Whether null properties are left out.
    pub without_nil: bool,
    /// What is left.
    pub rest: Scan,
    /// The next item, which did not go into the last answer.
    pub pending: Option<String>,
    /// How long it waits for the next pull.
    pub lifetime: Duration,
}

impl Enumeration {
    /// Whether all has been pulled.
    pub fn is_over(&self) -> bool {
        self.pending.is_none() && self.rest.is_empty()
    }
}

struct Waiting {
    user: String,
    enumeration: Enumeration,
    bytes: usize,
    expires: Instant,
}

/// All enumerations.
pub struct Enumerations {
    limits: Limits,
    waiting: Mutex<HashMap<Uuid, Waiting>>,
}

impl Enumerations {
    /// Without enumerations.
    pub fn new(limits: Limits) -> Self {
        Enumerations {
            limits,
            waiting: Mutex::default(),
        }
    }

    /// What may wait.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Keeps an enumeration until it is pulled from, and gives its name.
    pub fn keep(&self, user: &str, enumeration: Enumeration) -> Result<Uuid, Fault> {
        self.put(Uuid::new_v4(), user, enumeration)
    }

    /// Keeps an enumeration that was taken.
    pub fn put(&self, id: Uuid, user: &str, enumeration: Enumeration) -> Result<Uuid, Fault> {
        let pending = enumeration.pending.as_ref().map_or(0, String::len);
        let bytes = enumeration.rest.bytes() + pending;
        let mut waiting = self.swept();
        let refuse = |what: String| {
            Err(Fault::quota(format!(
                "{what} Pull or release what is open, or ask for less at once."
            )))
        };
        let own = waiting.values().filter(|it| it.user == user).count();
        if own >= self.limits.per_user {
            return refuse(format!("The account has {own} open enumerations."));
        }
        if waiting.len() >= self.limits.all {
            let open = waiting.len();
            return refuse(format!("The server has {open} open enumerations."));
        }
        let all = waiting.values().map(|it| it.bytes).sum::<usize>() + bytes;
        if all > self.limits.bytes {
            return refuse(format!("Open enumerations would hold about {all} bytes."));
        }
        let expires = Instant::now() + enumeration.lifetime;
        let user = user.to_owned();
        waiting.insert(
            id,
            Waiting {
                user,
                enumeration,
                bytes,
                expires,
            },
        );
        Ok(id)
    }

    /// Takes an enumeration out, to pull from it or to end it.
    pub fn take(&self, user: &str, name: &str) -> Result<(Uuid, Enumeration), Fault> {
        let name = name.trim();
        let name = name.strip_prefix("uuid:").unwrap_or(name);
        let id = Uuid::try_parse(name).map_err(|_| Fault::enumeration_context())?;
        let mut waiting = self.swept();
        match waiting.get(&id) {
            Some(found) if found.user == user => {}
            _ => return Err(Fault::enumeration_context()),
        }
        let found = waiting.remove(&id).ok_or_else(Fault::enumeration_context)?;
        Ok((id, found.enumeration))
    }

    /// Without those whose time is over.
    fn swept(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        // Nothing in here can panic halfway through a change, so a poisoned map is still whole.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        waiting.retain(|_, it| it.expires > now);
        waiting
    }
}
