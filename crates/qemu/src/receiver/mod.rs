//! Takes the memory stream from QEMU into memory, as fast as it comes, and writes it to a file.
//!
//! QEMU's saving thread must never wait: while it does, a guest that writes to a page not yet
//! saved stands still. So one thread only takes bytes into a ring of blocks, and waits for nothing
//! but QEMU. A second one takes the stream apart, leaves out the pages that are zero or as the
//! parent image has them, and hashes and collects the others. Two more write what was collected,
//! with direct I/O. All are plain threads, because they do nothing but block and compute.
//!
//! What the stream holds and the parser does not know ends the snapshot before it is one.
//!
//! The end of the stream looks the same whether QEMU has sent everything or has died. Therefore
//! nothing is published until the caller, who has seen the migration complete, calls
//! [`Receiver::publish`]; in every other case the temporary file is removed.

mod file;
mod place;
mod ring;
mod stock;

use ::memory_image::builder::Counts;
use ::memory_image::stream::StreamError;
use ::memory_image::{Compression, Header, ImageId, MemoryImage, Origin};
use ring::Ring;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// The usual [`Config::ring_limit`]: 1 GiB.
pub const RING_LIMIT: usize = 1 << 30;

/// How often a thread that waits for QEMU to connect looks whether it is still wanted.
const ACCEPT_LOOK: Duration = Duration::from_millis(50);

/// Where a stream comes from and goes to.
#[derive(Clone)]
pub struct Config {
    /// The Unix socket to listen on. One left there by a dead process is replaced.
    pub socket: PathBuf,
    /// The file while it is being written, in the same folder as `path`. Replaced if it exists.
    pub temporary: PathBuf,
    /// The file when it is whole and durable. Replaced if it exists.
    pub path: PathBuf,
    /// Identity of the new image.
    pub id: ImageId,
    /// The image that it stands on: pages that are as this one has them are not stored again.
    pub parent: Option<Arc<MemoryImage>>,
    /// How pages are stored.
    pub compression: Compression,
    /// Bytes that are reserved on the disk before [`Receiver::ready`]; what is not used is given
    /// back. More are reserved when they are needed.
    pub expected: u64,
    /// Written into the header.
    pub origin: Origin,
    /// Most bytes of memory that may wait to be written; at least two blocks of 4 MiB are used.
    /// When they are full, QEMU waits.
    pub ring_limit: usize,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that came from QEMU.
    pub received: u64,
    /// Bytes written to the file.
    pub written: u64,
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The header of the file.
    pub header: Header,
    /// What became of the pages.
    pub counts: Counts,
    /// Bytes that came from QEMU.
    pub received_bytes: u64,
    /// Bytes that the file takes on disk.
    pub stored_bytes: u64,
    /// When things happened.
    pub timings: Timings,
    /// Most bytes of memory that were in use at once.
    pub ring_high_water: usize,
    /// How long QEMU had to wait because the ring was full.
    pub stalled: Duration,
}

/// When things happened, counted from [`Receiver::listen`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The first byte came.
    pub first_byte: Duration,
    /// The last byte came.
    pub received: Duration,
    /// All bytes were durable under the temporary name.
    pub written: Duration,
    /// The file was durable under its own name.
    pub durable: Duration,
}

/// Why there is no file.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReceiveError {
    #[error("{action} {path} failed after {bytes} bytes: {cause}.")]
    File {
        action: &'static str,
        path: PathBuf,
        bytes: u64,
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("Listening on the socket {path} failed: {cause}.")]
    Listen {
        path: PathBuf,
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("The stream from QEMU broke off after {bytes} bytes: {cause}.")]
    Stream {
        bytes: u64,
        #[source]
        cause: Arc<io::Error>,
    },
    #[error(
        "The stream from QEMU holds what this program does not know, so that nobody could say \
         whether it is whole: {cause}."
    )]
    Unknown {
        #[source]
        cause: StreamError,
    },
    #[error("QEMU did not send page {page} of the guest's memory block {block}.")]
    Missing { block: String, page: u64 },
    #[error("No memory for the stream: {cause}.")]
    Memory {
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("A thread for the stream cannot be started: {cause}.")]
    Thread {
        #[source]
        cause: Arc<io::Error>,
    },
    #[error("The stream from QEMU ended without a byte.")]
    Nothing,
    #[error("Receiving was cancelled.")]
    Cancelled,
    #[error("The receiving thread ended without a result; this is a defect.")]
    Lost,
}

impl ReceiveError {
    /// The error of the operating system behind it, if there is one (`ENOSPC` and the like).
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            ReceiveError::File { cause, .. }
            | ReceiveError::Listen { cause, .. }
            | ReceiveError::Stream { cause, .. }
            | ReceiveError::Memory { cause }
            | ReceiveError::Thread { cause } => cause.raw_os_error(),
            _ => None,
        }
    }
}

/// Receives one stream. Dropping it cancels, without waiting.
pub struct Receiver {
    shared: Arc<Shared>,
    verdict: Option<std::sync::mpsc::Sender<Verdict>>,
    outcome: Option<oneshot::Receiver<Result<Received, ReceiveError>>>,
}

/// What is to become of the file. A caller that has gone means the same as `Discard`.
enum Verdict {
    Publish,
    Discard,
}

/// Where a block goes.
struct Piece {
    offset: u64,
    length: usize,
}

struct Shared {
    config: Config,
    began: Instant,
    /// From the taking to the placing thread, with the bytes filled.
    ring: Ring<usize>,
    /// From the placing to the writing threads.
    writes: Ring<Piece>,
    /// Whether the file and memory are there.
    ready: watch::Sender<bool>,
    received: AtomicU64,
    written: AtomicU64,
    first_byte: OnceLock<Duration>,
    /// The connection, so that others can close it.
    connection: Mutex<Option<UnixStream>>,
    /// The first thing that went wrong.
    failure: watch::Sender<Option<ReceiveError>>,
}

impl Shared {
    /// Stops everything, for this reason unless there is one already. Closing the connection
    /// makes QEMU's migration fail, which the guest does not notice.
    fn fail(&self, error: ReceiveError) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(error);
            }
            first
        });
        self.ring.stop();
        self.writes.stop();
        let connection = self.connection.lock();
        if let Some(stream) = connection.unwrap_or_else(PoisonError::into_inner).as_ref() {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn failure(&self) -> Option<ReceiveError> {
        self.failure.borrow().clone()
    }
}

impl Receiver {
    /// Listens; QEMU may be told to send as soon as this returns.
    pub fn listen(config: Config) -> Result<Receiver, ReceiveError> {
        let listener = listen_on(&config.socket)?;
        let shared = Arc::new(Shared {
            ring: Ring::new(config.ring_limit),
            writes: Ring::new(place::WRITE_LIMIT),
            ready: watch::channel(false).0,
            config,
            began: Instant::now(),
            received: AtomicU64::new(0),
            written: AtomicU64::new(0),
            first_byte: OnceLock::new(),
            connection: Mutex::new(None),
            failure: watch::channel(None).0,
        });
        let (verdict, verdicts) = std::sync::mpsc::channel();
        let (send_outcome, outcome) = oneshot::channel();
        let for_thread = shared.clone();
        std::thread::Builder::new()
            .name("memory-receive".into())
            .spawn(move || {
                let result = receive(&for_thread, listener, &verdicts);
                // The caller may have gone.
                let _ = send_outcome.send(result);
            })
            .map_err(|cause| ReceiveError::Thread {
                cause: cause.into(),
            })?;
        Ok(Receiver {
            shared,
            verdict: Some(verdict),
            outcome: Some(outcome),
        })
    }

    /// The socket it listens on.
    pub fn socket(&self) -> &Path {
        &self.shared.config.socket
    }

    /// Resolves when space is reserved and memory is there: a guest that is stopped before may stand
    /// still for longer.
    pub async fn ready(&self) -> Result<(), ReceiveError> {
        let mut ready = self.shared.ready.subscribe();
        let ready = async {
            // The sender lives as long as `self`.
            let _ = ready.wait_for(|ready| *ready).await;
        };
        tokio::select! {
            () = ready => Ok(()),
            error = self.failed() => Err(error),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            received: self.shared.received.load(Ordering::Relaxed),
            written: self.shared.written.load(Ordering::Relaxed),
        }
    }

    /// Why receiving has failed, if it has.
    pub fn failure(&self) -> Option<ReceiveError> {
        self.shared.failure()
    }

    /// Resolves when receiving has failed (a full disk), never if it succeeds: to be watched
    /// beside the migration.
    pub async fn failed(&self) -> ReceiveError {
        let mut failure = self.shared.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        // The sender lives as long as `self`, so this always finds an error.
        failed
            .ok()
            .and_then(|f| f.clone())
            .unwrap_or(ReceiveError::Lost)
    }

    /// Waits for the rest of the stream, makes the file durable and gives it its name.
    ///
    /// To be called only after QEMU has reported the migration completed: a stream that broke off
    /// ends no differently. Dropping the future leaves either the whole file or none.
    pub async fn publish(mut self) -> Result<Received, ReceiveError> {
        self.decide(Verdict::Publish);
        self.outcome().await
    }

    /// Stops, and waits until the temporary file is gone.
    pub async fn cancel(mut self) {
        self.shared.fail(ReceiveError::Cancelled);
        self.decide(Verdict::Discard);
        // The outcome is that there is none.
        let _ = self.outcome().await;
    }

    fn decide(&mut self, verdict: Verdict) {
        if let Some(sender) = self.verdict.take() {
            // The thread may have ended with an error, which is the outcome then.
            let _ = sender.send(verdict);
        }
    }

    async fn outcome(&mut self) -> Result<Received, ReceiveError> {
        match self.outcome.take() {
            Some(outcome) => outcome.await.unwrap_or(Err(ReceiveError::Lost)),
            None => Err(ReceiveError::Lost),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // With no verdict the caller gives up; with one, the thread finishes what was decided.
        if self.verdict.is_some() {
            self.shared.fail(ReceiveError::Cancelled);
        }
    }
}

fn listen_on(socket: &Path) -> Result<UnixListener, ReceiveError> {
    let failed = |cause: io::Error| ReceiveError::Listen {
        path: socket.into(),
        cause: cause.into(),
    };
    if std::fs::symlink_metadata(socket).is_ok_and(|m| m.file_type().is_socket()) {
        std::fs::remove_file(socket).map_err(failed)?;
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    rustix::net::sockopt::set_socket_timeout(
        &listener,
        rustix::net::sockopt::Timeout::Recv,
        Some(ACCEPT_LOOK),
    )
    .map_err(|error| failed(error.into()))?;
    Ok(listener)
}

/// The life of the receiving thread.
fn receive(
    shared: &Arc<Shared>,
    listener: UnixListener,
    verdicts: &std::sync::mpsc::Receiver<Verdict>,
) -> Result<Received, ReceiveError> {
    prefer_this_thread();
    let for_placer = shared.clone();
    let placer = std::thread::Builder::new()
        .name("memory-place".into())
        .spawn(move || {
            // At once, so that the receiving thread does not go on for nothing.
            place::run(&for_placer).inspect_err(|error| for_placer.fail(error.clone()))
        })
        .map_err(|cause| ReceiveError::Thread {
            cause: cause.into(),
        });
    let taken = match placer {
        Ok(_) => take_stream(shared, &listener),
        Err(ref error) => Err(error.clone()),
    };
    // Nobody can connect any more; the socket file goes with the listener.
    drop(listener);
    let _ = std::fs::remove_file(&shared.config.socket);
    let received = shared.began.elapsed();
    match taken {
        Ok(()) => shared.ring.finish(),
        Err(error) => shared.fail(error),
    }
    let written = placer?.join().unwrap_or(Err(ReceiveError::Lost));
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            file::discard(&shared.config.temporary);
            return Err(shared.failure().unwrap_or(error));
        }
    };
    let timings = Timings {
        first_byte: shared.first_byte.get().copied().unwrap_or_default(),
        received,
        written: shared.began.elapsed(),
        durable: Duration::ZERO,
    };
    match verdicts.recv() {
        Ok(Verdict::Publish) => file::publish(shared, written, timings),
        Ok(Verdict::Discard) | Err(_) => {
            file::discard(&shared.config.temporary);
            Err(shared.failure().unwrap_or(ReceiveError::Cancelled))
        }
    }
}

/// The guest may be waiting for this thread, which mostly waits itself. A mere better priority would
/// only count among the threads of our own session. Without the right to it, it works as well.
fn prefer_this_thread() {
    if let Err(error) = crate::raw::prefer_this_thread() {
        tracing::debug!(%error, "the receiving thread keeps its ordinary priority");
    }
}

/// Takes the whole stream into the ring.
fn take_stream(shared: &Shared, listener: &UnixListener) -> Result<(), ReceiveError> {
    let broken = |cause: io::Error| ReceiveError::Stream {
        bytes: shared.received.load(Ordering::Relaxed),
        cause: cause.into(),
    };
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(broken(error)),
        }
        if let Some(failure) = shared.failure() {
            return Err(failure);
        }
    };
    let handle = stream.try_clone().map_err(broken)?;
    *shared
        .connection
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(handle);
    // A failure before this line found no connection to close.
    if let Some(failure) = shared.failure() {
        return Err(failure);
    }
    loop {
        let mut block = shared.ring.empty_block(&shared.failure)?;
        let filled = fill(shared, &mut stream, &mut block);
        let ended = filled.length < block.len();
        shared.ring.push(block, filled.length);
        if let Some(error) = filled.error {
            return Err(shared.failure().unwrap_or_else(|| broken(error)));
        }
        if ended {
            break;
        }
    }
    match shared.failure() {
        Some(failure) => Err(failure),
        None if shared.received.load(Ordering::Relaxed) == 0 => Err(ReceiveError::Nothing),
        None => Ok(()),
    }
}

struct Filled {
    length: usize,
    error: Option<io::Error>,
}

/// Fills a block; less than all of it only at the end of the stream.
fn fill(shared: &Shared, stream: &mut UnixStream, block: &mut [u8]) -> Filled {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(read) => {
                shared.first_byte.get_or_init(|| shared.began.elapsed());
                shared.received.fetch_add(read as u64, Ordering::Relaxed);
                length += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Filled {
                    length,
                    error: Some(error),
                };
            }
        }
    }
    Filled {
        length,
        error: None,
    }
}
