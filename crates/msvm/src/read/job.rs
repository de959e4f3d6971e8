//! Jobs, as clients poll them.

use super::{datetime, micros_between, now, texts};
use crate::errors;
use crate::host::Host;
use crate::subject::JOB;
use cim::{CimError, DateTime, Instance};
use machines::model::{Job, JobError, JobKind, JobState};
use std::time::Duration;

/// The texts that Hyper-V's jobs carry; clients show them.
pub(crate) const fn description(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Start => "Initializing and Starting Virtual Machine",
        JobKind::Restore => "Initializing and Restoring Virtual Machine",
        JobKind::TurnOff => "Turning Off Virtual Machine",
        JobKind::ShutDown => "Shutting Down Virtual Machine",
        JobKind::Reset => "Resetting Virtual Machine",
        JobKind::Pause => "Pausing Virtual Machine",
        JobKind::Resume => "Resuming Virtual Machine",
        JobKind::Save => "Saving Virtual Machine",
        JobKind::Destroy => "Destroying Virtual Machine",
        JobKind::CreateSnapshot => "Taking Virtual Machine Snapshot",
        JobKind::ApplySnapshot => "Applying Snapshot",
        JobKind::RemoveSnapshot => "Deleting Snapshot",
        JobKind::RemoveSnapshotTree => "Deleting Snapshot Tree",
        JobKind::VerifySnapshot => "Verifying Snapshot",
        JobKind::RehearseSnapshot => "Rehearsing Snapshot",
        JobKind::MergeDisks => "Merging Virtual Disk",
    }
}

/// `JobType`, which V2 has.
const fn job_type(kind: JobKind) -> u16 {
    match kind {
        JobKind::Start => 12,
        JobKind::TurnOff => 13,
        JobKind::Save => 14,
        JobKind::Restore => 15,
        JobKind::ShutDown => 16,
        JobKind::Pause => 26,
        JobKind::Resume => 27,
        JobKind::Reset => 28,
        JobKind::Destroy => 3,
        JobKind::MergeDisks => 50,
        JobKind::CreateSnapshot => 70,
        JobKind::ApplySnapshot => 71,
        JobKind::RemoveSnapshot | JobKind::RemoveSnapshotTree => 72,
        // Hyper-V has no such jobs.
        JobKind::VerifySnapshot | JobKind::RehearseSnapshot => 0,
    }
}

/// `JobState`. 4 from birth on: clients that loop only while they see 4, or 3 and 4, would take
/// anything else for the end.
const fn state(state: &JobState) -> u16 {
    match state {
        JobState::Running => 4,
        JobState::Completed => 7,
        // Killed, which is what clients ask for, and the only end besides 7 that some tolerate.
        JobState::Cancelled(_) => 9,
        JobState::Failed(_) => 10,
    }
}

/// Why a job did not complete.
pub(crate) const fn failure(state: &JobState) -> Option<&JobError> {
    match state {
        JobState::Failed(error) | JobState::Cancelled(error) => Some(error),
        JobState::Running | JobState::Completed => None,
    }
}

/// A line for people: what goes on, how much is written, how long the guest stood still.
fn status(job: &Job) -> String {
    let (undone, done) = match job.kind {
        JobKind::VerifySnapshot | JobKind::RehearseSnapshot => ("nothing was changed", "read"),
        JobKind::ShutDown => ("the guest was asked, and may yet follow", "written"),
        JobKind::MergeDisks => ("what had been merged stays merged", "written"),
        _ => ("everything was undone", "written"),
    };
    let mut text = match &job.state {
        JobState::Running => "Running.".to_owned(),
        JobState::Completed => "Completed.".to_owned(),
        JobState::Failed(_) => format!("Failed; {undone}."),
        JobState::Cancelled(_) => format!("Cancelled; {undone}."),
    };
    let (written, expected) = job.bytes;
    if expected > 0 {
        text.push_str(&format!(" {written} of {expected} bytes {done}."));
    }
    if let Some(left) = time_left(job) {
        text.push_str(&format!(" About {} s left.", left.as_secs().max(1)));
    }
    if let Some(pause) = job.pause {
        let millis = pause.as_secs_f64() * 1000.0;
        text.push_str(&format!(" The guest stood still for {millis:.3} ms."));
    }
    text
}

/// How long a running job may take still, if it goes on as it has gone so far.
fn time_left(job: &Job) -> Option<Duration> {
    let (written, expected) = job.bytes;
    if job.finished.is_some() || written == 0 || expected <= written {
        return None;
    }
    let elapsed = micros_between(job.created, now());
    let left = u128::from(elapsed) * u128::from(expected - written) / u128::from(written);
    Some(Duration::from_micros(u64::try_from(left).ok()?))
}

impl Host {
    pub(crate) fn job_instance(&self, job: &Job) -> Result<Instance, CimError> {
        let end = job.finished;
        let elapsed = Duration::from_micros(micros_between(job.created, end.unwrap_or_else(now)));
        let failure = failure(&job.state);
        let code = failure.map_or(0, |error| errors::codes(&error.code).job);
        let text = description(job.kind);
        self.named(JOB, |new| {
            new.set("Caption", text)
                .set("Description", text)
                .set("ElementName", text)
                .set("InstallDate", datetime(job.created))
                .set("OperationalStatus", vec![2u16])
                .set("StatusDescriptions", texts(["OK"]))
                .set("HealthState", 5u16)
                .set("JobStatus", status(job))
                .set("TimeSubmitted", datetime(job.created))
                .set("StartTime", datetime(job.created))
                .set("ElapsedTime", DateTime::from(elapsed))
                .set("JobRunTimes", 1u32)
                // Times are in UTC.
                .set("LocalOrUtcTime", 2u16)
                .set("Owner", job.owner.as_str())
                .set("PercentComplete", u16::from(job.percent))
                .set("DeleteOnCompletion", true)
                .set("ErrorCode", code)
                .set("ErrorDescription", failure.map(describe))
                .set(
                    "ErrorSummaryDescription",
                    failure.map(|error| error.what.clone()),
                )
                .set("InstanceID", job.id.to_string())
                .set("Name", text)
                .set("JobState", state(&job.state))
                .set(
                    "TimeOfLastStateChange",
                    datetime(end.unwrap_or(job.created)),
                )
                .set("TimeBeforeRemoval", BEFORE_REMOVAL)
                .set("Cancellable", job.cancellable)
                .set_if_declared("JobType", job_type(job.kind))
        })
    }
}

/// Five minutes, as Hyper-V says it.
const BEFORE_REMOVAL: DateTime = DateTime::Interval {
    micros: 5 * 60 * 1_000_000,
};

/// What happened, why, and what to do, in one text.
pub(crate) fn describe(error: &JobError) -> String {
    format!("{} {} {}", error.what, error.why, error.remedy)
}
