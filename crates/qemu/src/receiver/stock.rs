//! Blocks that are kept for the next stream.
//!
//! Memory that is touched for the first time costs the kernel its zeroing, and where this machine is
//! a virtual one, its host far more: up to 10 ms for a block. Snapshots often come in a row, of one
//! machine or of many, so the blocks of a stream are kept for a while: so many at most and so long.

use crate::raw::Block;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most blocks that are kept, 256 MiB.
const MOST: usize = 64;
/// For how long after the last stream.
const KEPT_FOR: Duration = Duration::from_secs(60);

struct Stock {
    blocks: Vec<Block>,
    /// When they are given back to the host.
    until: Option<Instant>,
}

static STOCK: Mutex<Stock> = Mutex::new(Stock {
    blocks: Vec::new(),
    until: None,
});

fn stock() -> MutexGuard<'static, Stock> {
    STOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block whose memory is there already.
pub fn take() -> Option<Block> {
    stock().blocks.pop()
}

/// Keeps blocks whose memory is there. What is too much goes back to the host.
pub fn keep(blocks: Vec<Block>) {
    let mut stock = stock();
    let room = MOST.saturating_sub(stock.blocks.len());
    stock.blocks.extend(blocks.into_iter().take(room));
    let is_watched = stock.until.is_some();
    stock.until = Some(Instant::now() + KEPT_FOR);
    drop(stock);
    if is_watched {
        return;
    }
    let thread = std::thread::Builder::new().name("memory-kept".into());
    if thread.spawn(give_back_in_time).is_err() {
        empty();
    }
}

fn empty() {
    let mut stock = stock();
    stock.until = None;
    let blocks = std::mem::take(&mut stock.blocks);
    drop(stock);
    // The kernel takes its time for it.
    drop(blocks);
}

/// Runs until the time has come; every stream puts it off.
fn give_back_in_time() {
    loop {
        let until = stock().until;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if !left.is_zero() => std::thread::sleep(left),
            _ => return empty(),
        }
    }
}
