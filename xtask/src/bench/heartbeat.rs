//! The guest's heartbeat, timed from outside: the guest's own clock stands still with the guest.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::monitor::connect;
use crate::Failure;

/// Longest silences of the guest, in a stretch of time.
pub struct Heartbeat {
    state: Arc<Mutex<Stretch>>,
}

struct Stretch {
    last: Instant,
    longest_silence: Duration,
}

impl Stretch {
    fn note(&mut self, now: Instant) {
        self.longest_silence = self.longest_silence.max(now - self.last);
        self.last = now;
    }
}

impl Heartbeat {
    /// Listens to the socket that the guest's debug port leads to, until it is closed.
    pub fn listen(socket: &Path) -> Result<Self, Failure> {
        let mut stream = connect(socket)?;
        let state = Arc::new(Mutex::new(Stretch {
            last: Instant::now(),
            longest_silence: Duration::ZERO,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let mut beats = [0_u8; 64];
            while matches!(stream.read(&mut beats), Ok(1..)) {
                let now = Instant::now();
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(now);
            }
        });
        Ok(Self { state })
    }

    /// The longest silence since the last call, in milliseconds; one that lasts is counted so far.
    pub fn longest_silence(&self) -> f64 {
        let mut stretch = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = stretch.longest_silence.max(stretch.last.elapsed());
        stretch.longest_silence = Duration::ZERO;
        silence.as_secs_f64() * 1000.0
    }
}
