//! Merging layers while the guest runs: QEMU's block jobs.
//!
//! A layer X that nobody needs can disappear in two ways. [`Process::pull`] copies what its child
//! needs from it into the child (`block-stream`), and is right when X's own file must stay as it
//! is or only X is to go. [`Process::commit`] writes the child into X (`block-commit`), and is
//! right when X may change and the child is the smaller of the two. Both leave every layer above
//! as it was, and correct the name of the backing file in the header of the layer above. The node
//! that has left the chain is then closed with [`Process::remove_node`], and its file may go.
//!
//! A job stays known to QEMU until [`Merge::wait`] has seen its end, so one that ended while
//! nobody was connected is still found with [`Process::adopt_merge`].

use crate::process::{Process, lacking};
use crate::qmp::QmpError;
use crate::spec::Id;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A merge under way in QEMU. Dropping it leaves the job running.
pub struct Merge {
    process: Process,
    job: Id,
    cancelled: AtomicBool,
}

/// How far a merge is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    #[error("The process has no block node {node}.")]
    NoSuchNode { node: Id },
    #[error("Merging layers failed: {description}. The chain is as before.")]
    Failed { description: String },
    #[error("Merging layers was cancelled. The chain is as before.")]
    Cancelled,
    #[error("Merging layers took more than {seconds} s. It goes on.")]
    TimedOut { seconds: u64 },
    #[error("QEMU knows nothing of the job {job} any more.")]
    JobLost { job: Id },
}

/// A job as QEMU shows it.
struct Job {
    status: String,
    progress: MergeProgress,
    error: Option<String>,
}

impl Process {
    /// For `base <- X <- child`: copies what `child` needs from X into `child`, so that X
    /// leaves the chain (`base` `None`: X was the oldest, and `child` then stands alone).
    /// All nodes between `base` and `child` leave. `job` names the job.
    pub async fn pull(&self, job: &Id, child: &Id, base: Option<&Id>) -> Result<Merge, MergeError> {
        let mut arguments = json!({
            "job-id": job.as_str(), "device": child.as_str(),
            "auto-finalize": true, "auto-dismiss": false,
        });
        if let Some(base) = base {
            arguments["base-node"] = json!(base.as_str());
            arguments["backing-file"] = json!(self.file_of_node(base).await?);
        }
        self.qmp().execute("block-stream", arguments).await?;
        Ok(self.merge(job))
    }

    /// For `parent <- child` in the chain whose active layer is `active`: writes `child`'s data
    /// into `parent`, so that `child` leaves the chain. Only if nobody else uses `parent`.
    /// If `child` is the active layer, `parent` becomes it. `job` names the job.
    pub async fn commit(
        &self,
        job: &Id,
        active: &Id,
        child: &Id,
        parent: &Id,
    ) -> Result<Merge, MergeError> {
        let mut arguments = json!({
            "job-id": job.as_str(), "device": active.as_str(),
            "top-node": child.as_str(), "base-node": parent.as_str(),
            "auto-finalize": true, "auto-dismiss": false,
        });
        if active != child {
            arguments["backing-file"] = json!(self.file_of_node(parent).await?);
        }
        self.qmp().execute("block-commit", arguments).await?;
        Ok(self.merge(job))
    }

    /// A merge that was begun before, perhaps by another connection, by the name of its job.
    pub async fn adopt_merge(&self, job: &Id) -> Result<Option<Merge>, QmpError> {
        let found = find_job(self, job).await?;
        Ok(found.map(|_| self.merge(job)))
    }

    fn merge(&self, job: &Id) -> Merge {
        Merge {
            process: self.clone(),
            job: job.clone(),
            cancelled: AtomicBool::new(false),
        }
    }

    /// The name that belongs into the header above: QEMU's own may be longer than a path.
    async fn file_of_node(&self, node: &Id) -> Result<String, MergeError> {
        let nodes = self.block_nodes().await?;
        let found = nodes.into_iter().find(|n| n.node == node.as_str());
        match found {
            Some(found) => Ok(found.path.to_string_lossy().into_owned()),
            None => Err(MergeError::NoSuchNode { node: node.clone() }),
        }
    }
}

impl Merge {
    /// The name of its job.
    pub fn job(&self) -> &Id {
        &self.job
    }

    /// How far it is.
    pub async fn progress(&self) -> Result<MergeProgress, MergeError> {
        Ok(self.look().await?.progress)
    }

    /// Waits for the end. To be called until it says something else than
    /// [`MergeError::TimedOut`]: QEMU keeps the job for it.
    pub async fn wait(&self, patience: Duration) -> Result<(), MergeError> {
        tokio::time::timeout(patience, self.ended())
            .await
            .unwrap_or(Err(MergeError::TimedOut {
                seconds: patience.as_secs(),
            }))
    }

    /// Stops it and waits for that; the chain stays as it was. One that has just ended stays
    /// merged: then this is no error, and [`MergeError::JobLost`] is the answer of `wait`.
    pub async fn cancel(&self) -> Result<(), MergeError> {
        self.cancelled.store(true, Ordering::Relaxed);
        let arguments = json!({"device": self.job.as_str(), "force": true});
        match self
            .process
            .qmp()
            .execute("block-job-cancel", arguments)
            .await
        {
            // It has ended by itself.
            Err(QmpError::Refused { .. }) => {}
            other => drop(other?),
        }
        match self.wait(Duration::from_secs(30)).await {
            Err(MergeError::Cancelled) => Ok(()),
            other => other,
        }
    }

    async fn look(&self) -> Result<Job, MergeError> {
        let job = find_job(&self.process, &self.job).await?;
        job.ok_or_else(|| MergeError::JobLost {
            job: self.job.clone(),
        })
    }

    async fn ended(&self) -> Result<(), MergeError> {
        let id = json!({"id": self.job.as_str()});
        let qmp = self.process.qmp();
        loop {
            let job = self.look().await?;
            match job.status.as_str() {
                // The active layer: both files are equal now and stay so until we say go.
                "ready" if !self.cancelled.load(Ordering::Relaxed) => {
                    match qmp.execute("job-complete", id.clone()).await {
                        // It may have gone on between the two commands.
                        Err(QmpError::Refused { .. }) => {}
                        other => drop(other?),
                    }
                }
                "concluded" => {
                    qmp.execute("job-dismiss", id).await?;
                    return match job.error {
                        None => Ok(()),
                        Some(_) if self.cancelled.load(Ordering::Relaxed) => {
                            Err(MergeError::Cancelled)
                        }
                        Some(description) => Err(MergeError::Failed { description }),
                    };
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn find_job(process: &Process, job: &Id) -> Result<Option<Job>, QmpError> {
    const COMMAND: &str = "query-jobs";
    let reply = process.qmp().execute(COMMAND, json!({})).await?;
    let jobs = reply
        .as_array()
        .ok_or_else(|| lacking(COMMAND, "the list"))?;
    let text = |job: &Value, key| job.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(found) = jobs
        .iter()
        .find(|j| text(j, "id").as_deref() == Some(job.as_str()))
    else {
        return Ok(None);
    };
    let number = |key| found.get(key).and_then(Value::as_u64).unwrap_or(0);
    Ok(Some(Job {
        status: text(found, "status").ok_or_else(|| lacking(COMMAND, "a status"))?,
        progress: MergeProgress {
            done: number("current-progress"),
            total: number("total-progress"),
        },
        error: text(found, "error"),
    }))
}
