//! Memory load on request: memory full of noise, and memory that is dirtied at a rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use demo_guest::pattern;
use demo_guest::ram::{PAGE_SIZE, Page};

use crate::{Failure, system};

/// Memory that load leaves free.
const SPARE_MEMORY: u64 = 12 << 20;
const PAGES_PER_MIB: u64 = (1 << 20) / PAGE_SIZE as u64;
const STEP: Duration = Duration::from_millis(5);
/// Pages dirtied between two looks at the clock when there is no limit.
const UNLIMITED_BATCH: u64 = 256;

/// The load of this guest.
#[derive(Default)]
pub struct Load {
    noise: Mutex<Vec<Page>>,
    /// Set to end the dirtier that runs now.
    stop: Mutex<Arc<AtomicBool>>,
    dirtied_pages: Arc<AtomicU64>,
}

impl Load {
    /// Holds so many MiB of noise from now on.
    pub fn fill(&self, mib: u64) -> Result<(), Failure> {
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        noise.clear();
        noise.shrink_to_fit();
        *noise = allocate(mib)?;
        for (number, page) in (0..).zip(noise.iter()) {
            for (place, word) in (0..).zip(page.words()) {
                word.store(pattern::word(number, place), SeqCst);
            }
        }
        Ok(())
    }

    /// Dirties `mib` MiB over and over at `rate` MiB/s, or as fast as it can.
    pub fn dirty(&self, rate: Option<u64>, mib: u64) -> Result<(), Failure> {
        let mut current = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        current.store(true, SeqCst);
        if rate == Some(0) || mib == 0 {
            return Ok(());
        }
        let pages = allocate(mib)?;
        let stop = Arc::new(AtomicBool::new(false));
        *current = Arc::clone(&stop);
        let dirtied = Arc::clone(&self.dirtied_pages);
        crate::spawn("dirtier", move || {
            dirty_pages(&pages, rate, &stop, &dirtied)
        })?;
        Ok(())
    }

    /// MiB of pages dirtied so far.
    pub fn dirtied_mib(&self) -> u64 {
        self.dirtied_pages.load(SeqCst) / PAGES_PER_MIB
    }
}

fn dirty_pages(pages: &[Page], rate: Option<u64>, stop: &AtomicBool, dirtied: &AtomicU64) {
    let mut places = pages.iter().cycle();
    let mut owed = 0.0;
    let mut last = Instant::now();
    let mut value = 0;
    while !stop.load(SeqCst) {
        let batch = match rate {
            None => UNLIMITED_BATCH,
            Some(rate) => {
                std::thread::sleep(STEP);
                let now = Instant::now();
                owed += (now - last).as_secs_f64() * (rate * PAGES_PER_MIB) as f64;
                last = now;
                let whole = owed as u64;
                owed -= whole as f64;
                whole
            }
        };
        for _ in 0..batch {
            value += 1;
            if let Some([word, ..]) = places.next().map(Page::words) {
                word.store(value, SeqCst);
            }
        }
        dirtied.fetch_add(batch, SeqCst);
    }
}

fn allocate(mib: u64) -> Result<Vec<Page>, Failure> {
    let available = system::memory_figure("MemAvailable")?.saturating_sub(SPARE_MEMORY);
    if mib.saturating_mul(1 << 20) > available {
        return Err(format!("only {} MiB of memory can be had", available >> 20).into());
    }
    let pages = usize::try_from(mib * PAGES_PER_MIB)?;
    Ok(std::iter::repeat_with(Page::default).take(pages).collect())
}
