//! How much memory results may take that clients have asked for and not fetched yet: of each account
//! and of all together. Who would hold more is refused, before anything is kept.

use crate::status;
use dcom::HResult;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much results may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldingLimits {
    /// Bytes of all results, as far as they can be estimated.
    pub bytes: usize,
    /// Bytes of the results of one account.
    pub bytes_of_account: usize,
}

impl Default for HoldingLimits {
    fn default() -> Self {
        HoldingLimits {
            bytes: 1 << 30,
            bytes_of_account: 256 << 20,
        }
    }
}

/// What is held at the moment.
#[derive(Default)]
pub(crate) struct Holdings {
    limits: HoldingLimits,
    by_account: Mutex<HashMap<String, usize>>,
}

impl Holdings {
    pub(crate) fn new(limits: HoldingLimits) -> Arc<Self> {
        Arc::new(Holdings {
            limits,
            by_account: Mutex::default(),
        })
    }

    /// The right to hold so many bytes, until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, account: &str, bytes: usize) -> Result<Lease, HResult> {
        let mut lease = Lease {
            holdings: Arc::clone(self),
            account: account.to_owned(),
            bytes: 0,
        };
        lease.grow(bytes)?;
        Ok(lease)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // The map is whole between any two statements.
        self.by_account
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to hold some bytes.
pub(crate) struct Lease {
    holdings: Arc<Holdings>,
    account: String,
    bytes: usize,
}

impl Lease {
    /// Takes more bytes.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), HResult> {
        let limits = self.holdings.limits;
        let mut held = self.holdings.held();
        let own = held.get(&self.account).copied().unwrap_or(0);
        let all = held.values().sum::<usize>();
        if own.saturating_add(bytes) > limits.bytes_of_account
            || all.saturating_add(bytes) > limits.bytes
        {
            drop(held);
            tracing::warn!(
                account = self.account,
                bytes,
                own,
                all,
                "too many results are held"
            );
            return Err(status::QUOTA_VIOLATION);
        }
        if bytes > 0 {
            *held.entry(self.account.clone()).or_default() += bytes;
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Gives bytes back, down to `rest`.
    pub(crate) fn shrink(&mut self, rest: usize) {
        let back = self.bytes.saturating_sub(rest);
        self.bytes -= back;
        let mut held = self.holdings.held();
        if let Some(own) = held.get_mut(&self.account) {
            *own = own.saturating_sub(back);
            if *own == 0 {
                held.remove(&self.account);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{HoldingLimits, Holdings};
    use crate::status;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let holdings = Holdings::new(HoldingLimits {
            bytes: 100,
            bytes_of_account: 60,
        });
        let mut first = holdings.take("a", 50).unwrap();
        let refused = |account, bytes| holdings.take(account, bytes).err();
        assert_eq!(refused("a", 11), Some(status::QUOTA_VIOLATION));
        let second = holdings.take("b", 45).unwrap();
        assert_eq!(refused("c", 6), Some(status::QUOTA_VIOLATION));
        first.shrink(10);
        assert!(refused("a", 45).is_none());
        drop((first, second));
        assert!(holdings.held().is_empty());
    }
}
