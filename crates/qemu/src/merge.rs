//! Merging layers while the guest runs: QEMU's block jobs.
//!
//! A layer X that nobody needs can disappear in two ways. [`Process::pull`] copies what its child
//! needs from it into the child (`block-stream`), and is right when X's own file must stay as it
//! is or only X is to go. [`Process::commit`] writes the child into X (`block-commit`), and is
//! right when X may change and the child is the smaller of the two. Both leave every layer above
//! as it was, and correct the name of the backing file in the header of the layer above. The node
//! that has left the chain is then closed with [`Process::remove_node`], and its file may go.
//!
//! While the guest works, [`Merge::follow`] keeps the job from making its writes slow.
//!
//! QEMU forgets a job when it ends: one that ended while nobody was connected is not found with
//! [`Process::adopt_merge`], and the chain ([`Process::block_devices`]) says what has become of it.
//! (It could be kept until it is dismissed, but QEMU 10.0 crashes when it is asked for its block
//! nodes while an ended `block-stream` job is kept.)

use crate::command_line::block_node;
use crate::process::{Process, lacking};
use crate::qmp::{Event, QmpError, Recorder};
use crate::spec::{Id, Layer};
use crate::throttle::Throttle;
use serde_json::{Value, json};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often the speed of a merge is reconsidered, and told how far it is.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// An ended job is looked for less and less often.
const LOOK_SELDOM: Duration = Duration::from_millis(200);

/// A merge under way in QEMU. Dropping it leaves the job running.
pub struct Merge {
    process: Process,
    job: Id,
    /// What QEMU says about the end.
    recorder: Recorder,
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
}

impl Process {
    /// For `base <- X <- child`: copies what `child` needs from X into `child`, so that X
    /// leaves the chain (`base` `None`: X was the oldest, and `child` then stands alone).
    /// All nodes between `base` and `child` leave. `job` names the job.
    pub async fn pull(&self, job: &Id, child: &Id, base: Option<&Id>) -> Result<Merge, MergeError> {
        let mut arguments = json!({
            "job-id": job.as_str(), "device": child.as_str(),
            "auto-finalize": true, "auto-dismiss": true,
        });
        if let Some(base) = base {
            arguments["base-node"] = json!(base.as_str());
            arguments["backing-file"] = json!(self.file_of_node(base).await?);
        }
        self.start_merge(job, "block-stream", arguments).await
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
            "auto-finalize": true, "auto-dismiss": true,
        });
        if active != child {
            arguments["backing-file"] = json!(self.file_of_node(parent).await?);
        }
        self.start_merge(job, "block-commit", arguments).await
    }

    /// As [`Process::commit`], of a `child` that is frozen. The header above goes on to name
    /// `child`'s file, which `parent`'s is to replace; see [`Process::put_in_place`].
    pub async fn commit_frozen(
        &self,
        job: &Id,
        active: &Id,
        child: &Layer,
        parent: &Id,
    ) -> Result<Merge, MergeError> {
        let arguments = json!({
            "job-id": job.as_str(), "device": active.as_str(),
            "top-node": child.node.as_str(), "base-node": parent.as_str(),
            "auto-finalize": true, "auto-dismiss": true,
            "backing-file": child.path.to_string_lossy(),
        });
        self.start_merge(job, "block-commit", arguments).await
    }

    /// Lets QEMU write to a layer no more, if it still may: after a merge that failed it may, because
    /// it could not flush the file. It then holds a lock against everybody who opens that file.
    pub async fn seal(&self, layer: &Layer, below: &Id) -> Result<(), QmpError> {
        let nodes = self.block_nodes().await?;
        let open = nodes.iter().find(|n| n.node == layer.node.as_str());
        if open.is_none_or(|node| node.read_only) {
            return Ok(());
        }
        let mut node = block_node(layer, true);
        node["backing"] = json!(below.as_str());
        let arguments = json!({"options": [node]});
        let reopened = self.qmp().execute("blockdev-reopen", arguments).await;
        reopened.map(drop)
    }

    /// For `old <- above`, both frozen or `above` active (`active`): opens `new`, a file with the
    /// same content as `old`'s, on the same node below, and lets `above` stand on it. `old` is
    /// closed.
    pub async fn put_in_place(
        &self,
        old: &Id,
        new: &Layer,
        below: &Id,
        above: &Layer,
        active: bool,
    ) -> Result<(), QmpError> {
        let mut node = block_node(new, true);
        node["backing"] = json!(below.as_str());
        self.qmp().execute("blockdev-add", node).await?;
        let mut upper = block_node(above, !active);
        upper["backing"] = json!(new.node.as_str());
        let arguments = json!({"options": [upper]});
        if let Err(cause) = self.qmp().execute("blockdev-reopen", arguments).await {
            // The first error counts.
            let _ = self.remove_node(&new.node).await;
            return Err(cause);
        }
        self.remove_node(old).await
    }

    /// A merge that was begun before, perhaps by another connection, by the name of its job.
    pub async fn adopt_merge(&self, job: &Id) -> Result<Option<Merge>, QmpError> {
        // Before looking, so that the end of what is found is not missed.
        let recorder = self.qmp().record();
        let found = find_job(self, job).await?;
        Ok(found.map(|_| self.merge(job, recorder)))
    }

    async fn start_merge(
        &self,
        job: &Id,
        command: &str,
        arguments: Value,
    ) -> Result<Merge, MergeError> {
        let recorder = self.qmp().record();
        self.qmp().execute(command, arguments).await?;
        Ok(self.merge(job, recorder))
    }

    fn merge(&self, job: &Id, recorder: Recorder) -> Merge {
        Merge {
            process: self.clone(),
            job: job.clone(),
            recorder,
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
        let job = find_job(&self.process, &self.job).await?;
        job.map(|job| job.progress)
            .ok_or_else(|| MergeError::JobLost {
                job: self.job.clone(),
            })
    }

    /// Waits for the end, and until what was merged is durable.
    pub async fn wait(&self, patience: Duration) -> Result<(), MergeError> {
        tokio::time::timeout(patience, self.ended())
            .await
            .unwrap_or(Err(MergeError::TimedOut {
                seconds: patience.as_secs(),
            }))
    }

    /// Waits for the end, as [`Merge::wait`], but tells how far it is, goes slower while the
    /// guest's writes suffer, and stops when `stop` resolves: then the answer is
    /// [`MergeError::Cancelled`], and the chain says whether it had just ended.
    pub async fn follow(
        &self,
        mut progress: impl FnMut(MergeProgress),
        stop: impl Future<Output = ()>,
    ) -> Result<(), MergeError> {
        let mut throttle = Throttle::new(self.process.write_times().await?);
        let mut ended = std::pin::pin!(self.ended());
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                end = &mut ended => return end,
                () = &mut stop => {
                    self.cancel().await?;
                    return Err(MergeError::Cancelled);
                }
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
            // A job that has ended meanwhile is seen above.
            let Ok(now) = self.progress().await else {
                continue;
            };
            progress(now);
            if let Some(speed) = throttle.next(self.process.write_times().await?) {
                tracing::debug!(job = %self.job, speed, "the speed of a merge changes");
                let arguments = json!({"device": self.job.as_str(), "speed": speed});
                match self
                    .process
                    .qmp()
                    .execute("block-job-set-speed", arguments)
                    .await
                {
                    Err(QmpError::Refused { .. }) => {}
                    other => drop(other?),
                }
            }
        }
    }

    /// Stops it and waits for that; the chain stays as it was. One that has just ended stays
    /// merged, which is no error: the chain shows which it was.
    pub async fn cancel(&self) -> Result<(), MergeError> {
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

    async fn ended(&self) -> Result<(), MergeError> {
        let id = json!({"id": self.job.as_str()});
        let qmp = self.process.qmp();
        let mut pause = LOOK_EVERY;
        loop {
            let job = find_job(&self.process, &self.job).await?;
            if let Some(end) = self.end()? {
                if end.is_ok() {
                    // The file that is no longer needed may go as soon as this returns.
                    self.process.flush_disks().await?;
                }
                return end;
            }
            match job {
                // The active layer: both files are equal now and stay so until we say go. If it
                // has gone on between the two commands, the next look shows it.
                Some(job) if job.status == "ready" => {
                    match qmp.execute("job-complete", id.clone()).await {
                        Err(QmpError::Refused { .. }) => {}
                        other => drop(other?),
                    }
                }
                Some(_) => {}
                None => {
                    return Err(MergeError::JobLost {
                        job: self.job.clone(),
                    });
                }
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LOOK_SELDOM);
        }
    }

    /// What QEMU has said about the end of the job, if it has come.
    fn end(&self) -> Result<Option<Result<(), MergeError>>, QmpError> {
        let events = self.recorder.events()?;
        let text = |event: &Event, key| {
            let text = event.data.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let ours = |e: &&Event| text(e, "device").as_deref() == Some(self.job.as_str());
        Ok(events
            .iter()
            .filter(ours)
            .find_map(|event| match event.name.as_str() {
                "BLOCK_JOB_CANCELLED" => Some(Err(MergeError::Cancelled)),
                "BLOCK_JOB_COMPLETED" => Some(match text(event, "error") {
                    Some(description) => Err(MergeError::Failed { description }),
                    None => Ok(()),
                }),
                _ => None,
            }))
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
    }))
}
