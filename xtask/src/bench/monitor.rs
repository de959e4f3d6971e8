//! A QMP monitor beside the one that a contender uses: sees for itself when the guest stands still.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::contender::Accelerator;
use crate::Failure;

/// QEMU answers at once unless it is saving the guest's memory on its main thread.
const LIMIT: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(50);

/// Times at which the guest stood still, by QEMU's clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub stopped: u64,
    pub resumed: u64,
}

impl Pause {
    pub fn milliseconds(self) -> f64 {
        self.resumed.saturating_sub(self.stopped) as f64 / 1000.0
    }
}

/// The monitor.
pub struct Monitor {
    stream: BufReader<UnixStream>,
    /// Of an event STOP that no RESUME has followed.
    stopped: Option<u64>,
    pauses: Vec<Pause>,
}

impl Monitor {
    /// Connects, trying again until somebody listens.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
            stopped: None,
            pauses: Vec::new(),
        };
        monitor.ask("qmp_capabilities")?;
        Ok(monitor)
    }

    /// What runs the guest's code.
    pub fn accelerator(&mut self) -> Result<Accelerator, Failure> {
        Ok(match self.ask("query-kvm")?.get("enabled") {
            Some(Value::Bool(true)) => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        })
    }

    /// The pauses since the last call, each over.
    pub fn pauses(&mut self) -> Result<Vec<Pause>, Failure> {
        // Events come in order: with the answer, all that happened before it is here.
        self.ask("query-status")?;
        if self.stopped.is_some() {
            return Err("the guest still stands still after the snapshot".into());
        }
        Ok(std::mem::take(&mut self.pauses))
    }

    fn ask(&mut self, command: &str) -> Result<Value, Failure> {
        let line = serde_json::json!({ "execute": command }).to_string();
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("QEMU has closed the monitor".into());
            }
            let mut message: Value = serde_json::from_str(&line)?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if message.get("error").is_some() {
                return Err(format!("QEMU refuses {command}: {line}").into());
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let time = |part: &str| message.pointer(&format!("/timestamp/{part}"))?.as_u64();
        let (Some(seconds), Some(rest)) = (time("seconds"), time("microseconds")) else {
            return;
        };
        let now = seconds.saturating_mul(1_000_000).saturating_add(rest);
        match message.get("event").and_then(Value::as_str) {
            Some("STOP") => self.stopped = Some(now),
            Some("RESUME") => {
                if let Some(stopped) = self.stopped.take() {
                    self.pauses.push(Pause {
                        stopped,
                        resumed: now,
                    });
                }
            }
            _ => {}
        }
    }
}

/// Connects to a socket of QEMU, trying again until somebody listens.
pub fn connect(socket: &Path) -> Result<UnixStream, Failure> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(_) if Instant::now() < deadline => std::thread::sleep(RETRY),
            Err(error) => return Err(format!("{}: {error}", socket.display()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_from_the_events_before_an_answer() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let qemu = std::thread::spawn(move || {
            let mut theirs = theirs;
            let events = r#"{"timestamp": {"seconds": 10, "microseconds": 999000}, "event": "STOP"}
{"timestamp": {"seconds": 11, "microseconds": 1500}, "event": "RESUME"}
{"timestamp": {"seconds": 12, "microseconds": 0}, "event": "JOB_STATUS_CHANGE"}
{"return": {"status": "running"}}
{"timestamp": {"seconds": 13, "microseconds": 0}, "event": "STOP"}
{"return": {"status": "paused"}}
"#;
            theirs.write_all(events.as_bytes()).expect("written");
            theirs
        });
        let mut monitor = Monitor {
            stream: BufReader::new(ours),
            stopped: None,
            pauses: Vec::new(),
        };
        let pauses = monitor.pauses().expect("answered");
        let lengths: Vec<f64> = pauses.iter().map(|pause| pause.milliseconds()).collect();
        assert_eq!(lengths, [2.5]);
        let error = monitor.pauses().expect_err("the guest is paused");
        assert!(error.to_string().contains("stands still"), "{error}");
        drop(qemu.join());
    }
}
