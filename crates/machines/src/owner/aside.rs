//! Jobs beside whatever else a machine does: they read its snapshots and leave it alone.

use crate::error::Error;
use crate::host::Host;
use crate::ids::{MachineId, SnapshotId};
use crate::jobs::{JobHandle, end_of};
use crate::model::{JobKind, Timestamp};
use crate::request::Actor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A job that runs beside.
pub(crate) struct Aside {
    pub job: JobHandle,
    /// Whether it has layers of a snapshot open, so that no layer may go or be merged.
    pub holds_layers: bool,
    ended: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Aside {
    /// Records a job, and lets it begin. It can be cancelled until it ends; that is told to `tell`.
    pub async fn begin<F>(
        host: &Arc<Host>,
        actor: &Actor,
        kind: JobKind,
        of: (MachineId, SnapshotId),
        tell: Arc<Notify>,
        work: impl FnOnce(Arc<Host>, JobHandle) -> F,
    ) -> Result<Aside, Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let job = host.jobs.begin(kind, of.0, Some(of.1), actor);
        if let Err(cause) = host.catalog.commit(vec![job.row()]).await {
            host.jobs.forget(job.id());
            return Err(cause.into());
        }
        job.set_cancellable(true);
        let work = tokio::spawn(work(host.clone(), job.clone()));
        let (host, handle) = (host.clone(), job.clone());
        let ended = Arc::new(AtomicBool::new(false));
        let over = ended.clone();
        let task = tokio::spawn(async move {
            // A defect in there must not leave a job that never ends.
            let outcome = work.await.unwrap_or(Err(Error::ServiceStopping));
            if let Err(cause) = &outcome {
                tracing::warn!(job = %handle.id(), %cause, "a job failed");
            }
            let (end, now) = (end_of(&outcome), Timestamp::now());
            let row = handle.ended_row(&end, now);
            if let Err(cause) = host.catalog.commit(vec![row]).await {
                tracing::error!(%cause, job = %handle.id(), "the end of a job could not be recorded");
            }
            // Before the job's end is seen: who sees it may go on at once.
            over.store(true, Ordering::Release);
            tell.notify_one();
            handle.end(end, now);
        });
        Ok(Aside {
            job,
            holds_layers: kind == JobKind::RehearseSnapshot,
            ended,
            task,
        })
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Asks it to end, and waits for that.
    pub async fn end(self, host: &Host) {
        let _ = host.jobs.cancel(self.job.id()).await;
        let _ = self.task.await;
    }
}
