//! Subscriptions: each for its user alone, ended when they expire. How many there may be is the
//! broker's to say.

use crate::resource::Family;
use crate::soap::fault::Fault;
use cim_broker::Subscription;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// A subscription, and what is needed to show its events.
pub struct Subscribed {
    /// The broker's.
    pub subscription: Subscription,
    /// How addresses are made.
    pub family: Family,
    /// An event that did not fit into the last answer.
    pub pending: Option<String>,
}

impl Subscribed {
    /// Nothing has been pulled yet.
    pub fn new(subscription: Subscription, family: Family) -> Self {
        Subscribed {
            subscription,
            family,
            pending: None,
        }
    }
}

type Shared = Arc<tokio::sync::Mutex<Subscribed>>;

struct Entry {
    user: String,
    expires: Instant,
    kind: Kind,
}

enum Kind {
    /// Whoever pulls finds it here.
    Pulled(Shared),
    /// A task sends.
    Sent(Option<AbortHandle>),
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Kind::Sent(Some(task)) = &self.kind {
            task.abort();
        }
    }
}

/// All subscriptions.
#[derive(Default)]
pub struct Subscriptions {
    entries: Mutex<HashMap<Uuid, Entry>>,
}

impl Subscriptions {
    /// Keeps a subscription and gives its name.
    pub fn keep(&self, user: &str, subscribed: Subscribed, lifetime: Duration) -> Uuid {
        let id = Uuid::new_v4();
        let entry = Entry {
            user: user.to_owned(),
            expires: Instant::now() + lifetime,
            kind: Kind::Pulled(Arc::new(tokio::sync::Mutex::new(subscribed))),
        };
        self.swept().insert(id, entry);
        id
    }

    /// Keeps a subscription whose events are sent by a task, and gives its name. The task is ended
    /// with the subscription.
    pub fn keep_sending<F>(
        &self,
        user: &str,
        lifetime: Duration,
        task: impl FnOnce(Uuid) -> F,
    ) -> Uuid
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = Uuid::new_v4();
        let mut entries = self.swept();
        // The task looks itself up, and waits for this lock.
        let task = tokio::spawn(task(id)).abort_handle();
        let entry = Entry {
            user: user.to_owned(),
            expires: Instant::now() + lifetime,
            kind: Kind::Sent(Some(task)),
        };
        entries.insert(id, entry);
        id
    }

    /// When it ends, if it has not.
    pub fn expires(&self, id: Uuid) -> Option<Instant> {
        self.swept().get(&id).map(|it| it.expires)
    }

    /// Removes a subscription whose task has given up, without ending the task.
    pub fn forget(&self, id: Uuid) {
        let mut entries = self.swept();
        if let Some(mut entry) = entries.remove(&id)
            && let Kind::Sent(task) = &mut entry.kind
        {
            task.take();
        }
    }

    /// Whether there is one of this name.
    pub fn has(&self, id: Uuid) -> bool {
        self.swept().contains_key(&id)
    }

    /// The subscription of this name, to pull from it.
    pub fn find(&self, user: &str, id: Uuid) -> Result<Shared, Fault> {
        let entries = self.swept();
        let entry = entries.get(&id).filter(|it| it.user == user);
        match entry.map(|it| &it.kind) {
            Some(Kind::Pulled(shared)) => Ok(shared.clone()),
            Some(Kind::Sent(_)) | None => Err(Fault::enumeration_context()),
        }
    }

    /// Lets it live so long from now.
    pub fn renew(&self, user: &str, id: Uuid, lifetime: Duration) -> Result<(), Fault> {
        let mut entries = self.swept();
        let entry = entries.get_mut(&id).filter(|it| it.user == user);
        entry.ok_or_else(Fault::subscription)?.expires = Instant::now() + lifetime;
        Ok(())
    }

    /// How long it still lives.
    pub fn left(&self, user: &str, id: Uuid) -> Result<Duration, Fault> {
        let entries = self.swept();
        let entry = entries.get(&id).filter(|it| it.user == user);
        let entry = entry.ok_or_else(Fault::subscription)?;
        Ok(entry.expires.duration_since(Instant::now()))
    }

    /// Ends it.
    pub fn end(&self, user: &str, id: Uuid) -> Result<(), Fault> {
        let mut entries = self.swept();
        match entries.get(&id) {
            Some(entry) if entry.user == user => {
                entries.remove(&id);
                Ok(())
            }
            _ => Err(Fault::subscription()),
        }
    }

    /// Without those that have expired.
    fn swept(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        // Nothing in here can panic halfway through a change, so a poisoned map is still whole.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.retain(|_, it| it.expires > now);
        entries
    }
}
