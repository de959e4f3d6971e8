//! What happens to machines and jobs, as changes of the instances they are shown as.
//!
//! The domain tells each new publication of a machine or a job with the one before it
//! ([`machines::feed`]). Of both copies the objects are listed and shown as ever; what is in only
//! one has come or gone, and what is shown otherwise has changed. Properties that are made from the
//! present time do not count.

use crate::associations::{Row, machine_rows};
use crate::host::Host;
use crate::read;
use crate::resource_types::ResourceClass;
use crate::subject::{self, Configuration, Subject};
use crate::version::Version;
use async_trait::async_trait;
use cim::{Instance, Name, ObjectPath};
use cim_broker::{Change, Changes, Interruption};
use machines::feed::{self, Update, Updates};
use machines::model::{Job, Machine, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Properties that show the present time: another value is no change.
const OF_THE_MOMENT: [&str; 2] = ["OnTimeInMilliseconds", "ElapsedTime"];

/// The changes of some classes.
pub(crate) struct HyperVChanges {
    host: Arc<Host>,
    updates: Updates,
    classes: Vec<&'static str>,
    links: Vec<Row>,
}

impl HyperVChanges {
    /// From now on; `None` when none of the classes is one that changes are known of.
    pub(crate) fn of(host: &Arc<Host>, classes: &[Name]) -> Option<Self> {
        let wanted = |class: &str| classes.iter().any(|name| name.is(class));
        let mut instances = read::classes(host.version);
        instances.retain(|class| wanted(class));
        let mut links = machine_rows(host.version);
        links.retain(|row| wanted(row.class));
        if instances.is_empty() && links.is_empty() {
            return None;
        }
        Some(HyperVChanges {
            updates: host.machines.updates(),
            host: Arc::clone(host),
            classes: instances,
            links,
        })
    }

    fn of_machine(
        &self,
        before: Option<&Arc<Machine>>,
        after: Option<&Arc<Machine>>,
    ) -> Vec<Change> {
        let (before, after) = (
            Copy {
                version: self.host.version,
                is: before,
                other: after,
            },
            Copy {
                version: self.host.version,
                is: after,
                other: before,
            },
        );
        let mut changes = Vec::new();
        for class in &self.classes {
            self.compare(before.subjects(class), after.subjects(class), &mut changes);
        }
        for row in &self.links {
            self.compare_links(row, before.is, after.is, &mut changes);
        }
        changes
    }

    fn of_job(&self, before: Option<&Arc<Job>>, after: Option<&Arc<Job>>) -> Vec<Change> {
        let shown = |job: Option<&Arc<Job>>, class: &str| -> Vec<Subject> {
            let job = job.cloned();
            match class {
                subject::JOB => job.map(Subject::Job).into_iter().collect(),
                subject::JOB_STATISTICS => job.map(Subject::JobStatistics).into_iter().collect(),
                _ => Vec::new(),
            }
        };
        let mut changes = Vec::new();
        for class in &self.classes {
            self.compare(shown(before, class), shown(after, class), &mut changes);
        }
        changes
    }

    /// What has come or changed, in the order of the list; then what has gone.
    fn compare(&self, before: Vec<Subject>, after: Vec<Subject>, changes: &mut Vec<Change>) {
        let mut gone: Vec<(String, Subject)> = before
            .into_iter()
            .map(|subject| (self.key(&subject), subject))
            .collect();
        let places: HashMap<String, usize> = gone
            .iter()
            .enumerate()
            .map(|(at, (key, _))| (key.clone(), at))
            .collect();
        let mut kept = HashSet::new();
        for subject in after {
            let place = places.get(&self.key(&subject));
            let Some(after) = self.shown(&subject) else {
                continue;
            };
            let before = match place.and_then(|at| gone.get(*at)) {
                Some((key, subject)) => {
                    kept.insert(key.clone());
                    let Some(before) = self.shown(subject) else {
                        continue;
                    };
                    if is_the_same(&before, &after) {
                        continue;
                    }
                    Some(before)
                }
                None => None,
            };
            changes.push(Change::Instance {
                before: before.map(Box::new),
                after: Some(Box::new(after)),
            });
        }
        gone.retain(|(key, _)| !kept.contains(key));
        for (_, subject) in gone {
            if let Some(before) = self.shown(&subject) {
                changes.push(Change::Instance {
                    before: Some(Box::new(before)),
                    after: None,
                });
            }
        }
    }

    fn compare_links(
        &self,
        row: &Row,
        before: Option<&Arc<Machine>>,
        after: Option<&Arc<Machine>>,
        changes: &mut Vec<Change>,
    ) {
        let (before, after) = (self.links(row, before), self.links(row, after));
        let mut tell = |links: &[Ends], others: &[Ends], appeared: bool| {
            let others: HashSet<&Ends> = others.iter().collect();
            for ends in links.iter().filter(|ends| !others.contains(ends)) {
                changes.push(Change::Link {
                    association: Name::new(row.class),
                    ends: ends.clone(),
                    appeared,
                });
            }
        };
        tell(&after, &before, true);
        tell(&before, &after, false);
    }

    /// The links of an association between objects of this copy of a machine.
    fn links(&self, row: &Row, machine: Option<&Arc<Machine>>) -> Vec<Ends> {
        let copy = Copy {
            version: self.host.version,
            is: machine,
            other: None,
        };
        let starts = row.first.iter().flat_map(|class| copy.subjects(class));
        let mut links = Vec::new();
        for start in starts {
            let first = self.host.path(&start);
            for far in (row.forward)(&self.host, &start) {
                links.push((first.clone(), self.host.path(&far)));
            }
        }
        links
    }

    fn key(&self, subject: &Subject) -> String {
        subject
            .relative_path(self.host.version, &self.host.name)
            .index_key()
    }

    /// The instance; a failure to make one is logged where it happens, and no one is told of it.
    fn shown(&self, subject: &Subject) -> Option<Instance> {
        self.host.instance(subject).ok()
    }
}

/// The two ends of a link.
type Ends = (ObjectPath, ObjectPath);

#[async_trait]
impl Changes for HyperVChanges {
    async fn next(&mut self) -> Result<Vec<Change>, Interruption> {
        loop {
            let update = self.updates.next().await.map_err(|error| match error {
                feed::Interruption::Missed(count) => Interruption::Missed(count),
                feed::Interruption::Ended => Interruption::Ended,
            })?;
            let changes = match &update {
                Update::Machine { before, after } => {
                    self.of_machine(before.as_ref(), after.as_ref())
                }
                Update::Job { before, after } => self.of_job(before.as_ref(), after.as_ref()),
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// One of two copies of a machine.
struct Copy<'a> {
    version: Version,
    is: Option<&'a Arc<Machine>>,
    other: Option<&'a Arc<Machine>>,
}

impl Copy<'_> {
    /// The objects of a class that belong to the machine. What both copies share is left out: it
    /// has not changed.
    fn subjects(&self, class: &str) -> Vec<Subject> {
        let Some(machine) = self.is else {
            return Vec::new();
        };
        let one = |subject| vec![subject];
        match class {
            subject::COMPUTER_SYSTEM => one(Subject::Machine(machine.clone())),
            subject::GLOBAL_SETTINGS => one(Subject::Global(machine.clone())),
            subject::BIOS => one(Subject::Bios(machine.clone())),
            subject::PROCESS if machine.process.is_some() => one(Subject::Process(machine.clone())),
            subject::SETTINGS => self.configurations().map(Subject::Settings).collect(),
            subject::SNAPSHOT_STATISTICS => self
                .configurations()
                .filter_map(|of| match of {
                    Configuration::Snapshot(_, snapshot) => {
                        Some(Subject::SnapshotStatistics(snapshot))
                    }
                    Configuration::Active(_) => None,
                })
                .collect(),
            _ => match ResourceClass::from_name(self.version, class) {
                Some(class) => self.resources(class),
                None => self.devices(class),
            },
        }
    }

    fn configurations(&self) -> impl Iterator<Item = Configuration> {
        let machine = self.is;
        let active = machine.cloned().map(Configuration::Active);
        let shared: HashSet<_> = self
            .other
            .map(|other| other.snapshots.iter().map(Arc::as_ptr).collect())
            .unwrap_or_default();
        let snapshots = machine.into_iter().flat_map(|machine| {
            let of = |snapshot: &Arc<Snapshot>| {
                Configuration::Snapshot(machine.clone(), snapshot.clone())
            };
            machine
                .snapshots
                .iter()
                .map(move |snapshot| (Arc::as_ptr(snapshot), of(snapshot)))
        });
        let own = snapshots.filter(move |(place, _)| !shared.contains(place));
        active.into_iter().chain(own.map(|(_, of)| of))
    }

    fn resources(&self, class: ResourceClass) -> Vec<Subject> {
        let of_configuration = |of: Configuration| {
            let parts = of
                .parts(self.version)
                .filter(|part| of.part_class(self.version, *part) == class);
            parts
                .map(|part| Subject::Resource(of.clone(), part))
                .collect::<Vec<_>>()
        };
        self.configurations().flat_map(of_configuration).collect()
    }

    fn devices(&self, class: &str) -> Vec<Subject> {
        let Some(machine) = self.is else {
            return Vec::new();
        };
        let mut devices = subject::logical_devices(machine);
        devices.retain(|logical| subject::logical_class(machine, *logical) == class);
        let shown = devices.into_iter();
        shown
            .map(|logical| Subject::Device(machine.clone(), logical))
            .collect()
    }
}

fn is_the_same(before: &Instance, after: &Instance) -> bool {
    before.properties.len() == after.properties.len()
        && before
            .properties
            .iter()
            .zip(&after.properties)
            .all(|(before, after)| {
                before.value == after.value || OF_THE_MOMENT.iter().any(|name| after.name.is(name))
            })
}
