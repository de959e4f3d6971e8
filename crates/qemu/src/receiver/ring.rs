//! Blocks of memory on their way from one thread to another.
//!
//! Blocks are made when they are needed, up to a limit, used again, and in the end kept for a while
//! for the next stream ([`stock`]). With a filled block goes what the next thread must know of it.

use super::{ReceiveError, stock};
use crate::raw::Block;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Size of a block: two huge pages, and enough for one write to reach the disk's full speed.
pub const BLOCK: usize = 4 << 20;

pub struct Ring<T> {
    limit: usize,
    state: Mutex<State<T>>,
    /// A block was filled, or nothing more will be.
    filled: Condvar,
    /// A block is free.
    freed: Condvar,
    /// One is not free any more.
    taken: Condvar,
}

struct State<T> {
    filled: VecDeque<(Block, T)>,
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

impl<T> State<T> {
    fn hand_out(&mut self, block: Block) -> Block {
        self.in_use += 1;
        self.high_water = self.high_water.max(self.in_use);
        block
    }
}

impl<T> Ring<T> {
    pub fn new(limit_bytes: usize) -> Ring<T> {
        Ring {
            limit: (limit_bytes / BLOCK).max(2),
            state: Mutex::new(State {
                filled: VecDeque::new(),
                free: Vec::new(),
                made: 0,
                finished: false,
                stopped: false,
                stalled: Duration::ZERO,
                in_use: 0,
                high_water: 0,
            }),
            filled: Condvar::new(),
            freed: Condvar::new(),
            taken: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes blocks until as many are free, their pages touched: the kernel's zeroing, and where
    /// this machine is a virtual one its host's, can take tens of milliseconds for some of them.
    /// After `least` of them it takes no longer than this. Failing to is no failure.
    pub fn make_early(&self, blocks: usize, least: usize, time: Duration) {
        let began = Instant::now();
        while self.make_one(blocks, false) {
            if began.elapsed() >= time && self.state().free.len() >= least {
                return;
            }
        }
    }

    /// Keeps blocks free in the same way until nothing more is to be filled. For a thread of its own.
    pub fn keep_free(&self, blocks: usize) {
        while self.make_one(blocks, true) {}
    }

    /// False if nothing is to be made. It may `wait` for something to be.
    fn make_one(&self, blocks: usize, wait: bool) -> bool {
        let mut state = self.state();
        while state.free.len() >= blocks || state.made >= self.limit {
            if !wait || state.stopped || state.finished {
                return false;
            }
            let taken = self.taken.wait(state);
            state = taken.unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped || state.finished {
            return false;
        }
        state.made += 1;
        drop(state);
        let made = match stock::take() {
            Some(block) => Ok(block),
            None => Block::map(BLOCK).map(|mut block| {
                block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                block
            }),
        };
        let mut state = self.state();
        let fine = match made {
            Ok(block) => {
                state.free.push(block);
                true
            }
            Err(_) => {
                state.made -= 1;
                false
            }
        };
        drop(state);
        self.freed.notify_one();
        fine
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
                self.taken.notify_one();
                return Ok(state.hand_out(block));
            }
            if state.made < self.limit {
                match Block::map_small(BLOCK) {
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
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.stalled += waiting.elapsed();
        }
    }

    /// Hands a filled block on.
    pub fn push(&self, block: Block, about: T) {
        self.state().filled.push_back((block, about));
        self.filled.notify_one();
    }

    /// The next filled block; `None` at the end.
    pub fn filled_block(&self) -> Option<(Block, T)> {
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
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a block back that is done with.
    pub fn recycle(&self, block: Block) {
        let mut state = self.state();
        state.in_use = state.in_use.saturating_sub(1);
        state.free.push(block);
        drop(state);
        self.freed.notify_one();
    }

    /// How much of what has been made is in use.
    pub fn used_percent(&self) -> usize {
        let state = self.state();
        state.in_use.saturating_mul(100) / state.made.max(1)
    }

    /// The last block has been pushed.
    pub fn finish(&self) {
        self.state().finished = true;
        self.filled.notify_all();
        self.taken.notify_all();
    }

    /// Wakes everybody for the last time.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.filled.notify_all();
        self.freed.notify_all();
        self.taken.notify_all();
    }

    /// Whether nothing more will be filled.
    pub fn is_finished(&self) -> bool {
        self.state().finished
    }

    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Gives the memory up, and tells how much was in use at most and how long anybody waited
    /// for a block.
    pub fn give_back(&self) -> (usize, Duration) {
        let mut state = self.state();
        stock::keep(std::mem::take(&mut state.free));
        state.filled = VecDeque::new();
        (state.high_water.saturating_mul(BLOCK), state.stalled)
    }
}
