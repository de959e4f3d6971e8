//! A running QEMU process and its verbs.
//!
//! The process is in its own session, holds no pipe to us and is not ended when we are: guests
//! outlive the service, which finds them again with [`Process::reconnect`]. (A service manager
//! that ends every process of a service with it must be told not to.)

use crate::identity::{self, Identity};
use crate::installation::Installation;
use crate::nbd;
use crate::qmp::{Event, Qmp, QmpError};
use crate::spec::{LaunchSpec, SpecError, Start};
use serde_json::{Value, json};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The Unix sockets in a run folder: the monitor we use, and a spare for when that one is taken.
pub const SOCKET_NAMES: [&str; 2] = ["qmp.sock", "spare.sock"];
/// More of them, for commands that wait for their moment: [`Qmp::load`]. A process that an older
/// version of this program started has none.
pub const LOADING_SOCKET_NAMES: [&str; 3] = ["load1.sock", "load2.sock", "load3.sock"];

/// What QEMU writes to its standard output and error, in the run folder.
pub const LOG_FILE: &str = "qemu.log";

/// How long QEMU may take from start to readiness. Huge pages are filled in this time.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(120);
/// How long a monitor may take to greet when we reconnect.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// The same, for somebody who only looks and can wait.
const LOOKING_PATIENCE: Duration = Duration::from_secs(30);
/// How long QEMU may take to say whether the guest runs. It knows without looking, so one that
/// takes longer is stuck, and whoever asks must not be held up with it.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed process may take to go.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// How long a process that has closed its monitors may take to be gone.
const GOING: Duration = Duration::from_secs(10);
/// How long QEMU may be on its way out after it has closed its disks.
const LEAVING: Duration = Duration::from_millis(500);
/// How much of the log is shown.
const LOG_TAIL: u64 = 4096;

/// A running QEMU process. Clones share it. Dropping it leaves the guest running.
#[derive(Clone)]
pub struct Process {
    qmp: Qmp,
    body: Arc<Body>,
}

struct Body {
    identity: Identity,
    handle: OwnedFd,
    run_dir: PathBuf,
    agent: crate::agent::Channel,
    /// The processes that serve some of its disks.
    servers: Mutex<nbd::Record>,
}

/// Why a process was not started or not found again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProcessError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("{action} {path} failed: {cause}.")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("The machine runs already, as process {pid}.")]
    AlreadyRunning { pid: u32 },
    #[error("QEMU ended at start ({status}). It says: {said}")]
    LaunchFailed { status: String, said: String },
    #[error("QEMU was not ready within {seconds} s. It says: {said}")]
    LaunchTimedOut { seconds: u64, said: String },
    #[error("The disk image {path} is in use by another process. Stop that first.")]
    DiskInUse { path: PathBuf },
    #[error("The disk image {path} could not be opened ({status}). qemu-nbd says: {said}")]
    DiskNotServed {
        path: PathBuf,
        status: String,
        said: String,
    },
    #[error("The disk image {path} could not be opened within {seconds} s.")]
    DiskTimedOut { path: PathBuf, seconds: u64 },
    #[error(
        "qemu-nbd was not found; VHD and VHDX disks need it. Install it: on Debian and Ubuntu it \
         is in the package qemu-utils, on Fedora in qemu-img."
    )]
    NoNbd,
    #[error("No process runs the machine.")]
    NotRunning,
    #[error("The process {pid} could not be ended: {cause}.")]
    NotKilled {
        pid: u32,
        #[source]
        cause: io::Error,
    },
    #[error("The process {pid} was killed and is still there after {seconds} s.")]
    Unkillable { pid: u32, seconds: u64 },
    #[error("The process at {run_dir} is another machine: {found} instead of {expected}.")]
    WrongMachine {
        run_dir: PathBuf,
        expected: Uuid,
        found: Uuid,
    },
}

/// Whether the guest runs, in QEMU's words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RunState {
    Running,
    Paused,
    Prelaunch,
    InMigrate,
    PostMigrate,
    FinishMigrate,
    RestoreVm,
    SaveVm,
    /// A disk could not be written; [`Process::cont`] tries again.
    IoError,
    InternalError,
    GuestPanicked,
    Shutdown,
    Suspended,
    Watchdog,
    Debug,
    Colo,
    /// A state that this crate does not know.
    Unknown(String),
}

impl RunState {
    /// Whether the guest's processors run.
    pub fn is_running(&self) -> bool {
        matches!(self, RunState::Running)
    }

    fn parse(text: &str) -> RunState {
        match text {
            "running" => RunState::Running,
            "paused" => RunState::Paused,
            "prelaunch" => RunState::Prelaunch,
            "inmigrate" => RunState::InMigrate,
            "postmigrate" => RunState::PostMigrate,
            "finish-migrate" => RunState::FinishMigrate,
            "restore-vm" => RunState::RestoreVm,
            "save-vm" => RunState::SaveVm,
            "io-error" => RunState::IoError,
            "internal-error" => RunState::InternalError,
            "guest-panicked" => RunState::GuestPanicked,
            "shutdown" => RunState::Shutdown,
            "suspended" => RunState::Suspended,
            "watchdog" => RunState::Watchdog,
            "debug" => RunState::Debug,
            "colo" => RunState::Colo,
            other => RunState::Unknown(other.into()),
        }
    }
}

impl Process {
    /// Starts a process and waits until it is ready. The guest then runs, or not, as `spec.start`
    /// says. If anything fails, or the future is dropped, no process is left.
    pub async fn launch(
        installation: &Installation,
        spec: &LaunchSpec,
    ) -> Result<Process, ProcessError> {
        spec.validate()?;
        prepare_run_dir(&spec.run_dir).await?;
        let servers = nbd::start(installation, spec).await?;
        let mut child = Child::spawn(installation, spec)?;
        let process = child.ready(spec).await?;
        if spec.start == Start::Running {
            process.cont().await?;
        }
        child.leave_running();
        servers.leave_running();
        Ok(process)
    }

    /// Finds the process that runs the machine `uuid` with its files in `run_dir`.
    pub async fn reconnect(run_dir: &Path, uuid: Uuid) -> Result<Process, ProcessError> {
        let sockets = SOCKET_NAMES.map(|name| (name, GREETING_PATIENCE));
        Process::find(run_dir, uuid, sockets).await
    }

    /// Finds it like [`Process::reconnect`], for somebody who only looks: by the spare monitor
    /// first, because whoever looks after the machine has the other one. That one may be taken, too,
    /// for as long as memory is on its way to the guest.
    pub async fn look(run_dir: &Path, uuid: Uuid) -> Result<Process, ProcessError> {
        let [ours, spare] = SOCKET_NAMES;
        let sockets = [(spare, LOOKING_PATIENCE), (ours, GREETING_PATIENCE)];
        Process::find(run_dir, uuid, sockets).await
    }

    async fn find(
        run_dir: &Path,
        uuid: Uuid,
        sockets: [(&str, Duration); 2],
    ) -> Result<Process, ProcessError> {
        let began = Instant::now();
        loop {
            match Process::find_now(run_dir, uuid, sockets).await {
                // It most likely ends just now, in order or not; it is not gone before it is.
                Err(ProcessError::Qmp(
                    QmpError::Disconnected { .. } | QmpError::Unreachable { .. },
                )) if began.elapsed() < GOING => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                found => return found,
            }
        }
    }

    async fn find_now(
        run_dir: &Path,
        uuid: Uuid,
        sockets: [(&str, Duration); 2],
    ) -> Result<Process, ProcessError> {
        let known = Identity::read(run_dir);
        if known.is_some_and(|identity| !identity.is_alive()) {
            return Err(ProcessError::NotRunning);
        }
        match connect(run_dir, sockets).await {
            Ok(qmp) => Process::adopt(qmp, run_dir, uuid).await,
            Err(QmpError::Unreachable { .. }) if known.is_none() => Err(ProcessError::NotRunning),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends whatever process the pid file in `run_dir` names, without asking it: for one whose
    /// monitor answers no more. Then whatever still serves disks to it. Nothing to end is no error.
    pub async fn kill_leftover(run_dir: &Path) -> Result<(), ProcessError> {
        if let Some(identity) = Identity::read(run_dir)
            && let Some(handle) = identity.open()
        {
            kill(identity.pid, &handle).await?;
        }
        nbd::end_leftovers(run_dir).await;
        Ok(())
    }

    /// Whether the process that has ended in `run_dir` did so in order: because its guest had shut
    /// down, or somebody told it to quit. QEMU removes the sockets of its monitors only then, and says
    /// it if a signal has ended it.
    pub fn ended_in_order(run_dir: &Path) -> bool {
        let log = run_dir.join(LOG_FILE).exists();
        let sockets = SOCKET_NAMES.iter().any(|name| run_dir.join(name).exists());
        log && !sockets && !log_tail(run_dir).contains("terminating on signal")
    }

    /// Processes that still serve disks to a machine whose QEMU has ended.
    pub fn leftover_servers(run_dir: &Path) -> Vec<Identity> {
        let servers = nbd::Record::read(run_dir).servers.into_iter();
        let alive = servers.map(|s| s.identity).filter(Identity::is_alive);
        alive.collect()
    }

    /// Makes sure that the peer is the machine `uuid`, and takes it.
    async fn adopt(qmp: Qmp, run_dir: &Path, uuid: Uuid) -> Result<Process, ProcessError> {
        let reply = qmp
            .execute_within("query-uuid", json!({}), GREETING_PATIENCE)
            .await?;
        let found = reply.get("UUID").and_then(Value::as_str);
        let found: Uuid = found
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| lacking("query-uuid", "the UUID"))?;
        if found != uuid {
            return Err(ProcessError::WrongMachine {
                run_dir: run_dir.into(),
                expected: uuid,
                found,
            });
        }
        // The kernel, not a file, says who is at the other end.
        let pid = qmp.peer_pid().and_then(|pid| u32::try_from(pid).ok());
        let identity = pid.and_then(|pid| Identity::of(pid, uuid));
        let identity = identity.ok_or(ProcessError::NotRunning)?;
        let handle = identity.open().ok_or(ProcessError::NotRunning)?;
        // A service that died in a snapshot's pause has left it in a hurry.
        crate::live::defer(identity.pid);
        Ok(Process {
            qmp,
            body: Arc::new(Body {
                identity,
                handle,
                run_dir: run_dir.into(),
                agent: crate::agent::Channel::of(run_dir),
                servers: Mutex::new(nbd::Record::read(run_dir)),
            }),
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.body.identity.pid
    }

    /// The process, distinguishable from any other that ever was.
    pub fn identity(&self) -> Identity {
        self.body.identity
    }

    /// The machine.
    pub fn uuid(&self) -> Uuid {
        self.body.identity.machine
    }

    /// The folder of its sockets and log.
    pub fn run_dir(&self) -> &Path {
        &self.body.run_dir
    }

    pub(crate) fn agent_channel(&self) -> &crate::agent::Channel {
        &self.body.agent
    }

    /// Its monitor, for what has no verb here.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// What happens in it from now on; a slow reader loses the oldest.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<Event> {
        self.qmp.subscribe()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.body.identity.is_alive()
    }

    /// The processes that serve its VHD and VHDX disks to it. They end when it has ended.
    pub fn servers(&self) -> Vec<Identity> {
        let record = self.served();
        record.servers.iter().map(|s| s.identity).collect()
    }

    /// Waits until one of them has ended while QEMU goes on; for ever, if there is none.
    pub async fn server_ended(&self) {
        self.served().any_ended().await;
        // All of them end when QEMU does, and some a moment before it is gone.
        let gone = wait_exit(self.pid(), &self.body.handle);
        if tokio::time::timeout(LEAVING, gone).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Starts those of [`Process::servers`] again that have ended by themselves, and answers
    /// whether there were any. For a moment QEMU waits for them; [`Process::cont`] lets it try
    /// again what has failed after that.
    pub async fn revive_servers(&self, installation: &Installation) -> Result<bool, ProcessError> {
        let (record, any) = nbd::revive(installation, self.run_dir(), self.served()).await?;
        if any {
            let servers = &self.body.servers;
            *servers.lock().unwrap_or_else(PoisonError::into_inner) = record;
        }
        Ok(any)
    }

    /// What the nodes of served disks stand for.
    pub(crate) fn served(&self) -> nbd::Record {
        let servers = &self.body.servers;
        let record = servers.lock().unwrap_or_else(PoisonError::into_inner);
        record.clone()
    }

    /// How the guest is; none, if the process ends before it can say.
    pub async fn status_unless_ended(&self) -> Result<Option<RunState>, QmpError> {
        match self.status().await {
            Err(gone @ QmpError::Disconnected { .. }) => {
                match tokio::time::timeout(GOING, self.exited()).await {
                    Ok(()) => Ok(None),
                    Err(_) => Err(gone),
                }
            }
            status => status.map(Some),
        }
    }

    /// Waits until it has ended and all its disks are closed.
    pub async fn exited(&self) {
        wait_exit(self.pid(), &self.body.handle).await;
        self.served().ended().await;
    }

    /// Ends the process at once, like pulling the plug, and waits until it is gone and all its
    /// disks are closed.
    pub async fn kill(&self) -> Result<(), ProcessError> {
        kill(self.pid(), &self.body.handle).await?;
        self.served().ended().await;
        Ok(())
    }

    /// Ends the process in order, its disks flushed; kills it if it has not ended after
    /// `patience`.
    pub async fn quit(&self, patience: Duration) -> Result<(), ProcessError> {
        let ended = async {
            match self.qmp.execute_within("quit", json!({}), patience).await {
                Ok(_) | Err(QmpError::Disconnected { .. }) => self.exited().await,
                // A monitor that does not answer: killed below.
                Err(error) => {
                    tracing::warn!(pid = self.pid(), %error, "QEMU did not take \"quit\"");
                    std::future::pending::<()>().await;
                }
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(
                pid = self.pid(),
                ?patience,
                "QEMU did not quit in time; killed"
            );
            self.kill().await?;
        }
        Ok(())
    }

    /// Stands the guest still; its disks are flushed when this returns.
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.qmp.execute("stop", json!({})).await.map(drop)
    }

    /// Lets the guest run. After [`RunState::IoError`], failed writes are tried again.
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Whether the guest runs.
    pub async fn status(&self) -> Result<RunState, QmpError> {
        let qmp = &self.qmp;
        let reply = qmp
            .execute_within("query-status", json!({}), STATUS_PATIENCE)
            .await?;
        let status = reply.get("status").and_then(Value::as_str);
        status
            .map(RunState::parse)
            .ok_or_else(|| lacking("query-status", "the status"))
    }

    /// Like the reset button.
    pub async fn reset(&self) -> Result<(), QmpError> {
        self.qmp.execute("system_reset", json!({})).await.map(drop)
    }

    /// Like a short press of the power button: asks the guest to shut down.
    pub async fn powerdown(&self) -> Result<(), QmpError> {
        let result = self.qmp.execute("system_powerdown", json!({})).await;
        result.map(drop)
    }

    /// Writes a picture of the screen to `path`, as PPM.
    pub async fn screendump(&self, path: &Path) -> Result<(), ProcessError> {
        crate::spec::check_path(path)?;
        let arguments = json!({"filename": path.to_string_lossy()});
        self.qmp.execute("screendump", arguments).await?;
        Ok(())
    }

    /// Balloon-free memory statistics: bytes of guest memory that the host really holds.
    pub fn resident_bytes(&self) -> Option<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let text = std::fs::read_to_string(path).ok()?;
        let kib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let shared = kib("Shared_Hugetlb:")?;
        let private = kib("Private_Hugetlb:")?;
        let pages = kib("Rss:")?;
        pages
            .checked_add(shared)?
            .checked_add(private)?
            .checked_mul(1024)
    }

    /// Processor time used so far by all virtual processors together.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.body.identity.cpu_time()
    }

    /// How long the process has run.
    pub fn uptime(&self) -> Option<Duration> {
        self.body.identity.uptime()
    }

    /// The end of what QEMU wrote to its log: why it ended, if it said so.
    pub fn log_tail(&self) -> String {
        log_tail(self.run_dir())
    }
}

/// The error for a reply without something that the protocol promises.
pub(crate) fn lacking(command: &str, lacking: &'static str) -> QmpError {
    QmpError::BadReply {
        command: command.into(),
        lacking,
    }
}

/// Tries the monitors in turn: one may be held by somebody else.
async fn connect(run_dir: &Path, sockets: [(&str, Duration); 2]) -> Result<Qmp, QmpError> {
    let mut first_error = None;
    for (name, patience) in sockets {
        match Qmp::connect(&run_dir.join(name), patience).await {
            Ok(qmp) => return Ok(qmp),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(QmpError::NotQmp {
        path: run_dir.display().to_string(),
    }))
}

async fn kill(pid: u32, handle: &OwnedFd) -> Result<(), ProcessError> {
    identity::kill(handle).map_err(|cause| ProcessError::NotKilled { pid, cause })?;
    tokio::time::timeout(KILL_PATIENCE, wait_exit(pid, handle))
        .await
        .map_err(|_| ProcessError::Unkillable {
            pid,
            seconds: KILL_PATIENCE.as_secs(),
        })
}

/// A handle of a process becomes readable when the process has ended.
pub(crate) async fn wait_exit(pid: u32, handle: &OwnedFd) {
    let watched = handle.try_clone().and_then(crate::raw::watch_readable);
    let result = match &watched {
        Ok(watched) => watched.readable().await.map(drop),
        Err(error) => Err(io::Error::from(error.kind())),
    };
    if let Err(error) = result {
        // Out of descriptors, most likely: look from time to time instead.
        tracing::warn!(pid, %error, "cannot watch a process");
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Makes the folder, and clears what an ended process has left in it.
async fn prepare_run_dir(run_dir: &Path) -> Result<(), ProcessError> {
    let failed = |action, path: &Path, cause| ProcessError::File {
        action,
        path: path.into(),
        cause,
    };
    if let Some(running) = Identity::read(run_dir).filter(Identity::is_alive) {
        return Err(ProcessError::AlreadyRunning { pid: running.pid });
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .map_err(|cause| failed("Making the folder", run_dir, cause))?;
    nbd::end_leftovers(run_dir).await;
    nbd::clear(run_dir).map_err(|cause| failed("Clearing the folder", run_dir, cause))?;
    let own = [identity::PID_FILE, crate::agent::SOCKET_NAME];
    let monitors = SOCKET_NAMES.into_iter().chain(LOADING_SOCKET_NAMES);
    for name in monitors.chain(own) {
        let path = run_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(failed("Removing", &path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A QEMU that is not ready yet; killed when dropped before [`Child::leave_running`].
struct Child {
    child: Option<tokio::process::Child>,
}

impl Child {
    fn spawn(installation: &Installation, spec: &LaunchSpec) -> Result<Child, ProcessError> {
        let log_path = spec.run_dir.join(LOG_FILE);
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |cause| ProcessError::File {
                action,
                path,
                cause,
            }
        };
        let log = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(failed("Making the file", &log_path))?;
        let errors = log
            .try_clone()
            .map_err(failed("Opening the file", &log_path))?;
        let mut command = installation.in_own_session(&installation.system);
        command
            .args(crate::command_line::arguments(spec, installation.sandbox))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(failed("Starting", &installation.system))?;
        Ok(Child { child: Some(child) })
    }

    /// Waits for the monitor, makes sure who answers, and writes the pid file.
    async fn ready(&mut self, spec: &LaunchSpec) -> Result<Process, ProcessError> {
        let said = || log_tail(&spec.run_dir);
        let began = Instant::now();
        let Some(child) = self.child.as_mut() else {
            return Err(ProcessError::NotRunning);
        };
        let qmp = tokio::select! {
            ended = child.wait() => {
                let status = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                return Err(ProcessError::LaunchFailed { status, said: said() });
            }
            connected = first_connection(&spec.run_dir, began) => match connected {
                Ok(qmp) => qmp,
                Err(QmpError::NoGreeting { .. } | QmpError::Unreachable { .. }) => {
                    let seconds = LAUNCH_PATIENCE.as_secs();
                    return Err(ProcessError::LaunchTimedOut { seconds, said: said() });
                }
                // QEMU listens before it has set up everything, so it can still fail.
                Err(error) => {
                    let wait = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
                    return Err(match wait {
                        Ok(Ok(status)) => ProcessError::LaunchFailed {
                            status: status.to_string(),
                            said: said(),
                        },
                        _ => error.into(),
                    });
                }
            }
        };
        let process = Process::adopt(qmp, &spec.run_dir, spec.uuid).await?;
        let written = process.identity().write(&spec.run_dir);
        written.map_err(|cause| ProcessError::File {
            action: "Writing",
            path: spec.run_dir.join(identity::PID_FILE),
            cause,
        })?;
        Ok(process)
    }

    /// From now on the process is nobody's child to look after; its exit status is collected so
    /// that no zombie stays.
    fn leave_running(mut self) {
        if let Some(mut child) = self.child.take() {
            tokio::spawn(async move {
                if let Ok(status) = child.wait().await {
                    tracing::debug!(%status, "QEMU ended");
                }
            });
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; tokio collects the exit status.
            let _ = child.start_kill();
        }
    }
}

/// Connects as soon as QEMU listens, then waits until it has set itself up.
async fn first_connection(run_dir: &Path, began: Instant) -> Result<Qmp, QmpError> {
    let path = run_dir.join(SOCKET_NAMES[0]);
    loop {
        let left = LAUNCH_PATIENCE.saturating_sub(began.elapsed());
        match Qmp::connect(&path, left).await {
            Err(QmpError::Unreachable { .. }) if !left.is_zero() => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            done => return done,
        }
    }
}

fn log_tail(run_dir: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<String> {
        let mut file = std::fs::File::open(run_dir.join(LOG_FILE))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
}
