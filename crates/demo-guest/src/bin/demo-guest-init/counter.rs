//! The counting loop, and what the counters are at any time.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use demo_guest::disk::CounterBlock;
use demo_guest::protocol::{Ready, Report, Tick};
use demo_guest::ram::{
    PAGE_SIZE, Page, RING_PAGES, StatePage, expected_ring_value, judge_ring_page, write_ring_page,
};

use crate::Failure;
use crate::block_devices::{self, DataDisk};
use crate::load::Load;
use crate::system;

const DEFAULT_RATE: u32 = 200;
/// Every how many rounds the blocks are read back.
const VERIFY_EVERY: u64 = 8;
/// Memory that the ring leaves to everything else.
const SPARE_MEMORY: u64 = 24 << 20;
/// How often a halted loop looks whether it may go on.
const HALTED_POLL: Duration = Duration::from_millis(20);

/// The counters, in RAM and on the disks.
pub struct Counter {
    boot: u64,
    start: u64,
    state: Box<StatePage>,
    ring: Vec<Page>,
    rate: AtomicU32,
    read_errors: AtomicU64,
    write_errors: AtomicU64,
    /// The lowest counter of all data disks; `u64::MAX` without one.
    lowest_disk: AtomicU64,
    /// Held for the length of a round: whoever has it sees the counters between two rounds.
    disks: Mutex<Disks>,
    /// Memory held or dirtied on request.
    pub load: Load,
}

struct Disks {
    taken: Vec<DataDisk>,
    ignored: Vec<String>,
}

impl Counter {
    /// Takes the disks and the memory for the ring.
    pub fn new(boot: u64) -> Result<Self, Failure> {
        let (taken, ignored) = block_devices::take_all(&block_devices::present()?);
        let start = taken.iter().map(|disk| disk.counter).max().unwrap_or(0);
        let ring = allocate_ring(boot, start)?;
        let state = Box::<StatePage>::default();
        state.set_up(boot, start, ring.len().try_into()?);
        let lowest = taken
            .iter()
            .map(|disk| disk.counter)
            .min()
            .unwrap_or(u64::MAX);
        Ok(Self {
            boot,
            start,
            state,
            ring,
            rate: AtomicU32::new(DEFAULT_RATE),
            read_errors: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            lowest_disk: AtomicU64::new(lowest),
            disks: Mutex::new(Disks { taken, ignored }),
            load: Load::default(),
        })
    }

    /// Counts for ever.
    pub fn count(&self) {
        let mut next = Instant::now();
        loop {
            let rate = self.rate.load(SeqCst);
            if rate == 0 {
                std::thread::sleep(HALTED_POLL);
                next = Instant::now();
                continue;
            }
            self.round(&mut self.lock_disks());
            // A round that came late is not made up for: `rate` is an upper limit.
            next = (next + Duration::from_secs(1) / rate).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn round(&self, disks: &mut Disks) {
        let value = self.state.a().load(SeqCst) + 1;
        let contents = CounterBlock {
            boot: self.boot,
            counter: value,
        };
        self.state.a().store(value, SeqCst);
        let index = value % self.ring_length();
        if let Some(page) = usize::try_from(index)
            .ok()
            .and_then(|index| self.ring.get(index))
        {
            write_ring_page(page, self.boot, index, value);
        }
        for disk in &mut disks.taken {
            if !disk.is_in_step(contents).unwrap_or(false) {
                self.read_errors.fetch_add(1, SeqCst);
            }
            if disk.write(contents).is_err() {
                self.write_errors.fetch_add(1, SeqCst);
            }
        }
        self.note_lowest(disks);
        self.state.b().store(value, SeqCst);
        if value.is_multiple_of(VERIFY_EVERY) {
            for disk in &mut disks.taken {
                if !disk.verify(contents).unwrap_or(false) {
                    self.read_errors.fetch_add(1, SeqCst);
                }
            }
        }
    }

    /// Takes disks that were plugged in since, drops those that were unplugged.
    pub fn adopt_new_disks(&self) -> io::Result<()> {
        let present = block_devices::present()?;
        let mut disks = self.lock_disks();
        disks
            .taken
            .retain(|disk| present.iter().any(|name| name == disk.name()));
        disks.ignored.retain(|ignored| present.contains(ignored));
        let known = |name: &String| {
            disks.ignored.contains(name) || disks.taken.iter().any(|disk| disk.name() == name)
        };
        let new: Vec<String> = present
            .iter()
            .filter(|name| !known(name))
            .cloned()
            .collect();
        let (taken, ignored) = block_devices::take_all(&new);
        disks.taken.extend(taken);
        disks.ignored.extend(ignored);
        self.note_lowest(&disks);
        Ok(())
    }

    /// Sets the limit of rounds a second.
    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, SeqCst);
    }

    /// Ends counting with the round that is under way, for good.
    pub fn halt(&self) {
        self.rate.store(0, SeqCst);
        drop(self.lock_disks());
    }

    /// The state at the end of a round, with every ring page checked.
    pub fn report(&self) -> Report {
        let disks = self.lock_disks();
        let last = self.state.a().load(SeqCst);
        let ring = self.ring_length();
        let right = (0..).zip(&self.ring).filter(|(index, page)| {
            judge_ring_page(&page.load(), self.boot).is_some_and(|page| {
                page.whole
                    && page.index == *index
                    && page.value == expected_ring_value(*index, last, self.start, ring)
            })
        });
        Report {
            boot: self.boot,
            a: last,
            b: self.state.b().load(SeqCst),
            start: self.start,
            ring,
            ring_wrong: self.ring.len().abs_diff(right.count()) as u64,
            read_errors: self.read_errors.load(SeqCst),
            write_errors: self.write_errors.load(SeqCst),
            dirtied: self.load.dirtied_mib(),
            disks: disks.taken.iter().map(DataDisk::state).collect(),
        }
    }

    /// The state as `tick` says it. Does not wait for a round, so it also tells of one that hangs.
    pub fn tick(&self, seconds: u64) -> Tick {
        let disk = self.lowest_disk.load(SeqCst);
        Tick {
            seconds,
            ram: self.state.a().load(SeqCst),
            disk: (disk != u64::MAX).then_some(disk),
            errors: self.read_errors.load(SeqCst) + self.write_errors.load(SeqCst),
        }
    }

    /// What the guest is.
    pub fn ready(&self) -> io::Result<Ready> {
        let disks = self.lock_disks();
        Ok(Ready {
            boot: self.boot,
            start: self.start,
            ring: self.ring_length(),
            memory: system::memory_figure("MemTotal")? >> 20,
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            disks: disks.taken.iter().map(DataDisk::state).collect(),
            ignored: disks.ignored.clone(),
        })
    }

    fn note_lowest(&self, disks: &Disks) {
        let lowest = disks.taken.iter().map(|disk| disk.counter).min();
        self.lowest_disk.store(lowest.unwrap_or(u64::MAX), SeqCst);
    }

    fn ring_length(&self) -> u64 {
        self.ring.len() as u64
    }

    fn lock_disks(&self) -> MutexGuard<'_, Disks> {
        // A panic in a round would be a bug that the counters then show; going on is right here.
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole ring where memory allows, else the largest half, quarter, ... of it that fits.
fn allocate_ring(boot: u64, start: u64) -> Result<Vec<Page>, Failure> {
    let available = system::memory_figure("MemAvailable")?.saturating_sub(SPARE_MEMORY);
    let mut pages = RING_PAGES;
    while pages > 64 && (pages * PAGE_SIZE) as u64 > available {
        pages /= 2;
    }
    let ring: Vec<Page> = std::iter::repeat_with(Page::default).take(pages).collect();
    for (index, page) in (0..).zip(&ring) {
        write_ring_page(page, boot, index, start);
    }
    Ok(ring)
}
