//! The host's end of the guest's serial port: a Unix socket (`-serial unix:PATH,server=on,wait=off`).
//!
//! Everything waits for a line and at most for the time given. Only one client at a time can hold
//! the socket, as QEMU has it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::protocol::{Ending, MAXIMUM_LINE, Ready, Report, Tick};

const KEPT_LINES: usize = 40;
const RETRY: Duration = Duration::from_millis(20);

/// Why the guest could not be asked or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// Nobody listens at the socket.
    #[error("cannot connect to the guest's serial port at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The last cause.
        source: io::Error,
    },
    /// The socket broke.
    #[error("the guest's serial port broke: {source}; last lines:\n{lines}")]
    Broken {
        /// The cause.
        source: io::Error,
        /// What the guest said last.
        lines: String,
    },
    /// QEMU closed the socket.
    #[error("the guest's serial port was closed; last lines:\n{lines}")]
    Closed {
        /// What the guest said last.
        lines: String,
    },
    /// The guest did not say what was waited for.
    #[error("no {awaited} from the guest within {limit:?}; last lines:\n{lines}")]
    TimedOut {
        /// What was waited for.
        awaited: String,
        /// For how long.
        limit: Duration,
        /// What the guest said last.
        lines: String,
    },
    /// The guest refused a command.
    #[error("the guest refused: {0}")]
    Refused(String),
}

/// A connection to the serial port of a demo guest.
#[derive(Debug)]
pub struct SerialClient {
    stream: UnixStream,
    pending: Vec<u8>,
    recent: VecDeque<String>,
}

impl SerialClient {
    /// Connects, trying again until somebody listens.
    ///
    /// # Errors
    /// When nobody does within `limit`.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, SerialError> {
        let deadline = Instant::now() + limit;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Self::over(stream)),
                Err(_) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(source) => {
                    return Err(SerialError::Connect {
                        path: path.to_owned(),
                        source,
                    });
                }
            }
        }
    }

    /// Talks over a stream that is connected already.
    #[must_use]
    pub const fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// Reads lines until `pick` takes one.
    ///
    /// # Errors
    /// When none is taken within `limit`, or the connection breaks.
    pub fn wait_for<T>(
        &mut self,
        awaited: &str,
        limit: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, SerialError> {
        let deadline = Instant::now() + limit;
        loop {
            let Some(line) = self.next_line(deadline)? else {
                let lines = self.recent_lines();
                return Err(SerialError::TimedOut {
                    awaited: awaited.to_owned(),
                    limit,
                    lines,
                });
            };
            if let Some(found) = pick(&line) {
                return Ok(found);
            }
        }
    }

    /// Waits until the guest counts. Also works when it has counted for long.
    ///
    /// # Errors
    /// When the guest does not say that it is ready within `limit`.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<Ready, SerialError> {
        let deadline = Instant::now() + limit;
        let mut asked = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = self.wait_for("ready line", left, |line| {
                Ready::parse(line)
                    .map(Some)
                    .or_else(|| (!asked && Tick::parse(line).is_some()).then_some(None))
            })?;
            match ready {
                Some(ready) => return Ok(ready),
                None => {
                    asked = true;
                    self.send("hello")?;
                }
            }
        }
    }

    /// The next tick.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn next_tick(&mut self, limit: Duration) -> Result<Tick, SerialError> {
        self.wait_for("tick", limit, Tick::parse)
    }

    /// Sends one command and gathers the lines that the guest says until its `ok`, ticks left out.
    ///
    /// # Errors
    /// When the guest refuses the command or does not answer within `limit`.
    pub fn command(&mut self, command: &str, limit: Duration) -> Result<Vec<String>, SerialError> {
        self.send(command)?;
        let verb = command.split(' ').next().unwrap_or_default().to_owned();
        let mut said = Vec::new();
        self.wait_for(&format!("answer to '{command}'"), limit, |line| {
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("ok"), Some(word)) if word == verb => return Some(Ok(())),
                (Some("error"), Some(word)) if word == verb => return Some(Err(line.to_owned())),
                (Some("tick"), _) => {}
                _ => said.push(line.to_owned()),
            }
            None
        })?
        .map_err(SerialError::Refused)?;
        Ok(said)
    }

    /// Asks for the exact counters at the end of a round.
    ///
    /// # Errors
    /// When the guest does not answer within `limit`.
    pub fn report(&mut self, limit: Duration) -> Result<Report, SerialError> {
        let said = self.command("report", limit)?;
        said.iter()
            .find_map(|line| Report::parse(line))
            .ok_or_else(|| {
                SerialError::Refused(format!("an answer without a report: {}", said.join(" | ")))
            })
    }

    /// Sets how many rounds a second the guest does at most; 0 halts it between two rounds.
    ///
    /// # Errors
    /// When the guest does not answer within `limit`.
    pub fn set_rate(&mut self, rounds: u32, limit: Duration) -> Result<(), SerialError> {
        self.command(&format!("rate {rounds}"), limit).map(drop)
    }

    /// Turns the heartbeat on the debug port on or off.
    ///
    /// # Errors
    /// When the guest does not answer within `limit`.
    pub fn set_heartbeat(&mut self, on: bool, limit: Duration) -> Result<(), SerialError> {
        self.command(if on { "heartbeat on" } else { "heartbeat off" }, limit)
            .map(drop)
    }

    /// Makes the guest hold `mib` MiB of noise.
    ///
    /// # Errors
    /// When it has not enough memory, or does not answer within `limit`.
    pub fn fill(&mut self, mib: u64, limit: Duration) -> Result<(), SerialError> {
        self.command(&format!("fill {mib}"), limit).map(drop)
    }

    /// Makes the guest dirty `mib` MiB of memory over and over, `rate` MiB a second (none: as fast
    /// as it can; 0: stop).
    ///
    /// # Errors
    /// When it has not enough memory, or does not answer within `limit`.
    pub fn dirty(
        &mut self,
        rate: Option<u64>,
        mib: u64,
        limit: Duration,
    ) -> Result<(), SerialError> {
        let rate = rate.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
        self.command(&format!("dirty {rate} {mib}"), limit)
            .map(drop)
    }

    /// Runs a command in the guest's shell: its output lines and exit status.
    ///
    /// # Errors
    /// When the guest cannot run it, or does not answer within `limit`.
    pub fn shell(&mut self, command: &str, limit: Duration) -> Result<Vec<String>, SerialError> {
        let said = self.command(&format!("sh {command}"), limit)?;
        Ok(said
            .iter()
            .filter_map(|line| line.strip_prefix("sh| "))
            .map(str::to_owned)
            .collect())
    }

    /// Asks the guest to power off and waits until it says that it does.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn power_off(&mut self, limit: Duration) -> Result<(), SerialError> {
        self.send("poweroff")?;
        self.wait_ending(Ending::PowerOff, limit)
    }

    /// Waits until the guest says that it ends.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_ending(&mut self, ending: Ending, limit: Duration) -> Result<(), SerialError> {
        let expected = ending.to_string();
        self.wait_for(&format!("'{expected}'"), limit, |line| {
            (line == expected).then_some(())
        })
    }

    /// Sends one line.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, line: &str) -> Result<(), SerialError> {
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|source| SerialError::Broken {
                source,
                lines: self.recent_lines(),
            })
    }

    /// The lines that were read last, for messages.
    #[must_use]
    pub fn recent_lines(&self) -> String {
        self.recent
            .iter()
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The next line, or none if `deadline` passes.
    fn next_line(&mut self, deadline: Instant) -> Result<Option<String>, SerialError> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Some(self.keep(&line)));
            }
            if self.pending.len() > MAXIMUM_LINE {
                let line = std::mem::take(&mut self.pending);
                return Ok(Some(self.keep(&line)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if self.read_more(left)? == 0 {
                return Err(SerialError::Closed {
                    lines: self.recent_lines(),
                });
            }
        }
    }

    /// Reads what there is; a time-out counts as one byte of nothing.
    fn read_more(&mut self, limit: Duration) -> Result<usize, SerialError> {
        let mut chunk = [0_u8; 1024];
        let read = self
            .stream
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
            .and_then(|()| self.stream.read(&mut chunk));
        match read {
            Ok(count) => {
                self.pending.extend(chunk.iter().take(count));
                Ok(count)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(1)
            }
            Err(source) => Err(SerialError::Broken {
                source,
                lines: self.recent_lines(),
            }),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> String {
        let line = String::from_utf8_lossy(bytes)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        if self.recent.len() == KEPT_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(line.clone());
        line
    }
}
