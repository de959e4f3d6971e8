//! Makes transparent huge pages whole again, from outside, while the guest runs.
//!
//! A snapshot or a restore goes through memory page by page, and splits the huge pages that it
//! comes by. On small pages the next snapshot takes longer to arm, so its pause is longer. The
//! kernel can make a huge page of 512 small ones again (`MADV_COLLAPSE`), also in another process.
//!
//! Only ranges that are nearly full are collapsed, because the holes are filled and so take memory.
//! It takes a stated share of a processor, and stops when the host is short of memory. It must not
//! run during a snapshot: [`Healer::stop`] before, [`Healer::start`] after.

use crate::process::Process;
use crate::qmp::QmpError;
use crate::raw::{self, PAGE_HUGE, PAGE_PRESENT, PAGE_ZERO, PageRun};
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;
/// A huge page.
const RANGE: u64 = 2 << 20;
/// Of the 512 pages of a range, so many must be there.
const DENSE: u64 = 448;
/// What is looked at in one go.
const STRETCH: u64 = 64 << 20;
/// Time for collapsing is this part of all time.
const SHARE: u32 = 5;
/// Ranges between two looks at the host's memory.
const BATCH: u64 = 32;
/// Least memory that must be available on the host, in MiB; or a sixteenth of it.
const LEAST_AVAILABLE_MIB: u64 = 512;
/// How long it waits before it looks at memory again: pages may not be movable for a moment, or
/// memory may be short.
const AGAIN: Duration = Duration::from_secs(10);
/// How long QEMU may take to say where memory is.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks again at most.
const ROUNDS: u32 = 30;

/// Where a guest's memory is in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first address.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// How far a healer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works, or waits to look again.
    Healing {
        /// Huge pages made whole so far.
        healed: u64,
        /// Split ones that were found and are still to be done.
        left: u64,
    },
    /// Nothing is left to do.
    Whole {
        /// Huge pages made whole.
        healed: u64,
    },
    /// It has stopped before the end, because of this.
    Stopped {
        /// Huge pages made whole.
        healed: u64,
        /// Why it has stopped, in a sentence.
        reason: String,
    },
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Health::Healing { healed, left } => {
                write!(f, "Being healed: {healed} huge pages done, {left} left.")
            }
            Health::Whole { healed } => write!(f, "Whole ({healed} huge pages were healed)."),
            Health::Stopped { healed, reason } => {
                write!(f, "Healing stopped after {healed} huge pages. {reason}")
            }
        }
    }
}

/// Heals one process's memory in the background. Dropping it stops it, without waiting.
pub struct Healer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Healer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Healer").field(&self.health()).finish()
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    healed: AtomicU64,
    left: AtomicU64,
    end: Mutex<Option<Result<(), String>>>,
    woken: Condvar,
}

impl Process {
    /// Where the guest's memory is.
    pub async fn memory_place(&self) -> Result<Option<Place>, QmpError> {
        let arguments = json!({"command-line": "info ramblock"});
        let qmp = self.qmp();
        let reply = qmp
            .execute_within("human-monitor-command", arguments, ANSWER_PATIENCE)
            .await?;
        Ok(reply.as_str().and_then(parse_place))
    }

    /// Starts to heal memory that [`Process::memory_place`] has found.
    pub fn heal(&self, place: Place) -> io::Result<Healer> {
        let process = self.identity().open();
        let process = process.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid()))?;
        Healer::start(process, pagemap, place)
    }
}

/// Finds the guest's memory in what QEMU's `info ramblock` says. Its line: name, size of a page (number and unit), offset,
/// used and total length, address in the process.
pub fn parse_place(text: &str) -> Option<Place> {
    let is_memory = |line: &&str| {
        let name = line.split_whitespace().next();
        name == Some(crate::command_line::MEMORY_ID)
    };
    let line = text.lines().find(is_memory)?;
    let mut numbers = line
        .split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let (_, length, _, start) = (
        numbers.next()?,
        numbers.next()?,
        numbers.next()?,
        numbers.next()?,
    );
    let end = start.checked_add(length)?;
    (start > 0 && length > 0 && end <= 1 << 47).then_some(Place { start, length })
}

impl Healer {
    /// Starts, with a handle on the process and its `/proc/PID/pagemap`.
    pub fn start(process: OwnedFd, pagemap: File, place: Place) -> io::Result<Healer> {
        let shared = Arc::new(Shared::default());
        let work = Work {
            shared: shared.clone(),
            process,
            pagemap,
            place,
            runs: vec![PageRun::default(); 4096],
        };
        let thread = std::thread::Builder::new()
            .name("memory-heal".into())
            .spawn(move || work.run())?;
        Ok(Healer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How far it is.
    pub fn health(&self) -> Health {
        let healed = self.shared.healed.load(Ordering::Relaxed);
        let end = self.shared.end();
        match end.as_ref() {
            None => Health::Healing {
                healed,
                left: self.shared.left.load(Ordering::Relaxed),
            },
            Some(Ok(())) => Health::Whole { healed },
            Some(Err(reason)) => Health::Stopped {
                healed,
                reason: reason.clone(),
            },
        }
    }

    /// Stops, and waits until it does nothing any more: a few milliseconds.
    pub async fn stop(&self) {
        self.shared.ask_to_stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let waited = tokio::task::spawn_blocking(move || thread.join().is_ok());
            if !matches!(waited.await, Ok(true)) {
                tracing::error!("the thread that heals memory broke down; this is a defect");
            }
        }
    }
}

impl Drop for Healer {
    fn drop(&mut self) {
        self.shared.ask_to_stop();
    }
}

impl Shared {
    fn end(&self) -> std::sync::MutexGuard<'_, Option<Result<(), String>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_stop(&self) {
        let end = self.end();
        self.stop.store(true, Ordering::Relaxed);
        drop(end);
        self.woken.notify_all();
    }

    fn wanted(&self) -> Result<(), Ending> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Ending::Asked),
            false => Ok(()),
        }
    }

    /// Sleeps, unless it is to stop.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut end = self.end();
        while !self.stop.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.woken.wait_timeout(end, left);
            end = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Why the work is over before its end.
enum Ending {
    Asked,
    Because(String),
}

struct Work {
    shared: Arc<Shared>,
    process: OwnedFd,
    pagemap: File,
    place: Place,
    runs: Vec<PageRun>,
}

impl Work {
    fn run(mut self) {
        let thread = rustix::thread::gettid();
        // Behind everybody else.
        let _ = rustix::process::setpriority_process(Some(thread), 10);
        let outcome = self.rounds();
        let mut end = self.shared.end();
        *end = match outcome {
            Ok(()) => Some(Ok(())),
            Err(Ending::Asked) => Some(Err("It was asked to.".into())),
            Err(Ending::Because(reason)) => Some(Err(reason)),
        };
    }

    fn rounds(&mut self) -> Result<(), Ending> {
        let mut last = Ending::Asked;
        for _ in 0..ROUNDS {
            let outcome = self.split_ranges().and_then(|split| self.round(&split));
            match outcome {
                Ok(0) => return Ok(()),
                Ok(left) => {
                    last = Ending::Because(format!("{left} cannot be made whole."));
                }
                Err(Ending::Because(reason)) => last = Ending::Because(reason),
                Err(Ending::Asked) => return Err(Ending::Asked),
            }
            self.shared.rest(AGAIN);
            self.shared.wanted()?;
        }
        Err(last)
    }

    /// The dense ranges that are not huge.
    fn split_ranges(&mut self) -> Result<Vec<u64>, Ending> {
        let mut split = Vec::new();
        let end = (self.place.start + self.place.length) / RANGE * RANGE;
        let mut at = self.place.start.next_multiple_of(RANGE);
        while at < end {
            self.shared.wanted()?;
            let until = (at + STRETCH).min(end);
            let dense = self.look(at, until).map_err(|error| {
                Ending::Because(match error.raw_os_error() {
                    Some(libc::ENOTTY) => "It needs Linux 6.7 or later.".into(),
                    _ => format!("The pages of the process cannot be seen ({error})."),
                })
            })?;
            split.extend(dense);
            at = until;
        }
        self.shared
            .left
            .store(split.len() as u64, Ordering::Relaxed);
        Ok(split)
    }

    /// The dense ranges between two addresses (multiples of a range).
    fn look(&mut self, start: u64, end: u64) -> io::Result<Vec<u64>> {
        let ranges = usize::try_from((end - start) / RANGE).unwrap_or(0);
        let mut present = vec![0u64; ranges];
        let mut at = start;
        while at < end {
            let (found, reached) = raw::scan_pages(&self.pagemap, at, end, &mut self.runs)?;
            for run in self.runs.iter().take(found) {
                count(run, start, &mut present);
            }
            if reached <= at {
                break;
            }
            at = reached;
        }
        let dense = present.into_iter().zip(0u64..);
        Ok(dense
            .filter(|(pages, _)| (DENSE..=RANGE / PAGE).contains(pages))
            .map(|(_, index)| start + index * RANGE)
            .collect())
    }

    /// Collapses ranges; answers how many of them could not be.
    fn round(&mut self, split: &[u64]) -> Result<u64, Ending> {
        let mut refused = 0;
        for (range, index) in split.iter().zip(0u64..) {
            self.shared.wanted()?;
            if index % BATCH == 0 {
                enough_memory()?;
            }
            let began = Instant::now();
            let done = raw::collapse(&self.process, *range, RANGE as usize);
            let took = began.elapsed();
            match done {
                Ok(()) => {
                    self.shared.healed.fetch_add(1, Ordering::Relaxed);
                    self.shared.left.fetch_sub(1, Ordering::Relaxed);
                }
                Err(error) => match error.raw_os_error() {
                    // Pages that are in use just now, or a range that has changed.
                    Some(libc::EAGAIN | libc::EBUSY | libc::EINVAL) => refused += 1,
                    Some(libc::ENOMEM) => {
                        return Err(Ending::Because(
                            "The host has no huge page left; its memory is fragmented or taken."
                                .into(),
                        ));
                    }
                    Some(libc::ESRCH) => {
                        return Err(Ending::Because("The process has ended.".into()));
                    }
                    Some(libc::EPERM) => {
                        return Err(Ending::Because(
                            "The service has no right to it (CAP_SYS_NICE).".into(),
                        ));
                    }
                    _ => return Err(Ending::Because(format!("{error}."))),
                },
            }
            self.shared.rest(took * (SHARE - 1));
        }
        Ok(refused)
    }
}

/// Adds a run's pages to the ranges that they are in. A range with a huge page counts as having more
/// than all.
fn count(run: &PageRun, start: u64, present: &mut [u64]) {
    if run.kinds & PAGE_PRESENT == 0 || run.kinds & PAGE_ZERO != 0 {
        return;
    }
    let mut at = run.start.max(start);
    while at < run.end {
        let index = (at - start) / RANGE;
        let until = run.end.min(start + (index + 1) * RANGE);
        let pages = match run.kinds & PAGE_HUGE {
            0 => (until - at) / PAGE,
            _ => 2 * RANGE / PAGE,
        };
        let range = usize::try_from(index).ok().and_then(|i| present.get_mut(i));
        if let Some(range) = range {
            *range += pages;
        }
        at = until;
    }
}

fn enough_memory() -> Result<(), Ending> {
    let (total, available) = super::pool::Host::default().memory_mib();
    let least = (total / 16).max(LEAST_AVAILABLE_MIB);
    if available < least {
        return Err(Ending::Because(format!(
            "The host has {available} MiB of memory available; {least} MiB are left alone."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_found_among_the_blocks() {
        let text = "              Block Name    PSize              Offset               Used\r\n\
            memory    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000 \
            0x00007f1234600000 rw\r\n\
            memory.rom    4 KiB  0x1 0x2 0x3 0x4 ro\r\n";
        let place = parse_place(text).unwrap();
        assert_eq!((place.start, place.length), (0x7f12_3460_0000, 64 << 20));
        for wrong in [
            "",
            "memory",
            "memory 4 KiB 0x0 0x1 0x1",
            "memory 4 KiB 0x0 0xffffffffffffffff 0x1 0x7f1234600000",
            "memory 4 KiB 0x0 0x1 0x1 0x0 rw",
        ] {
            assert_eq!(parse_place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_nearly_full_ranges_that_are_not_huge_are_dense() {
        let run = |start, end, kinds| PageRun { start, end, kinds };
        let mut present = vec![0; 4];
        let base = 4 * RANGE;
        // Across two ranges, zeros between.
        count(
            &run(base + PAGE, base + RANGE + PAGE, PAGE_PRESENT),
            base,
            &mut present,
        );
        count(
            &run(base, base + PAGE, PAGE_PRESENT | PAGE_ZERO),
            base,
            &mut present,
        );
        count(
            &run(base + 2 * RANGE, base + 3 * RANGE, PAGE_PRESENT | PAGE_HUGE),
            base,
            &mut present,
        );
        assert_eq!(present, [511, 1, 1024, 0]);
        // Beyond what was asked for.
        count(
            &run(base + 3 * RANGE, base + 9 * RANGE, PAGE_PRESENT),
            base,
            &mut present,
        );
        assert_eq!(present, [511, 1, 1024, 512]);
    }
}
