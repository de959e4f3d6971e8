//! What clients have asked for and not pulled yet: bounded in number and bytes, each for its user
//! alone, ended when nobody pulls for a while.
//!
//! An enumeration that is being pulled from is taken out; a second pull of it at the same time finds
//! none. What waits is the broker's stream, so that an enumeration of ten thousand objects costs a
//! handle on each, not the objects.

use super::classes::ClassForm;
use super::filter::Polymorphism;
use crate::resource::Family;
use crate::soap::fault::Fault;
use cim::{CimError, Instance, Name, Namespace, ObjectPath};
use cim_broker::Instances;
use cim_broker::enumeration::{size_of_instance, size_of_path};
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

/// What an object that is not made yet costs: the handle from which it will be.
const SIZE_IN_STREAM: usize = 64;

/// What is left to pull.
pub struct Rest {
    items: Items,
    /// Bytes of each, as far as they can be estimated.
    size: usize,
}

enum Items {
    Objects(Instances),
    Paths(std::vec::IntoIter<ObjectPath>),
}

impl Rest {
    /// Objects that are made as they are taken.
    pub fn of_stream(objects: Instances) -> Self {
        Rest {
            items: Items::Objects(objects),
            size: SIZE_IN_STREAM,
        }
    }

    /// Objects that are there.
    pub fn of_instances(objects: Vec<Instance>) -> Self {
        let all: usize = objects.iter().map(size_of_instance).sum();
        Rest {
            size: all / objects.len().max(1),
            items: Items::Objects(Box::new(objects.into_iter().map(Ok))),
        }
    }

    /// Names of objects, when nothing else is wanted.
    pub fn of_paths(paths: Vec<ObjectPath>) -> Self {
        let all: usize = paths.iter().map(size_of_path).sum();
        Rest {
            size: all / paths.len().max(1),
            items: Items::Paths(paths.into_iter()),
        }
    }

    /// How many there are, at most.
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Objects(rest) => {
                let (least, most) = rest.size_hint();
                most.unwrap_or(least)
            }
            Items::Paths(rest) => rest.len(),
        }
    }

    fn bytes(&self) -> usize {
        self.len().saturating_mul(self.size)
    }

    /// The next object; none of names alone.
    pub fn next_object(&mut self) -> Result<Option<Instance>, CimError> {
        match &mut self.items {
            Items::Objects(rest) => rest.next().transpose(),
            Items::Paths(_) => Ok(None),
        }
    }

    /// The name of the next object.
    pub fn next_path(&mut self) -> Result<Option<ObjectPath>, CimError> {
        match &mut self.items {
            Items::Paths(rest) => Ok(rest.next()),
            Items::Objects(rest) => match rest.next().transpose()? {
                None => Ok(None),
                Some(instance) => instance.path.map(Some).ok_or_else(no_references),
            },
        }
    }
}

/// What is selected property by property has no name.
pub fn no_references() -> CimError {
    CimError::new(
        cim::CimStatus::NotSupported,
        "What is enumerated are results without paths; there are no references to them.",
    )
}

/// How what is enumerated is shown.
pub enum Shown {
    /// Instances.
    Objects(ObjectForm),
    /// Classes, named by paths.
    Classes(ClassForm),
}

/// How instances are shown.
pub struct ObjectForm {
    /// How addresses are made.
    pub family: Family,
    /// What the items are.
    pub mode: Mode,
    /// The class that was asked for, and what its subclasses mean.
    pub subclasses: Option<(Name, Polymorphism)>,
    /// Whether null properties are left out.
    pub without_nil: bool,
}

/// An enumeration.
pub struct Enumeration {
    /// How its items are shown.
    pub shown: Shown,
    /// The namespace of the objects.
    pub namespace: Namespace,
    /// What is left.
    pub rest: Rest,
    /// The next item, which did not go into the last answer.
    pub pending: Option<String>,
    /// Whether nothing is left.
    pub ended: bool,
    /// How long it waits for the next pull.
    pub lifetime: Duration,
}

impl Enumeration {
    /// One from which nothing was pulled.
    pub fn new(shown: Shown, namespace: Namespace, rest: Rest, lifetime: Duration) -> Self {
        Enumeration {
            shown,
            namespace,
            rest,
            pending: None,
            ended: false,
            lifetime,
        }
    }

    /// Whether all has been pulled.
    pub fn is_over(&self) -> bool {
        self.pending.is_none() && self.ended
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
