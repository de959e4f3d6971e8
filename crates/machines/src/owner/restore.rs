//! Starting from a saved state, and the time until all of the guest's memory is there.
//!
//! The guest runs at once and gets its memory on demand, from the image that it was saved to, or,
//! where the host cannot do that, when QEMU has loaded all of it. Until all memory is there, the
//! record names the image ([`MachineBody::serving`](crate::catalog::MachineBody)), so that it stays
//! and a later service can go on where this one ended; the guest waits for that.

use super::images;
use super::record::Record;
use super::work::{Guest, Work};
use crate::catalog::{DurableState, Image};
use crate::error::Error;
use crate::ids::ImageId;
use crate::jobs::JobHandle;
use crate::model::{Health, Process, Restoration};
use crate::saga::FileMark;
use qemu::live::MigrationStatus;
use qemu::memory_image::MemoryImage;
use qemu::postcopy::{PageServer, PostcopyError, Progress, Residency};
use qemu::spec::Backing;
use qemu::wakefulness::Awake;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long QEMU may take for a saved state: for the devices alone, or for all of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long QEMU may take to notice that its memory has ceased to come.
const NOTICE: Duration = Duration::from_secs(10);
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(50);
/// How long QEMU may take to stand a guest still whose memory cannot be read: it may be waiting for
/// that memory itself.
const HOLD_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of the service waits for memory that is on its way.
const CLOSING: Duration = Duration::from_secs(10);

/// A guest whose memory is on its way.
pub(crate) struct Serving {
    server: PageServer,
    trouble: watch::Receiver<Option<String>>,
    /// The guest stands still because its memory cannot be read.
    pub held: bool,
    /// The guest waits for one page after the other, most of all in the beginning.
    _awake: Awake,
}

impl Serving {
    fn of(server: PageServer) -> Serving {
        Serving {
            trouble: server.trouble(),
            server,
            held: false,
            _awake: Awake::hold(),
        }
    }

    /// Whether its memory cannot be read at present.
    pub fn is_troubled(&self) -> bool {
        self.trouble.borrow().is_some()
    }
}

/// What happens to memory on its way.
#[derive(Debug)]
pub(crate) enum News {
    /// All of it is there, or the connection to QEMU broke.
    Ended(Result<Residency, PostcopyError>),
    /// It cannot be read, or can again.
    Trouble(Option<String>),
}

/// The next thing that happens to memory on its way; never, if none is.
pub(crate) async fn news(serving: Option<&mut Serving>) -> News {
    let Some(serving) = serving else {
        return std::future::pending().await;
    };
    tokio::select! {
        ended = serving.server.resident() => News::Ended(ended),
        // The sender lives as long as the server.
        Ok(()) = serving.trouble.changed() => {
            News::Trouble(serving.trouble.borrow_and_update().clone())
        }
    }
}

/// Gives a process that waits for it a saved state. The guest then stands still; what it is to be
/// shown with is answered.
pub(super) async fn load(
    work: &mut Work,
    opened: Arc<MemoryImage>,
    backing: Backing,
) -> Result<Restoration, Error> {
    let process = work.process()?;
    let on_demand = match work.host.restore_on_demand {
        true => {
            let asked = work.asked.clone();
            PageServer::start(&process, opened.clone(), asked, backing, PATIENCE).await
        }
        false => Err(PostcopyError::Unsupported {
            said: "the service was told not to".into(),
        }),
    };
    let whole_because = match on_demand {
        Ok(server) => {
            if let Some(guest) = &mut work.guest {
                guest.memory = Some(Serving::of(server));
            }
            return Ok(Restoration::default());
        }
        Err(cause) if cause.lets_load_whole() => cause.to_string(),
        Err(cause) => return Err(Error::qemu("Restoring the saved state")(cause)),
    };
    tracing::warn!(machine = %work.record.id, reason = %whole_because, "a saved state is loaded whole");
    process
        .load_image(&opened, PATIENCE)
        .await
        .map_err(Error::qemu("Restoring the saved state"))?;
    Ok(Restoration {
        whole_because: Some(whole_because),
        ..Restoration::default()
    })
}

/// Brings memory to a guest whose service has died, before anything else is asked of its process: that
/// may wait for that memory, and answer nothing until it comes.
pub(crate) async fn rescue(work: &Work, id: ImageId, process: &Process) -> Option<Serving> {
    let run_dir = work.host.run_dir(work.record.id);
    let opened = async {
        let image = image_of(&work.record, id)?;
        images::open(&work.record, &image).await
    };
    let opened = match opened.await {
        Ok(opened) => opened,
        Err(cause) => {
            tracing::error!(%cause, machine = %work.record.id, "a guest's memory is not there");
            return None;
        }
    };
    match PageServer::rescue(&run_dir, opened, backing_of(process), PATIENCE).await {
        Ok(server) => {
            tracing::info!(machine = %work.record.id, "the rest of a guest's memory is restored");
            Some(Serving::of(server))
        }
        // All of it is there, most likely, or the process is gone.
        Err(cause) => {
            tracing::debug!(%cause, machine = %work.record.id, "no memory was asked for");
            None
        }
    }
}

/// Makes sure that memory comes again that an earlier service, or a broken connection, has left on
/// its way.
pub(crate) async fn go_on(work: &mut Work) -> Result<(), Error> {
    let Some(id) = work.record.body.serving else {
        return Ok(());
    };
    let process = work.process()?;
    const DOING: &str = "Restoring the rest of the guest's memory";
    match until_noticed(&process).await {
        Ok(MigrationStatus::PostcopyPaused | MigrationStatus::PostcopyRecover) => {}
        // Everything had been sent.
        Ok(MigrationStatus::Completed | MigrationStatus::None) => {
            return all_there(work, None).await;
        }
        Ok(other) => {
            let description = format!("QEMU says that its memory is {other:?}");
            let failed = qemu::live::LiveError::MigrationFailed { description };
            return Err(Error::qemu(DOING)(failed));
        }
        Err(cause) => return Err(Error::qemu("Asking for the guest's memory")(cause)),
    }
    let image = image_of(&work.record, id)?;
    let opened = images::open(&work.record, &image).await?;
    let backing = work.record.body.process.as_ref();
    let backing = backing.map_or(Backing::Transparent, backing_of);
    let server = PageServer::recover(&process, opened, backing, PATIENCE).await;
    let server = server.map_err(Error::qemu(DOING))?;
    tracing::info!(machine = %work.record.id, "the rest of a guest's memory is restored");
    if let Some(guest) = &mut work.guest {
        guest.memory = Some(Serving::of(server));
    }
    Ok(())
}

async fn until_noticed(process: &qemu::Process) -> Result<MigrationStatus, qemu::qmp::QmpError> {
    let began = Instant::now();
    loop {
        let status = process.migration().await?.status;
        let waiting = matches!(
            status,
            MigrationStatus::PostcopyActive | MigrationStatus::Active
        );
        if !waiting || began.elapsed() > NOTICE {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn image_of(record: &Record, id: ImageId) -> Result<Image, Error> {
    let image = record.images.get(&id);
    image.cloned().ok_or_else(|| Error::DamagedImage {
        path: Default::default(),
        reason: "the catalog does not know it".into(),
    })
}

/// What a process's memory is made of.
pub(crate) fn backing_of(process: &Process) -> Backing {
    match process.memory_backing.0 == Backing::Hugetlb.as_str() {
        true => Backing::Hugetlb,
        false => Backing::Transparent,
    }
}

/// The files that the guest can write to, as they are. One that cannot be looked at is left out,
/// and then differs.
pub(crate) fn marks(record: &Record) -> Vec<FileMark> {
    let layers = record.active_layers();
    let layers = layers.iter().filter_map(|id| record.layers.get(id));
    layers.filter_map(|layer| mark(&layer.path)).collect()
}

fn mark(path: &Path) -> Option<FileMark> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileMark {
        path: path.to_owned(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        blocks: metadata.blocks(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// All memory is there: the image is not needed for it any more.
async fn all_there(work: &mut Work, residency: Option<Residency>) -> Result<(), Error> {
    tracing::debug!(machine = %work.record.id, ?residency, "all memory is there");
    if let Some(guest) = &mut work.guest {
        guest.memory = None;
    }
    let mut new = work.record.clone();
    new.body.serving = None;
    if let Some(restored) = &mut new.body.restored {
        restored.resident = restored.since.map(|since| since.elapsed());
        restored.requests = residency.map(|r| r.requests);
        restored.waited = residency.map(|r| r.waited);
    }
    release(work, new).await
}

/// Commits a record that serves no image any more, and deletes the image if nothing needs it.
pub(crate) async fn release(work: &mut Work, mut new: Record) -> Result<(), Error> {
    let sweep = super::snapshot_remove::sweep_of(new.collect_garbage());
    work.commit(new, Vec::new()).await?;
    work.reach("restore.resident");
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "a used saved state could not be deleted");
    }
    Ok(())
}

/// Brings the record in line with what happened to memory on its way.
pub(crate) async fn handle(work: &mut Work, news: News) -> Result<(), Error> {
    match news {
        News::Ended(Ok(residency)) => all_there(work, Some(residency)).await,
        News::Ended(Err(cause)) => {
            if let Some(guest) = &mut work.guest {
                guest.memory = None;
            }
            // Nothing to go on with, if the process has ended: that is told elsewhere.
            if work.process().is_err() {
                return Ok(());
            }
            tracing::warn!(%cause, machine = %work.record.id, "memory has ceased to come");
            try_again(work).await
        }
        News::Trouble(Some(what)) => hold(work, &what).await,
        News::Trouble(None) => let_go_on(work).await,
    }
}

/// Makes memory come again, or tells why it does not.
pub(crate) async fn try_again(work: &mut Work) -> Result<(), Error> {
    let health = match go_on(work).await {
        Ok(()) => Health::Ok,
        Err(cause) => Health::Critical(format!(
            "The rest of the guest's memory cannot be restored: {cause} The guest stands still \
             where it needs it; nothing is lost, and it is tried again."
        )),
    };
    commit_health(work, health).await
}

async fn commit_health(work: &mut Work, health: Health) -> Result<(), Error> {
    if work.record.body.health == health {
        return Ok(());
    }
    let mut new = work.record.clone();
    new.body.health = health;
    work.commit(new, Vec::new()).await
}

/// The guest's memory cannot be read: it stands still, and is told why.
async fn hold(work: &mut Work, what: &str) -> Result<(), Error> {
    let process = work.process()?;
    if let Some(serving) = work.guest.as_mut().and_then(|g| g.memory.as_mut()) {
        serving.held = true;
    }
    // Its processors stand still in any case as soon as they need what cannot be read.
    match tokio::time::timeout(HOLD_PATIENCE, process.stop()).await {
        Ok(Ok(())) => {}
        other => tracing::warn!(?other, "a guest without its memory could not be stopped"),
    }
    commit_health(
        work,
        Health::Critical(format!(
            "The guest's memory cannot be read: {what} The guest stands still, nothing is lost. \
             Look after that file and the disk it is on; the guest goes on by itself."
        )),
    )
    .await
}

async fn let_go_on(work: &mut Work) -> Result<(), Error> {
    let process = work.process()?;
    let serving = work.guest.as_mut().and_then(|g| g.memory.as_mut());
    let held = serving.is_some_and(|s| std::mem::take(&mut s.held));
    if held && work.record.body.state == DurableState::Running {
        process
            .cont()
            .await
            .map_err(Error::qemu("Letting the guest go on"))?;
    }
    commit_health(work, Health::Ok).await
}

/// Waits until all of the guest's memory is there, which what comes next needs.
pub(super) async fn wait_until_resident(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    while work.record.body.serving.is_some() {
        let Some(serving) = work.guest.as_mut().and_then(|g| g.memory.as_mut()) else {
            work.process()?;
            go_on(work).await?;
            continue;
        };
        let Progress { sent, total, .. } = serving.server.progress();
        // The bytes of the job are those that it stores itself.
        job.percent(
            u8::try_from(sent.saturating_mul(10) / total.max(1))
                .unwrap_or(0)
                .min(10),
        );
        let news = tokio::select! {
            news = news(Some(serving)) => news,
            () = job.wait_cancelled() => return Err(Error::Cancelled),
            () = tokio::time::sleep(TICK) => continue,
        };
        handle(work, news).await?;
    }
    Ok(())
}

/// The service ends: guests that get their memory are better off when they have all of it.
pub(crate) async fn close(work: &mut Work) {
    let rest = async {
        while let Some(Guest {
            memory: Some(serving),
            ..
        }) = &mut work.guest
        {
            let news = news(Some(serving)).await;
            handle(work, news).await?;
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(CLOSING, rest).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => tracing::error!(%cause, "a guest's memory could not be restored"),
        Err(_) => tracing::warn!("a guest waits for its memory until the service runs again"),
    }
}
