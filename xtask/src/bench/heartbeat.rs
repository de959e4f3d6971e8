//! The guest's heartbeat, timed from outside: the guest's own clock stands still with the guest.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Failure, process};

/// A guest that has been silent for that long does not run: it beats every 200 microseconds.
const QUIET: Duration = Duration::from_millis(300);

/// Hears every QEMU that runs the guest, one after the other: each connects when it starts, before
/// it runs any of the guest's code, so that not one beat is missed.
pub struct Heartbeat {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    beaten: Condvar,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    longest_silence: Duration,
    /// The first since somebody asked for it.
    first: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, now: Instant) {
        let mut state = self.lock();
        if let Some(last) = state.last.replace(now) {
            state.longest_silence = state.longest_silence.max(now - last);
        }
        if state.first.is_none() {
            state.first = Some(now);
            self.beaten.notify_all();
        }
    }

    fn hear(&self, mut stream: UnixStream) {
        hurry();
        let mut beats = [0_u8; 64];
        while matches!(stream.read(&mut beats), Ok(1..)) {
            self.note(Instant::now());
        }
    }
}

impl Heartbeat {
    /// Listens at the socket that the guest's debug port is connected to.
    pub fn listen(socket: &Path) -> Result<Self, Failure> {
        let listener = UnixListener::bind(socket)?;
        let shared = Arc::new(Shared::default());
        let hearing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let hearing = Arc::clone(&hearing);
                std::thread::spawn(move || hearing.hear(stream));
            }
        });
        Ok(Self { shared })
    }

    /// The longest silence since the last call, in milliseconds; one that lasts is counted so far.
    pub fn longest_silence(&self) -> f64 {
        let mut state = self.shared.lock();
        let lasting = state.last.map_or(Duration::ZERO, |last| last.elapsed());
        let silence = std::mem::take(&mut state.longest_silence).max(lasting);
        milliseconds(silence)
    }

    /// Waits until the guest does not run any more. The next beat is then the first.
    pub fn wait_quiet(&self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let mut state = self.shared.lock();
            if state.last.is_none_or(|last| last.elapsed() > QUIET) {
                state.last = None;
                state.first = None;
                state.longest_silence = Duration::ZERO;
                return Ok(());
            }
            drop(state);
            if Instant::now() > deadline {
                return Err("the guest goes on running, though it was ended".into());
            }
            std::thread::sleep(QUIET / 10);
        }
    }

    /// When the first beat came after [`Heartbeat::wait_quiet`].
    pub fn first_beat(&self, limit: Duration) -> Result<Instant, Failure> {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .beaten
            .wait_timeout_while(state, limit, |state| state.first.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state
            .first
            .ok_or_else(|| format!("no sign of life from the guest within {limit:?}").into())
    }
}

/// This thread shall note a beat when it comes, however busy the machine is. Where that is not
/// allowed, it is as late as any other.
fn hurry() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    drop(process::quiet(
        Command::new("chrt").args(["--fifo", "--pid", "10", &thread]),
    ));
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn silences_are_found_and_the_next_process_is_heard_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("beats");
        let heartbeat = Heartbeat::listen(&socket).expect("listening");
        let mut qemu = UnixStream::connect(&socket).expect("connected");
        qemu.write_all(b"x").expect("beaten");
        heartbeat.first_beat(LIMIT).expect("heard");
        heartbeat.wait_quiet(LIMIT).expect("quiet");
        drop(qemu);
        let mut qemu = UnixStream::connect(&socket).expect("connected");
        let before = Instant::now();
        qemu.write_all(b"x").expect("beaten");
        let first = heartbeat.first_beat(LIMIT).expect("heard");
        assert!(first >= before);
        std::thread::sleep(Duration::from_millis(20));
        qemu.write_all(b"x").expect("beaten");
        assert!(heartbeat.longest_silence() >= 20.0);
    }
}
