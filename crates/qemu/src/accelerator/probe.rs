//! Runs the probe guest under one accelerator and judges what comes out.
//!
//! Everything is bounded: the guest's time, what is read from QEMU, and the wait for its end.

use std::io::{self, Write};
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{timeout, timeout_at};

use super::{Accelerator, KvmFault, cpu_model, payload};
use crate::spec::MACHINE_TYPE;

/// For a killed process to go away, and then for the rest of its output.
const END_LIMIT: Duration = Duration::from_millis(500);
/// The guest must not run on if this process is itself killed: seconds of processor time.
const PROCESSOR_LIMIT: u64 = 30;
const OUTPUT_LIMIT: usize = 4096;
const MESSAGES_LIMIT: usize = 400;

pub(super) enum ProbeError {
    /// The guest did not prove anything, and this is why.
    Fault(KvmFault),
    /// QEMU cannot be executed.
    Launch(io::Error),
}

impl From<KvmFault> for ProbeError {
    fn from(fault: KvmFault) -> ProbeError {
        ProbeError::Fault(fault)
    }
}

/// One run of the probe guest.
pub(super) struct Probe<'a> {
    pub(super) qemu_binary: &'a Path,
    pub(super) accelerator: Accelerator,
    /// The CPU model; by default the one that machines have under this accelerator.
    pub(super) cpu: &'a str,
    pub(super) image: &'a [u8],
    pub(super) time_limit: Duration,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        qemu_binary: &'a Path,
        accelerator: Accelerator,
        image: &'a [u8],
        time_limit: Duration,
    ) -> Self {
        Probe {
            qemu_binary,
            accelerator,
            cpu: cpu_model(accelerator),
            image,
            time_limit,
        }
    }

    /// Returns how long the guest took if it arrived at the right result.
    pub(super) async fn run(&self) -> Result<Duration, ProbeError> {
        let image = self.write_image().map_err(KvmFault::NotTested)?;
        let started = Instant::now();
        let mut child = self
            .command(image.path())
            .spawn()
            .map_err(ProbeError::Launch)?;
        limit_resources(&child);
        let ended = self.observe(&mut child).await;
        let took = started.elapsed();
        self.judge(&ended)?;
        Ok(took)
    }

    fn write_image(&self) -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix("probe-guest-").tempfile()?;
        file.write_all(self.image)?;
        Ok(file)
    }

    fn command(&self, image: &Path) -> Command {
        let mut command = Command::new(self.qemu_binary);
        command
            .args([
                "-no-user-config",
                "-nodefaults",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-machine", MACHINE_TYPE, "-m", "64", "-smp", "1"])
            .args(["-accel", self.accelerator.as_str(), "-cpu", self.cpu])
            .arg("-bios")
            .arg(image)
            .args(["-chardev", "stdio,id=probe,signal=off"])
            .args(["-device", "isa-debugcon,iobase=0xe9,chardev=probe"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn observe(&self, child: &mut Child) -> Ended {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let status = {
            let mut reading =
                pin!(async { tokio::join!(read(stdout, &mut output), read(stderr, &mut errors)) });
            let mut all_read = false;
            let deadline = tokio::time::Instant::now() + self.time_limit;
            let status = loop {
                tokio::select! {
                    waited = timeout_at(deadline, child.wait()) => break waited,
                    _ = &mut reading, if !all_read => all_read = true,
                }
            };
            if status.is_err() {
                // A process stuck in the kernel may not go at once; dropping `child` leaves it
                // to the runtime, which reaps it when it does.
                let _ = timeout(END_LIMIT, child.kill()).await;
            }
            if !all_read {
                let _ = timeout(END_LIMIT, &mut reading).await;
            }
            status.ok().and_then(Result::ok)
        };
        Ended {
            status,
            output,
            errors,
        }
    }

    fn judge(&self, ended: &Ended) -> Result<(), ProbeError> {
        let stage = payload::stage(&ended.output);
        let messages = readable(&ended.errors);
        let fault = match &ended.status {
            None => KvmFault::Stalled {
                stage,
                limit: self.time_limit,
                messages,
            },
            Some(status) => match status.code() {
                Some(payload::EXIT_DONE) if payload::is_complete(&ended.output) => return Ok(()),
                Some(payload::EXIT_DONE) => KvmFault::WrongResult { stage },
                Some(code) if payload::EXITS_WRONG.contains(&code) => {
                    KvmFault::WrongResult { stage }
                }
                _ if messages.contains("invalid accelerator kvm") => KvmFault::NotInQemu,
                _ => KvmFault::QemuEnded {
                    status: *status,
                    stage,
                    messages,
                },
            },
        };
        Err(fault.into())
    }
}

/// How a run ended: no status means not in time.
struct Ended {
    status: Option<ExitStatus>,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// No core file from a QEMU that aborts, no guest that runs on without us. Best effort: the
/// answer does not depend on it.
fn limit_resources(child: &Child) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    for (resource, most) in [(Resource::Core, 0), (Resource::Cpu, PROCESSOR_LIMIT)] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            tracing::debug!(%error, ?resource, "the probe guest runs without this limit");
        }
    }
}

/// Reads to the end so that the writer never blocks, and keeps the beginning.
async fn read<R: AsyncRead + Unpin>(from: Option<R>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT_LIMIT.saturating_sub(into.len()).min(length);
        into.extend(chunk.iter().take(room));
    }
}

/// QEMU's messages in one short line: no warnings, no register dump, no control characters.
fn readable(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("RAX="))
        .filter(|line| !line.is_empty())
        .filter(|line| !line.contains(": warning: ") && !line.starts_with("extra data["))
        .map(|line| line.trim_end_matches('.'))
        .collect();
    let joined = lines.join("; ");
    let visible = joined.chars().filter(|c| !c.is_control());
    visible.take(MESSAGES_LIMIT).collect()
}
