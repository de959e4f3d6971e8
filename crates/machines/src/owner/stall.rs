//! A guest that stands still because its disk could not be read or written.
//!
//! QEMU stops such a guest and holds what has failed; nothing is lost, and letting it go on tries
//! it again. For want of space the guest goes on as soon as there is some where its disk lies. Any
//! other failure may last, so it is tried again after a pause that grows. What keeps the guest from
//! going on is told in the machine's health.

use super::work::{Guest, Work, blocking};
use crate::error::Error;
use crate::files;
use crate::model::Health;
use qemu::process::RunState;
use qemu::stall::DiskTrouble;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the free space is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Free space at which a guest that waited for some goes on, and the share of a small file system.
const ENOUGH_SPACE: u64 = 64 << 20;
const ENOUGH_SHARE: u64 = 20;
/// How long a file system may take to say how much space it has.
const SPACE_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the next attempt: for want of space, and after other failures.
const SPACE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const FAILURE_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A guest that has run for so long since the last attempt has overcome what it was.
const OVERCOME: Duration = Duration::from_secs(60);

/// What is known of a guest that stands still.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    /// What QEMU said when it happened.
    reason: Option<String>,
    /// When it was last let go on, and how often in a row.
    tried: Option<Instant>,
    attempts: u32,
    /// When the guest was first seen to stand still since then.
    since: Option<Instant>,
}

impl Stall {
    /// QEMU has said why.
    pub fn note(&mut self, reason: &str) {
        self.reason = Some(reason.to_owned());
    }

    /// The next attempt needs no pause: the cause has just been removed.
    pub fn cause_removed(&mut self) {
        self.attempts = 0;
        self.tried = None;
        self.since = Some(
            Instant::now()
                .checked_sub(FAILURE_PAUSES.0)
                .unwrap_or_else(Instant::now),
        );
    }

    /// When the guest is to be looked at again.
    pub fn next_look(&self) -> Duration {
        TICK
    }

    fn begin(&mut self, now: Instant) {
        if self.since.is_some() {
            return;
        }
        self.since = Some(now);
        let overcome = |at: Instant| now.saturating_duration_since(at) > OVERCOME;
        if self.tried.is_none_or(overcome) {
            self.attempts = 0;
        }
    }

    fn may_try(&self, now: Instant, pauses: (Duration, Duration)) -> bool {
        let grown = pauses.0.saturating_mul(1 << self.attempts.min(16));
        let pause = match self.attempts {
            // Space that is there may be used at once.
            0 if pauses == SPACE_PAUSES => Duration::ZERO,
            _ => grown.min(pauses.1),
        };
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) >= pause)
    }

    fn has_tried(&mut self, now: Instant) {
        self.tried = Some(now);
        self.attempts = self.attempts.saturating_add(1);
        self.since = None;
    }
}

/// Looks after a guest in [`RunState::IoError`]: lets it go on if it may, and answers the health to
/// show.
pub(crate) async fn attend(work: &mut Work) -> Result<Health, Error> {
    let process = work.process()?;
    let troubles = process
        .disk_troubles()
        .await
        .map_err(Error::qemu("Asking which disk has failed"))?;
    let for_space = !troubles.is_empty() && troubles.iter().all(|t| t.no_space);
    let place = match for_space {
        true => lacking_space(&troubles).await,
        false => None,
    };
    let Some(Guest { stall, .. }) = &mut work.guest else {
        return Ok(Health::Ok);
    };
    let now = Instant::now();
    stall.begin(now);
    let pauses = match for_space {
        true => SPACE_PAUSES,
        false => FAILURE_PAUSES,
    };
    let health = Health::Critical(match for_space {
        true => sentence_of_space(&troubles, place.as_ref(), stall.attempts),
        false => sentence_of_failure(&troubles, stall),
    });
    if place.is_none() && stall.may_try(now, pauses) {
        // A server of a disk that QEMU has not found again yet is not worth an attempt.
        let reached = process.reaches_servers().await;
        if !reached.map_err(Error::qemu("Reaching the servers of disks"))? {
            return Ok(health);
        }
        stall.has_tried(now);
        process
            .cont()
            .await
            .map_err(Error::qemu("Letting the guest go on"))?;
    }
    Ok(health)
}

/// Why a guest that should run cannot be captured, if it cannot.
pub(crate) async fn check_runs(work: &Work) -> Result<(), Error> {
    let status = work
        .process()?
        .status()
        .await
        .map_err(Error::qemu("Asking for the guest's state"))?;
    let reason = match status {
        RunState::IoError => match &work.record.body.health {
            Health::Critical(sentence) => sentence.clone(),
            Health::Ok => "its disk could not be read or written.".to_owned(),
        },
        RunState::GuestPanicked => "its system has crashed.".to_owned(),
        RunState::InternalError => "QEMU met an internal error.".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::GuestStandsStill { reason })
}

/// Whether a guest in this state must not be let go on by anyone but its user.
pub(crate) fn is_stuck(status: &RunState) -> bool {
    matches!(
        status,
        RunState::IoError
            | RunState::GuestPanicked
            | RunState::InternalError
            | RunState::Shutdown
            | RunState::Watchdog
    )
}

/// A place with too little space, and how much there must be.
type Lacking = (PathBuf, u64);

/// The first of the places that still has too little space. One that does not answer has none.
async fn lacking_space(troubles: &[DiskTrouble]) -> Option<Lacking> {
    let paths: Vec<_> = troubles.iter().filter_map(|t| t.path.clone()).collect();
    let first = paths.first().cloned();
    let looked = blocking(move || Ok(paths.into_iter().find_map(|path| lacks(&path))));
    match tokio::time::timeout(SPACE_PATIENCE, looked).await {
        Ok(Ok(lacking)) => lacking,
        _ => first.map(|path| (path, ENOUGH_SPACE)),
    }
}

fn lacks(path: &Path) -> Option<Lacking> {
    match files::space(path) {
        Ok((free, size)) => {
            let enough = ENOUGH_SPACE.min(size / ENOUGH_SHARE);
            (free < enough).then(|| (path.to_owned(), enough))
        }
        Err(_) => Some((path.to_owned(), ENOUGH_SPACE)),
    }
}

// The sentences change only with what is done: each change is written to the catalog.

fn sentence_of_space(troubles: &[DiskTrouble], lacking: Option<&Lacking>, attempts: u32) -> String {
    let path = lacking.map(|l| l.0.clone());
    let path = path.or_else(|| troubles.iter().find_map(|t| t.path.clone()));
    let place = path.unwrap_or_default();
    let place = place.display();
    let mib = lacking.map_or(ENOUGH_SPACE, |l| l.1) >> 20;
    let again = match attempts {
        0 => String::new(),
        n => format!(
            " It has gone on {n} times and found no space; is there a quota on that file system?"
        ),
    };
    format!(
        "The host has no space left for what the guest writes to {place}. The guest stands still, \
         nothing is lost. Free {mib} MiB on that file system; the guest then goes on by \
         itself.{again}"
    )
}

fn sentence_of_failure(troubles: &[DiskTrouble], stall: &Stall) -> String {
    let path = troubles.iter().find_map(|t| t.path.as_ref());
    let place = path.map_or("a disk".to_owned(), |p| p.display().to_string());
    let reason = stall.reason.as_deref().unwrap_or("Input/output error");
    let again = match stall.attempts {
        0 => String::new(),
        1 => " It was tried again once, in vain.".to_owned(),
        n => format!(" It was tried again {n} times, in vain."),
    };
    format!(
        "The host could not read or write {place} for the guest: {reason}. The guest stands \
         still, nothing is lost. Look after that disk and the host's log; the guest is let go on \
         from time to time, or by a reset.{again}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_after_pauses_that_grow_and_end_growing() {
        let mut stall = Stall::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            stall.begin(now);
            let stood = now;
            while !stall.may_try(now, FAILURE_PAUSES) {
                now += TICK;
            }
            pauses.push((now - stood).as_secs());
            stall.has_tried(now);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        // It ran for long enough: what comes now is something new.
        now += OVERCOME + TICK;
        stall.begin(now);
        assert!(!stall.may_try(now, FAILURE_PAUSES));
        assert!(stall.may_try(now + FAILURE_PAUSES.0, FAILURE_PAUSES));
    }

    #[test]
    fn space_is_used_at_once_and_then_less_eagerly() {
        let mut stall = Stall::default();
        let now = Instant::now();
        stall.begin(now);
        assert!(stall.may_try(now, SPACE_PAUSES));
        stall.has_tried(now);
        stall.begin(now);
        assert!(!stall.may_try(now + TICK, SPACE_PAUSES));
        assert!(stall.may_try(now + TICK * 2, SPACE_PAUSES));
        stall.cause_removed();
        assert!(stall.may_try(Instant::now(), FAILURE_PAUSES));
    }

    #[test]
    fn a_place_that_cannot_be_asked_has_no_space() {
        assert!(lacks(Path::new("/no/such/file")).is_some());
    }
}
