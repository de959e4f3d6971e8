//! Merges that follow from what was done: a job of the machine that gives way to every request,
//! and goes on afterwards.

use super::stall;
use super::work::Work;
use super::{Owner, Running, finished, merge, merge_choice};
use crate::catalog::Change;
use crate::error::Error;
use crate::ids::JobId;
use crate::jobs::{JobHandle, end_of};
use crate::model::{Health, JobState, Timestamp};
use crate::saga::MergePlan;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a request waits for a merge that runs for tidiness only.
const TIDY_PATIENCE: Duration = Duration::from_secs(20);

/// Whether something is to be merged now.
pub(super) fn wanted(work: &Work) -> bool {
    // A guest that waits for space is not helped by a merge that needs some.
    let well = work.guest.is_none() || work.record.body.health == Health::Ok;
    well && !work.gone && merge_choice::next(&work.record, work.guest.is_some()).is_some()
}

/// Merges until there is nothing to merge, or somebody else wants the machine. The job has ended
/// when [`Work::ended`] says so; otherwise it waits to be taken up again.
pub(super) async fn merge_all(work: &mut Work, job: &JobHandle, stop: watch::Receiver<bool>) {
    let recorded = work.host.catalog.commit(vec![job.row()]).await;
    job.set_cancellable(true);
    let outcome = match recorded {
        Ok(()) => merges(work, job, &stop).await,
        Err(cause) => Err(cause.into()),
    };
    if let Err(cause) = &outcome {
        tracing::warn!(%cause, machine = %work.record.id, "disk layers are left unmerged");
    }
    let interrupted = matches!(outcome, Err(Error::Cancelled)) && !job.cancelled();
    let mut changes = vec![Change::DeleteJournal(job.id())];
    let (state, now) = (end_of(&outcome), Timestamp::now());
    if !interrupted {
        job.set_cancellable(false);
        changes.push(job.ended_row(&state, now));
        work.ended = Some((state, now));
    }
    if let Err(cause) = work.host.catalog.commit(changes.clone()).await {
        tracing::error!(%cause, "the end of a merge could not be recorded");
        work.overdue.extend(changes);
    }
}

impl Owner {
    /// A request goes before tidiness: the merge that is under way stops at once.
    pub(super) async fn stop_tidying(&mut self) {
        let Some(Running {
            stop: Some(stop), ..
        }) = &self.running
        else {
            return;
        };
        stop.send_replace(true);
        let ended = tokio::time::timeout(TIDY_PATIENCE, finished(&mut self.running)).await;
        if let Ok(outcome) = ended {
            // Without starting to tidy again: the request comes first.
            let running = self.running.take();
            if let (Ok(mut work), Some(Running { job, .. })) = (outcome, running) {
                match work.ended.take() {
                    Some((state, at)) => {
                        self.left = state != JobState::Completed;
                        job.end(state, at);
                    }
                    None => self.waiting = Some(job),
                }
                work.shown = Default::default();
                work.publish();
                self.work = Some(work);
            }
        }
    }
}

async fn merges(
    work: &mut Work,
    job: &JobHandle,
    stop: &watch::Receiver<bool>,
) -> Result<(), Error> {
    let watch = Watch {
        job: job.clone(),
        stop: Some(stop.clone()),
        process: work.guest.as_ref().map(|guest| guest.process.clone()),
        before: AtomicU64::new(job.job().bytes.0),
        now: AtomicU64::new(0),
    };
    while wanted(work) {
        job.check()?;
        if *stop.borrow() {
            return Err(Error::Cancelled);
        }
        let running = work.guest.is_some();
        let Some(plan) = merge_choice::next(&work.record, running) else {
            break;
        };
        merge::run(work, job.id(), &plan, &watch).await?;
        watch.one_is_done();
    }
    Ok(())
}

/// Shortens chains that must not grow further, before a job adds layers to them.
pub(super) async fn shorten(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    let watch = Watch {
        job: job.clone(),
        stop: None,
        process: None,
        before: AtomicU64::new(0),
        now: AtomicU64::new(0),
    };
    while let Some(plan) = merge_choice::urgent(&work.record) {
        let merged = one(work, &plan, &watch).await;
        merged?;
    }
    Ok(())
}

async fn one(work: &mut Work, plan: &MergePlan, watch: &Watch) -> Result<(), Error> {
    let saga = JobId::new();
    let merged = merge::run(work, saga, plan, watch).await;
    let ended = vec![Change::DeleteJournal(saga)];
    if let Err(cause) = work.host.catalog.commit(ended.clone()).await {
        tracing::error!(%cause, "the end of a merge could not be recorded");
        work.overdue.extend(ended);
    }
    merged
}

/// Shows merges on a job, and stops them for whatever comes in between.
struct Watch {
    job: JobHandle,
    /// Asks the merge to give way; `None` if it goes first.
    stop: Option<watch::Receiver<bool>>,
    /// The guest, whose fate matters more than a merge; `None` if its job looks after it.
    process: Option<qemu::Process>,
    /// Bytes of merges that are done, and of this one.
    before: AtomicU64,
    now: AtomicU64,
}

impl Watch {
    fn one_is_done(&self) {
        let now = self.now.swap(0, Ordering::Relaxed);
        self.before.fetch_add(now, Ordering::Relaxed);
    }
}

impl merge::Watch for Watch {
    fn progress(&self, done: u64, expected: u64) {
        if self.stop.is_none() {
            // Of a job that has yet to begin with what it is for.
            return;
        }
        self.now.store(done, Ordering::Relaxed);
        let before = self.before.load(Ordering::Relaxed);
        let all = |bytes: u64| before.saturating_add(bytes);
        self.job.progress(all(done), all(expected));
    }

    fn stopped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            tokio::select! {
                () = self.job.wait_cancelled() => {}
                () = asked(self.stop.clone()) => {}
                () = something_happens(self.process.as_ref()) => {}
            }
        })
    }
}

async fn asked(stop: Option<watch::Receiver<bool>>) {
    match stop {
        Some(mut stop) => {
            // An owner that is gone asks, too.
            let _ = stop.wait_for(|asked| *asked).await;
        }
        None => std::future::pending().await,
    }
}

/// Resolves when the guest ends, stops or fails: its watch must see to it.
async fn something_happens(process: Option<&qemu::Process>) {
    let Some(process) = process else {
        return std::future::pending().await;
    };
    let mut events = process.events();
    // What happened before is not lost.
    if !process.status().await.is_ok_and(|s| !stall::is_stuck(&s)) {
        return;
    }
    let event = async {
        loop {
            let Ok(event) = events.recv().await else {
                return;
            };
            if matches!(
                event.name.as_str(),
                "SHUTDOWN" | "STOP" | "RESUME" | "BLOCK_IO_ERROR" | "GUEST_PANICKED" | "WATCHDOG"
            ) {
                return;
            }
        }
    };
    tokio::select! {
        () = event => {}
        () = process.exited() => {}
        () = process.server_ended() => {}
    }
}

/// Merges that failed are tried again after this time, then after twice as long, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// When merges that failed are tried again: what kept them from being done may be over.
#[derive(Default)]
pub(super) struct Again {
    at: Option<Instant>,
    failures: u32,
}

impl Again {
    /// Merges have ended.
    pub fn after(&mut self, failed: bool) {
        self.forget();
        if failed {
            let (first, longest) = PAUSES;
            let pause = first
                .saturating_mul(1 << self.failures.min(16))
                .min(longest);
            self.at = Some(Instant::now() + pause);
            self.failures += 1;
        } else {
            self.failures = 0;
        }
    }

    /// They are being tried.
    pub fn forget(&mut self) {
        self.at = None;
    }

    /// Resolves when it is time; never, if nothing has failed.
    pub async fn comes(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
