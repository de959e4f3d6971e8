//! Keeping chains of memory images short, and the images small, in the background.
//!
//! An image that no snapshot needs for itself, and that only one other stands on, is taken into that
//! one; an image that stands on too many others gets their pages; and if the service is to compress
//! images, those that are not compressed yet are (not while they are taken: the guest would wait for
//! it). The long part, writing the new file beside the old one, needs the machine for nothing: images never change. It is slow on
//! purpose and waits while an operation runs. Then the file takes the old one's name, which is short,
//! and done by the owner when nothing else is. Whoever has the old file open reads on in it.

use super::images;
use super::record::Record;
use super::work::{Work, blocking};
use crate::catalog::{Change, Image};
use crate::error::Error;
use crate::files;
use crate::host::Host;
use crate::ids::{ImageId, JobId};
use crate::model::Snapshot;
use crate::saga::{Plan, ShortenPlan, SweepPlan};
use qemu::memory_image::{self, Compression, ImageError, MemoryImage};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// An image stands on no more than one less than this for long.
pub(crate) const DEEPEST: usize = 8;
/// After each MiB that is written: at most 200 MB/s are taken from the disk.
const BREATH: Duration = Duration::from_millis(5);
/// How often it looks whether it may go on.
const LOOK: Duration = Duration::from_millis(50);
/// Room that must be left for anything else.
const SLACK: u64 = 1 << 30;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The image takes in the one that it stands on.
    TakeIn(ImageId),
    /// The image takes in enough to stand on few.
    Flatten(ImageId),
    /// The image stands on what it stands on, and is compressed.
    Compress(ImageId),
}

/// Which images need not be compressed.
#[derive(Default)]
pub(super) struct Compressed(BTreeSet<ImageId>);

/// A file that is being written.
pub(super) struct Shortening {
    image: ImageId,
    compresses: bool,
    /// What the image stood on when this began.
    chain: Vec<ImageId>,
    flat: PathBuf,
    control: Arc<Control>,
    task: JoinHandle<Result<Written, ImageError>>,
}

/// What a file that is written is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// To replace the old one.
    New,
    /// There is none: the old one is as it should be.
    Nothing,
}

#[derive(Default)]
struct Control {
    stop: AtomicBool,
    pause: AtomicBool,
}

impl Control {
    fn breathe(&self) -> ControlFlow<()> {
        std::thread::sleep(BREATH);
        while self.pause.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Drop for Shortening {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }
}

fn next(record: &Record, compressed: Option<&Compressed>) -> Option<Wanted> {
    let named = record.named_images();
    let unnamed = record.images.keys().filter(|id| !named.contains(id));
    for lower in unnamed {
        let above = record.images.values().filter(|i| i.parent == Some(*lower));
        let above: Vec<ImageId> = above.map(|i| i.id).collect();
        if let [only] = above.as_slice() {
            return Some(Wanted::TakeIn(*only));
        }
    }
    // The one that is deep by the least: those on it become shallower with it.
    let depth = |id: &ImageId| record.image_chain(*id).len();
    let deep = record.images.keys().filter(|id| depth(id) > DEEPEST);
    if let Some(id) = deep.min_by_key(|id| depth(id)) {
        return Some(Wanted::Flatten(*id));
    }
    let Compressed(those) = compressed?;
    let found = record.images.keys().find(|id| !those.contains(id));
    found.copied().map(Wanted::Compress)
}

/// Begins, if there is something to do.
pub(super) fn begin(
    host: &Arc<Host>,
    record: &Record,
    compressed: &Compressed,
) -> Option<Shortening> {
    let compression = host.memory_compression;
    let compresses = compression == Compression::Zstd;
    let wanted = next(record, compresses.then_some(compressed))?;
    let (Wanted::TakeIn(id) | Wanted::Flatten(id) | Wanted::Compress(id)) = wanted;
    let image = record.images.get(&id)?.clone();
    let chain = record.image_chain(id).iter().map(|i| i.id).collect();
    let paths = record.image_paths();
    let control = Arc::new(Control::default());
    let mut flat = image.path.as_os_str().to_owned();
    flat.push(files::FLAT);
    let flat = PathBuf::from(flat);
    let (for_task, file) = (control.clone(), flat.clone());
    tracing::debug!(path = %image.path.display(), ?wanted, "a memory image is written anew");
    let host = host.clone();
    let task = tokio::spawn(async move {
        // Closed never; and a service that stops drops this.
        let _turn = host.image_turns.acquire().await;
        let written = tokio::task::spawn_blocking(move || {
            if for_task.stop.load(Ordering::Relaxed) {
                return Err(ImageError::Cancelled);
            }
            write(&image.path, &paths, (wanted, compression), &file, &for_task)
        });
        written.await.unwrap_or(Err(ImageError::Cancelled))
    });
    Some(Shortening {
        image: id,
        compresses,
        chain,
        flat,
        control,
        task,
    })
}

/// Writes the new file beside the old one (blocks).
fn write(
    path: &Path,
    paths: &BTreeMap<memory_image::ImageId, PathBuf>,
    (wanted, compression): (Wanted, Compression),
    flat: &Path,
    control: &Control,
) -> Result<Written, ImageError> {
    let image = MemoryImage::open(path, &|id| paths.get(&id).cloned())?;
    let root = image.depth().checked_sub(1).filter(|root| *root > 1);
    let onto = match wanted {
        Wanted::TakeIn(_) => Some(2).filter(|two| *two < image.depth()),
        // On the last one, if that saves at least half.
        Wanted::Flatten(_) => root.filter(|_| image.length_on(root) <= image.length_on(None) / 2),
        Wanted::Compress(_) if image.header().compression == compression => {
            return Ok(Written::Nothing);
        }
        Wanted::Compress(_) => Some(1).filter(|one| *one < image.depth()),
    };
    let needed = image.length_on(onto).saturating_add(SLACK);
    if files::free_space(flat).unwrap_or(0) < needed {
        return Err(ImageError::Io {
            action: "made shorter",
            path: path.into(),
            offset: 0,
            cause: std::io::ErrorKind::StorageFull.into(),
        });
    }
    // What is compressed stays so, whatever the service is to do with new ones.
    let compression = match image.header().compression {
        Compression::None => compression,
        other => other,
    };
    image.write_flat(onto, compression, flat, &mut |_, _| control.breathe())?;
    Ok(Written::New)
}

impl Shortening {
    /// Whether it may go on.
    pub fn pause(&self, pause: bool) {
        self.control.pause.store(pause, Ordering::Relaxed);
    }

    /// Waits until the file is written.
    pub async fn written(&mut self) -> Result<Written, ImageError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => Err(ImageError::Cancelled),
        }
    }

    /// Notes that the image is compressed, if this has seen to that.
    pub fn note(&self, compressed: &mut Compressed) {
        if self.compresses {
            compressed.0.insert(self.image);
        }
    }

    /// Puts the new file in the place of the old one. Answers whether it did: what it was made of may
    /// have changed meanwhile.
    pub async fn switch(&self, work: &mut Work) -> Result<bool, Error> {
        let host = work.host.clone();
        let _whole = host.images.read().await;
        let chain = work.record.image_chain(self.image);
        let same = chain.iter().map(|i| i.id).eq(self.chain.iter().copied());
        let Some(image) = chain.first().filter(|_| same) else {
            let flat = self.flat.clone();
            blocking(move || files::delete(&flat)).await?;
            return Ok(false);
        };
        let (path, flat) = (image.path.clone(), self.flat.clone());
        let saga = JobId::new();
        let plan = Plan::Shorten(ShortenPlan { image: self.image });
        work.step(saga, "image.rename", &plan).await?;
        blocking(move || {
            std::fs::rename(&flat, &path).map_err(Error::io("Renaming", &flat))?;
            path.parent().map_or(Ok(()), files::sync_folder)
        })
        .await?;
        work.reach("image.renamed");
        settle(work, saga, self.image).await?;
        let ended = vec![Change::DeleteJournal(saga)];
        if let Err(cause) = work.host.catalog.commit(ended.clone()).await {
            tracing::error!(%cause, "the end of a change of images could not be recorded");
            work.overdue.extend(ended);
        }
        Ok(true)
    }
}

/// Brings the rows to what the image's file says, and deletes what nothing needs any more.
pub(crate) async fn settle(work: &mut Work, saga: JobId, id: ImageId) -> Result<(), Error> {
    let Some(image) = work.record.images.get(&id).cloned() else {
        return Ok(());
    };
    let opened = images::open(&work.record, &image).await?;
    let mut new = work.record.clone();
    let now = Image {
        parent: opened.header().parent.map(images::in_catalog),
        bytes: files::stored_bytes(&image.path),
        ..image.clone()
    };
    for row in &mut new.snapshots {
        // One that shares a saved state takes nothing by itself.
        if row.image == Some(id) && row.snapshot.stored_bytes > 0 {
            row.snapshot = Arc::new(Snapshot {
                stored_bytes: now.bytes,
                ..row.snapshot.as_ref().clone()
            });
        }
    }
    new.images.insert(id, now);
    let sweep = super::snapshot_remove::sweep_of(new.collect_garbage());
    let then = Plan::Remove(SweepPlan {
        sweep: sweep.clone(),
    });
    let row = then.row(saga, work.record.id, "remove.sweep")?;
    work.commit(new, vec![Change::PutJournal(row)]).await?;
    work.reach("image.recorded");
    work.sweep(&sweep).await?;
    super::snapshot_remove::rewrite_manifests(work).await
}

/// Resolves when a file is written; never while an operation has the machine.
pub(super) async fn written(
    shortening: &mut Option<Shortening>,
    idle: bool,
) -> Result<Written, ImageError> {
    match shortening {
        Some(shortening) if idle => shortening.written().await,
        _ => std::future::pending().await,
    }
}
