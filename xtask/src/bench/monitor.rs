//! A QMP monitor of the benchmark's own, beside the one that a contender uses: sees for itself when
//! the guest stands still and when all its memory is there.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contender::Accelerator;
use crate::{Failure, Outcome};

/// QEMU answers at once unless it is saving or loading the guest's memory on its main thread.
const LIMIT: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(20);

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
        let mut monitor = Self::over(stream);
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn over(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            stopped: None,
            pauses: Vec::new(),
        }
    }

    /// What runs the guest's code.
    pub fn accelerator(&mut self) -> Result<Accelerator, Failure> {
        let answer = self.execute("query-kvm", json!({}))?;
        Ok(match answer.get("enabled") {
            Some(Value::Bool(true)) => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        })
    }

    /// The pauses since the last call, each over.
    pub fn pauses(&mut self) -> Result<Vec<Pause>, Failure> {
        // Events come in order: with the answer, all that happened before it is here.
        self.execute("query-status", json!({}))?;
        if self.stopped.is_some() {
            return Err("the guest still stands still after the snapshot".into());
        }
        Ok(std::mem::take(&mut self.pauses))
    }

    /// Whether memory of the guest is still on its way into this process.
    pub fn is_receiving(&mut self) -> Result<bool, Failure> {
        let answer = self.execute("query-migrate", json!({}))?;
        let status = answer.get("status").and_then(Value::as_str);
        Ok(matches!(
            status,
            Some("setup" | "active" | "device" | "postcopy-active" | "postcopy-paused")
        ))
    }

    /// Has a job done that `command` starts under the name `job`.
    pub fn run_job(&mut self, command: &str, job: &str, mut arguments: Value) -> Outcome {
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.insert("job-id".into(), json!(job));
        }
        self.execute(command, arguments)?;
        let concluded = |message: &Value| {
            let of = |key: &str| message.pointer(&format!("/data/{key}"))?.as_str();
            of("id") == Some(job) && of("status") == Some("concluded")
        };
        // It may have concluded before the command was answered; then it is among the jobs already.
        while !self.is_concluded(job)? {
            while !concluded(&self.next()?) {}
        }
        let jobs = self.execute("query-jobs", json!({}))?;
        let error = jobs.as_array().into_iter().flatten().find_map(|one| {
            let is_it = one.get("id").and_then(Value::as_str) == Some(job);
            is_it.then(|| one.get("error").cloned()).flatten()
        });
        self.execute("job-dismiss", json!({ "id": job }))?;
        match error {
            Some(error) => Err(format!("QEMU's {command} failed: {error}").into()),
            None => Ok(()),
        }
    }

    fn is_concluded(&mut self, job: &str) -> Result<bool, Failure> {
        let jobs = self.execute("query-jobs", json!({}))?;
        Ok(jobs.as_array().into_iter().flatten().any(|one| {
            let of = |key: &str| one.get(key).and_then(Value::as_str);
            of("id") == Some(job) && of("status") == Some("concluded")
        }))
    }

    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Failure> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut message = self.next()?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if message.get("error").is_some() {
                return Err(format!("QEMU refuses {command}: {message}").into());
            }
        }
    }

    /// The next message; events are noted on the way.
    fn next(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("QEMU has closed the monitor".into());
        }
        let message: Value = serde_json::from_str(&line)?;
        self.note(&message);
        Ok(message)
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
fn connect(socket: &Path) -> Result<UnixStream, Failure> {
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

    /// A QEMU that says all this, whatever it is asked.
    fn saying(text: &'static str) -> Monitor {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(text.as_bytes()).expect("written");
        // Kept open, as QEMU would.
        std::mem::forget(theirs);
        Monitor::over(ours)
    }

    #[test]
    fn pauses_are_read_from_the_events_before_an_answer() {
        let mut monitor = saying(
            r#"{"timestamp": {"seconds": 10, "microseconds": 999000}, "event": "STOP"}
{"timestamp": {"seconds": 11, "microseconds": 1500}, "event": "RESUME"}
{"timestamp": {"seconds": 12, "microseconds": 0}, "event": "JOB_STATUS_CHANGE"}
{"return": {"status": "running"}}
{"timestamp": {"seconds": 13, "microseconds": 0}, "event": "STOP"}
{"return": {"status": "paused"}}
"#,
        );
        let pauses = monitor.pauses().expect("answered");
        let lengths: Vec<f64> = pauses.iter().map(|pause| pause.milliseconds()).collect();
        assert_eq!(lengths, [2.5]);
        let error = monitor.pauses().expect_err("the guest is paused");
        assert!(error.to_string().contains("stands still"), "{error}");
    }

    #[test]
    fn a_job_that_fails_says_why() {
        let mut monitor = saying(
            r#"{"return": {}}
{"return": [{"id": "j", "status": "running"}]}
{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "JOB_STATUS_CHANGE", "data": {"id": "j", "status": "concluded"}}
{"return": [{"id": "j", "status": "concluded", "error": "no room"}]}
{"return": [{"id": "j", "status": "concluded", "error": "no room"}]}
{"return": {}}
"#,
        );
        let error = monitor
            .run_job("snapshot-save", "j", json!({}))
            .expect_err("failed");
        assert!(error.to_string().contains("no room"), "{error}");
    }
}
