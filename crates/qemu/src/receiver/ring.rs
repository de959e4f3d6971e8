//! Blocks of memory between the thread that receives and the thread that writes.
//!
//! Blocks are made when they are needed, up to a limit, used again, and given back to the host
//! when the ring is dropped.

use super::ReceiveError;
use crate::raw::Block;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Size of a block: two huge pages, and enough for one write to reach the disk's full speed.
pub const BLOCK: usize = 4 << 20;

/// Blocks made before the first byte comes, so that it does not wait for the kernel's zeroing.
const MADE_EARLY: usize = 16;

pub struct Ring {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    filled: VecDeque<(Block, usize)>,
    free: Vec<Block>,
    made: usize,
    /// Nothing more will be filled.
    finished: bool,
    /// Everybody is to stop.
    stopped: bool,
    stalled: Duration,
    in_use: usize,
    high_water: usize,
}

impl State {
    fn hand_out(&mut self, block: Block) -> Block {
        self.in_use += 1;
        self.high_water = self.high_water.max(self.in_use);
        block
    }
}

impl Ring {
    pub fn new(limit_bytes: usize) -> Ring {
        Ring {
            limit: (limit_bytes / BLOCK).max(2),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes some blocks ahead, their pages touched. Failing to is no failure.
    pub fn make_early(&self) {
        for _ in 0..MADE_EARLY.min(self.limit) {
            {
                let mut state = self.state();
                // As soon as the stream is there, the writer has better things to do.
                if state.stopped || state.finished || state.in_use > 0 || state.made >= self.limit {
                    return;
                }
                state.made += 1;
            }
            let made = Block::map(BLOCK).map(|mut block| {
                block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                block
            });
            let mut state = self.state();
            match made {
                Ok(block) => state.free.push(block),
                Err(_) => {
                    state.made -= 1;
                    return;
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// A block to fill. Waits when the limit is reached.
    pub fn empty_block(
        &self,
        failure: &watch::Sender<Option<ReceiveError>>,
    ) -> Result<Block, ReceiveError> {
        let mut state = self.state();
        loop {
            if state.stopped {
                let cause = failure.borrow().clone();
                return Err(cause.unwrap_or(ReceiveError::Cancelled));
            }
            if let Some(block) = state.free.pop() {
                return Ok(state.hand_out(block));
            }
            if state.made < self.limit {
                match Block::map(BLOCK) {
                    Ok(block) => {
                        state.made += 1;
                        return Ok(state.hand_out(block));
                    }
                    Err(cause) if state.made < 2 => {
                        return Err(ReceiveError::Memory {
                            cause: cause.into(),
                        });
                    }
                    // The host is short of memory: go on with what there is.
                    Err(_) => {}
                }
            }
            let waiting = Instant::now();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.stalled += waiting.elapsed();
        }
    }

    /// Hands a block with `length` bytes to the writer.
    pub fn push(&self, block: Block, length: usize) {
        self.state().filled.push_back((block, length));
        self.changed.notify_all();
    }

    /// The next filled block; `None` at the end.
    pub fn filled_block(&self) -> Option<(Block, usize)> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(next) = state.filled.pop_front() {
                return Some(next);
            }
            if state.finished {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a written block back.
    pub fn recycle(&self, block: Block) {
        let mut state = self.state();
        state.in_use = state.in_use.saturating_sub(1);
        state.free.push(block);
        drop(state);
        self.changed.notify_all();
    }

    /// The last block has been pushed.
    pub fn finish(&self) {
        self.state().finished = true;
        self.changed.notify_all();
    }

    /// Wakes everybody for the last time.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Gives the memory back, and tells how much was in use at most and how long the receiving
    /// thread waited for a block.
    pub fn give_back(&self) -> (usize, Duration) {
        let mut state = self.state();
        state.free = Vec::new();
        state.filled = VecDeque::new();
        (state.high_water.saturating_mul(BLOCK), state.stalled)
    }
}
