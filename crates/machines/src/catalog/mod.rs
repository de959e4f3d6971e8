//! The catalog: what must survive the service, in one embedded database.
//!
//! This module is the narrow boundary: everything above hands in [`Change`]s, which take effect
//! together or not at all ([`Catalog::commit`]), and reads everything back at start
//! ([`Catalog::load`]). Nothing above knows which database lies below; the SQL in `sql` is plain
//! enough for another one.
//!
//! One thread owns the connection, so that waiting for the disk never stalls the runtime. Commits
//! that arrive while it waits share the next wait.

mod boots;
mod integrity;
mod rows;
mod schema;
mod sql;

pub use integrity::{ReportKind, SumsRow};
pub(crate) use rows::SnapshotBody;
pub use rows::{
    Contents, DurableState, Image, JobRow, JournalRow, Layer, MachineBody, MachineRow, SnapshotRow,
};
pub(crate) use schema::open_connection;

use crate::ids::{ImageId, JobId, LayerId, MachineId, SnapshotId};
use crate::model::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// The file's name within the data directory.
pub const FILE_NAME: &str = "catalog.db";

/// At most this many commits share one wait for the disk.
const GROUP: usize = 256;

/// Why the catalog could not be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CatalogError {
    #[error("The catalog {} cannot be opened: {source}", .path.display())]
    Open {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("The catalog has version {found}; this program knows versions up to {known}.")]
    TooNew { found: i64, known: i64 },
    #[error("The catalog could not be {doing}: {source}")]
    Storage {
        doing: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("The catalog's table {table} holds a row that cannot be understood: {reason}")]
    Damaged { table: &'static str, reason: String },
    #[error("The catalog has been closed.")]
    Closed,
}

impl CatalogError {
    pub(crate) fn explain(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            CatalogError::Open { .. } => (
                "CatalogOpen",
                "The database file is not there, not readable, or not a database.",
                "Check the data directory; if the file is lost, rebuild it from the snapshots' \
                 manifests.",
            ),
            CatalogError::TooNew { .. } => (
                "CatalogTooNew",
                "A newer version of the service has written this data directory.",
                "Run that version again.",
            ),
            CatalogError::Storage { .. } => (
                "CatalogStorage",
                "The database refused the operation; nothing of it took effect.",
                "Look at the free space and health of the file system of the data directory.",
            ),
            CatalogError::Damaged { .. } => (
                "CatalogDamaged",
                "The database was changed by something else than this service.",
                "Restore the data directory from a backup.",
            ),
            CatalogError::Closed => (
                "CatalogClosed",
                "The service is ending.",
                "Repeat the request when the service runs again.",
            ),
        }
    }
}

/// One durable change. A list of them is committed as a whole.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds or replaces a machine with its active settings.
    PutMachine(Box<MachineRow>),
    /// Removes the machine's own row; what belongs to it is removed by changes of its own.
    DeleteMachine(MachineId),
    /// Adds or replaces a snapshot with its settings.
    PutSnapshot(SnapshotRow),
    /// Removes a snapshot's row.
    DeleteSnapshot(SnapshotId),
    /// Adds or replaces a layer.
    PutLayer(Layer),
    /// Removes a layer's row.
    DeleteLayer(LayerId),
    /// Adds or replaces a memory image.
    PutImage(Image),
    /// Removes a memory image's row.
    DeleteImage(ImageId),
    /// Adds or replaces a job.
    PutJob(Box<JobRow>),
    /// Forgets a job.
    DeleteJob(JobId),
    /// Records the step that a saga is about to do.
    PutJournal(JournalRow),
    /// The saga has ended.
    DeleteJournal(JobId),
    /// Adds a line to the audit log.
    Audit(AuditLine),
    /// Records the hash of a frozen layer, if it still is the layer that was hashed.
    PutSums(Box<SumsRow>),
    /// Forgets the hash of a layer.
    DeleteSums(LayerId),
    /// Replaces a report on a snapshot (JSON), if the snapshot is there.
    PutReport(SnapshotId, ReportKind, String),
    /// Adds what was measured of a snapshot (JSON).
    Measured(String),
    /// Records which boot of the host this is.
    PutBoot(String),
    /// The machine is to be started.
    PutStart(MachineId),
    /// The machine was started, or need not be any more.
    DeleteStart(MachineId),
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Account name.
    pub user: String,
    /// Where the request came from.
    pub peer: String,
    /// The verb, for example `create_snapshot`.
    pub verb: String,
    /// On what.
    pub target: String,
    /// `ok`, the job's id, or the cause's code.
    pub result: String,
}

enum Request {
    Commit(Vec<Change>, oneshot::Sender<Result<(), CatalogError>>),
    Load(oneshot::Sender<Result<Contents, CatalogError>>),
    Audit(usize, oneshot::Sender<Result<Vec<AuditLine>, CatalogError>>),
    /// A question of `integrity`; it carries the place for its answer.
    Read(Box<dyn FnOnce(&rusqlite::Connection) + Send>),
}

/// The open catalog. When the last copy is dropped, everything handed in is written and the
/// thread ends.
#[derive(Clone, Debug)]
pub struct Catalog {
    requests: mpsc::Sender<Request>,
}

impl Catalog {
    /// Opens the catalog in `data_dir`, making or migrating it as needed.
    pub async fn open(data_dir: &Path) -> Result<Catalog, CatalogError> {
        let path = data_dir.join(FILE_NAME);
        let (requests, inbox) = mpsc::channel();
        let (opened, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || match open_connection(&path) {
                Ok(connection) => {
                    if opened.send(Ok(())).is_ok() {
                        serve(connection, &inbox);
                    }
                }
                Err(cause) => {
                    let _ = opened.send(Err(cause));
                }
            })
            .map_err(|source| CatalogError::Storage {
                doing: "served by a thread",
                source: source.into(),
            })?;
        answer.await.map_err(|_| CatalogError::Closed)??;
        Ok(Catalog { requests })
    }

    /// Makes all changes durable, or none.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), CatalogError> {
        self.ask(|reply| Request::Commit(changes, reply)).await
    }

    /// Reads everything.
    pub async fn load(&self) -> Result<Contents, CatalogError> {
        self.ask(Request::Load).await
    }

    /// The newest `count` lines of the audit log, newest first.
    pub async fn audit_lines(&self, count: usize) -> Result<Vec<AuditLine>, CatalogError> {
        self.ask(|reply| Request::Audit(count, reply)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        self.ask(|reply| {
            Request::Read(Box::new(move |db| {
                let _ = reply.send(question(db));
            }))
        })
        .await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, CatalogError>>) -> Request,
    ) -> Result<T, CatalogError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .map_err(|_| CatalogError::Closed)?;
        answer.await.map_err(|_| CatalogError::Closed)?
    }
}

fn serve(mut connection: rusqlite::Connection, inbox: &mpsc::Receiver<Request>) {
    let mut held = None;
    while let Some(request) = held.take().or_else(|| inbox.recv().ok()) {
        match request {
            Request::Load(reply) => {
                let _ = reply.send(sql::load(&connection));
            }
            Request::Audit(count, reply) => {
                let _ = reply.send(sql::audit_lines(&connection, count));
            }
            Request::Read(question) => question(&connection),
            Request::Commit(changes, reply) => {
                held = commit_group(&mut connection, inbox, changes, reply);
            }
        }
    }
}

/// Commits the first request and those that wait behind it in one transaction, each within a
/// savepoint of its own. Answers the request that ended the group, if it was of another kind.
fn commit_group(
    connection: &mut rusqlite::Connection,
    inbox: &mpsc::Receiver<Request>,
    first: Vec<Change>,
    reply: oneshot::Sender<Result<(), CatalogError>>,
) -> Option<Request> {
    let mut held = None;
    let mut replies = Vec::new();
    let outcome = (|| {
        let mut transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(sql::storage("begun"))?;
        let mut next = Some((first, reply));
        while let Some((changes, reply)) = next.take() {
            replies.push((reply, sql::apply(&mut transaction, &changes)));
            if transaction.is_autocommit() {
                // A full disk has undone all of it; what came after would be on its own.
                return Err(CatalogError::Storage {
                    doing: "written",
                    source: "the database gave up the whole transaction".into(),
                });
            }
            if replies.len() < GROUP {
                match inbox.try_recv() {
                    Ok(Request::Commit(changes, reply)) => next = Some((changes, reply)),
                    Ok(other) => held = Some(other),
                    Err(_) => {}
                }
            }
        }
        transaction.commit().map_err(sql::storage("committed"))
    })();
    for (reply, own) in replies {
        let _ = reply.send(match (&outcome, own) {
            (Ok(()), own) => own,
            (Err(_), Err(cause)) => Err(cause),
            (Err(cause), Ok(())) => Err(CatalogError::Storage {
                doing: "written",
                source: cause.to_string().into(),
            }),
        });
    }
    held
}
