//! What slows guessing down: the failures of each peer, and how long to wait for them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Wait after the first failure; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// When a peer's failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Peers remembered; beyond that the oldest go.
const REMEMBERED: usize = 1024;

struct Failures {
    count: u32,
    last: Instant,
}

/// Counts failed logons by peer.
#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<String, Failures>>,
}

impl Throttle {
    /// Counts a failure and says how long to wait before the peer hears of it.
    pub fn failed(&self, peer: &str) -> Duration {
        let now = Instant::now();
        let mut failures = self.lock();
        failures.retain(|_, failure| now.duration_since(failure.last) < FORGET_AFTER);
        if failures.len() >= REMEMBERED
            && !failures.contains_key(peer)
            && let Some(oldest) = failures
                .iter()
                .min_by_key(|(_, failure)| failure.last)
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

    /// Forgets a peer's failures.
    pub fn succeeded(&self, peer: &str) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        // The map is whole between any two statements above.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_DELAY, REMEMBERED, Throttle};

    #[test]
    fn delays_grow_to_a_limit_and_end_with_a_success() {
        let throttle = Throttle::default();
        let first = throttle.failed("a");
        let second = throttle.failed("a");
        assert!(second > first);
        for _ in 0..40 {
            throttle.failed("a");
        }
        assert_eq!(throttle.failed("a"), LONGEST_DELAY);
        assert_eq!(throttle.failed("b"), first);
        throttle.succeeded("a");
        assert_eq!(throttle.failed("a"), first);
    }

    #[test]
    fn not_more_than_so_many_peers_are_remembered() {
        let throttle = Throttle::default();
        for peer in 0..REMEMBERED * 2 {
            throttle.failed(&peer.to_string());
        }
        assert_eq!(throttle.lock().len(), REMEMBERED);
    }
}
