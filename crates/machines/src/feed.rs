//! What changes, as it changes: every publication of a machine or a job, with what was published
//! before it. For readers that would otherwise poll.
//!
//! The feed is bounded. A reader that does not keep up loses the oldest updates, and is told how
//! many; it never holds up an owner.

use crate::model::{Job, Machine};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::broadcast;

/// Updates that are kept for readers that have not taken them yet.
const KEPT: usize = 1024;

/// A new publication. Absent copies: it has just come into being, or is gone.
#[derive(Clone, Debug)]
pub enum Update {
    /// Of a machine, with its settings and snapshots.
    Machine {
        /// What readers saw until now.
        before: Option<Arc<Machine>>,
        /// What they see from now on.
        after: Option<Arc<Machine>>,
    },
    /// Of a job.
    Job {
        /// What readers saw until now.
        before: Option<Arc<Job>>,
        /// What they see from now on.
        after: Option<Arc<Job>>,
    },
}

/// Why no update comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// So many updates are lost; the next ones follow.
    #[error("{0} updates were lost, because they were not taken in time")]
    Missed(u64),
    /// The service ends: there will be no more.
    #[error("the service ends")]
    Ended,
}

/// A reader's place in the feed.
#[derive(Debug)]
pub struct Updates {
    receiver: broadcast::Receiver<Update>,
}

impl Updates {
    /// The next update, in the order of publication. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Update, Interruption> {
        self.receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => Interruption::Missed(missed),
            broadcast::error::RecvError::Closed => Interruption::Ended,
        })
    }
}

/// The writing end, shared by everyone who publishes.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// None once the service ends.
    sender: Arc<RwLock<Option<broadcast::Sender<Update>>>>,
}

impl Default for Feed {
    fn default() -> Self {
        let sender = broadcast::Sender::new(KEPT);
        Feed {
            sender: Arc::new(RwLock::new(Some(sender))),
        }
    }
}

impl Feed {
    /// From now on.
    pub fn subscribe(&self) -> Updates {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let receiver = match sender.as_ref() {
            Some(sender) => sender.subscribe(),
            // Its sender is gone at once: the reader learns that there is no more.
            None => broadcast::channel(1).1,
        };
        Updates { receiver }
    }

    /// Tells everyone who reads. Never waits.
    pub fn tell(&self, update: impl FnOnce() -> Update) {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref()
            && sender.receiver_count() > 0
        {
            // Fails only when the last reader has gone meanwhile.
            let _ = sender.send(update());
        }
    }

    /// Nothing will be told any more.
    pub fn end(&self) {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Update {
        Update::Job {
            before: None,
            after: None,
        }
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_much_is_lost() {
        let feed = Feed::default();
        let mut updates = feed.subscribe();
        for _ in 0..KEPT + 10 {
            feed.tell(nothing);
        }
        assert_eq!(updates.next().await.err(), Some(Interruption::Missed(10)));
        for _ in 0..KEPT {
            assert!(updates.next().await.is_ok());
        }
        feed.end();
        feed.tell(nothing);
        assert_eq!(updates.next().await.err(), Some(Interruption::Ended));
        let late = feed.subscribe().next().await;
        assert_eq!(late.err(), Some(Interruption::Ended));
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        let feed = Feed::default();
        feed.tell(|| panic!("nobody reads"));
        drop(feed.subscribe());
        feed.tell(|| panic!("nobody reads any more"));
    }
}
