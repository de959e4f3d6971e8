//! Who a request comes from: the door to the program's accounts, and what slows guessing down.

use super::HttpLimits;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cim_broker::Role;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// An account that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Account name.
    pub user: String,
    /// What it may do.
    pub role: Role,
}

/// The answer of [`Authenticator::verify`], to come.
pub type Verification<'a> = Pin<Box<dyn Future<Output = Option<Identity>> + Send + 'a>>;

/// Knows the accounts.
pub trait Authenticator: Send + Sync + 'static {
    /// The account called `user`, if `password` is its password. Takes as long for an unknown
    /// account as for a wrong password, and does its hashing away from the runtime's threads.
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> Verification<'a>;
}

/// Verifies credentials, a few at a time, and makes a peer that guesses wait.
pub(crate) struct Gate {
    authenticator: Arc<dyn Authenticator>,
    verifications: Semaphore,
    failures: Mutex<HashMap<String, Failures>>,
}

struct Failures {
    count: u32,
    last: Instant,
}

/// Wait after the first failure; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// When a peer's failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Peers remembered; beyond that the oldest go.
const REMEMBERED: usize = 1024;
/// Longest credentials that are looked at.
const LONGEST_CREDENTIALS: usize = 1024;

impl Gate {
    pub(super) fn new(authenticator: Arc<dyn Authenticator>, limits: &HttpLimits) -> Self {
        Gate {
            authenticator,
            verifications: Semaphore::new(limits.verifications.max(1)),
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Checks the value of an `Authorization` header.
    pub(super) async fn verify(&self, peer: &str, authorization: &str) -> Option<Identity> {
        let (user, password) = basic(authorization)?;
        let identity = match self.verifications.acquire().await {
            Ok(_permit) => self.authenticator.verify(&user, &password).await,
            Err(_) => None,
        };
        match identity {
            Some(identity) => {
                self.lock().remove(peer);
                Some(identity)
            }
            None => {
                let delay = self.failed(peer);
                tracing::warn!(peer, user, "authentication failed");
                tokio::time::sleep(delay).await;
                None
            }
        }
    }

    /// Counts a failure and says how long to wait for it.
    fn failed(&self, peer: &str) -> Duration {
        let now = Instant::now();
        let mut failures = self.lock();
        failures.retain(|_, f| now.duration_since(f.last) < FORGET_AFTER);
        if failures.len() >= REMEMBERED
            && !failures.contains_key(peer)
            && let Some(oldest) = failures
                .iter()
                .min_by_key(|(_, f)| f.last)
                .map(|(peer, _)| peer.clone())
        {
            failures.remove(&oldest);
        }
        let entry = failures.entry(peer.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
        });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        let doublings = entry.count.saturating_sub(1).min(16);
        (FIRST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Failures>> {
        // The map is whole between any two statements above.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// User and password of `Basic ...`.
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, credentials) = authorization.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > LONGEST_CREDENTIALS {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
