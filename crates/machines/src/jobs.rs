//! Jobs: published, waited for, cancelled, kept for some minutes after their end, also across a
//! restart of the service.

use crate::catalog::{Change, JobRow};
use crate::error::Error;
use crate::feed::{Feed, Update};
use crate::ids::{JobId, MachineId, SnapshotId};
use crate::model::{Job, JobError, JobKind, JobState, Timestamp};
use crate::request::Actor;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long an ended job can be read.
pub const KEPT: Duration = Duration::from_secs(6 * 60);

/// All jobs: running ones, and those that ended less than [`KEPT`] ago.
#[derive(Debug)]
pub(crate) struct Jobs {
    inner: Mutex<Inner>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobId, Entry>,
    by_machine: HashMap<MachineId, Vec<JobId>>,
}

#[derive(Debug)]
struct Entry {
    published: watch::Sender<Arc<Job>>,
    cancel: watch::Sender<bool>,
}

/// The right to move a job on.
#[derive(Clone, Debug)]
pub(crate) struct JobHandle {
    id: JobId,
    published: watch::Sender<Arc<Job>>,
    cancel: watch::Receiver<bool>,
    feed: Feed,
}

impl Jobs {
    /// No jobs; what happens to them is told to `feed`.
    pub fn new(feed: Feed) -> Self {
        Jobs {
            inner: Mutex::default(),
            feed,
        }
    }

    /// A new job, published at once; whoever begins it makes it durable.
    pub fn begin(
        &self,
        kind: JobKind,
        machine: MachineId,
        snapshot: Option<SnapshotId>,
        actor: &Actor,
    ) -> JobHandle {
        self.insert(Job {
            id: JobId::new(),
            kind,
            machine,
            snapshot,
            state: JobState::Running,
            percent: 0,
            bytes: (0, 0),
            pause: None,
            at_rest: None,
            cancellable: false,
            owner: actor.user.clone(),
            created: Timestamp::now(),
            finished: None,
        })
    }

    /// A job as it was stored.
    pub fn restore(&self, row: JobRow) -> JobHandle {
        self.insert(Job::from(row))
    }

    fn insert(&self, job: Job) -> JobHandle {
        let (id, machine) = (job.id, job.machine);
        let published = watch::Sender::new(Arc::new(job));
        let cancel = watch::Sender::new(false);
        let handle = JobHandle {
            id,
            published: published.clone(),
            cancel: cancel.subscribe(),
            feed: self.feed.clone(),
        };
        let mut inner = self.lock();
        inner.jobs.insert(id, Entry { published, cancel });
        inner.by_machine.entry(machine).or_default().push(id);
        self.feed.tell(|| Update::Job {
            before: None,
            after: Some(handle.job()),
        });
        handle
    }

    /// Takes back a job that could not even be recorded.
    pub fn forget(&self, id: JobId) {
        let mut inner = self.lock();
        let Some(entry) = inner.jobs.remove(&id) else {
            return;
        };
        let machine = entry.published.borrow().machine;
        if let Some(ids) = inner.by_machine.get_mut(&machine) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                inner.by_machine.remove(&machine);
            }
        }
        let before = entry.published.borrow().clone();
        self.feed.tell(|| Update::Job {
            before: Some(before),
            after: None,
        });
    }

    pub fn all(&self) -> Vec<Arc<Job>> {
        let mut all: Vec<_> = self
            .lock()
            .jobs
            .values()
            .map(|e| e.published.borrow().clone())
            .collect();
        all.sort_by_key(|j| (j.created, j.id));
        all
    }

    pub fn get(&self, id: JobId) -> Option<Arc<Job>> {
        let inner = self.lock();
        inner.jobs.get(&id).map(|e| e.published.borrow().clone())
    }

    pub fn of(&self, machine: MachineId) -> Vec<Arc<Job>> {
        let inner = self.lock();
        let ids = inner.by_machine.get(&machine).into_iter().flatten();
        ids.filter_map(|id| inner.jobs.get(id))
            .map(|e| e.published.borrow().clone())
            .collect()
    }

    /// Whether a job of one of these kinds is under way, on any machine.
    pub fn any_running(&self, wanted: impl Fn(JobKind) -> bool) -> bool {
        let inner = self.lock();
        inner.jobs.values().any(|entry| {
            let job = entry.published.borrow();
            job.finished.is_none() && wanted(job.kind)
        })
    }

    /// Waits until the job has ended.
    pub async fn wait(&self, id: JobId) -> Result<Arc<Job>, Error> {
        let mut seen = match self.lock().jobs.get(&id) {
            Some(entry) => entry.published.subscribe(),
            None => return Err(Error::NoSuchJob(id)),
        };
        let ended = seen.wait_for(|job| job.finished.is_some()).await;
        ended
            .map(|job| job.clone())
            .map_err(|_| Error::NoSuchJob(id))
    }

    /// Asks the job to stop and waits for its end.
    pub async fn cancel(&self, id: JobId) -> Result<(), Error> {
        {
            let inner = self.lock();
            let entry = inner.jobs.get(&id).ok_or(Error::NoSuchJob(id))?;
            let job = entry.published.borrow().clone();
            if job.finished.is_some() {
                return Err(Error::JobEnded(id));
            }
            if !job.cancellable {
                return Err(Error::NotCancellable(id));
            }
            entry.cancel.send_replace(true);
        }
        match self.wait(id).await?.state {
            JobState::Cancelled(_) => Ok(()),
            _ => Err(Error::NotCancellable(id)),
        }
    }

    /// Asks the job to stop, whatever it does, and does not wait: for whoever waits for it anyway.
    pub fn stop(&self, id: JobId) {
        if let Some(entry) = self.lock().jobs.get(&id) {
            entry.cancel.send_replace(true);
        }
    }

    /// Forgets jobs that ended long ago; answers the changes that forget them durably.
    pub fn expire(&self, now: Timestamp) -> Vec<Change> {
        let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        let old: Vec<_> = self
            .all()
            .into_iter()
            .filter(|job| {
                job.finished
                    .is_some_and(|t| now.0.saturating_sub(t.0) > kept)
            })
            .map(|job| job.id)
            .collect();
        for id in &old {
            self.forget(*id);
        }
        old.into_iter().map(Change::DeleteJob).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobHandle {
    pub fn id(&self) -> JobId {
        self.id
    }

    pub fn job(&self) -> Arc<Job> {
        self.published.borrow().clone()
    }

    /// The row of the job as it is.
    pub fn row(&self) -> Change {
        Change::PutJob(Box::new(JobRow::from(self.job().as_ref())))
    }

    /// The row of the job as it will be when it has ended so, with the snapshot it made.
    pub fn ended_row(&self, end: &JobState, finished: Timestamp) -> Change {
        let mut job = self.job().as_ref().clone();
        conclude(&mut job, end.clone(), finished);
        Change::PutJob(Box::new(JobRow::from(&job)))
    }

    /// Bytes done and bytes expected; the percentage follows, and never falls.
    pub fn progress(&self, done: u64, expected: u64) {
        self.change(|job| {
            job.bytes = (done.max(job.bytes.0), expected.max(done));
            let percent = done.saturating_mul(95) / expected.max(1);
            job.percent = job.percent.max(u8::try_from(percent.min(95)).unwrap_or(95));
        });
    }

    /// At least this far.
    pub fn percent(&self, percent: u8) {
        self.change(|job| job.percent = job.percent.max(percent.min(99)));
    }

    pub fn set_pause(&self, pause: Option<Duration>) {
        self.change(|job| job.pause = pause);
    }

    pub fn set_at_rest(&self, at_rest: Option<Duration>) {
        self.change(|job| job.at_rest = at_rest);
    }

    pub fn set_cancellable(&self, cancellable: bool) {
        self.change(|job| job.cancellable = cancellable);
    }

    pub fn link(&self, snapshot: SnapshotId) {
        self.change(|job| job.snapshot = Some(snapshot));
    }

    pub fn unlink(&self) {
        self.change(|job| job.snapshot = None);
    }

    /// Publishes the end, which has been made durable before.
    pub fn end(&self, end: JobState, finished: Timestamp) {
        self.change(|job| conclude(job, end, finished));
    }

    pub fn cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Refuses to go on once the job has been asked to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Resolves when the job is asked to stop; never otherwise.
    pub async fn wait_cancelled(&self) {
        let mut cancel = self.cancel.clone();
        if cancel.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Job)) {
        self.published.send_modify(|shared| {
            let mut job = shared.as_ref().clone();
            if job.finished.is_none() {
                change(&mut job);
                let before = std::mem::replace(shared, Arc::new(job));
                if before != *shared {
                    let after = shared.clone();
                    self.feed.tell(|| Update::Job {
                        before: Some(before),
                        after: Some(after),
                    });
                }
            }
        });
    }
}

/// The state that an outcome leads to.
pub(crate) fn end_of(outcome: &Result<(), Error>) -> JobState {
    match outcome {
        Ok(()) => JobState::Completed,
        Err(cause @ (Error::Cancelled | Error::ShutdownNotAwaited)) => {
            JobState::Cancelled(JobError::from(cause))
        }
        Err(cause) => JobState::Failed(JobError::from(cause)),
    }
}

fn conclude(job: &mut Job, end: JobState, finished: Timestamp) {
    if end == JobState::Completed {
        job.percent = 100;
    }
    job.state = end;
    job.cancellable = false;
    job.finished = Some(finished);
}
