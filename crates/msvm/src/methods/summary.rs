//! GetSummaryInformation: what a list of machines or snapshots needs, in one call.

use super::arguments::references;
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::read::guest_components;
use crate::read::{StateView, datetime, texts, up_time_millis};
use crate::subject::{Configuration, Subject};
use crate::version::Version;
use cim::instance::InstanceBuilder;
use cim::{CimError, Instance, Value};
use cim_broker::Arguments;
use machines::guest_report::GuestReport;
use machines::model::Machine;
use std::sync::Arc;

const SUMMARY: &str = "Msvm_SummaryInformation";

impl Host {
    pub(super) fn summary(&self, arguments: &Arguments) -> Outcome {
        let requested: Vec<u32> = match arguments.get("RequestedInformation") {
            Value::Null => Vec::new(),
            value => value
                .as_array()
                .map(|items| items.iter().filter_map(Value::as_u32).collect())
                .ok_or_else(|| Refusal::invalid("RequestedInformation is not a list."))?,
        };
        let configurations = match references(arguments, "SettingData")? {
            None => self
                .all_machines()
                .into_iter()
                .map(Configuration::Active)
                .collect(),
            Some(paths) => paths
                .iter()
                .map(|path| match self.resolve(path) {
                    Some(Subject::Settings(of)) => Ok(of),
                    _ => Err(Refusal::invalid(format!(
                        "SettingData: {} names no configuration.",
                        path.relpath()
                    ))),
                })
                .collect::<Result<Vec<_>, _>>()?,
        };
        let summaries = configurations
            .iter()
            .map(|of| self.summary_of(of, &requested).map(Value::from))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Answer::completed().with("SummaryInformation", Value::Array(summaries)))
    }

    fn summary_of(&self, of: &Configuration, requested: &[u32]) -> Result<Instance, CimError> {
        let snapshots = self.embedded_snapshots(of, requested)?;
        let tasks = self.embedded_tasks(of, requested)?;
        let report = match of {
            Configuration::Active(machine) => self.guest_report(machine.id),
            Configuration::Snapshot(..) => None,
        };
        self.embedded(SUMMARY, |mut new| {
            for wanted in requested {
                new = settings_facts(of, *wanted, new);
                // The rest is about machines and ignored for snapshots; so are numbers that mean
                // nothing here.
                if let Configuration::Active(machine) = of {
                    let report = report.as_deref();
                    new = machine_facts(self.version, machine, report, *wanted, new);
                }
            }
            new.set("Snapshots", snapshots)
                .set("AsynchronousTasks", tasks)
        })
    }

    fn embedded_snapshots(&self, of: &Configuration, requested: &[u32]) -> Result<Value, CimError> {
        let Configuration::Active(machine) = of else {
            return Ok(Value::Null);
        };
        if !requested.contains(&SNAPSHOTS) {
            return Ok(Value::Null);
        }
        let one = |snapshot: &Arc<machines::model::Snapshot>| {
            let of = Configuration::Snapshot(machine.clone(), snapshot.clone());
            self.settings_instance(&of).map(Value::from)
        };
        let all: Result<Vec<_>, _> = machine.snapshots.iter().map(one).collect();
        all.map(Value::Array)
    }

    fn embedded_tasks(&self, of: &Configuration, requested: &[u32]) -> Result<Value, CimError> {
        let Configuration::Active(machine) = of else {
            return Ok(Value::Null);
        };
        if !requested.contains(&ASYNCHRONOUS_TASKS) {
            return Ok(Value::Null);
        }
        let jobs = self.machines.jobs_of(machine.id);
        let all: Result<Vec<_>, _> = jobs
            .iter()
            .map(|job| self.job_instance(job).map(Value::from))
            .collect();
        all.map(Value::Array)
    }
}

const SNAPSHOTS: u32 = 107;
const ASYNCHRONOUS_TASKS: u32 = 108;

fn settings_facts<'a>(
    of: &Configuration,
    wanted: u32,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let settings = of.settings();
    match wanted {
        0 => new.set(
            "Name",
            match of {
                Configuration::Active(machine) => machine.id.to_string(),
                Configuration::Snapshot(_, snapshot) => snapshot.id.to_string(),
            },
        ),
        1 => new.set("ElementName", settings.name.as_str()),
        2 => new.set(
            "CreationTime",
            datetime(match of {
                Configuration::Active(_) => settings.created,
                Configuration::Snapshot(_, snapshot) => snapshot.taken,
            }),
        ),
        3 => new.set("Notes", settings.notes.as_str()),
        4 => new.set("NumberOfProcessors", settings.processor.count),
        _ => new,
    }
}

/// Processor load and thumbnails stay NULL: nothing here knows them.
fn machine_facts<'a>(
    version: Version,
    machine: &Machine,
    report: Option<&GuestReport>,
    wanted: u32,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let view = StateView::of(machine);
    match wanted {
        100 => new.set("EnabledState", version.enabled_state(machine.state)),
        103 => {
            let used = machine
                .process
                .is_some()
                .then_some(machine.settings.memory.quantity_mib);
            new.set("MemoryUsage", used)
        }
        // Only a guest that runs has one.
        104 => new.set(
            "Heartbeat",
            report.map(|report| guest_components::heartbeat(Some(report))),
        ),
        106 => {
            let name = report.map(|report| report.facts.os.pretty_name.as_str());
            new.set("GuestOperatingSystem", name.filter(|name| !name.is_empty()))
        }
        105 => new.set("UpTime", up_time_millis(machine)),
        109 => new.set("HealthState", view.health),
        110 => new.set("OperationalStatus", view.operational_status),
        111 => new.set("StatusDescriptions", texts(view.descriptions)),
        _ => new,
    }
}
