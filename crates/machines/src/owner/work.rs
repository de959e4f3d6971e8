//! What an operation works on. The owner hands it over by value and gets it back at the end, so
//! that nobody else can act on the machine meanwhile.

use super::quiesce::Thawing;
use super::record::{Record, Shown};
use super::restore::Serving;
use super::stall::Stall;
use crate::catalog::{Change, DurableState};
use crate::error::Error;
use crate::files::Places;
use crate::guest_report::{self, Follower};
use crate::host::Host;
use crate::ids::{JobId, LayerId};
use crate::integrity::keeper;
use crate::jobs::JobHandle;
use crate::model::{Activity, JobState, State, Timestamp};
use crate::saga::{MergeKind, Plan, Sweep};
use qemu::postcopy::Asked;
use qemu::qmp::Event;
use qemu::spec::Id;
use std::sync::Arc;
use tokio::sync::broadcast;

/// A machine in one pair of hands.
pub(crate) struct Work {
    pub host: Arc<Host>,
    /// As the catalog has it.
    pub record: Record,
    /// While there is a process.
    pub guest: Option<Guest>,
    /// What readers see beyond the record.
    pub shown: Shown,
    /// How the running operation's job ended, once that is durable.
    pub ended: Option<(JobState, Timestamp)>,
    /// The machine has been destroyed.
    pub gone: bool,
    /// A saga could be brought neither forward nor back. Its journal stays for the next start to
    /// settle, and until then nobody may touch the machine.
    pub unsettled: bool,
    /// The ends of sagas that could not be recorded; they go with the next commit. Without that, a
    /// later start would take such a saga for unfinished and undo what has come since.
    pub overdue: Vec<Change>,
    /// What its guest had to wait for after earlier restores.
    pub asked: Asked,
    /// Whether the catalog has the machine; not while it is being defined.
    stored: bool,
}

/// The process of a machine, and what it reports.
pub(crate) struct Guest {
    pub process: qemu::Process,
    pub events: broadcast::Receiver<Event>,
    /// Why it stands still, while it does without having been asked to.
    pub stall: Stall,
    /// While its memory is on its way.
    pub memory: Option<Serving>,
    /// While its file systems may be at rest, and are being let go on.
    pub thawing: Option<Thawing>,
    /// Keeps what its agent tells.
    pub follower: Option<Follower>,
}

impl Guest {
    pub fn new(process: qemu::Process) -> Guest {
        let events = process.events();
        Guest {
            process,
            events,
            stall: Stall::default(),
            memory: None,
            thawing: None,
            follower: None,
        }
    }
}

impl Work {
    pub fn new(host: Arc<Host>, record: Record) -> Work {
        Work {
            host,
            record,
            guest: None,
            shown: Shown::default(),
            ended: None,
            gone: false,
            unsettled: false,
            overdue: Vec::new(),
            asked: Asked::default(),
            stored: true,
        }
    }

    /// A machine that the first commit brings into the catalog.
    pub fn unstored(host: Arc<Host>, record: Record) -> Work {
        Work {
            stored: false,
            ..Work::new(host, record)
        }
    }

    pub fn places(&self) -> Places {
        self.host.places(self.record.id, &self.record.body.global)
    }

    /// The running process; that there is none is the guest's fault.
    pub fn process(&self) -> Result<qemu::Process, Error> {
        match &self.guest {
            Some(guest) if guest.process.is_alive() => Ok(guest.process.clone()),
            Some(guest) => Err(Error::GuestDied {
                log: guest.process.log_tail(),
            }),
            None => Err(Error::GuestDied { log: String::new() }),
        }
    }

    /// What the guest's agent tells is kept from now on.
    pub fn follow_guest(&mut self) {
        if let Some(guest) = &mut self.guest
            && guest.follower.is_none()
        {
            let (process, reports) = (guest.process.clone(), self.host.guests.clone());
            guest.follower = Some(guest_report::follow(self.record.id, process, reports));
        }
    }

    pub fn publish(&self) {
        self.host.directory.publish(self.record.publish(self.shown));
    }

    pub fn show_state(&mut self, state: State, requested: State) {
        self.shown.state = Some(state);
        self.shown.requested = Some(requested);
        self.publish();
    }

    pub fn show_activity(&mut self, activity: Option<Activity>) {
        self.shown.activity = activity;
        self.publish();
    }

    /// Makes `new` and `extra` true together, and publishes.
    pub async fn commit(&mut self, new: Record, mut extra: Vec<Change>) -> Result<(), Error> {
        let mut changes = self.overdue.clone();
        changes.extend(new.changes_from(&self.record));
        changes.append(&mut extra);
        if !self.stored {
            changes.insert(0, Change::PutMachine(Box::new(new.row())));
        }
        self.host.catalog.commit(changes).await?;
        self.overdue.clear();
        self.stored = true;
        let old = std::mem::replace(&mut self.record, new);
        self.forget_hashes(&old).await;
        self.host.disks.replace(
            self.record.id,
            old.layers.values().map(|l| &l.path),
            self.record.layers.values().map(|l| &l.path),
        );
        self.publish();
        Ok(())
    }

    /// Deletes the hashes of layers that are gone or written to again, which the commit has
    /// forgotten; new frozen layers are hashed.
    async fn forget_hashes(&self, old: &Record) {
        let frozen = |record: &Record, id| record.layers.get(&id).is_some_and(|l| l.frozen);
        let gone: Vec<LayerId> = old
            .layers
            .keys()
            .copied()
            .filter(|id| frozen(old, *id) && !frozen(&self.record, *id))
            .collect();
        if !gone.is_empty() {
            let snapshots = self.places().snapshots().to_owned();
            let deleted = blocking(move || crate::integrity::sums::delete(&snapshots, &gone)).await;
            if let Err(cause) = deleted {
                tracing::warn!(%cause, "hashes of layers could not be deleted");
            }
        }
        let hashable = |id, layer: &crate::catalog::Layer| {
            let before = old.layers.get(&id);
            layer.frozen && before.is_none_or(|b| !b.frozen || b.parent != layer.parent)
        };
        if self
            .record
            .layers
            .iter()
            .any(|(id, layer)| hashable(*id, layer))
        {
            self.host.keeper.wake();
        }
    }

    /// Records the job and its saga's first step.
    pub async fn begin(
        &mut self,
        job: &JobHandle,
        step: &'static str,
        plan: &Plan,
    ) -> Result<(), Error> {
        let row = plan.row(job.id(), self.record.id, step)?;
        let mut changes = self.overdue.clone();
        changes.extend([job.row(), Change::PutJournal(row)]);
        self.host.catalog.commit(changes).await?;
        self.overdue.clear();
        self.reach(step);
        Ok(())
    }

    /// Records the step that is about to be done.
    pub async fn step(&self, saga: JobId, step: &'static str, plan: &Plan) -> Result<(), Error> {
        let mut changes = vec![Change::PutJournal(plan.row(saga, self.record.id, step)?)];
        if let Plan::Merge(merge) = plan {
            // Their files are going to change, or to go.
            let snapshots = self.places().snapshots().to_owned();
            let mut layers = vec![merge.upper];
            if merge.kind != MergeKind::Skip {
                let chain = self.record.chain(merge.upper).into_iter();
                let run = chain.skip_while(|layer| layer.id != merge.lower);
                layers.extend(run.map(|layer| layer.id));
            }
            changes.extend(keeper::forget_for_merge(snapshots, layers).await);
        }
        self.host.catalog.commit(changes).await?;
        self.reach(step);
        Ok(())
    }

    /// Commits the effect of a saga together with its next step.
    pub async fn commit_step(
        &mut self,
        new: Record,
        saga: JobId,
        step: &'static str,
        plan: &Plan,
    ) -> Result<(), Error> {
        let row = plan.row(saga, self.record.id, step)?;
        self.commit(new, vec![Change::PutJournal(row)]).await?;
        self.reach(step);
        Ok(())
    }

    /// A point between steps at which tests let the service die.
    pub fn reach(&self, point: &'static str) {
        self.host.crash.reach(point);
    }

    /// Commits `new`, ends the saga and the job in the same commit.
    pub async fn finish(&mut self, new: Record, job: &JobHandle) -> Result<(), Error> {
        let now = Timestamp::now();
        let extra = vec![
            Change::DeleteJournal(job.id()),
            job.ended_row(&JobState::Completed, now),
        ];
        self.commit(new, extra).await?;
        self.ended = Some((JobState::Completed, now));
        Ok(())
    }

    /// Deletes files that no row refers to.
    pub async fn sweep(&self, sweep: &Sweep) -> Result<(), Error> {
        let sweep = sweep.clone();
        blocking(move || {
            for file in &sweep.files {
                crate::files::delete(file)?;
            }
            for folder in &sweep.folders {
                crate::files::delete_empty_folder(folder);
            }
            Ok(())
        })
        .await
    }
}

impl Record {
    /// Enters a lasting state.
    pub fn enter(&mut self, state: DurableState) {
        if self.body.state == state {
            return;
        }
        let now = Timestamp::now();
        self.body.state = state;
        self.body.state_changed = now;
        match state {
            DurableState::Off | DurableState::Saved => {
                self.body.process = None;
                self.body.started = None;
                self.body.serving = None;
                self.body.restored = None;
                self.body.owes_thaw &= state == DurableState::Saved;
            }
            DurableState::Running if self.body.started.is_none() => self.body.started = Some(now),
            DurableState::Running | DurableState::Paused => {}
        }
    }
}

/// Runs something that waits for the disk on a thread made for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is going down, and the service with it.
        Err(_) => Err(Error::ServiceStopping),
    }
}

/// The name of a layer's node in QEMU. Depends on the layer alone, so that nodes are found again.
pub(crate) fn node(layer: LayerId) -> Result<Id, Error> {
    let digits: String = layer.0.simple().to_string().chars().take(29).collect();
    Id::new(format!("l-{digits}")).map_err(Error::qemu("Naming a layer"))
}

/// The name of a block job in QEMU.
pub(crate) fn block_job(layer: LayerId) -> Result<Id, Error> {
    let digits: String = layer.0.simple().to_string().chars().take(29).collect();
    Id::new(format!("m-{digits}")).map_err(Error::qemu("Naming a merge"))
}

/// A layer as QEMU wants it.
pub(crate) fn qemu_layer(layer: &crate::catalog::Layer) -> Result<qemu::spec::Layer, Error> {
    Ok(qemu::spec::Layer {
        node: node(layer.id)?,
        format: layer.format,
        path: layer.path.clone(),
    })
}
