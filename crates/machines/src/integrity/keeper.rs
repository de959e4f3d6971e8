//! Hashes frozen layers in the background: one thread of the lowest priority, at a limited rate,
//! which waits whenever a machine's memory or disks are being moved.
//!
//! A hash is only recorded of a file that did not change while it was read and is not being merged
//! (`catalog::Change::PutSums`); and before a merge changes a file, its hash goes
//! ([`forget_for_merge`]). So a recorded hash is always of what the layer is meant to hold.

use super::segments::{Reader, Stamp, count};
use super::sums::{self, Sums};
use crate::catalog::{Change, Layer, SumsRow};
use crate::error::Error;
use crate::host::Host;
use crate::ids::LayerId;
use crate::model::{JobKind, Timestamp};
use crate::owner::work::blocking;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long to let things settle after what may have frozen a layer.
const SETTLE: Duration = Duration::from_millis(300);
/// How often to look again for layers that could not be hashed.
const AGAIN: Duration = Duration::from_secs(60);
/// How long to wait before looking again whether somebody needs the disks.
const YIELD: Duration = Duration::from_millis(50);
/// The lowest priority; the kernel derives that of reading from it.
const NICE: i32 = 19;

/// The keeper, as the rest sees it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// There may be something to hash.
    wake: Notify,
    closing: AtomicBool,
    /// MiB a second; 0: nothing is hashed.
    rate_mib: u64,
}

impl Keeper {
    pub fn new(rate_mib: u64) -> Keeper {
        Keeper {
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            rate_mib,
        }
    }

    /// Something was frozen, or changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Lets go of everything soon.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// Runs the keeper for as long as the service lives.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = host.keeper.clone();
    if keeper.rate_mib == 0 {
        return;
    }
    keeper.wake();
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        loop {
            let woken = tokio::time::timeout(AGAIN, keeper.wake.notified()).await;
            if woken.is_ok() {
                tokio::time::sleep(SETTLE).await;
            }
            if keeper.is_closing() || !round(&keeper, &host).await {
                return;
            }
        }
    });
}

/// Hashes what there is to hash; answers whether the service still lives.
async fn round(keeper: &Arc<Keeper>, weak: &Weak<Host>) -> bool {
    let Some(host) = weak.upgrade() else {
        return false;
    };
    let layers = host.catalog.layers_without_sums().await;
    drop(host);
    let layers = match layers {
        Ok(layers) => layers,
        Err(cause) => {
            tracing::warn!(%cause, "layers to be hashed could not be looked for");
            return true;
        }
    };
    for layer in layers {
        if keeper.is_closing() {
            return false;
        }
        let Some(path) = weak.upgrade().and_then(|host| path_of(&host, &layer)) else {
            continue;
        };
        if let Err(cause) = hash_layer(keeper, weak, &layer, path).await {
            tracing::warn!(layer = %layer.path.display(), %cause, "a layer is not hashed yet");
        }
    }
    weak.strong_count() > 0
}

/// Where the sums of a layer go; nowhere, if its machine is gone.
fn path_of(host: &Host, layer: &Layer) -> Option<PathBuf> {
    let machine = host.directory.machine(layer.machine)?;
    let places = host.places(layer.machine, &machine.global);
    Some(sums::path_of(places.snapshots(), layer.id))
}

async fn hash_layer(
    keeper: &Arc<Keeper>,
    weak: &Weak<Host>,
    layer: &Layer,
    path: PathBuf,
) -> Result<(), Error> {
    let (id, file) = (layer.id, layer.path.clone());
    let thread = (keeper.clone(), weak.clone(), path.clone());
    let sums = blocking(move || {
        let (keeper, weak, path) = thread;
        if let Some(kept) = kept(&path, id, &file) {
            // The catalog was lost, or we died between writing and recording.
            return Ok(kept);
        }
        let sums = low_priority(|| hash_file(&keeper, &weak, id, &file))?;
        sums.write(&path)?;
        Ok(sums)
    })
    .await?;
    let Some(host) = weak.upgrade() else {
        return Err(Error::ServiceStopping);
    };
    let row = SumsRow::of(layer, &sums);
    host.catalog
        .commit(vec![Change::PutSums(Box::new(row))])
        .await?;
    let stored = host.catalog.sums_of(vec![id]).await?.contains_key(&id);
    let unchanged = File::open(&layer.path)
        .and_then(|file| Stamp::of(&file))
        .is_ok_and(|stamp| stamp == sums.stamp);
    if !stored || !unchanged {
        // Merged meanwhile, or written to: what was read is not what it is meant to hold.
        blocking(move || crate::files::delete(&path)).await?;
        host.catalog.commit(vec![Change::DeleteSums(id)]).await?;
        return Err(Error::LayerChanging(layer.path.clone()));
    }
    tracing::debug!(layer = %layer.path.display(), "hashed");
    Ok(())
}

/// Sums that are there already, of the file as it is.
fn kept(path: &Path, layer: LayerId, file: &Path) -> Option<Sums> {
    let sums = Sums::read(path, layer).ok().flatten()?;
    let stamp = File::open(file).and_then(|file| Stamp::of(&file)).ok()?;
    (stamp == sums.stamp).then_some(sums)
}

/// Does something at the lowest priority, on a thread that is made for it: a priority once given
/// up is not given back.
fn low_priority<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("layer-hash".into())
            .spawn_scoped(scope, || {
                // Of the calling thread alone.
                let _ = rustix::process::setpriority_process(None, NICE);
                work()
            });
        match thread.map(|thread| thread.join()) {
            Ok(Ok(done)) => done,
            _ => Err(Error::ServiceStopping),
        }
    })
}

fn hash_file(
    keeper: &Keeper,
    weak: &Weak<Host>,
    layer: LayerId,
    path: &Path,
) -> Result<Sums, Error> {
    let failed = || Error::io("Hashing", path);
    let file = File::open(path).map_err(failed())?;
    let stamp = Stamp::of(&file).map_err(failed())?;
    let mut reader = Reader::new(&file, stamp.length);
    let mut segments = Vec::new();
    let mut pace = Pace::new(keeper.rate_mib);
    for index in 0..count(stamp.length) {
        let (hash, read) = reader.hash(index).map_err(failed())?;
        segments.push(hash);
        if read > 0 {
            pace.wait(read);
            give_way(keeper, weak)?;
        }
    }
    if Stamp::of(&file).map_err(failed())? != stamp {
        return Err(Error::LayerChanging(path.to_owned()));
    }
    Ok(Sums {
        layer,
        stamp,
        hashed: Timestamp::now(),
        segments,
    })
}

/// Waits while a machine's memory or disks are being moved.
fn give_way(keeper: &Keeper, weak: &Weak<Host>) -> Result<(), Error> {
    loop {
        let busy = match weak.upgrade() {
            Some(host) if !keeper.is_closing() => host.jobs.any_running(|kind| {
                matches!(
                    kind,
                    JobKind::CreateSnapshot
                        | JobKind::ApplySnapshot
                        | JobKind::Save
                        | JobKind::Restore
                        | JobKind::Start
                )
            }),
            _ => return Err(Error::ServiceStopping),
        };
        if !busy {
            return Ok(());
        }
        std::thread::sleep(YIELD);
    }
}

/// Keeps reading below a rate.
struct Pace {
    bytes_per_second: f64,
    began: Instant,
    read: u64,
}

impl Pace {
    fn new(rate_mib: u64) -> Pace {
        Pace {
            bytes_per_second: rate_mib.saturating_mul(1 << 20) as f64,
            began: Instant::now(),
            read: 0,
        }
    }

    fn wait(&mut self, bytes: u64) {
        self.read = self.read.saturating_add(bytes);
        let due = Duration::from_secs_f64(self.read as f64 / self.bytes_per_second);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

/// Before a merge changes files of these layers: forgets their hashes. The files of hashes go
/// first, so that a hash without its row is never older than its layer.
pub(crate) async fn forget_for_merge(snapshots: PathBuf, layers: Vec<LayerId>) -> Vec<Change> {
    let changes = layers.iter().map(|id| Change::DeleteSums(*id)).collect();
    let deleted = blocking(move || sums::delete(&snapshots, &layers)).await;
    if let Err(cause) = deleted {
        tracing::warn!(%cause, "hashes of merged layers could not be deleted");
    }
    changes
}
