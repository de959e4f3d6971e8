//! The owner task of a machine: everything that changes the machine goes through its queue.
//!
//! An answer is one of three: it is already so, a job will do it, or it is refused because. While
//! an operation runs, the owner has handed the machine over to it ([`work::Work`], by value) and
//! refuses what would need it. While nothing runs, the owner watches the guest.

mod aside;
mod configure;
mod console;
mod destroy;
pub(crate) mod fold;
pub(crate) mod guest_watch;
pub(crate) mod images;
pub(crate) mod launch;
mod memory;
pub(crate) mod merge;
pub(crate) mod merge_choice;
pub(crate) mod quiesce;
pub(crate) mod receiving;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod shorten;
pub(crate) mod shutdown;
pub(crate) mod snapshot_apply;
mod snapshot_check;
pub(crate) mod snapshot_create;
pub(crate) mod snapshot_remove;
pub(crate) mod stall;
pub(crate) mod state_verbs;
mod tidy;
pub mod transitions;
pub(crate) mod work;

pub(crate) use configure::define;

use crate::catalog::Change;
use crate::error::Error;
use crate::forecast::Forecast;
use crate::host::Host;
use crate::ids::{DeviceId, JobId, MachineId, SnapshotId};
use crate::integrity::{Depth, verify};
use crate::jobs::{JobHandle, end_of};
use crate::model::{Activity, Consistency, Health, JobKind, JobState, State, Timestamp};
use crate::rehearsal;
use crate::request::{
    Actor, GlobalChange, NewDevice, ResourceChange, SettingsChange, StateRequest,
};
use aside::Aside;
use guest_watch::Happening;
use qemu::console::{KeyEvent, Picture};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use transitions::{Answer as Decision, Verb, check};
use work::Work;

/// Requests that may wait in a machine's queue.
const QUEUE: usize = 64;

/// What is asked of an owner.
#[derive(Debug)]
pub(crate) enum Request {
    Destroy,
    Global(GlobalChange),
    Settings(SettingsChange),
    /// Both of them, in one commit.
    System(Box<(SettingsChange, GlobalChange)>),
    SnapshotSettings(SnapshotId, SettingsChange),
    Add(Vec<NewDevice>),
    Resources(Vec<ResourceChange>),
    Remove(Vec<DeviceId>),
    State(StateRequest),
    CreateSnapshot(Consistency),
    ApplySnapshot(SnapshotId),
    RemoveSnapshot(SnapshotId),
    RemoveSnapshotTree(SnapshotId),
    CheckSnapshot,
    Picture,
    Keys(Vec<KeyEvent>),
    VerifySnapshot(SnapshotId, Depth),
    RehearseSnapshot(SnapshotId, Duration),
}

impl Request {
    /// The verb's name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Destroy => "destroy",
            Request::Global(_) => "modify_global",
            Request::Settings(_) => "modify_settings",
            Request::System(..) => "modify_system",
            Request::SnapshotSettings(..) => "modify_snapshot",
            Request::Add(_) => "add_devices",
            Request::Resources(_) => "modify_resources",
            Request::Remove(_) => "remove_devices",
            Request::State(StateRequest::Run) => "run",
            Request::State(StateRequest::TurnOff) => "turn_off",
            Request::State(StateRequest::ShutDown) => "shut_down",
            Request::State(StateRequest::Reset) => "reset",
            Request::State(StateRequest::Pause) => "pause",
            Request::State(StateRequest::Save) => "save",
            Request::CreateSnapshot(_) => "create_snapshot",
            Request::ApplySnapshot(_) => "apply_snapshot",
            Request::RemoveSnapshot(_) => "remove_snapshot",
            Request::RemoveSnapshotTree(_) => "remove_snapshot_tree",
            Request::Picture => "picture",
            Request::Keys(_) => "send_keys",
            Request::CheckSnapshot => "check_snapshot",
            Request::VerifySnapshot(..) => "verify_snapshot",
            Request::RehearseSnapshot(..) => "rehearse_snapshot",
        }
    }
}

/// What an owner answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Devices(Vec<DeviceId>),
    Job(JobId),
    Forecast(Box<Forecast>),
    Picture(Box<Picture>),
}

/// A request with the place for its answer.
#[derive(Debug)]
pub(crate) struct Message {
    pub actor: Actor,
    pub request: Request,
    pub reply: oneshot::Sender<Result<Answer, Error>>,
}

/// What a job does, with what it needs.
enum Operation {
    Verb(JobKind),
    Create(Consistency),
    Apply(SnapshotId),
    Remove(BTreeSet<SnapshotId>),
}

/// The operation that has the machine.
struct Running {
    what: &'static str,
    job: JobHandle,
    /// Asks it to give way, if it does.
    stop: Option<tokio::sync::watch::Sender<bool>>,
    /// The process of a guest that is only waited for: its screen and keyboard are free.
    asked: Option<qemu::Process>,
    task: JoinHandle<Box<Work>>,
}

/// A machine's owner.
struct Owner {
    id: MachineId,
    host: Arc<Host>,
    inbox: mpsc::Receiver<Message>,
    work: Option<Box<Work>>,
    running: Option<Running>,
    /// Jobs that read its snapshots.
    asides: Vec<Aside>,
    /// One of them has ended.
    aside_ended: Arc<Notify>,
    /// Merges that have given way to a request, and go on when that is done.
    waiting: Option<JobHandle>,
    /// A chain of memory images that is being made shorter.
    shortening: Option<shorten::Shortening>,
    compressed: shorten::Compressed,
    /// That failed: it is not begun again before something else was done.
    images_left: bool,
    /// Merges failed, or were cancelled: they are not begun again before something else was done.
    left: bool,
    /// When merges that failed are tried again.
    again: tidy::Again,
}

/// Starts the owner of a machine and answers the way to it.
pub(crate) fn spawn(work: Work) -> (mpsc::Sender<Message>, JoinHandle<()>) {
    let (sender, inbox) = mpsc::channel(QUEUE);
    work.publish();
    let mut owner = Owner {
        id: work.record.id,
        host: work.host.clone(),
        inbox,
        work: Some(Box::new(work)),
        running: None,
        asides: Vec::new(),
        aside_ended: Arc::default(),
        waiting: None,
        shortening: None,
        compressed: Default::default(),
        images_left: false,
        left: false,
        again: tidy::Again::default(),
    };
    owner.tidy();
    (sender, tokio::spawn(owner.run()))
}

enum Next {
    Message(Option<Message>),
    Finished(Result<Box<Work>, tokio::task::JoinError>),
    Guest(Happening),
    /// The merges that wait are wanted no more.
    Unwanted(JobHandle),
    /// A job that ran beside has ended: merges need not wait for it any more.
    AsideEnded,
    /// Merges that failed may be tried again.
    Again,
    /// A shorter memory image is written.
    Shorter(Result<shorten::Written, qemu::memory_image::ImageError>),
}

impl Owner {
    async fn run(mut self) {
        if let Some(work) = &mut self.work {
            memory::heal(work).await;
            quiesce::see_to_thaw(work);
            work.follow_guest();
        }
        loop {
            self.shorten_images();
            let next = self.next().await;
            match next {
                Next::Message(None) => {
                    // The service closes: what runs is brought to its end, nothing new begins.
                    self.end_awaiting();
                    if let Some(running) = self.running.take() {
                        if let Some(stop) = &running.stop {
                            stop.send_replace(true);
                        }
                        let mut work = running.task.await.ok();
                        // Whoever has cancelled the job waits for its end.
                        if let Some((state, at)) = work.as_mut().and_then(|w| w.ended.take()) {
                            running.job.end(state, at);
                        }
                        self.work = work;
                    }
                    if let Some(job) = self.waiting.take() {
                        self.forget_waiting(job).await;
                    }
                    if let Some(work) = &mut self.work {
                        restore::close(work).await;
                    }
                    for aside in self.asides.drain(..) {
                        aside.end(&self.host).await;
                    }
                    return;
                }
                Next::Message(Some(message)) => self.answer(message).await,
                Next::Finished(outcome) => {
                    if !self.take_back(outcome).await {
                        return;
                    }
                }
                Next::Guest(happening) => self.guest(happening).await,
                Next::Shorter(outcome) => self.replace_image(outcome).await,
                Next::Unwanted(job) => self.forget_waiting(job).await,
                Next::AsideEnded => self.tidy(),
                Next::Again => {
                    self.again.forget();
                    self.left = false;
                    self.tidy();
                }
            }
            if self.work.as_ref().is_some_and(|w| w.gone) {
                return;
            }
        }
    }

    async fn next(&mut self) -> Next {
        let Owner {
            inbox,
            work,
            running,
            waiting,
            aside_ended,
            shortening,
            again,
            ..
        } = self;
        let idle = work.is_some();
        tokio::select! {
            biased;
            outcome = finished(running) => Next::Finished(outcome),
            message = inbox.recv() => Next::Message(message),
            outcome = shorten::written(shortening, idle) => Next::Shorter(outcome),
            job = unwanted(waiting) => Next::Unwanted(job),
            () = aside_ended.notified() => Next::AsideEnded,
            () = again.comes(), if idle => Next::Again,
            happening = guest_watch::next(work.as_deref_mut()) => Next::Guest(happening),
        }
    }

    /// The operation has ended and gives the machine back. Answers whether there still is one.
    async fn take_back(&mut self, outcome: Result<Box<Work>, tokio::task::JoinError>) -> bool {
        let running = self.running.take();
        let mut work = match outcome {
            Ok(work) => work,
            Err(cause) => {
                // A defect. The catalog and QEMU know the truth; the next start settles it, and
                // until then nobody touches the machine.
                tracing::error!(%cause, "an operation broke down; restart the service");
                return false;
            }
        };
        let end = work.ended.take();
        if work.unsettled {
            self.give_up(&work);
            if let (Some(Running { job, .. }), Some((state, at))) = (running, end) {
                job.end(state, at);
            }
            return false;
        }
        let Some(Running { job, stop, .. }) = running else {
            return false;
        };
        work.shown = Default::default();
        self.images_left = false;
        let gone = work.gone;
        let lived = work.guest.is_some();
        if !gone {
            guest_watch::settle(&mut work).await;
            quiesce::see_to_thaw(&mut work);
            work.follow_guest();
            work.publish();
        }
        // Memory that is only just being filled has not been split.
        if !gone && stop.is_none() && job.job().kind != JobKind::Start {
            memory::heal(&work).await;
        }
        let lives = work.guest.is_some();
        self.work = Some(work);
        // What gives way are merges.
        let gave_way = stop.is_some() && end.is_none();
        let failed = end.as_ref().is_some_and(|(s, _)| *s != JobState::Completed);
        // If it failed because the guest has ended, it is tried again without one.
        self.left = stop.is_some() && failed && lived == lives;
        if stop.is_some() {
            let cancelled = matches!(end, Some((JobState::Cancelled(_), _)));
            self.again.after(self.left && !cancelled);
        }
        if gave_way {
            self.waiting = Some(job.clone());
        }
        if gone && let Some(job) = self.waiting.take() {
            self.forget_waiting(job).await;
        }
        // If they gave way to the guest, its watch comes first.
        if !gave_way || !lives {
            self.tidy();
        }
        if let Some((state, at)) = end {
            job.end(state, at);
        }
        !gone
    }

    /// Ends the job of merges that are not going to be done.
    async fn forget_waiting(&mut self, job: JobHandle) {
        self.waiting = None;
        self.left = true;
        let (end, now) = (end_of(&Err(Error::Cancelled)), Timestamp::now());
        if let Err(cause) = self
            .host
            .catalog
            .commit(vec![job.ended_row(&end, now)])
            .await
        {
            tracing::error!(%cause, "the end of a merge could not be recorded");
        }
        job.end(end, now);
    }

    /// Shows that nobody looks after the machine until the service starts again.
    fn give_up(&self, work: &Work) {
        let mut shown = work.record.publish(Default::default());
        shown.health = Health::Critical(
            "What a failed snapshot did to this virtual machine's disks could not be taken back. \
             It can be used again when the service has been restarted."
                .into(),
        );
        self.host.directory.publish(shown);
        tracing::error!(machine = %self.id, "a saga is left for the next start to settle");
    }

    async fn guest(&mut self, happening: Happening) {
        if let Some(work) = &mut self.work {
            let lived = work.guest.is_some();
            guest_watch::handle(work, happening).await;
            work.publish();
            // Without a guest, more can be merged.
            self.left = self.left && lived == work.guest.is_some();
        }
        self.tidy();
    }

    async fn answer(&mut self, message: Message) {
        if message.reply.is_closed() {
            // The caller was told that there was no answer in time.
            return;
        }
        self.stop_awaiting(&message.request).await;
        self.stop_tidying().await;
        let answer = match (&self.running, &mut self.work) {
            (Some(running), _) => self.answer_busy(running, &message.request).await,
            (None, Some(_)) => self.act(message.actor, message.request).await,
            (None, None) => Err(Error::ServiceStopping),
        };
        // Nobody may be waiting any more; what was done is done.
        let _ = message.reply.send(answer);
        self.tidy();
    }

    /// While an operation runs, what it leaves free; else the refusal: by the state shown, if that
    /// decides it.
    async fn answer_busy(&self, running: &Running, request: &Request) -> Result<Answer, Error> {
        if let Some(process) = &running.asked
            && let Some(answer) = console::beside(process, request).await
        {
            return answer;
        }
        if let (Some(machine), Some(verb)) =
            (self.host.directory.machine(self.id), verb_of(request))
        {
            check(machine.state, verb)?;
        }
        Err(Error::Busy {
            running: running.what,
        })
    }

    async fn act(&mut self, actor: Actor, request: Request) -> Result<Answer, Error> {
        let Some(work) = &mut self.work else {
            return Err(Error::ServiceStopping);
        };
        let state = State::from(work.record.body.state);
        self.asides.retain(|aside| !aside.has_ended());
        let Some(verb) = verb_of(&request) else {
            return self.read(actor, request).await;
        };
        let decision = check(state, verb)?;
        if takes_layers(&request) && self.asides.iter().any(|aside| aside.holds_layers) {
            return Err(Error::Busy {
                running: phrase(JobKind::RehearseSnapshot),
            });
        }
        match request {
            Request::Global(change) => configure::global(work, &change).await?,
            Request::Settings(change) => configure::settings(work, &change).await?,
            Request::System(both) => {
                let (settings, global) = *both;
                configure::system(work, &settings, &global).await?;
            }
            Request::SnapshotSettings(id, change) => {
                configure::snapshot(work, id, &change).await?;
            }
            Request::Add(devices) => {
                return configure::add(work, &devices).await.map(Answer::Devices);
            }
            Request::Resources(changes) => configure::resources(work, &changes).await?,
            Request::Remove(ids) => configure::remove(work, &ids).await?,
            Request::ApplySnapshot(id) => {
                known(work, id)?;
                return self.begin(&actor, decision, Some(id), Operation::Apply(id));
            }
            Request::RemoveSnapshot(id) => {
                known(work, id)?;
                let ids = BTreeSet::from([id]);
                return self.begin(&actor, decision, Some(id), Operation::Remove(ids));
            }
            Request::RemoveSnapshotTree(id) => {
                known(work, id)?;
                let ids = work.record.tree(id);
                return self.begin(&actor, decision, Some(id), Operation::Remove(ids));
            }
            Request::CreateSnapshot(consistency) => {
                snapshot_create::check(work).await?;
                quiesce::check(work, consistency).await?;
                return self.begin(&actor, decision, None, Operation::Create(consistency));
            }
            Request::State(StateRequest::Save) => {
                snapshot_create::check_capturable(work).await?;
                return self.begin(&actor, decision, None, Operation::Verb(JobKind::Save));
            }
            Request::Destroy | Request::State(_) => {
                if let Decision::Job(kind) = decision {
                    return self.begin(&actor, decision, None, Operation::Verb(kind));
                }
            }
            Request::CheckSnapshot
            | Request::Picture
            | Request::Keys(_)
            | Request::VerifySnapshot(..)
            | Request::RehearseSnapshot(..) => {}
        }
        Ok(Answer::Done)
    }

    /// What changes nothing: answered at once, or a job beside whatever comes.
    async fn read(&mut self, actor: Actor, request: Request) -> Result<Answer, Error> {
        let Some(work) = &self.work else {
            return Err(Error::ServiceStopping);
        };
        let (host, record) = (work.host.clone(), work.record.clone());
        let machine = record.id;
        let tell = self.aside_ended.clone();
        let aside = match request {
            Request::CheckSnapshot => {
                let forecast = snapshot_check::forecast(work).await?;
                return Ok(Answer::Forecast(Box::new(forecast)));
            }
            Request::Picture => return console::picture(work).await,
            Request::Keys(keys) => return console::send_keys(work, &keys).await,
            Request::VerifySnapshot(id, depth) => {
                let subject = verify::Subject::of(&record, work.places(), id)?;
                let kind = JobKind::VerifySnapshot;
                Aside::begin(
                    &host,
                    &actor,
                    kind,
                    (machine, id),
                    tell,
                    move |host, job| async move {
                        let report = verify::verify(&host, subject, depth, Some(&job)).await?;
                        let outcome = verify::refuse_bad(&report);
                        host.reports.keep_verification(&host.catalog, report).await;
                        outcome
                    },
                )
                .await?
            }
            Request::RehearseSnapshot(id, patience) => {
                let plan = rehearsal::plan(work, id, patience)?;
                let kind = JobKind::RehearseSnapshot;
                Aside::begin(
                    &host,
                    &actor,
                    kind,
                    (machine, id),
                    tell,
                    move |host, job| rehearsal::rehearse(host, plan, job),
                )
                .await?
            }
            _ => return Err(Error::ServiceStopping),
        };
        let job = aside.job.id();
        self.asides.push(aside);
        Ok(Answer::Job(job))
    }

    /// Hands the machine over to a job.
    fn begin(
        &mut self,
        actor: &Actor,
        decision: Decision,
        snapshot: Option<SnapshotId>,
        operation: Operation,
    ) -> Result<Answer, Error> {
        let (Decision::Job(kind), Some(work)) = (decision, self.work.take()) else {
            return Err(Error::ServiceStopping);
        };
        let host = &work.host;
        let job = host.jobs.begin(kind, work.record.id, snapshot, actor);
        let id = job.id();
        let asked = (kind == JobKind::ShutDown).then(|| work.process().ok());
        self.running = Some(Running {
            what: phrase(kind),
            job: job.clone(),
            stop: None,
            asked: asked.flatten(),
            task: tokio::spawn(perform(work, job, operation)),
        });
        Ok(Answer::Job(id))
    }

    /// Begins to make a chain of memory images shorter, and lets that go on while nothing else is
    /// done.
    fn shorten_images(&mut self) {
        if let Some(shortening) = &self.shortening {
            shortening.pause(self.work.is_none());
        } else if let Some(work) = self.work.as_ref().filter(|w| !w.gone && !self.images_left) {
            self.shortening = shorten::begin(&self.host, &work.record, &self.compressed);
        }
    }

    async fn replace_image(
        &mut self,
        written: Result<shorten::Written, qemu::memory_image::ImageError>,
    ) {
        let (Some(shortening), Some(work)) = (self.shortening.take(), &mut self.work) else {
            return;
        };
        let replaced = match written {
            Ok(shorten::Written::Nothing) => Ok(true),
            Ok(shorten::Written::New) => shortening.switch(work).await.map_err(|e| e.to_string()),
            Err(cause) => Err(cause.to_string()),
        };
        match replaced {
            Ok(true) => shortening.note(&mut self.compressed),
            Ok(false) => {}
            Err(cause) => {
                tracing::warn!(%cause, machine = %self.id, "a memory image is left as it is");
                self.images_left = true;
            }
        }
    }

    /// Begins to merge what can be merged, or goes on with it.
    fn tidy(&mut self) {
        let Some(work) = &self.work else {
            return;
        };
        let held = self.asides.iter().any(|a| a.holds_layers && !a.has_ended());
        let idle = !held && !work.gone && self.running.is_none() && !self.left;
        // Merges that wait are gone on with even if nothing is left to merge: their job must end.
        if !idle || (self.waiting.is_none() && !tidy::wanted(work)) {
            return;
        }
        let Some(mut work) = self.work.take() else {
            return;
        };
        let job = self.waiting.take().unwrap_or_else(|| {
            let nobody = Actor {
                user: String::new(),
                peer: "local".into(),
            };
            let (jobs, machine) = (&work.host.jobs, work.record.id);
            jobs.begin(JobKind::MergeDisks, machine, None, &nobody)
        });
        // Shown at once: who sees a job end sees what follows from it.
        work.show_activity(Some(Activity::MergingDisks));
        let (stop, asked) = tokio::sync::watch::channel(false);
        self.running = Some(Running {
            what: phrase(JobKind::MergeDisks),
            job: job.clone(),
            stop: Some(stop),
            asked: None,
            task: tokio::spawn(async move {
                tidy::merge_all(&mut work, &job, asked).await;
                work
            }),
        });
    }
}

/// Resolves when merges that wait are cancelled.
async fn unwanted(waiting: &Option<JobHandle>) -> JobHandle {
    match waiting {
        Some(job) => {
            job.wait_cancelled().await;
            job.clone()
        }
        None => std::future::pending().await,
    }
}

async fn finished(running: &mut Option<Running>) -> Result<Box<Work>, tokio::task::JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}

/// Does a job's work and makes its end durable.
async fn perform(mut work: Box<Work>, job: JobHandle, operation: Operation) -> Box<Work> {
    memory::stop_healing(&work).await;
    let outcome = match operation {
        Operation::Create(consistency) => {
            snapshot_create::create(&mut work, &job, consistency).await
        }
        Operation::Apply(id) => snapshot_apply::apply(&mut work, &job, id).await,
        Operation::Remove(ids) => snapshot_remove::remove(&mut work, &job, &ids).await,
        Operation::Verb(kind) => match kind {
            JobKind::Start | JobKind::Restore => state_verbs::start(&mut work, &job).await,
            JobKind::TurnOff => state_verbs::turn_off(&mut work, &job).await,
            JobKind::ShutDown => shutdown::shut_down(&mut work, &job).await,
            JobKind::Reset => state_verbs::reset(&mut work, &job).await,
            JobKind::Pause => state_verbs::pause(&mut work, &job).await,
            JobKind::Resume => state_verbs::resume(&mut work, &job).await,
            JobKind::Save => state_verbs::save(&mut work, &job).await,
            JobKind::Destroy => destroy::destroy(&mut work, &job).await,
            // These come with more than their kind.
            JobKind::CreateSnapshot
            | JobKind::ApplySnapshot
            | JobKind::RemoveSnapshot
            | JobKind::RemoveSnapshotTree
            | JobKind::VerifySnapshot
            | JobKind::RehearseSnapshot
            | JobKind::MergeDisks => Err(Error::ServiceStopping),
        },
    };
    let end = end_of(&outcome);
    if let Err(cause) = &outcome {
        let (job, machine) = (job.id(), work.record.id);
        match &end {
            JobState::Cancelled(_) => tracing::info!(%job, %machine, %cause, "a job was given up"),
            _ => tracing::error!(%job, %machine, %cause, "a job failed"),
        }
    }
    if work.ended.is_none() {
        let now = Timestamp::now();
        let mut changes = vec![job.ended_row(&end, now)];
        if !work.unsettled {
            changes.push(Change::DeleteJournal(job.id()));
        }
        if let Err(cause) = work.host.catalog.commit(changes.clone()).await {
            tracing::error!(%cause, job = %job.id(), "the end of a job could not be recorded");
            work.overdue.extend(changes);
        }
        work.ended = Some((end, now));
    }
    work
}

fn known(work: &Work, id: SnapshotId) -> Result<(), Error> {
    match work.record.snapshot(id) {
        Some(_) => Ok(()),
        None => Err(Error::NoSuchSnapshot(id)),
    }
}

/// The column of the table; none for what only reads.
fn verb_of(request: &Request) -> Option<Verb> {
    Some(match request {
        Request::Destroy => Verb::Destroy,
        Request::Global(_)
        | Request::Settings(_)
        | Request::System(..)
        | Request::SnapshotSettings(..) => Verb::Describe,
        Request::Add(_) | Request::Resources(_) | Request::Remove(_) => Verb::Configure,
        Request::State(StateRequest::Run) => Verb::Run,
        Request::State(StateRequest::TurnOff) => Verb::TurnOff,
        Request::State(StateRequest::ShutDown) => Verb::ShutDown,
        Request::State(StateRequest::Reset) => Verb::Reset,
        Request::State(StateRequest::Pause) => Verb::Pause,
        Request::State(StateRequest::Save) => Verb::Save,
        Request::CreateSnapshot(_) => Verb::CreateSnapshot,
        Request::ApplySnapshot(_) => Verb::ApplySnapshot,
        Request::RemoveSnapshot(_) => Verb::RemoveSnapshot,
        Request::RemoveSnapshotTree(_) => Verb::RemoveSnapshotTree,
        Request::CheckSnapshot
        | Request::Picture
        | Request::Keys(_)
        | Request::VerifySnapshot(..)
        | Request::RehearseSnapshot(..) => return None,
    })
}

/// Whether a request may delete or merge layers of snapshots.
fn takes_layers(request: &Request) -> bool {
    matches!(
        request,
        Request::Destroy | Request::RemoveSnapshot(_) | Request::RemoveSnapshotTree(_)
    )
}

fn phrase(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Start => "it is being started",
        JobKind::Restore => "its saved state is being restored",
        JobKind::TurnOff => "it is being turned off",
        JobKind::ShutDown => "it is being shut down",
        JobKind::Reset => "it is being reset",
        JobKind::Pause => "it is being paused",
        JobKind::Resume => "it is being resumed",
        JobKind::Save => "its state is being saved",
        JobKind::Destroy => "it is being destroyed",
        JobKind::CreateSnapshot => "a snapshot is being taken",
        JobKind::ApplySnapshot => "a snapshot is being applied",
        JobKind::RemoveSnapshot | JobKind::RemoveSnapshotTree => "snapshots are being removed",
        JobKind::VerifySnapshot => "a snapshot is being verified",
        JobKind::RehearseSnapshot => "a snapshot is being rehearsed",
        JobKind::MergeDisks => "disk layers are being merged",
    }
}
