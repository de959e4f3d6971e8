//! `snapshot ...`: the V1 calls, from CreateVirtualSystemSnapshot on.

use crate::cli::{Consistency, Format, MachineArg, Snapshot, SnapshotArg};
use crate::commands::job::{self, Wait};
use crate::commands::{snapshot_service, text, vm};
use crate::failure::Failure;
use crate::output::{self, Rows};
use crate::service::Service;
use cim::{Instance, ObjectPath, Value};
use serde_json::{Map, json};

/// Runs one `snapshot` command.
pub async fn run(service: &Service, command: &Snapshot, format: Format) -> Result<(), Failure> {
    match command {
        Snapshot::Create {
            vm, check: true, ..
        } => snapshot_service::check(service, vm, format).await,
        Snapshot::Create {
            vm,
            name,
            no_wait,
            consistency,
            ..
        } => {
            let wait = Wait::unless(*no_wait);
            create(service, vm, name.as_deref(), *consistency, wait, format).await
        }
        Snapshot::List(which) => list(service, which, format).await,
        Snapshot::Show(which) => show(service, which, format).await,
        Snapshot::Apply(which) => apply(service, which, format).await,
        Snapshot::Remove {
            which,
            tree,
            no_wait,
        } => remove(service, which, *tree, Wait::unless(*no_wait), format).await,
        Snapshot::Verify {
            which,
            quick,
            no_wait,
        } => {
            let wait = Wait::unless(*no_wait);
            snapshot_service::verify(service, which, *quick, wait, format).await
        }
        Snapshot::Rehearse {
            which,
            patience,
            no_wait,
        } => {
            let wait = Wait::unless(*no_wait);
            snapshot_service::rehearse(service, which, *patience, wait, format).await
        }
        Snapshot::Rename { which, new_name } => {
            let (machine, snapshot) = find(service, which).await?;
            rename(service, text::path_of(&machine)?, &snapshot, new_name).await
        }
    }
}

/// A reference as an argument.
pub fn reference(path: &ObjectPath) -> Value {
    Value::Reference(Box::new(path.clone()))
}

async fn create(
    service: &Service,
    vm: &str,
    name: Option<&str>,
    consistency: Consistency,
    wait: Wait,
    format: Format,
) -> Result<(), Failure> {
    let machine = vm::find(service, vm).await?;
    let path = text::path_of(&machine)?;
    let source = ("SourceSystem", reference(path));
    let reply = match consistency {
        Consistency::Crash => {
            let method = "CreateVirtualSystemSnapshot";
            service.invoke_service(method, vec![source]).await?
        }
        // Hyper-V's first namespace has no way to ask for it.
        Consistency::Application => {
            let level = ("ConsistencyLevel", Value::Uint8(1));
            let arguments = vec![source, level];
            let method = "CreateSnapshot";
            service.invoke_snapshot_service(method, arguments).await?
        }
    };
    let job = job::finish(service, reply, wait, format).await?;
    let (Some(job), true) = (job, wait != Wait::No) else {
        return Ok(());
    };
    let mut snapshot = service
        .associators(
            &job,
            "Msvm_AffectedJobElement",
            "Msvm_VirtualSystemSettingData",
        )
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| {
            Failure::new("The job ended, but the service does not show its snapshot.")
        })?;
    if let Some(name) = name {
        rename(service, path, &snapshot, name).await?;
        snapshot = service.get(text::path_of(&snapshot)?).await?;
    }
    output::record(
        &row(&snapshot, &statistics(service, &snapshot).await?),
        format,
    )
}

/// The snapshots of a machine, oldest first.
async fn snapshots(service: &Service, vm: &ObjectPath) -> Result<Vec<Instance>, Failure> {
    let mut all = service
        .associators(
            vm,
            "Msvm_ElementSettingData",
            "Msvm_VirtualSystemSettingData",
        )
        .await?;
    all.retain(|settings| text::number(settings, "SettingType") == Some(5));
    Ok(all)
}

/// A machine and one of its snapshots, by name or GUID.
pub async fn find(service: &Service, which: &SnapshotArg) -> Result<(Instance, Instance), Failure> {
    let machine = vm::find(service, &which.vm).await?;
    let mut matches: Vec<Instance> = snapshots(service, text::path_of(&machine)?)
        .await?
        .into_iter()
        .filter(|snapshot| {
            let id = text::string(snapshot, "InstanceID").map(text::configuration_guid);
            text::string(snapshot, "ElementName") == Some(which.snapshot.as_str())
                || id.is_some_and(|id| id.eq_ignore_ascii_case(&which.snapshot))
        })
        .collect();
    match matches.len() {
        1 => Ok((machine, matches.remove(0))),
        0 => Err(Failure::new(format!(
            "{} has no snapshot {:?}.",
            which.vm, which.snapshot
        ))
        .remedy("`rootvirt snapshot list` shows all names and ids.")),
        several => Err(Failure::new(format!(
            "{several} snapshots are called {:?}.",
            which.snapshot
        ))
        .remedy("Give the id instead of the name; `rootvirt snapshot list` shows it.")),
    }
}

/// A snapshot as the contract prints it; the times and sizes come from `Rootvirt_SnapshotStatistics`,
/// because Hyper-V's classes have no property for them.
fn row(snapshot: &Instance, statistics: &[Instance]) -> Map<String, serde_json::Value> {
    let instance_id = text::string(snapshot, "InstanceID");
    let own = statistics
        .iter()
        .find(|one| text::string(one, "InstanceID") == instance_id);
    let milliseconds = |name| {
        let micros = own.and_then(|own| text::number(own, name))?;
        Some(micros as f64 / 1000.0)
    };
    let mut row = Map::new();
    row.insert("name".into(), text::json_of(snapshot, "ElementName"));
    row.insert(
        "id".into(),
        json!(instance_id.map(text::configuration_guid)),
    );
    row.insert("parent".into(), text::parent_of(snapshot));
    row.insert("created".into(), text::time_of(snapshot, "CreationTime"));
    row.insert("pause_ms".into(), json!(milliseconds("Pause")));
    let level = own.and_then(|own| text::number(own, "ConsistencyLevel"));
    row.insert(
        "consistency".into(),
        json!(level.map(|level| match level {
            1 => "application",
            _ => "crash",
        })),
    );
    row.insert("at_rest_ms".into(), json!(milliseconds("TimeAtRest")));
    row.insert("durable_ms".into(), json!(milliseconds("TimeToDurable")));
    row.insert(
        "stored_bytes".into(),
        json!(own.and_then(|own| text::number(own, "StoredBytes"))),
    );
    row.insert("notes".into(), text::json_of(snapshot, "Notes"));
    row
}

/// The statistics of the machine that `snapshot` belongs to.
async fn statistics(service: &Service, snapshot: &Instance) -> Result<Vec<Instance>, Failure> {
    match text::string(snapshot, "SystemName") {
        Some(machine) => service.snapshot_statistics(machine).await,
        None => Ok(Vec::new()),
    }
}

async fn list(service: &Service, which: &MachineArg, format: Format) -> Result<(), Failure> {
    let machine = vm::find(service, &which.vm).await?;
    let mut rows = Rows::new(&[
        ("name", "NAME"),
        ("created", "CREATED"),
        ("pause_ms", "PAUSE MS"),
        ("durable_ms", "DURABLE MS"),
        ("stored_bytes", "BYTES"),
        ("id", "ID"),
        ("parent", "PARENT"),
    ]);
    let snapshots = snapshots(service, text::path_of(&machine)?).await?;
    let statistics = match snapshots.first() {
        Some(first) => statistics(service, first).await?,
        None => Vec::new(),
    };
    for snapshot in &snapshots {
        rows.push(row(snapshot, &statistics));
    }
    rows.print(format)
}

async fn show(service: &Service, which: &SnapshotArg, format: Format) -> Result<(), Failure> {
    let (_, snapshot) = find(service, which).await?;
    let resources = service.resources(text::path_of(&snapshot)?).await?;
    if format == Format::Mof {
        return output::mof(
            &std::iter::once(snapshot)
                .chain(resources)
                .collect::<Vec<_>>(),
        );
    }
    let statistics = statistics(service, &snapshot).await?;
    let mut row = row(&snapshot, &statistics);
    snapshot_service::add_reports(service, &snapshot, &mut row).await?;
    row.insert("devices".into(), text::devices(&resources));
    output::record(&row, format)
}

async fn apply(service: &Service, which: &SnapshotArg, format: Format) -> Result<(), Failure> {
    let (machine, snapshot) = find(service, which).await?;
    let arguments = vec![
        ("ComputerSystem", reference(text::path_of(&machine)?)),
        ("SnapshotSettingData", reference(text::path_of(&snapshot)?)),
    ];
    let reply = service
        .invoke_service("ApplyVirtualSystemSnapshotEx", arguments)
        .await?;
    job::finish(service, reply, Wait::Visibly, format)
        .await
        .map(|_| ())
}

async fn remove(
    service: &Service,
    which: &SnapshotArg,
    tree: bool,
    wait: Wait,
    format: Format,
) -> Result<(), Failure> {
    let (_, snapshot) = find(service, which).await?;
    let method = if tree {
        "RemoveVirtualSystemSnapshotTree"
    } else {
        "RemoveVirtualSystemSnapshot"
    };
    let path = reference(text::path_of(&snapshot)?);
    let reply = service
        .invoke_service(method, vec![("SnapshotSettingData", path)])
        .await?;
    job::finish(service, reply, wait, format).await.map(|_| ())
}

async fn rename(
    service: &Service,
    vm: &ObjectPath,
    snapshot: &Instance,
    name: &str,
) -> Result<(), Failure> {
    let set = [
        (
            "InstanceID",
            snapshot.get("InstanceID").cloned().unwrap_or(Value::Null),
        ),
        ("ElementName", Value::String(name.to_owned())),
    ];
    let settings = service
        .new_instance("Msvm_VirtualSystemSettingData", &set)
        .await?;
    let arguments = vec![
        ("ComputerSystem", reference(vm)),
        ("SystemSettingData", Value::Instance(Box::new(settings))),
    ];
    service
        .invoke_service("ModifyVirtualSystem", arguments)
        .await?
        .expect_done("ModifyVirtualSystem")
}
