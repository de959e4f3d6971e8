//! [`Machines`]: the entry to the domain.

use crate::automatic;
use crate::catalog::{AuditLine, Catalog, Change, DurableState, MachineBody};
use crate::check::{self, Finding};
use crate::directory::Directory;
use crate::error::Error;
use crate::feed::{Feed, Updates};
use crate::forecast::Forecast;
use crate::guest_report::GuestReport;
use crate::host::{self, DisksInUse, Host};
use crate::ids::{DeviceId, JobId, MachineId, SnapshotId};
use crate::integrity::keeper::{self, Keeper};
use crate::integrity::{Depth, Verification};
use crate::jobs::Jobs;
use crate::lock;
use crate::model::{Consistency, Health, Job, Machine, Snapshot, State, Timestamp};
use crate::opening;
use crate::owner::record::Record;
use crate::owner::work::{Work, blocking};
use crate::owner::{self, Answer, Message, Request};
use crate::rebuild;
use crate::rehearsal::{self, Rehearsal};
use crate::reports::Reports;
use crate::request::{
    Actor, GlobalChange, NewDevice, ResourceChange, SettingsChange, StateRequest,
};
use crate::saga::CrashPoint;
use crate::settings::change::HostLimits;
use crate::settings::{change, defaults, limits};
use qemu::identity::Identity;
use qemu::memory_backing::healing::Health as MemoryHealth;
use qemu::memory_backing::{Policy, PoolLimit};
use qemu::memory_image::Compression;
use qemu::processor_time::{self, ProcessorTime};
use qemu::spec::Accelerator;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// How often old jobs are looked for.
const EXPIRY_TICK: Duration = Duration::from_secs(30);

/// Memory images that are written anew at one time.
const IMAGES_AT_ONCE: usize = 4;

/// How the domain is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; made with mode 0700 when it is missing. Absolute.
    pub data_dir: PathBuf,
    /// Which accelerator machines run on: `kvm` or `tcg`, decided before.
    pub accelerator: String,
    /// Why that one; shown with every machine.
    pub accelerator_reason: String,
    /// How far the host's pool of huge pages may be grown for guests' memory.
    pub huge_pages_limit: PoolLimit,
    /// How long a guest may take to shut down.
    pub shutdown_patience: Duration,
    /// Whether machines that start from their disks have a channel for the guest's agent.
    pub agent_channel: bool,
    /// How long a guest's agent may take to bring its file systems to rest for a snapshot.
    pub agent_patience: Duration,
    /// How long a machine's owner may take to answer a request. What takes longer is a job.
    pub answer_patience: Duration,
    /// Host memory in MiB that taking a guest's memory in must leave free; a snapshot of a running
    /// machine is refused when there is less.
    pub memory_headroom_mib: u64,
    /// How much of a snapshot's files is looked at before it is applied.
    pub verify_before_apply: Depth,
    /// How many MiB of frozen disk layers are read each second to hash them; 0: none are.
    pub hash_rate_mib: u64,
    /// Whether a machine started from a saved state runs before all of its memory is there, where
    /// the host can do that.
    pub restore_on_demand: bool,
    /// Which boot of the host this is: in a new one, machines start that are to start with the host.
    /// `None`: that is not known, and none do.
    pub boot: Option<String>,
    /// How memory images are stored in the long run. They are taken without compression, so that no
    /// guest waits for it, and compressed in the background.
    pub memory_compression: Compression,
}

impl Config {
    /// The usual: no accelerator, no growing of pools, two minutes for a shutdown.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config {
            data_dir: data_dir.into(),
            accelerator: "tcg".into(),
            accelerator_reason: "asked for".into(),
            huge_pages_limit: PoolLimit::Off,
            shutdown_patience: Duration::from_secs(120),
            agent_channel: true,
            agent_patience: Duration::from_secs(30),
            answer_patience: Duration::from_secs(60),
            memory_headroom_mib: 0,
            verify_before_apply: Depth::Metadata,
            hash_rate_mib: 256,
            restore_on_demand: true,
            boot: automatic::boot_of_host(),
            memory_compression: Compression::None,
        }
    }
}

/// Every machine of this host. Cheap to share; dropped or killed, the guests run on.
#[derive(Debug)]
pub struct Machines {
    host: Arc<Host>,
    owners: RwLock<HashMap<MachineId, mpsc::Sender<Message>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    answer_patience: Duration,
    closing: AtomicBool,
}

impl Machines {
    /// Takes the data directory's lock, opens the catalog, finds running guests again and settles
    /// every unfinished saga before it returns.
    pub async fn open(config: Config) -> Result<Arc<Machines>, Error> {
        lock::prepare(&config.data_dir)?;
        let taken = lock::take_soon(&config.data_dir).await?;
        rebuild::refuse_lost(&config.data_dir)?;
        Self::open_locked(config, taken).await
    }

    /// Makes a lost catalog again from the manifests of the snapshots, then opens. Snapshots come
    /// back whole; a machine comes back with the settings of its newest snapshot and, where their
    /// files are found, with the disks that it wrote to last. Machines without a snapshot, accounts
    /// and jobs do not come back.
    pub async fn rebuild(config: Config) -> Result<Arc<Machines>, Error> {
        lock::prepare(&config.data_dir)?;
        let taken = lock::take_soon(&config.data_dir).await?;
        rebuild::rebuild(&config.data_dir).await?;
        Self::open_locked(config, taken).await
    }

    async fn open_locked(config: Config, taken: lock::DataLock) -> Result<Arc<Machines>, Error> {
        let accelerator = match config.accelerator.as_str() {
            "kvm" => Accelerator::Kvm,
            "tcg" => Accelerator::Tcg,
            other => {
                return Err(Error::InvalidValue {
                    field: "accelerator",
                    reason: format!("{other:?} is neither kvm nor tcg"),
                });
            }
        };
        let installation = qemu::Installation::find().await?;
        let (memory_mib, _) = crate::files::host_memory_mib();
        let catalog = Catalog::open(&config.data_dir).await?;
        let reports = Reports::load(&catalog).await?;
        let feed = Feed::default();
        let host = Arc::new(Host {
            run_root: host::run_root(&config.data_dir)?,
            catalog,
            keeper: Arc::new(Keeper::new(config.hash_rate_mib)),
            reports,
            verify_before_apply: config.verify_before_apply,
            images: Default::default(),
            image_turns: Semaphore::new(IMAGES_AT_ONCE),
            data_dir: config.data_dir,
            directory: Directory::new(feed.clone()),
            jobs: Jobs::new(feed.clone()),
            feed,
            disks: DisksInUse::default(),
            img: qemu::img::Img::new(&installation),
            installation,
            accelerator: (accelerator, config.accelerator_reason),
            huge_pages: Policy::new(config.huge_pages_limit),
            healers: Default::default(),
            shutdown_patience: config.shutdown_patience,
            agent_channel: config.agent_channel,
            agent_patience: config.agent_patience,
            guests: Default::default(),
            screens: Default::default(),
            memory_headroom_mib: config.memory_headroom_mib,
            restore_on_demand: config.restore_on_demand,
            memory_compression: config.memory_compression,
            crash: CrashPoint::from_environment(),
            limits: HostLimits { memory_mib },
            boot: config.boot,
            _lock: taken,
        });
        blocking(|| {
            qemu::memory_backing::settle();
            Ok(())
        })
        .await?;
        rehearsal::sweep(&host).await;
        let all = opening::open(&host).await?;
        let machines = Arc::new(Machines {
            host,
            owners: RwLock::default(),
            tasks: Mutex::default(),
            answer_patience: config.answer_patience,
            closing: AtomicBool::new(false),
        });
        for work in all {
            machines.adopt(work);
        }
        machines.keep_jobs_fresh();
        keeper::start(&machines.host);
        automatic::begin(&machines).await?;
        Ok(machines)
    }

    /// Ends the service: jobs that can be cancelled are, others are waited for, and nothing new
    /// begins. The guests run on. The data directory is free when the last copy is dropped.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.host.keeper.close();
        self.owners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        for job in self.host.jobs.all() {
            if job.finished.is_none() && job.cancellable {
                let _ = self.host.jobs.cancel(job.id).await;
            }
        }
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for task in tasks {
            let _ = task.await;
        }
        self.host.feed.end();
    }

    // Readers: published copies, never waiting.

    /// All machines, by identity.
    pub fn all(&self) -> Vec<Arc<Machine>> {
        self.host.directory.all()
    }

    /// What is published from now on, machines and jobs in one order.
    pub fn updates(&self) -> Updates {
        self.host.feed.subscribe()
    }

    /// One machine.
    pub fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        self.host.directory.machine(id)
    }

    /// By `ElementName`, ignoring case; from an index.
    pub fn by_name(&self, name: &str) -> Vec<Arc<Machine>> {
        self.host.directory.by_name(name)
    }

    /// From an index.
    pub fn snapshot(&self, id: SnapshotId) -> Option<(Arc<Machine>, Arc<Snapshot>)> {
        self.host.directory.snapshot(id)
    }

    /// What the agent in a running guest tells, looked at from time to time; nothing while it does not
    /// run.
    pub fn guest_report(&self, id: MachineId) -> Option<Arc<GuestReport>> {
        let running = self.machine(id)?.state == State::Running;
        self.host.guests.get(id).filter(|_| running)
    }

    /// Whether the huge pages that a running machine's memory is made of are whole, or being made so;
    /// nothing for memory that cannot be split, and while something works on the machine.
    pub fn memory_health(&self, id: MachineId) -> Option<MemoryHealth> {
        self.machine(id)?.process.as_ref()?;
        self.host.healers.health(id)
    }

    /// How long each processor of a machine that has a process has run, as the kernel tells now.
    pub fn processor_times(&self, id: MachineId) -> Vec<ProcessorTime> {
        let has_process = self.machine(id).is_some_and(|it| it.process.is_some());
        let identity = Identity::read(&self.host.run_dir(id)).filter(|_| has_process);
        identity.map_or_else(Vec::new, |it| processor_time::of_process(&it))
    }

    /// All jobs: running, and finished less than some minutes ago.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.host.jobs.all()
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<Arc<Job>> {
        self.host.jobs.get(id)
    }

    /// The jobs of a machine, oldest first; also after the machine is gone.
    pub fn jobs_of(&self, machine: MachineId) -> Vec<Arc<Job>> {
        self.host.jobs.of(machine)
    }

    // Verbs. Those that answer a JobId go on by themselves.

    /// Defines a machine with the usual devices, the given settings and more devices; all or
    /// nothing. It is off.
    pub async fn define(
        &self,
        actor: &Actor,
        global: GlobalChange,
        settings: SettingsChange,
        resources: Vec<ResourceChange>,
        devices: Vec<NewDevice>,
        copy_settings_of: Option<MachineId>,
    ) -> Result<MachineId, Error> {
        let id = MachineId::new();
        let defined = self
            .define_as(id, global, settings, resources, devices, copy_settings_of)
            .await;
        let result = match &defined {
            Ok(()) => "ok",
            Err(cause) => cause.code(),
        };
        self.audit(actor, "define", id.to_string(), result.to_owned())
            .await;
        defined.map(|()| id)
    }

    async fn define_as(
        &self,
        id: MachineId,
        global: GlobalChange,
        change: SettingsChange,
        resources: Vec<ResourceChange>,
        devices: Vec<NewDevice>,
        copy_settings_of: Option<MachineId>,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let name = change.name.as_deref().or(global.name.as_deref());
        let name = name.unwrap_or("New Virtual Machine");
        limits::check_name(name)?;
        let mut settings = defaults::settings(id, name, now);
        if let Some(source) = copy_settings_of {
            let source = self
                .machine(source)
                .ok_or(Error::NoSuchMachine(source))?
                .settings
                .clone();
            settings.boot_order = source.boot_order;
            settings.bios_num_lock = source.bios_num_lock;
            settings.memory = source.memory.clone();
            settings.processor = source.processor.clone();
        }
        let body = MachineBody {
            state: DurableState::Off,
            created: now,
            state_changed: now,
            started: None,
            global: change::global(&defaults::global(), &global, true)?,
            parent: None,
            last_applied: None,
            saved_image: None,
            serving: None,
            restored: None,
            owes_thaw: false,
            health: Health::Ok,
            process: None,
            detached: Vec::new(),
        };
        let record = Record {
            id,
            body,
            settings: Arc::new(settings),
            snapshots: Vec::new(),
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
        };
        let mut work = Work::unstored(self.host.clone(), record);
        owner::define(&mut work, &change, &resources, &devices).await?;
        self.adopt(work);
        Ok(())
    }

    /// Destroys a machine that is off or saved, with its snapshots; never the client's disk files.
    pub async fn destroy(&self, actor: &Actor, id: MachineId) -> Result<JobId, Error> {
        self.ask_job(actor, id, Request::Destroy).await
    }

    /// Changes settings outside of snapshots, and the name.
    pub async fn modify_global(
        &self,
        actor: &Actor,
        id: MachineId,
        change: GlobalChange,
    ) -> Result<(), Error> {
        self.ask(actor, id, Request::Global(change)).await.map(drop)
    }

    /// Changes the active configuration.
    pub async fn modify_settings(
        &self,
        actor: &Actor,
        id: MachineId,
        change: SettingsChange,
    ) -> Result<(), Error> {
        let request = Request::Settings(change);
        self.ask(actor, id, request).await.map(drop)
    }

    /// Changes the active configuration and the settings outside of snapshots, both or neither. The
    /// name is `settings.name`.
    pub async fn modify_system(
        &self,
        actor: &Actor,
        id: MachineId,
        settings: SettingsChange,
        global: GlobalChange,
    ) -> Result<(), Error> {
        let request = Request::System(Box::new((settings, global)));
        self.ask(actor, id, request).await.map(drop)
    }

    /// Name and notes only; anything else is refused.
    pub async fn modify_snapshot(
        &self,
        actor: &Actor,
        id: SnapshotId,
        change: SettingsChange,
    ) -> Result<(), Error> {
        let request = Request::SnapshotSettings(id, change);
        let machine = self.machine_of(actor, id, &request).await?;
        self.ask(actor, machine, request).await.map(drop)
    }

    /// All or nothing; answers the new devices in the order given.
    pub async fn add_devices(
        &self,
        actor: &Actor,
        id: MachineId,
        devices: Vec<NewDevice>,
    ) -> Result<Vec<DeviceId>, Error> {
        match self.ask(actor, id, Request::Add(devices)).await? {
            Answer::Devices(ids) => Ok(ids),
            _ => Ok(Vec::new()),
        }
    }

    /// All or nothing.
    pub async fn modify_resources(
        &self,
        actor: &Actor,
        id: MachineId,
        changes: Vec<ResourceChange>,
    ) -> Result<(), Error> {
        let request = Request::Resources(changes);
        self.ask(actor, id, request).await.map(drop)
    }

    /// All or nothing.
    pub async fn remove_devices(
        &self,
        actor: &Actor,
        id: MachineId,
        devices: Vec<DeviceId>,
    ) -> Result<(), Error> {
        let request = Request::Remove(devices);
        self.ask(actor, id, request).await.map(drop)
    }

    /// Asks for a state.
    pub async fn request_state(
        &self,
        actor: &Actor,
        id: MachineId,
        request: StateRequest,
    ) -> Result<JobId, Error> {
        self.ask_job(actor, id, Request::State(request)).await
    }

    /// Takes a snapshot without preparing the guest.
    pub async fn create_snapshot(&self, actor: &Actor, id: MachineId) -> Result<JobId, Error> {
        self.create_snapshot_with(actor, id, Consistency::Crash)
            .await
    }

    /// Takes a snapshot of this consistency, or none.
    pub async fn create_snapshot_with(
        &self,
        actor: &Actor,
        id: MachineId,
        consistency: Consistency,
    ) -> Result<JobId, Error> {
        self.ask_job(actor, id, Request::CreateSnapshot(consistency))
            .await
    }

    /// As a job; a caller that must wait awaits [`Machines::wait`].
    pub async fn apply_snapshot(
        &self,
        actor: &Actor,
        id: MachineId,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        let request = Request::ApplySnapshot(snapshot);
        if self.machine(id).is_some() && self.machine_of(actor, snapshot, &request).await? != id {
            let cause = Error::ForeignSnapshot {
                snapshot,
                machine: id,
            };
            return self.refuse(actor, &request, snapshot, cause).await;
        }
        self.ask_job(actor, id, request).await
    }

    /// Removes a snapshot; its children become children of its parent.
    pub async fn remove_snapshot(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        let request = Request::RemoveSnapshot(snapshot);
        let machine = self.machine_of(actor, snapshot, &request).await?;
        self.ask_job(actor, machine, request).await
    }

    /// The snapshot and all its descendants.
    pub async fn remove_snapshot_tree(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        let request = Request::RemoveSnapshotTree(snapshot);
        let machine = self.machine_of(actor, snapshot, &request).await?;
        self.ask_job(actor, machine, request).await
    }

    /// What taking a snapshot now would need and cost, and what is against it. Changes nothing.
    pub async fn check_snapshot(&self, actor: &Actor, id: MachineId) -> Result<Forecast, Error> {
        match self.ask(actor, id, Request::CheckSnapshot).await? {
            Answer::Forecast(forecast) => Ok(*forecast),
            _ => Err(Error::ServiceStopping),
        }
    }

    /// Looks whether the files of a snapshot still are what they were. Bad ones are a failure of
    /// the job; each file's state is in [`Machines::verification`] then.
    pub async fn verify_snapshot(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
        depth: Depth,
    ) -> Result<JobId, Error> {
        let request = Request::VerifySnapshot(snapshot, depth);
        let machine = self.machine_of(actor, snapshot, &request).await?;
        self.ask_job(actor, machine, request).await
    }

    /// Starts a snapshot as a clone without a network, waits up to `patience` for a sign of life
    /// of it, and throws it away. What was seen is in [`Machines::rehearsal`].
    pub async fn rehearse_snapshot(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
        patience: Duration,
    ) -> Result<JobId, Error> {
        let request = Request::RehearseSnapshot(snapshot, patience);
        let machine = self.machine_of(actor, snapshot, &request).await?;
        self.ask_job(actor, machine, request).await
    }

    /// What the last verification of a snapshot found.
    pub fn verification(&self, snapshot: SnapshotId) -> Option<Arc<Verification>> {
        self.host.reports.verification(snapshot)
    }

    /// What the last rehearsal of a snapshot came to.
    pub fn rehearsal(&self, snapshot: SnapshotId) -> Option<Arc<Rehearsal>> {
        self.host.reports.rehearsal(snapshot)
    }

    /// Asks a job to stop and undo what it did; returns when it has ended or cannot be cancelled.
    pub async fn cancel(&self, actor: &Actor, job: JobId) -> Result<(), Error> {
        let outcome = self.host.jobs.cancel(job).await;
        let result = match &outcome {
            Ok(()) => "ok",
            Err(cause) => cause.code(),
        };
        self.audit(actor, "cancel", job.to_string(), result.to_owned())
            .await;
        outcome
    }

    /// Waits until the job has ended.
    pub async fn wait(&self, job: JobId) -> Result<Arc<Job>, Error> {
        self.host.jobs.wait(job).await
    }

    // Looking after it.

    /// Compares the catalog with the files and processes that are there. Meant for quiet moments:
    /// what a running job is about to change looks wrong to it.
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.host).await
    }

    /// The newest lines of the audit log, newest first.
    pub async fn audit_log(&self, count: usize) -> Result<Vec<AuditLine>, Error> {
        Ok(self.host.catalog.audit_lines(count).await?)
    }

    /// What all owners share.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.host.data_dir
    }

    /// Whose snapshot it is; that it is nobody's is a refusal like any other.
    async fn machine_of(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
        request: &Request,
    ) -> Result<MachineId, Error> {
        match self.snapshot(snapshot) {
            Some((machine, _)) => Ok(machine.id),
            None => {
                let cause = Error::NoSuchSnapshot(snapshot);
                self.refuse(actor, request, snapshot, cause).await
            }
        }
    }

    /// A refusal before any owner is asked.
    async fn refuse<T>(
        &self,
        actor: &Actor,
        request: &Request,
        target: SnapshotId,
        cause: Error,
    ) -> Result<T, Error> {
        let result = cause.code().to_owned();
        self.audit(actor, request.name(), target.to_string(), result)
            .await;
        Err(cause)
    }

    /// Gives a machine to an owner of its own.
    fn adopt(&self, work: Work) {
        let id = work.record.id;
        let (sender, task) = owner::spawn(work);
        self.owners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    async fn ask_job(
        &self,
        actor: &Actor,
        id: MachineId,
        request: Request,
    ) -> Result<JobId, Error> {
        match self.ask(actor, id, request).await? {
            Answer::Job(job) => Ok(job),
            // The table answers state requests with a job or a refusal.
            _ => Err(Error::AlreadyInState {
                state: self.machine(id).map_or(State::Off, |m| m.state),
            }),
        }
    }

    /// Puts a request into the machine's queue and waits for the answer.
    pub(crate) async fn ask(
        &self,
        actor: &Actor,
        id: MachineId,
        request: Request,
    ) -> Result<Answer, Error> {
        let verb = request.name();
        let outcome = self.queue(actor, id, request).await;
        let result = match &outcome {
            Ok(Answer::Job(job)) => job.to_string(),
            Ok(_) => "ok".into(),
            Err(cause) => cause.code().into(),
        };
        self.audit(actor, verb, id.to_string(), result).await;
        outcome
    }

    async fn queue(&self, actor: &Actor, id: MachineId, request: Request) -> Result<Answer, Error> {
        let owner = {
            let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
            owners.get(&id).cloned()
        };
        let owner = match (owner, self.machine(id)) {
            (Some(owner), _) => owner,
            (None, None) => return Err(Error::NoSuchMachine(id)),
            (None, Some(_)) if self.closing.load(Ordering::Relaxed) => {
                return Err(Error::ServiceStopping);
            }
            (None, Some(_)) => return Err(Error::Unsettled(id)),
        };
        let (reply, answer) = oneshot::channel();
        let message = Message {
            actor: actor.clone(),
            request,
            reply,
        };
        let gone = || match self.machine(id) {
            None => Error::NoSuchMachine(id),
            Some(_) => Error::ServiceStopping,
        };
        let exchange = async {
            if owner.send(message).await.is_err() {
                let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
                owners.remove(&id);
                return Err(gone());
            }
            answer.await.unwrap_or_else(|_| Err(gone()))
        };
        // Giving up drops the place for the answer, which withdraws a request still in the queue.
        tokio::time::timeout(self.answer_patience, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(Error::NoAnswer {
                    millis: self.answer_patience.as_millis(),
                })
            })
    }

    async fn audit(&self, actor: &Actor, verb: &str, target: String, result: String) {
        let line = AuditLine {
            at: Timestamp::now(),
            user: actor.user.clone(),
            peer: actor.peer.clone(),
            verb: verb.to_owned(),
            target,
            result,
        };
        tracing::info!(
            user = %line.user, peer = %line.peer, %verb, target = %line.target,
            result = %line.result, "request"
        );
        if let Err(cause) = self.host.catalog.commit(vec![Change::Audit(line)]).await {
            tracing::error!(%cause, "the audit log cannot be written");
        }
    }

    /// Forgets old jobs, for as long as the service lives.
    fn keep_jobs_fresh(&self) {
        let host = Arc::downgrade(&self.host);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EXPIRY_TICK).await;
                let Some(host) = host.upgrade() else {
                    return;
                };
                host.reports
                    .retain(|id| host.directory.snapshot(id).is_some());
                let old = host.jobs.expire(Timestamp::now());
                if !old.is_empty()
                    && let Err(cause) = host.catalog.commit(old).await
                {
                    tracing::error!(%cause, "old jobs could not be forgotten");
                }
            }
        });
    }
}
