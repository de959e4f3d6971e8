//! Disks in formats that QEMU does not let a guest's memory out with (VHD and VHDX): each such
//! file is opened by a `qemu-nbd` of its own, and the guest's QEMU reads and writes it through a
//! Unix socket. The file stays where it is and what it is.
//!
//! Like QEMU, the servers are in sessions of their own and outlive the service. A server ends by
//! itself as soon as its QEMU, the only client, has gone, however that happened; so no file stays
//! locked. One that never had a client, because a start was broken off, is named in the run
//! folder ([`RECORD`]) and ended before the next start, or by [`end_leftovers`].
//!
//! Where to start: [`exports`] says what of a spec is served, [`start`] starts the servers,
//! [`Record`] finds them again.

use crate::command_line::can_do_direct_io;
use crate::identity::{self, Identity};
use crate::installation::Installation;
use crate::process::{ProcessError, wait_exit};
use crate::spec::{Format, Id, LaunchSpec, Medium};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::task::Poll;
use std::time::{Duration, Instant};

/// The file in a run folder that names the servers of its process.
const RECORD: &str = "exports.json";
/// How the names of all sockets and pid files begin.
const PREFIX: &str = "nbd";
/// More than any machine has.
const MAX_RECORD: u64 = 4 << 20;
const MAX_SAID: u64 = 4096;
/// How long a server may take until it listens. Opening a file replays its log.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may take to write and close its file once its client has gone.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long a killed server may take to go.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A file that is served to QEMU instead of being opened by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Export {
    /// The node in QEMU that is the server's client.
    pub node: Id,
    pub format: Format,
    pub path: PathBuf,
    pub read_only: bool,
    pub socket: PathBuf,
}

/// Whether QEMU would refuse to give a guest's memory out while it has such a file open itself.
pub(crate) fn is_served(format: Format) -> bool {
    matches!(format, Format::Vhd | Format::Vhdx)
}

/// What of the spec is served, and where.
pub(crate) fn exports(spec: &LaunchSpec) -> Vec<Export> {
    let mut found = Vec::new();
    for drive in spec.drives() {
        let layers = drive.medium.layers();
        for (at, layer) in layers.iter().enumerate() {
            if !is_served(layer.format) {
                continue;
            }
            let active = matches!(drive.medium, Medium::Disk(_)) && at + 1 == layers.len();
            found.push(Export {
                node: layer.node.clone(),
                format: layer.format,
                path: layer.path.clone(),
                read_only: !active,
                socket: spec.run_dir.join(format!("{PREFIX}{}.sock", found.len())),
            });
        }
    }
    found
}

/// A server, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub export: Export,
    pub identity: Identity,
}

impl Server {
    /// Makes it write and close its file, and waits for that. It does so by itself when its client
    /// has gone, but has to be asked if none has come (again).
    async fn ended(&self) {
        let Some(handle) = self.identity.open() else {
            return;
        };
        let (pid, path) = (self.identity.pid, self.export.path.display());
        if let Err(cause) = identity::terminate(&handle) {
            tracing::error!(pid, %cause, "a server of a disk could not be asked to end");
        }
        let gone = tokio::time::timeout(END_PATIENCE, wait_exit(pid, &handle));
        if gone.await.is_ok() {
            return;
        }
        tracing::error!(pid, %path, "a server of a disk did not end; killed");
        if let Err(cause) = identity::kill(&handle) {
            tracing::error!(pid, %cause, "a server of a disk could not be killed");
        }
        let gone = tokio::time::timeout(KILL_PATIENCE, wait_exit(pid, &handle));
        if gone.await.is_err() {
            tracing::error!(pid, %path, "a server of a disk was killed and is still there");
        }
    }
}

/// The servers of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub servers: Vec<Server>,
}

impl Record {
    /// Reads the record of a run folder; empty if there is none that can be read.
    pub fn read(run_dir: &Path) -> Record {
        let path = run_dir.join(RECORD);
        match read_limited(&path, MAX_RECORD) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|cause| {
                tracing::error!(path = %path.display(), %cause, "the record of servers is damaged");
                Record::default()
            }),
            Err(_) => Record::default(),
        }
    }

    fn write(&self, run_dir: &Path) -> io::Result<()> {
        let temporary = run_dir.join("exports.json.new");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, run_dir.join(RECORD))
    }

    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// What is behind a node of QEMU.
    pub fn of_node(&self, node: &str) -> Option<&Export> {
        let mut all = self.servers.iter().map(|s| &s.export);
        all.find(|e| e.node.as_str() == node)
    }

    /// Waits until any of them has ended; for ever, if there is none.
    pub async fn any_ended(&self) {
        let waiting = self.servers.iter().map(|server| async {
            if let Some(handle) = server.identity.open() {
                wait_exit(server.identity.pid, &handle).await;
            }
        });
        let mut waiting: Vec<_> = waiting.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            let ended = waiting
                .iter_mut()
                .any(|w| w.as_mut().poll(context).is_ready());
            if ended {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until all have closed their files; their QEMU must have gone.
    pub async fn ended(&self) {
        for server in &self.servers {
            server.ended().await;
        }
    }
}

/// Ends what a process that is no more, or never came to be, has left running.
pub(crate) async fn end_leftovers(run_dir: &Path) {
    for server in &Record::read(run_dir).servers {
        if server.identity.is_alive() {
            let (pid, path) = (server.identity.pid, server.export.path.display());
            tracing::warn!(pid, %path, "ending a server of a disk without a client");
            server.ended().await;
        }
    }
}

/// Starts those servers of a running process again that have ended by themselves; QEMU connects to
/// them when it next wants something of them. Answers the record as it is then, and whether any
/// had ended.
pub(crate) async fn revive(
    installation: &Installation,
    run_dir: &Path,
    mut record: Record,
) -> Result<(Record, bool), ProcessError> {
    let mut starting = Starting {
        children: Vec::new(),
    };
    for at in 0..record.servers.len() {
        let Some(server) = record.servers.get_mut(at) else {
            break;
        };
        if server.identity.is_alive() {
            continue;
        }
        let (pid, path) = (server.identity.pid, server.export.path.display());
        tracing::error!(pid, %path, "a server of a disk ended by itself; started again");
        let pid_file = pid_file_of(&server.export);
        match std::fs::remove_file(&pid_file) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(failed("Removing", &pid_file)(cause));
            }
            _ => {}
        }
        let mut child = spawn(installation, &server.export)?;
        let machine = server.identity.machine;
        if let Some(identity) = child.id().and_then(|pid| Identity::of(pid, machine)) {
            server.identity = identity;
        }
        let export = server.export.clone();
        record
            .write(run_dir)
            .map_err(failed("Writing", &run_dir.join(RECORD)))?;
        let listens = until_it_listens(&mut child, &export, Instant::now()).await;
        starting.children.push(child);
        listens?;
    }
    let any = !starting.children.is_empty();
    starting.leave_running();
    Ok((record, any))
}

/// Removes what ended servers have left in a run folder.
pub(crate) fn clear(run_dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(run_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            let kind = [".sock", ".pid", ".log"]
                .iter()
                .any(|end| name.ends_with(end));
            name == RECORD || (name.starts_with(PREFIX) && kind)
        });
        if ours {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Servers whose QEMU does not run yet; killed when dropped before [`Starting::leave_running`].
pub(crate) struct Starting {
    children: Vec<tokio::process::Child>,
}

impl Starting {
    /// From now on they live as long as their QEMU.
    pub fn leave_running(mut self) {
        for mut child in self.children.drain(..) {
            // Collects the exit status, so that no zombie stays.
            tokio::spawn(async move {
                if let Ok(status) = child.wait().await {
                    tracing::debug!(%status, "a server of a disk ended");
                }
            });
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already; tokio collects the exit status.
            let _ = child.start_kill();
        }
    }
}

/// Starts the servers of a spec and waits until they listen. The run folder must be there.
pub(crate) async fn start(
    installation: &Installation,
    spec: &LaunchSpec,
) -> Result<Starting, ProcessError> {
    let exports = exports(spec);
    let mut starting = Starting {
        children: Vec::new(),
    };
    if exports.is_empty() {
        return Ok(starting);
    }
    let mut record = Record::default();
    for export in &exports {
        let child = spawn(installation, export)?;
        let identity = child.id().and_then(|pid| Identity::of(pid, spec.uuid));
        starting.children.push(child);
        // One that has failed already is noticed below.
        if let Some(identity) = identity {
            record.servers.push(Server {
                export: export.clone(),
                identity,
            });
        }
        record
            .write(&spec.run_dir)
            .map_err(failed("Writing", &spec.run_dir.join(RECORD)))?;
    }
    let began = Instant::now();
    for (child, export) in starting.children.iter_mut().zip(&exports) {
        until_it_listens(child, export, began).await?;
    }
    Ok(starting)
}

fn spawn(
    installation: &Installation,
    export: &Export,
) -> Result<tokio::process::Child, ProcessError> {
    let program = installation.nbd.as_ref().ok_or(ProcessError::NoNbd)?;
    let log_path = log_of(export);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(failed("Making the file", &log_path))?;
    // As JSON, so that nothing in the path can be read as an option.
    let image = json!({
        "driver": export.format.driver(),
        "file": {
            "driver": "file", "filename": export.path.to_string_lossy(), "locking": "on",
        },
    });
    // As in `command_line`: past the page cache where the file system can.
    let cache = match can_do_direct_io(&export.path) {
        true => "none",
        false => "writeback",
    };
    let mut command = installation.in_own_session(program);
    command
        .arg("--socket")
        .arg(&export.socket)
        .arg("--pid-file")
        .arg(pid_file_of(export))
        .args(["--shared=1", "--discard=unmap"])
        .arg(format!("--cache={cache}"));
    if export.read_only {
        command.arg("--read-only");
    }
    command
        .arg(format!("json:{image}"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    tokio::process::Command::from(command)
        .spawn()
        .map_err(failed("Starting", program))
}

/// The pid file is written once the server listens. (Connecting to see would be taken for the
/// client that it lives for.)
async fn until_it_listens(
    child: &mut tokio::process::Child,
    export: &Export,
    began: Instant,
) -> Result<(), ProcessError> {
    let pid_file = pid_file_of(export);
    let listening = async {
        while !pid_file.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let path = export.path.clone();
    let left = START_PATIENCE.saturating_sub(began.elapsed());
    tokio::select! {
        ended = child.wait() => {
            let status = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
            let said = said_in(&log_of(export));
            if said.contains("Is another process using the image") {
                return Err(ProcessError::DiskInUse { path });
            }
            Err(ProcessError::DiskNotServed { path, status, said })
        }
        () = listening => Ok(()),
        () = tokio::time::sleep(left) => {
            let seconds = START_PATIENCE.as_secs();
            Err(ProcessError::DiskTimedOut { path, seconds })
        }
    }
}

fn pid_file_of(export: &Export) -> PathBuf {
    export.socket.with_extension("pid")
}

fn log_of(export: &Export) -> PathBuf {
    export.socket.with_extension("log")
}

fn said_in(log: &Path) -> String {
    match read_limited(log, MAX_SAID) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(cause) => format!("(its log cannot be read: {cause})"),
    }
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProcessError {
    let path = path.to_path_buf();
    move |cause| ProcessError::File {
        action,
        path,
        cause,
    }
}
