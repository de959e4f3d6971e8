//! What enumerators hand out: the results of a query, or events as they happen.
//!
//! An enumerator and its smart form take from one feed, as clients switch between the two. Instances
//! that are gone through once are made as they are taken; only those that a client may go back to are
//! kept.

use crate::encoder::{Encoder, Projection, Texts};
use crate::holdings::Lease;
use crate::status;
use cim::{Instance, Name};
use cim_broker::{Instances, NoEvent, Subscription};
use dcom::HResult;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// One result.
pub(crate) enum Item {
    Instance(Instance),
    Class(Name),
    /// The block of a class that is nobody's.
    Block(Vec<u8>),
}

/// Results with what is needed to encode them.
pub(crate) struct Results {
    pub(crate) items: Vec<Arc<Item>>,
    /// What a query selected, if not everything.
    pub(crate) projection: Option<Arc<Projection>>,
    pub(crate) texts: Texts,
    /// The memory they take.
    pub(crate) lease: Lease,
    pub(crate) bytes: usize,
}

/// A feed, and how its items are encoded.
pub(crate) struct Feed {
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) projection: Option<Arc<Projection>>,
    pub(crate) texts: Texts,
    source: tokio::sync::Mutex<Source>,
}

enum Source {
    /// Results that can be gone through again.
    Kept { results: Arc<Kept>, at: usize },
    /// Results that are forgotten when they have been taken.
    Passing {
        items: std::vec::IntoIter<Arc<Item>>,
        count: usize,
        bytes: usize,
        lease: Lease,
    },
    /// Instances that are made as they are taken.
    Stream {
        ahead: Arc<Mutex<Ahead>>,
        _lease: Lease,
    },
    /// Events.
    Events(Box<Subscription>),
}

/// How many instances are made at once.
const AHEAD: usize = 32;
/// How many are made before the first is asked for: questions for one object are answered with it then,
/// without another turn on a thread that may wait.
const AT_ONCE: usize = 4;

/// Instances that were made and not taken yet, and those to come. Nothing is lost when nobody waits
/// for them any more: the next one to ask finds them here.
struct Ahead {
    rest: Option<Instances>,
    ready: VecDeque<Result<Arc<Item>, HResult>>,
}

impl Ahead {
    /// Makes some, up to so many that are ready. Takes its time.
    fn fill(&mut self, most: usize, encoder: &Encoder) {
        while let Some(rest) = &mut self.rest
            && self.ready.len() < most
        {
            match rest.next() {
                Some(Ok(mut instance)) => {
                    encoder.complete(&mut instance);
                    self.ready.push_back(Ok(Arc::new(Item::Instance(instance))));
                }
                Some(Err(error)) => self.ready.push_back(Err(status::of_error(&error))),
                None => self.rest = None,
            }
        }
    }
}

fn locked(ahead: &Mutex<Ahead>) -> MutexGuard<'_, Ahead> {
    // Whoever panicked in there left whole items.
    ahead.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn next_made(ahead: &Arc<Mutex<Ahead>>, encoder: &Arc<Encoder>) -> Result<Step, HResult> {
    loop {
        {
            let mut ahead = locked(ahead);
            if let Some(item) = ahead.ready.pop_front() {
                return item.map(Step::Item);
            }
            if ahead.rest.is_none() {
                return Ok(Step::End);
            }
        }
        let (filled, encoder) = (Arc::clone(ahead), Arc::clone(encoder));
        let work = tokio::task::spawn_blocking(move || locked(&filled).fill(AHEAD, &encoder));
        if let Err(failure) = work.await {
            tracing::error!(%failure, "an enumeration broke off");
            locked(ahead).rest = None;
            return Err(status::FAILED);
        }
    }
}

struct Kept {
    items: Vec<Arc<Item>>,
    _lease: Lease,
}

/// What comes next.
pub(crate) enum Step {
    Item(Arc<Item>),
    /// There is nothing more.
    End,
    /// There is nothing yet.
    TimedOut,
}

/// Until when to wait for items; none for ever.
pub(crate) type Deadline = Option<Instant>;

/// The time that a client gives, from now on.
pub(crate) fn deadline(patience: Option<Duration>) -> Deadline {
    patience.and_then(|patience| Instant::now().checked_add(patience))
}

impl Feed {
    /// Results; `forward_only` ones can neither be gone through again nor cloned.
    pub(crate) fn of_results(
        encoder: Arc<Encoder>,
        results: Results,
        forward_only: bool,
    ) -> Arc<Self> {
        let source = if forward_only {
            Source::Passing {
                count: results.items.len(),
                bytes: results.bytes,
                items: results.items.into_iter(),
                lease: results.lease,
            }
        } else {
            Source::Kept {
                results: Arc::new(Kept {
                    items: results.items,
                    _lease: results.lease,
                }),
                at: 0,
            }
        };
        Arc::new(Feed {
            encoder,
            projection: results.projection,
            texts: results.texts,
            source: tokio::sync::Mutex::new(source),
        })
    }

    /// Instances that are made as they are taken, the first few of them now. Takes its time.
    pub(crate) fn of_stream(
        encoder: Arc<Encoder>,
        projection: Option<Arc<Projection>>,
        stream: Instances,
        lease: Lease,
    ) -> Arc<Self> {
        let mut ahead = Ahead {
            rest: Some(stream),
            ready: VecDeque::new(),
        };
        ahead.fill(AT_ONCE, &encoder);
        Arc::new(Feed {
            encoder,
            projection,
            texts: Texts::Left,
            source: tokio::sync::Mutex::new(Source::Stream {
                ahead: Arc::new(Mutex::new(ahead)),
                _lease: lease,
            }),
        })
    }

    /// Events, from now on.
    pub(crate) fn of_events(
        encoder: Arc<Encoder>,
        projection: Option<Arc<Projection>>,
        subscription: Subscription,
    ) -> Arc<Self> {
        Arc::new(Feed {
            encoder,
            projection,
            texts: Texts::Left,
            source: tokio::sync::Mutex::new(Source::Events(Box::new(subscription))),
        })
    }

    /// The right to take items, one taker at a time; none if it was not to be had in time.
    pub(crate) async fn turn(&self, deadline: Deadline) -> Option<Turn<'_>> {
        let source = match deadline {
            Some(deadline) => timeout_at(deadline, self.source.lock()).await.ok()?,
            None => self.source.lock().await,
        };
        Some(Turn { feed: self, source })
    }

    /// Begins again.
    pub(crate) async fn reset(&self) -> Result<(), HResult> {
        match &mut *self.source.lock().await {
            Source::Kept { at, .. } => {
                *at = 0;
                Ok(())
            }
            _ => Err(status::INVALID_OPERATION),
        }
    }

    /// Another feed of the same results that goes on from here by itself.
    pub(crate) async fn fork(&self) -> Result<Arc<Self>, HResult> {
        let source = match &*self.source.lock().await {
            Source::Kept { results, at } => Source::Kept {
                results: Arc::clone(results),
                at: *at,
            },
            _ => return Err(status::INVALID_OPERATION),
        };
        Ok(Arc::new(Feed {
            encoder: Arc::clone(&self.encoder),
            projection: self.projection.clone(),
            texts: self.texts,
            source: tokio::sync::Mutex::new(source),
        }))
    }
}

/// The right to take items.
pub(crate) struct Turn<'a> {
    feed: &'a Feed,
    source: tokio::sync::MutexGuard<'a, Source>,
}

impl Turn<'_> {
    /// The next item.
    pub(crate) async fn next(&mut self, deadline: Deadline) -> Result<Step, HResult> {
        match &mut *self.source {
            Source::Kept { results, at } => Ok(match results.items.get(*at) {
                Some(item) => {
                    *at += 1;
                    Step::Item(Arc::clone(item))
                }
                None => Step::End,
            }),
            Source::Passing {
                items,
                count,
                bytes,
                lease,
            } => Ok(match items.next() {
                Some(item) => {
                    lease.shrink(*bytes / (*count).max(1) * items.len());
                    Step::Item(item)
                }
                None => Step::End,
            }),
            Source::Stream { ahead, .. } => next_made(ahead, &self.feed.encoder).await,
            Source::Events(subscription) => {
                let encoder = &self.feed.encoder;
                let next = encoder.broker().next_event(subscription);
                let event = match deadline {
                    Some(deadline) => match timeout_at(deadline, next).await {
                        Ok(event) => event,
                        Err(_) => return Ok(Step::TimedOut),
                    },
                    None => next.await,
                };
                let mut event = event.map_err(|no_event| no_event_code(&no_event))?;
                encoder.complete(&mut event);
                Ok(Step::Item(Arc::new(Item::Instance(event))))
            }
        }
    }
}

fn no_event_code(reason: &NoEvent) -> HResult {
    match reason {
        NoEvent::Missed(count) => {
            tracing::warn!(
                count,
                "a client did not fetch its events in time; some are lost"
            );
            status::QUOTA_VIOLATION
        }
        NoEvent::Ended => status::SHUTTING_DOWN,
        NoEvent::Failed(error) => status::of_error(error),
    }
}
