//! The read side: which objects there are, and the instance each is shown as.
//!
//! Everything is made from published copies of machines and jobs; nothing here waits or does I/O.

mod capabilities;
mod device;
pub(crate) mod guest_components;
mod job;
mod pool;
mod resource;
mod settings;
mod snapshot_reports;
mod statistics;
mod system;

use crate::host::Host;
use crate::resource_types::{Bound, ResourceClass, ResourceType};
use crate::subject::{self, Configuration, InstanceId, Subject, single_backslashes};
use crate::version::Version;
use cim::{CimError, DateTime, Instance, Value};
use cim_broker::Equality;
use machines::model::{Machine, Snapshot, Timestamp};
use machines::{JobId, MachineId, SnapshotId};
use std::sync::Arc;

pub(crate) use job::failure as job_failure;
pub(crate) use system::{StateView, up_time_millis};

/// Classes of a version whose instances are objects of their own, associations excluded.
pub(crate) fn classes(version: Version) -> Vec<&'static str> {
    let mut classes = match version {
        Version::V1 => vec![subject::GLOBAL_SETTINGS],
        Version::V2 => vec![
            subject::SYSTEM_SNAPSHOT_SERVICE,
            subject::SYSTEM_CAPABILITIES,
            subject::MANAGEMENT_CAPABILITIES,
        ],
    };
    classes.extend([
        subject::COMPUTER_SYSTEM,
        subject::SERVICE,
        subject::SERVICE_SETTINGS,
        subject::SETTINGS,
        subject::JOB,
        subject::RESOURCE_POOL,
        subject::PROCESSOR_POOL,
        subject::CAPABILITIES,
        subject::BIOS,
    ]);
    classes.extend(ResourceClass::all(version).iter().map(|class| class.name()));
    classes.extend(subject::DEVICE_CLASSES);
    classes.extend([
        subject::SNAPSHOT_STATISTICS,
        subject::JOB_STATISTICS,
        subject::PROCESS,
        subject::RESTORE_STATISTICS,
        subject::SNAPSHOT_SERVICE,
        subject::SNAPSHOT_FILE,
        subject::SNAPSHOT_REHEARSAL,
    ]);
    classes
}

/// A point in time as CIM writes it.
pub(crate) fn datetime(time: Timestamp) -> DateTime {
    DateTime::from_unix_micros(time.0)
}

/// The present as the domain writes it.
pub(crate) fn now() -> Timestamp {
    Timestamp(DateTime::now().unix_micros().unwrap_or_default())
}

/// From `start` to `end`, in microseconds; none if the clock went back.
pub(crate) fn micros_between(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.0.saturating_sub(start.0)).unwrap_or(0)
}

/// An array of strings.
pub(crate) fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(
        items
            .into_iter()
            .map(|text| Value::String(text.as_ref().to_owned()))
            .collect(),
    )
}

/// What a query's equalities say about the properties that we have indexes for.
struct Lookup<'a>(&'a [Equality]);

impl Lookup<'_> {
    /// The text that `property` must equal, if the query says so.
    fn text(&self, property: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|equality| equality.property.is(property))
            .and_then(|equality| equality.value.as_str())
    }

    /// Whether `property` may have the value `text`.
    fn admits(&self, property: &str, text: &str) -> bool {
        self.text(property).is_none_or(|wanted| {
            wanted.eq_ignore_ascii_case(text)
                || (!wanted.is_ascii() && wanted.to_lowercase() == text.to_lowercase())
        })
    }
}

impl Host {
    /// Every machine, sorted by GUID.
    pub(crate) fn all_machines(&self) -> Vec<Arc<Machine>> {
        let mut machines = self.machines.all();
        machines.sort_by_key(|machine| machine.id);
        machines
    }

    /// The configurations of snapshots that may satisfy the query, sorted by GUID.
    fn snapshots_of(&self, machines: &[Arc<Machine>], lookup: &Lookup<'_>) -> Vec<Configuration> {
        let mut found: Vec<_> = machines
            .iter()
            .flat_map(|machine| {
                machine
                    .snapshots
                    .iter()
                    .filter(|snapshot| lookup.admits("ElementName", &snapshot.settings.name))
                    .map(|snapshot| (snapshot.id, machine.clone(), snapshot.clone()))
            })
            .collect();
        found.sort_by_key(|(id, ..)| *id);
        found
            .into_iter()
            .map(|(_, machine, snapshot)| Configuration::Snapshot(machine, snapshot))
            .collect()
    }

    /// The objects of exactly `class`, in the order in which Hyper-V lists them: templates first,
    /// then what belongs to machines, then what belongs to snapshots, each sorted by GUID.
    /// `filter` is used where it names an index; objects that do not satisfy it may be among the
    /// answers.
    pub(crate) fn list(&self, class: &str, filter: &[Equality]) -> Vec<Subject> {
        let lookup = Lookup(filter);
        let is = |name: &str| class.eq_ignore_ascii_case(name);
        if is(subject::COMPUTER_SYSTEM) {
            self.list_systems(&lookup)
        } else if is(subject::SERVICE) {
            vec![Subject::Service]
        } else if is(subject::SYSTEM_SNAPSHOT_SERVICE) {
            vec![Subject::SystemSnapshotService]
        } else if is(subject::SERVICE_SETTINGS) {
            vec![Subject::ServiceSettings]
        } else if is(subject::SETTINGS) {
            self.configurations(&lookup)
                .into_iter()
                .map(Subject::Settings)
                .collect()
        } else if is(subject::GLOBAL_SETTINGS) {
            self.machines_of(&lookup, "SystemName")
                .into_iter()
                .map(Subject::Global)
                .collect()
        } else if is(subject::JOB) {
            self.list_jobs(&lookup)
        } else if is(subject::RESOURCE_POOL) || is(subject::PROCESSOR_POOL) {
            ResourceType::pooled(self.version)
                .filter(|(row, _)| is(subject::pool_class(row)))
                .map(|(row, pool)| Subject::Pool(row, pool))
                .collect()
        } else if is(subject::CAPABILITIES) {
            ResourceType::pooled(self.version)
                .map(|(row, pool)| Subject::Capabilities(row, pool))
                .collect()
        } else if is(subject::SYSTEM_CAPABILITIES) {
            vec![Subject::SystemCapabilities]
        } else if is(subject::MANAGEMENT_CAPABILITIES) {
            vec![Subject::ManagementCapabilities]
        } else if is(subject::BIOS) {
            self.all_machines().into_iter().map(Subject::Bios).collect()
        } else if is(subject::SNAPSHOT_STATISTICS) {
            self.snapshots_by(&lookup)
                .into_iter()
                .map(Subject::SnapshotStatistics)
                .collect()
        } else if is(subject::SNAPSHOT_SERVICE) {
            vec![Subject::SnapshotService]
        } else if is(subject::SNAPSHOT_FILE) {
            self.list_snapshot_files(&lookup)
        } else if is(subject::SNAPSHOT_REHEARSAL) {
            self.snapshots_by(&lookup)
                .into_iter()
                .filter_map(|snapshot| {
                    let seen = self.machines.rehearsal(snapshot.id)?;
                    Some(Subject::SnapshotRehearsal(snapshot, seen))
                })
                .collect()
        } else if is(subject::JOB_STATISTICS) {
            self.list_jobs(&lookup)
                .into_iter()
                .filter_map(|job| match job {
                    Subject::Job(job) => Some(Subject::JobStatistics(job)),
                    _ => None,
                })
                .collect()
        } else if is(subject::PROCESS) {
            self.machines_of(&lookup, "SystemName")
                .into_iter()
                .filter(|machine| machine.process.is_some())
                .map(Subject::Process)
                .collect()
        } else if is(subject::RESTORE_STATISTICS) {
            self.machines_of(&lookup, "SystemName")
                .into_iter()
                .filter(|machine| machine.restored.is_some())
                .map(Subject::RestoreStatistics)
                .collect()
        } else if let Some(class) = ResourceClass::from_name(self.version, class) {
            self.list_resources(class, &lookup)
        } else {
            self.list_devices(class, &lookup)
        }
    }

    fn list_systems(&self, lookup: &Lookup<'_>) -> Vec<Subject> {
        let host = lookup.admits("Name", &self.name) && lookup.admits("ElementName", &self.name);
        let host = host.then_some(Subject::Host);
        let machines = match lookup.text("ElementName") {
            Some(name) => self.machines.by_name(name),
            None => self.machines_of(lookup, "Name"),
        };
        host.into_iter()
            .chain(machines.into_iter().map(Subject::Machine))
            .collect()
    }

    /// The machines whose GUID the query gives as `property`; all if it does not.
    fn machines_of(&self, lookup: &Lookup<'_>, property: &str) -> Vec<Arc<Machine>> {
        if let Some(guid) = lookup.text(property) {
            let id: Option<MachineId> = guid.parse().ok();
            return id
                .and_then(|id| self.machines.machine(id))
                .into_iter()
                .collect();
        }
        if let Some(id) = lookup.text("InstanceID") {
            return match InstanceId::parse(&single_backslashes(id)) {
                Some(InstanceId::Configuration(guid) | InstanceId::Within(guid, _)) => {
                    self.machines.machine(MachineId(guid)).into_iter().collect()
                }
                _ => Vec::new(),
            };
        }
        self.all_machines()
    }

    fn configurations(&self, lookup: &Lookup<'_>) -> Vec<Configuration> {
        if let Some(id) = lookup.text("InstanceID") {
            return match InstanceId::parse(&single_backslashes(id)) {
                Some(InstanceId::Configuration(guid) | InstanceId::Within(guid, _)) => {
                    self.configuration(guid).into_iter().collect()
                }
                _ => Vec::new(),
            };
        }
        let machine = match self.version {
            Version::V1 => "SystemName",
            Version::V2 => "VirtualSystemIdentifier",
        };
        let machines = self.machines_of(lookup, machine);
        let snapshots = self.snapshots_of(&machines, lookup);
        machines
            .into_iter()
            .filter(|machine| lookup.admits("ElementName", &machine.settings.name))
            .map(Configuration::Active)
            .chain(snapshots)
            .collect()
    }

    /// The snapshots that the query may ask for.
    fn snapshots_by(&self, lookup: &Lookup<'_>) -> Vec<Arc<Snapshot>> {
        self.configurations(lookup)
            .into_iter()
            .filter_map(|of| match of {
                Configuration::Snapshot(_, snapshot) => Some(snapshot),
                Configuration::Active(_) => None,
            })
            .collect()
    }

    /// The files of snapshots that were verified.
    fn list_snapshot_files(&self, lookup: &Lookup<'_>) -> Vec<Subject> {
        let snapshots = match lookup.text("Snapshot") {
            Some(id) => match InstanceId::parse(&single_backslashes(id)) {
                Some(InstanceId::Configuration(guid)) => self
                    .machines
                    .snapshot(SnapshotId(guid))
                    .map(|(_, snapshot)| snapshot)
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            },
            None => self.snapshots_by(lookup),
        };
        let files = snapshots.into_iter().filter_map(|snapshot| {
            let report = self.machines.verification(snapshot.id)?;
            let of = |index| Subject::SnapshotFile(snapshot.clone(), report.clone(), index);
            Some((0..report.files.len()).map(of).collect::<Vec<_>>())
        });
        files.flatten().collect()
    }

    fn list_resources(&self, class: ResourceClass, lookup: &Lookup<'_>) -> Vec<Subject> {
        let id = lookup.text("InstanceID");
        if let Some(id) = id
            && let Some(one) = self.resolve_instance_id(class.name(), id)
        {
            return vec![one];
        }
        let templates = ResourceType::pooled(self.version)
            .filter(|(row, _)| row.naming(self.version).class == class)
            .flat_map(|(row, pool)| Bound::ALL.map(|bound| Subject::Template(row, pool, bound)));
        let configurations = match id {
            // It names no resource; only what the broker compares otherwise than we do is left.
            Some(_) => Vec::new(),
            // `SystemName` is not a property of resources, so nothing else narrows the search.
            None => self.configurations(&Lookup(&[])),
        };
        let resources = configurations.into_iter().flat_map(|of| {
            of.parts(self.version)
                .filter(|part| of.part_class(self.version, *part) == class)
                .map(|part| Subject::Resource(of.clone(), part))
                .collect::<Vec<_>>()
        });
        templates.chain(resources).collect()
    }

    fn list_jobs(&self, lookup: &Lookup<'_>) -> Vec<Subject> {
        if let Some(id) = lookup.text("InstanceID") {
            let id: Option<JobId> = id.parse().ok();
            let job = id.and_then(|id| self.machines.job(id));
            return job.into_iter().map(Subject::Job).collect();
        }
        let mut jobs = self.machines.jobs();
        jobs.sort_by_key(|job| (job.created, job.id));
        jobs.into_iter().map(Subject::Job).collect()
    }

    fn list_devices(&self, class: &str, lookup: &Lookup<'_>) -> Vec<Subject> {
        self.machines_of(lookup, "SystemName")
            .into_iter()
            .flat_map(|machine| {
                subject::logical_devices(&machine)
                    .into_iter()
                    .filter(|logical| {
                        subject::logical_class(&machine, *logical).eq_ignore_ascii_case(class)
                    })
                    .map(|logical| Subject::Device(machine.clone(), logical))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The snapshot called `id` of `machine`, as a configuration.
    pub(crate) fn snapshot_of(
        &self,
        machine: &Arc<Machine>,
        id: SnapshotId,
    ) -> Option<Configuration> {
        machine
            .snapshots
            .iter()
            .find(|snapshot| snapshot.id == id)
            .map(|snapshot| Configuration::Snapshot(machine.clone(), snapshot.clone()))
    }

    /// The instance that a subject is shown as.
    pub(crate) fn instance(&self, subject: &Subject) -> Result<Instance, CimError> {
        match subject {
            Subject::Host => self.host_instance(),
            Subject::Machine(machine) => self.machine_instance(machine),
            Subject::Service => self.service_instance(),
            Subject::SystemSnapshotService => self.system_snapshot_service_instance(),
            Subject::ServiceSettings => self.service_settings_instance(),
            Subject::Settings(of) => self.settings_instance(of),
            Subject::Global(machine) => self.global_instance(machine),
            Subject::Resource(of, part) => self.resource_instance(of, *part),
            Subject::Template(row, pool, bound) => self.template_instance(row, pool, *bound),
            Subject::Job(job) => self.job_instance(job),
            Subject::Pool(row, pool) => self.pool_instance(row, pool),
            Subject::Capabilities(row, pool) => self.capabilities_instance(row, pool),
            Subject::SystemCapabilities => self.system_capabilities(),
            Subject::ManagementCapabilities => self.management_capabilities(),
            Subject::Device(machine, logical) => self.device_instance(machine, *logical),
            Subject::Bios(machine) => self.bios_instance(machine),
            Subject::SnapshotStatistics(snapshot) => self.snapshot_statistics(snapshot),
            Subject::JobStatistics(job) => self.job_statistics(job),
            Subject::Process(machine) => self.process_instance(machine),
            Subject::RestoreStatistics(machine) => self.restore_statistics(machine),
            Subject::SnapshotService => self.snapshot_service_instance(),
            Subject::SnapshotFile(snapshot, report, index) => {
                self.snapshot_file_instance(snapshot, report, *index)
            }
            Subject::SnapshotRehearsal(snapshot, seen) => {
                self.snapshot_rehearsal_instance(snapshot, seen)
            }
        }
    }
}
