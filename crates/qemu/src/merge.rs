//! Merging layers while the guest runs.

use crate::process::Process;
use crate::qmp::QmpError;
use crate::spec::Id;
use std::time::Duration;

/// A merge under way in QEMU (a block job). Dropping it leaves the job running.
pub struct Merge {
    #[allow(dead_code)]
    process: Process,
}

/// How far a merge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MergeProgress {
    pub done: u64,
    pub total: u64,
}

/// Why a merge did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MergeError {
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("Merging failed: {description}")]
    Failed { description: String },
    #[error("Merging was cancelled; the chain is as before.")]
    Cancelled,
}

#[allow(clippy::todo, unused_variables)]
impl Process {
    /// For `base <- X <- child`: copies what `child` needs from X into `child`, so that X
    /// disappears from the chain (`base` `None`: X was the oldest). `job` names the job.
    pub async fn pull(&self, job: &Id, child: &Id, base: Option<&Id>) -> Result<Merge, MergeError> {
        todo!()
    }
    /// For `parent <- child` in the drive whose active layer is `active`: writes `child`'s data
    /// into `parent`, so that `child` disappears. Only if nobody else uses `parent`.
    pub async fn commit(
        &self,
        job: &Id,
        active: &Id,
        child: &Id,
        parent: &Id,
    ) -> Result<Merge, MergeError> {
        todo!()
    }
    /// A merge that was under way before, by the name of its job.
    pub async fn adopt_merge(&self, job: &Id) -> Result<Option<Merge>, QmpError> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl Merge {
    /// How far it is.
    pub async fn progress(&self) -> Result<MergeProgress, QmpError> {
        todo!()
    }
    /// Waits for the end.
    pub async fn wait(&self, patience: Duration) -> Result<(), MergeError> {
        todo!()
    }
    /// Stops it; the chain stays as it was.
    pub async fn cancel(&self) -> Result<(), MergeError> {
        todo!()
    }
}
