//! The threads of a page server: one hears what QEMU asks for, one reads pages and sends them
//! (`sender`). Both are plain threads, because they do nothing but block.

mod sender;

use super::devices::{self, DevicesError};
use super::lifeline::{self, Lifeline};
use super::pages::{HostPage, Outstanding};
use super::return_path::{Message, read_message};
use super::wire::{DEVICES_LOADED, PAGE, TooLong};
use super::{Asked, PageSource, SourceBlock};
use crate::command_line::MEMORY_ID;
use crate::identity::Identity;
use crate::live::LiveError;
use crate::process::Process;
use crate::qmp::QmpError;
use crate::spec::{Backing, check_socket_path};
use sender::{Sender, Task};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The socket in the run folder on which QEMU waits for its memory.
pub const SOCKET_NAME: &str = "memory.sock";
/// Bytes of a huge page.
pub(super) const HUGE_PAGE: u64 = 2 << 20;
/// Pages that are sent before all others, most of them neighbours.
pub(super) const SENT_FIRST: usize = 16 * 1024;
/// Requests that may wait; a guest has no more processors and devices that can.
const MOST_REQUESTS: usize = 64 * 1024;
/// A guest's first moments.
const FIRST_MOMENTS: Duration = Duration::from_secs(2);

/// Why a guest does not get its memory this way.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PostcopyError {
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("The host does not let QEMU fetch memory on demand (userfaultfd). QEMU says: {said}")]
    Unsupported { said: String },
    #[error("The recorded device state cannot be restored on demand: {0}.")]
    Devices(#[from] DevicesError),
    #[error("The recorded device state cannot be restored on demand: {0}.")]
    TooLong(#[from] TooLong),
    #[error("QEMU does not take memory at {path}: {cause}.")]
    Connect {
        path: PathBuf,
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("A thread for serving memory cannot be started: {cause}.")]
    Thread {
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("Serving the guest's memory broke off: {cause}.")]
    Broken { cause: String },
    #[error("QEMU does not accept the memory image. It says: {said}")]
    Rejected { said: String },
    #[error("The guest's memory cannot be read: {what}")]
    Unreadable { what: String },
    #[error("QEMU did not take the devices within {millis} ms.")]
    TimedOut { millis: u128 },
}

impl PostcopyError {
    /// Whether the same process can still be given its memory whole.
    pub fn lets_load_whole(&self) -> bool {
        matches!(
            self,
            PostcopyError::Unsupported { .. }
                | PostcopyError::Devices(_)
                | PostcopyError::TooLong(_)
        )
    }
}

impl From<QmpError> for PostcopyError {
    fn from(error: QmpError) -> Self {
        PostcopyError::Live(error.into())
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of memory sent, those of zeros not counted.
    pub sent: u64,
    /// All bytes that are not zero.
    pub total: u64,
    /// Pages that the guest had to ask for.
    pub requests: u64,
}

/// How it was, once all memory is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// From the beginning until all memory was there.
    pub took: Duration,
    /// Pages that the guest had to ask for.
    pub requests: u64,
    /// The sum of the times from a request to its answer. Processors that wait at the same time
    /// are counted each.
    pub waited: Duration,
    /// Bytes sent.
    pub sent: u64,
}

#[derive(Clone, Debug)]
enum Stage {
    Loading,
    Serving,
    Resident(Residency),
    Failed(PostcopyError),
}

/// Serves a guest the memory that it runs without. Dropping it breaks the connection.
pub struct PageServer {
    shared: Arc<Shared>,
    /// Kept for the case that this process dies.
    lifeline: Option<Lifeline>,
}

struct Shared {
    source: Arc<dyn PageSource>,
    asked: Asked,
    blocks: Vec<SourceBlock>,
    stream: UnixStream,
    began: Instant,
    state: Mutex<State>,
    /// Something was asked for or answered.
    heard: Condvar,
    stopped: AtomicBool,
    stage: watch::Sender<Stage>,
    trouble: watch::Sender<Option<String>>,
    sent: AtomicU64,
    total: u64,
    requests: AtomicU64,
    waited_micros: AtomicU64,
}

#[derive(Default)]
struct State {
    requests: VecDeque<(HostPage, Instant)>,
    received: HashMap<usize, Vec<u8>>,
    resumed: bool,
    /// QEMU has taken the devices.
    loaded: bool,
    /// When it had, and when the guest has asked last.
    quiet_since: Option<(Instant, Instant)>,
    /// The writer has sent everything.
    all_sent: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.heard.notify_all();
    }

    /// Ends it badly, unless it has ended.
    fn fail(&self, error: PostcopyError) {
        self.stage.send_if_modified(|stage| {
            let open = matches!(stage, Stage::Loading | Stage::Serving);
            if open {
                *stage = Stage::Failed(error);
            }
            open
        });
        self.stop();
    }

    fn broken(&self, cause: impl ToString) {
        self.fail(PostcopyError::Broken {
            cause: cause.to_string(),
        });
    }
}

impl Process {
    /// Every migration capability as a destination by postcopy wants it.
    async fn prepare_postcopy(&self) -> Result<(), PostcopyError> {
        match self.prepare_destination().await {
            Err(LiveError::Qmp(QmpError::Refused { description, .. })) => {
                Err(PostcopyError::Unsupported { said: description })
            }
            other => Ok(other?),
        }
    }
}

impl PageServer {
    /// Gives a process launched with [`crate::spec::Start::Incoming`] its devices, and from then on
    /// its memory, first what it is known to have `asked` for before. The guest stands still until
    /// [`Process::cont`]. After an error the process is
    /// of no use, except after [`PostcopyError::Unsupported`].
    pub async fn start(
        process: &Process,
        source: Arc<dyn PageSource>,
        asked: Asked,
        backing: Backing,
        patience: Duration,
    ) -> Result<PageServer, PostcopyError> {
        let began = Instant::now();
        devices::sections(source.devices())?;
        process.prepare_postcopy().await?;
        let socket = process.run_dir().join(SOCKET_NAME);
        check_socket_path(&socket).map_err(LiveError::from)?;
        remove_stale(&socket)?;
        let address =
            json!({"transport": "socket", "type": "unix", "path": socket.to_string_lossy()});
        let _attended = process.attend_serial_ports().await?;
        process.migrate("migrate-incoming", address).await?;
        let lifeline = make_lifeline(process.run_dir()).await;
        let mut server = PageServer::connect(socket, source, asked, backing, began, Task::Begin)?;
        server.lifeline = lifeline;
        let mut trouble = server.trouble();
        // Devices may want memory, too. The guest has not run yet: nothing is lost by giving up.
        let unreadable = async {
            let what = trouble.wait_for(Option::is_some).await;
            what.ok().and_then(|what| what.clone()).unwrap_or_default()
        };
        tokio::select! {
            loaded = server.until_loaded(process, patience) => loaded?,
            what = unreadable => return Err(PostcopyError::Unreadable { what }),
        }
        Ok(server)
    }

    /// Goes on with a guest whose page server is gone: QEMU must have noticed that
    /// ([`crate::live::MigrationStatus::PostcopyPaused`]).
    pub async fn recover(
        process: &Process,
        source: Arc<dyn PageSource>,
        backing: Backing,
        patience: Duration,
    ) -> Result<PageServer, PostcopyError> {
        let run_dir = process.run_dir();
        if lifeline::is_left(run_dir) {
            match PageServer::rescue(run_dir, source.clone(), backing, patience).await {
                Ok(server) => return Ok(server),
                Err(error) => tracing::debug!(%error, "the lifeline to QEMU is of no use"),
            }
        }
        let began = Instant::now();
        let socket = run_dir.join(SOCKET_NAME);
        check_socket_path(&socket).map_err(LiveError::from)?;
        remove_stale(&socket)?;
        let uri = format!("unix:{}", socket.display());
        let arguments = json!({"uri": uri});
        process.qmp().execute("migrate-recover", arguments).await?;
        let mut server =
            PageServer::connect(socket, source, Asked::default(), backing, began, Task::GoOn)?;
        server.until_loaded(process, patience).await?;
        server.lifeline = make_lifeline(process.run_dir()).await;
        Ok(server)
    }

    /// The same for a process that may not answer at present, because it waits for that memory: it
    /// is told in the way that its former page server has left behind.
    pub async fn rescue(
        run_dir: &Path,
        source: Arc<dyn PageSource>,
        backing: Backing,
        patience: Duration,
    ) -> Result<PageServer, PostcopyError> {
        let began = Instant::now();
        let socket = run_dir.join(SOCKET_NAME);
        check_socket_path(&socket).map_err(LiveError::from)?;
        remove_stale(&socket)?;
        let uri = format!("unix:{}", socket.display());
        let dir = run_dir.to_owned();
        let told = tokio::task::spawn_blocking(move || {
            let identity = Identity::read(&dir).filter(Identity::is_alive);
            let identity = identity.ok_or(io::ErrorKind::NotFound)?;
            lifeline::recover(&dir, &identity, &uri)
        });
        let told = told
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let lifeline = told.map_err(|cause| PostcopyError::Connect {
            path: socket.clone(),
            cause: cause.into(),
        })?;
        let mut server =
            PageServer::connect(socket, source, Asked::default(), backing, began, Task::GoOn)?;
        server.lifeline = Some(lifeline);
        let mut stage = server.shared.stage.subscribe();
        let loaded = stage.wait_for(|stage| !matches!(stage, Stage::Loading));
        match tokio::time::timeout(patience, loaded).await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Failed(error) => Err(error.clone()),
                _ => Ok(()),
            },
            _ => Err(PostcopyError::TimedOut {
                millis: patience.as_millis(),
            }),
        }?;
        Ok(server)
    }

    fn connect(
        socket: PathBuf,
        source: Arc<dyn PageSource>,
        asked: Asked,
        backing: Backing,
        began: Instant,
        task: Task,
    ) -> Result<PageServer, PostcopyError> {
        let failed = |cause: io::Error| PostcopyError::Connect {
            path: socket.clone(),
            cause: cause.into(),
        };
        let stream = UnixStream::connect(&socket).map_err(failed)?;
        let (reading, writing) = (
            stream.try_clone().map_err(failed)?,
            stream.try_clone().map_err(failed)?,
        );
        let blocks = source.blocks().into_iter().map(|(name, length)| {
            let is_memory = name.rsplit('/').next() == Some(MEMORY_ID);
            let huge = is_memory && backing == Backing::Hugetlb;
            SourceBlock {
                name,
                length,
                page_size: if huge { HUGE_PAGE } else { PAGE },
            }
        });
        let shared = Arc::new(Shared {
            blocks: blocks.collect(),
            total: source.data_pages().saturating_mul(PAGE),
            source,
            asked,
            stream,
            began,
            state: Mutex::default(),
            heard: Condvar::new(),
            stopped: AtomicBool::new(false),
            stage: watch::channel(Stage::Loading).0,
            trouble: watch::channel(None).0,
            sent: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        });
        let server = PageServer {
            shared: shared.clone(),
            lifeline: None,
        };
        let for_reader = shared.clone();
        thread("memory-asked", move || hear(&for_reader, reading))?;
        thread("memory-serve", move || {
            let mut sender = Sender::new(&shared, writing);
            if let Err(cause) = sender.run(task) {
                shared.broken(cause);
            }
        })?;
        Ok(server)
    }

    async fn until_loaded(
        &self,
        process: &Process,
        patience: Duration,
    ) -> Result<(), PostcopyError> {
        let mut stage = self.shared.stage.subscribe();
        let loaded = stage.wait_for(|stage| !matches!(stage, Stage::Loading));
        let failed = match tokio::time::timeout(patience, loaded).await {
            Err(_) => {
                let millis = patience.as_millis();
                return Err(PostcopyError::TimedOut { millis });
            }
            // The sender lives as long as `self`.
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(stage)) => match &*stage {
                Stage::Failed(error) => error.clone(),
                _ => return Ok(()),
            },
        };
        // QEMU ends when it cannot load a device, and says why in its log.
        match tokio::time::timeout(Duration::from_secs(10), process.exited()).await {
            Ok(()) => Err(PostcopyError::Rejected {
                said: process.log_tail(),
            }),
            Err(_) => Err(failed),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            sent: self.shared.sent.load(Ordering::Relaxed),
            total: self.shared.total,
            requests: self.shared.requests.load(Ordering::Relaxed),
        }
    }

    /// Resolves when all memory is there, or when the connection has broken: then
    /// [`PageServer::recover`] goes on, if the process is still there.
    pub async fn resident(&self) -> Result<Residency, PostcopyError> {
        let mut stage = self.shared.stage.subscribe();
        let ended = stage.wait_for(|s| matches!(s, Stage::Resident(_) | Stage::Failed(_)));
        let ended = ended.await.map(|stage| stage.clone());
        match ended {
            Ok(Stage::Resident(residency)) => Ok(residency),
            Ok(Stage::Failed(error)) => Err(error),
            // The sender lives as long as `self`.
            _ => Err(PostcopyError::Broken {
                cause: "the page server is gone".into(),
            }),
        }
    }

    /// What keeps pages from being read, while something does; they are tried again and again.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.shared.stop();
        let whole = matches!(*self.shared.stage.borrow(), Stage::Resident(_));
        if let Some(lifeline) = self.lifeline.take().filter(|_| !whole) {
            lifeline.leave();
        }
    }
}

/// Without it, a later service can still go on unless QEMU is waiting for memory itself.
async fn make_lifeline(run_dir: &Path) -> Option<Lifeline> {
    let run_dir = run_dir.to_owned();
    let made = tokio::task::spawn_blocking(move || Lifeline::make(&run_dir)).await;
    match made {
        Ok(Ok(lifeline)) => Some(lifeline),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no lifeline to QEMU could be made");
            None
        }
        Err(_) => None,
    }
}

fn remove_stale(socket: &Path) -> Result<(), PostcopyError> {
    match std::fs::remove_file(socket) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(PostcopyError::Connect {
            path: socket.into(),
            cause: cause.into(),
        }),
        _ => Ok(()),
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), PostcopyError> {
    let thread = std::thread::Builder::new().name(name.into());
    let spawned = thread.spawn(work);
    spawned.map(drop).map_err(|cause| PostcopyError::Thread {
        cause: cause.into(),
    })
}

/// Hears what QEMU asks for, until the connection ends.
fn hear(shared: &Shared, stream: UnixStream) {
    let mut from = BufReader::new(stream);
    let position = |name: &str| shared.blocks.iter().position(|b| b.name == name);
    let pages = |name: &str| {
        let block = shared.blocks.get(position(name)?)?;
        Some(block.length / PAGE)
    };
    // Sizes only: what is outstanding is the writer's.
    let sizes = Outstanding::new(&shared.blocks);
    let mut last_block = None;
    loop {
        let message = match read_message(&mut from, &pages) {
            Ok(Some(message)) => message,
            Ok(None) => return shared.broken("QEMU closed the connection"),
            Err(error) => return shared.broken(error),
        };
        match message {
            Message::Pong(DEVICES_LOADED) => {
                let now = Instant::now();
                let mut state = shared.state();
                state.loaded = true;
                state.quiet_since = Some((now, now));
                drop(state);
                shared.heard.notify_all();
                shared.stage.send_replace(Stage::Serving);
            }
            Message::Pong(_) | Message::SwitchoverAck => {}
            Message::Request { start, block, .. } => {
                if let Some(name) = block {
                    last_block = position(&name);
                }
                let page = last_block.and_then(|block| sizes.at(block, start));
                let Some(page) = page else {
                    return shared.broken("QEMU asked for memory that does not exist");
                };
                let now = Instant::now();
                let mut state = shared.state();
                if state.requests.len() >= MOST_REQUESTS {
                    return shared.broken("QEMU asked for too many pages at once");
                }
                state.requests.push_back((page, now));
                if let Some((_, last)) = &mut state.quiet_since {
                    *last = now;
                }
                drop(state);
                shared.heard.notify_all();
                if shared.began.elapsed() < FIRST_MOMENTS {
                    let first = page.number.saturating_mul(sizes.guest_pages(page.block));
                    shared.asked.add((page.block, first));
                }
            }
            Message::Received { block, bits } => {
                if let Some(block) = position(&block) {
                    shared.state().received.insert(block, bits);
                    shared.heard.notify_all();
                }
            }
            Message::ResumeAck(_) => {
                shared.state().resumed = true;
                shared.heard.notify_all();
            }
            Message::Shut(0) if shared.state().all_sent => {
                let residency = Residency {
                    took: shared.began.elapsed(),
                    requests: shared.requests.load(Ordering::Relaxed),
                    waited: Duration::from_micros(shared.waited_micros.load(Ordering::Relaxed)),
                    sent: shared.sent.load(Ordering::Relaxed),
                };
                shared.stage.send_replace(Stage::Resident(residency));
                return;
            }
            Message::Shut(code) => {
                return shared.broken(format!("QEMU gave up (code {code})"));
            }
        }
    }
}
