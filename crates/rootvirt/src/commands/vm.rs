//! `vm ...`: machines, by the calls that any WMI client would make.

use crate::cli::{Format, MachineArg, StateArg, Vm};
use crate::commands::job::{self, Wait};
use crate::commands::text;
use crate::failure::Failure;
use crate::output::{self, Rows};
use crate::service::{Reply, Service};
use cim::{Instance, ObjectPath, Value};
use serde_json::{Map, json};
use std::path::Path;

/// V1 `RequestedState` values (Msvm_ComputerSystem.RequestStateChange).
mod requested_state {
    pub const ENABLED: u16 = 2;
    pub const DISABLED: u16 = 3;
    pub const RESET: u16 = 10;
    pub const PAUSED: u16 = 32768;
    pub const SUSPENDED: u16 = 32769;
}

/// `Description` of jobs that ask a guest to shut down.
const SHUTTING_DOWN: &str = "Shutting Down Virtual Machine";

/// Runs one `vm` command.
pub async fn run(service: &Service, command: &Vm, format: Format) -> Result<(), Failure> {
    match command {
        Vm::Create {
            name,
            memory,
            processors,
            disk,
            iso,
            serial,
        } => {
            let request = Create {
                name,
                memory_mib: memory_mib(memory)?,
                processors: *processors,
                disks: disk,
                iso: iso.as_deref(),
                serial: serial.as_deref(),
            };
            request.run(service, format).await
        }
        Vm::List => list(service, format).await,
        Vm::Show(which) => show(service, which, format).await,
        Vm::Start(which) | Vm::Resume(which) => {
            change_state(service, which, requested_state::ENABLED, format).await
        }
        Vm::Stop(which) => change_state(service, which, requested_state::DISABLED, format).await,
        Vm::Reset(which) => change_state(service, which, requested_state::RESET, format).await,
        Vm::Pause(which) => change_state(service, which, requested_state::PAUSED, format).await,
        Vm::Save(which) => change_state(service, which, requested_state::SUSPENDED, format).await,
        Vm::Shutdown(which) => shutdown(service, which).await,
        Vm::Delete(which) => delete(service, which, format).await,
    }
}

/// Finds a machine by name or GUID; a name that several machines have is refused.
pub async fn find(service: &Service, vm: &str) -> Result<Instance, Failure> {
    let literal = text::wql_string(vm);
    let wql = format!(
        "SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine' AND \
         (ElementName = {literal} OR Name = {literal})"
    );
    let mut found = service.query(&wql).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(
            Failure::new(format!("There is no virtual machine called {vm:?}."))
                .remedy("`rootvirt vm list` shows all names and ids."),
        ),
        several => Err(
            Failure::new(format!("{several} virtual machines are called {vm:?}."))
                .remedy("Give the id instead of the name; `rootvirt vm list` shows it."),
        ),
    }
}

/// The active configuration of `vm`.
pub async fn active_settings(service: &Service, vm: &ObjectPath) -> Result<Instance, Failure> {
    service
        .associators(
            vm,
            "Msvm_SettingsDefineState",
            "Msvm_VirtualSystemSettingData",
        )
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new("The virtual machine has no settings; it may just be going."))
}

/// The word for an `EnabledState`.
fn state_word(machine: &Instance) -> &'static str {
    match text::number(machine, "EnabledState") {
        Some(2) => "running",
        Some(3) => "off",
        Some(32768) => "paused",
        Some(32769) => "saved",
        Some(32770) => "starting",
        Some(32773) => "saving",
        Some(32774) => "stopping",
        Some(32776) => "pausing",
        Some(32777) => "resuming",
        _ => "unknown",
    }
}

fn row(machine: &Instance) -> Map<String, serde_json::Value> {
    let mut row = Map::new();
    row.insert("name".into(), text::json_of(machine, "ElementName"));
    row.insert("id".into(), text::json_of(machine, "Name"));
    row.insert("state".into(), json!(state_word(machine)));
    row.insert("health".into(), text::json_of(machine, "HealthState"));
    row.insert(
        "status".into(),
        text::json_of(machine, "StatusDescriptions"),
    );
    row.insert(
        "up_ms".into(),
        text::json_of(machine, "OnTimeInMilliseconds"),
    );
    row
}

async fn list(service: &Service, format: Format) -> Result<(), Failure> {
    let machines = service
        .query("SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'")
        .await?;
    let mut rows = Rows::new(&[("name", "NAME"), ("state", "STATE"), ("id", "ID")]);
    for machine in &machines {
        rows.push(row(machine));
    }
    rows.print(format)
}

async fn show(service: &Service, which: &MachineArg, format: Format) -> Result<(), Failure> {
    let machine = find(service, &which.vm).await?;
    let path = text::path_of(&machine)?;
    let settings = active_settings(service, path).await?;
    let resources = service.resources(text::path_of(&settings)?).await?;
    if format == Format::Mof {
        let all = [machine, settings]
            .into_iter()
            .chain(resources)
            .collect::<Vec<_>>();
        return output::mof(&all);
    }
    let mut row = row(&machine);
    row.insert("notes".into(), text::json_of(&settings, "Notes"));
    row.insert("parent_snapshot".into(), text::parent_of(&settings));
    row.insert("devices".into(), text::devices(&resources));
    row.extend(process(service, &machine).await?);
    output::record(&row, format)
}

/// What runs a machine; nothing while it has no process.
async fn process(
    service: &Service,
    machine: &Instance,
) -> Result<Map<String, serde_json::Value>, Failure> {
    let mut row = Map::new();
    let Some(id) = machine.get("Name").and_then(Value::as_str) else {
        return Ok(row);
    };
    let wql = format!(
        "SELECT * FROM Rootvirt_Process WHERE SystemName = {}",
        text::wql_string(id)
    );
    let found = service.query(&wql).await?;
    for (name, property) in [
        ("pid", "ProcessID"),
        ("accelerator", "Accelerator"),
        ("accelerator_reason", "AcceleratorReason"),
        ("memory_backing", "MemoryBacking"),
        ("memory_backing_reason", "MemoryBackingReason"),
        ("memory_health", "MemoryHealth"),
    ] {
        let value = found.first().map(|found| text::json_of(found, property));
        if let Some(value) = value.filter(|value| !value.is_null()) {
            row.insert(name.into(), value);
        }
    }
    row.extend(restore(service, id).await?);
    Ok(row)
}

/// How a machine was started from a saved state, in milliseconds; nothing, if it was not.
pub async fn restore(
    service: &Service,
    id: &str,
) -> Result<Map<String, serde_json::Value>, Failure> {
    let mut row = Map::new();
    let wql = format!(
        "SELECT * FROM Rootvirt_RestoreStatistics WHERE SystemName = {}",
        text::wql_string(id)
    );
    let found = service.query(&wql).await?;
    let Some(found) = found.first() else {
        return Ok(row);
    };
    for (name, property) in [
        ("restore_running_ms", "TimeToRunning"),
        ("restore_heartbeat_ms", "TimeToHeartbeat"),
        ("restore_resident_ms", "TimeToResident"),
        ("restore_waited_ms", "TimeWaited"),
    ] {
        let micros = text::number(found, property);
        row.insert(
            name.into(),
            micros.map_or(serde_json::Value::Null, |n| json!(n as f64 / 1000.0)),
        );
    }
    row.insert(
        "restore_pages_requested".into(),
        text::json_of(found, "PagesRequested"),
    );
    row.insert(
        "restore_whole_reason".into(),
        text::json_of(found, "WholeReason"),
    );
    Ok(row)
}

async fn change_state(
    service: &Service,
    which: &StateArg,
    state: u16,
    format: Format,
) -> Result<(), Failure> {
    let machine = find(service, &which.vm).await?;
    let reply = service
        .invoke(
            text::path_of(&machine)?,
            "RequestStateChange",
            vec![("RequestedState", Value::Uint16(state))],
        )
        .await?;
    job::finish(service, reply, Wait::unless(which.no_wait), format)
        .await
        .map(|_| ())
}

async fn shutdown(service: &Service, which: &StateArg) -> Result<(), Failure> {
    let machine = find(service, &which.vm).await?;
    let path = text::path_of(&machine)?;
    let components = service
        .associators(path, "Msvm_SystemDevice", "Msvm_ShutdownComponent")
        .await?;
    let Some(component) = components.first() else {
        return Err(Failure::new(format!(
            "The virtual machine is {}; only a running one can be asked to shut down.",
            state_word(&machine)
        )));
    };
    let reply = service
        .invoke(
            text::path_of(component)?,
            "InitiateShutdown",
            vec![
                ("Force", Value::Boolean(false)),
                ("Reason", "rootvirt vm shutdown".into()),
            ],
        )
        .await?;
    reply.expect_done("InitiateShutdown")?;
    if which.no_wait {
        return Ok(());
    }
    wait_until_off(service, path).await
}

/// Follows the request to shut down, which `InitiateShutdown` does not name, and any that takes its
/// place.
async fn wait_until_off(service: &Service, machine: &ObjectPath) -> Result<(), Failure> {
    let mut asked = newest_shutdown(service, machine).await?;
    loop {
        let Err(failure) = job::follow(service, &asked, Wait::Visibly).await else {
            return Ok(());
        };
        // Whoever has asked for more meanwhile may have had it turned off.
        if state_word(&service.get(machine).await?) == "off" {
            return Ok(());
        }
        let newest = newest_shutdown(service, machine).await?;
        if newest == asked {
            return Err(failure);
        }
        asked = newest;
    }
}

async fn newest_shutdown(service: &Service, machine: &ObjectPath) -> Result<ObjectPath, Failure> {
    let jobs = service
        .associators(machine, "Msvm_AffectedJobElement", "Msvm_ConcreteJob")
        .await?;
    let newest = jobs
        .iter()
        .filter(|job| text::string(job, "Description") == Some(SHUTTING_DOWN))
        .max_by_key(|job| text::json_of(job, "StartTime").to_string())
        .ok_or_else(|| Failure::new("The service shows no job that waits for the guest."))?;
    text::path_of(newest).cloned()
}

async fn delete(service: &Service, which: &StateArg, format: Format) -> Result<(), Failure> {
    let machine = find(service, &which.vm).await?;
    let path = text::path_of(&machine)?.clone();
    let reply = service
        .invoke_service(
            "DestroyVirtualSystem",
            vec![("ComputerSystem", reference(path))],
        )
        .await?;
    job::finish(service, reply, Wait::unless(which.no_wait), format)
        .await
        .map(|_| ())
}

fn reference(path: ObjectPath) -> Value {
    Value::Reference(Box::new(path))
}

/// A size with M or G, in MiB.
fn memory_mib(text: &str) -> Result<u64, Failure> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, factor) = match digits.strip_suffix('G') {
        Some(number) => (number, 1024),
        None => (digits.strip_suffix('M').unwrap_or(digits), 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            Failure::usage(format!(
                "--memory {text}: give a number with M or G, like 512M."
            ))
        })
}

/// `vm create`, step by step.
struct Create<'a> {
    name: &'a str,
    memory_mib: u64,
    processors: u32,
    disks: &'a [String],
    iso: Option<&'a Path>,
    serial: Option<&'a Path>,
}

/// A slot that a drive can go to.
struct Slot {
    controller: ObjectPath,
    address: u32,
}

impl Create<'_> {
    async fn run(&self, service: &Service, format: Format) -> Result<(), Failure> {
        let global = service
            .new_instance(
                "Msvm_VirtualSystemGlobalSettingData",
                &[("ElementName", self.name.into())],
            )
            .await?;
        let reply = service
            .invoke_service(
                "DefineVirtualSystem",
                vec![("SystemSettingData", embedded(global))],
            )
            .await?;
        reply.expect_done("DefineVirtualSystem")?;
        let vm = reply.reference("DefinedSystem")?;
        // A machine that could not be made whole is not left behind.
        if let Err(failure) = self.furnish(service, &vm).await {
            let arguments = vec![("ComputerSystem", reference(vm))];
            if let Ok(reply) = service
                .invoke_service("DestroyVirtualSystem", arguments)
                .await
            {
                let _ = job::finish(service, reply, Wait::Silently, Format::Table).await;
            }
            return Err(failure);
        }
        let machine = service.get(&vm).await?;
        output::record(&row(&machine), format)
    }

    async fn furnish(&self, service: &Service, vm: &ObjectPath) -> Result<(), Failure> {
        let settings = active_settings(service, vm).await?;
        let settings_path = text::path_of(&settings)?;
        let resources = service.resources(settings_path).await?;
        self.size(service, vm, &resources).await?;
        let mut ide = ide_slots(&resources)?;
        let mut scsi: Option<ObjectPath> = None;
        let mut scsi_used = 0;
        for disk in self.disks {
            let (file, on_scsi) = match disk.strip_prefix("scsi:") {
                Some(file) => (file, true),
                None => (disk.as_str(), ide.len() <= usize::from(self.iso.is_some())),
            };
            let slot = if on_scsi {
                let controller = match &scsi {
                    Some(path) => path.clone(),
                    None => scsi.insert(self.add_scsi(service, vm).await?).clone(),
                };
                scsi_used += 1;
                Slot {
                    controller,
                    address: scsi_used - 1,
                }
            } else {
                ide.remove(0)
            };
            let kinds = (
                "Microsoft Synthetic Disk Drive",
                "Microsoft Virtual Hard Disk",
            );
            self.attach(service, vm, slot, kinds, Path::new(file))
                .await?;
        }
        if let Some(iso) = self.iso {
            // The DVD drive takes the last IDE slot, so that disks keep theirs.
            let slot = ide
                .pop()
                .ok_or_else(|| Failure::new("No IDE slot is left for the DVD drive."))?;
            let kinds = (
                "Microsoft Synthetic DVD Drive",
                "Microsoft Virtual CD/DVD Disk",
            );
            self.attach(service, vm, slot, kinds, iso).await?;
        }
        Ok(())
    }

    /// Memory, processors and the first serial port, in one call.
    async fn size(
        &self,
        service: &Service,
        vm: &ObjectPath,
        resources: &[Instance],
    ) -> Result<(), Failure> {
        let mut changes = Vec::new();
        for resource in resources {
            let id = (
                "InstanceID",
                resource.get("InstanceID").cloned().unwrap_or(Value::Null),
            );
            if resource.class.is("Msvm_MemorySettingData") {
                let size = Value::Uint64(self.memory_mib);
                let set = [
                    id,
                    ("VirtualQuantity", size.clone()),
                    ("Reservation", size.clone()),
                    ("Limit", size),
                ];
                changes.push(service.new_instance("Msvm_MemorySettingData", &set).await?);
            } else if resource.class.is("Msvm_ProcessorSettingData") {
                let set = [
                    id,
                    ("VirtualQuantity", Value::Uint64(self.processors.into())),
                ];
                changes.push(
                    service
                        .new_instance("Msvm_ProcessorSettingData", &set)
                        .await?,
                );
            }
        }
        if let Some(socket) = self.serial {
            let port = resources
                .iter()
                .find(|r| text::string(r, "ResourceSubType") == Some("Microsoft Serial Port"))
                .ok_or_else(|| Failure::new("The virtual machine has no serial port."))?;
            let socket = format!("unix:{}", absolute(socket)?);
            let set = [
                (
                    "InstanceID",
                    port.get("InstanceID").cloned().unwrap_or(Value::Null),
                ),
                ("Connection", Value::Array(vec![Value::String(socket)])),
            ];
            changes.push(service.new_instance(port.class.as_str(), &set).await?);
        }
        let arguments = vec![
            ("ComputerSystem", reference(vm.clone())),
            (
                "ResourceSettingData",
                Value::Array(changes.into_iter().map(embedded).collect()),
            ),
        ];
        service
            .invoke_service("ModifyVirtualSystemResources", arguments)
            .await?
            .expect_done("ModifyVirtualSystemResources")
    }

    async fn add_scsi(&self, service: &Service, vm: &ObjectPath) -> Result<ObjectPath, Failure> {
        let template = service
            .default_template("Microsoft Synthetic SCSI Controller")
            .await?;
        add(service, vm, template, &[]).await
    }

    async fn attach(
        &self,
        service: &Service,
        vm: &ObjectPath,
        slot: Slot,
        (drive_kind, medium_kind): (&str, &str),
        file: &Path,
    ) -> Result<(), Failure> {
        let drive = service.default_template(drive_kind).await?;
        let set = [
            ("Parent", Value::String(slot.controller.to_string())),
            ("Address", Value::String(slot.address.to_string())),
        ];
        let drive = add(service, vm, drive, &set).await?;
        let medium = service.default_template(medium_kind).await?;
        let set = [
            ("Parent", Value::String(drive.to_string())),
            (
                "Connection",
                Value::Array(vec![Value::String(absolute(file)?)]),
            ),
        ];
        add(service, vm, medium, &set).await.map(|_| ())
    }
}

fn embedded(instance: Instance) -> Value {
    Value::Instance(Box::new(instance))
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    absolute.into_os_string().into_string().map_err(|path| {
        Failure::usage(format!(
            "{}: the name is not UTF-8, which CIM needs.",
            path.display()
        ))
    })
}

/// The free slots of the two IDE controllers, in order.
fn ide_slots(resources: &[Instance]) -> Result<Vec<Slot>, Failure> {
    let mut slots = Vec::new();
    for controller in resources
        .iter()
        .filter(|r| text::string(r, "ResourceSubType") == Some("Microsoft Emulated IDE Controller"))
    {
        for address in 0..2 {
            slots.push(Slot {
                controller: text::path_of(controller)?.clone(),
                address,
            });
        }
    }
    Ok(slots)
}

/// Adds a copy of `template` with `set` changed; answers the new resource.
async fn add(
    service: &Service,
    vm: &ObjectPath,
    mut template: Instance,
    set: &[(&str, Value)],
) -> Result<ObjectPath, Failure> {
    for (name, value) in set {
        text::put(&mut template, name, value.clone())?;
    }
    let arguments = vec![
        ("TargetSystem", reference(vm.clone())),
        (
            "ResourceSettingData",
            Value::Array(vec![embedded(template)]),
        ),
    ];
    let reply: Reply = service
        .invoke_service("AddVirtualSystemResources", arguments)
        .await?;
    reply.expect_done("AddVirtualSystemResources")?;
    reply.first_reference("NewResources")
}

#[cfg(test)]
mod tests {
    use super::memory_mib;

    #[test]
    fn memory_sizes() {
        assert_eq!(memory_mib("512M").ok(), Some(512));
        assert_eq!(memory_mib("2G").ok(), Some(2048));
        assert_eq!(memory_mib("2GiB").ok(), Some(2048));
        assert_eq!(memory_mib("768").ok(), Some(768));
        for wrong in [
            "",
            "M",
            "0M",
            "-1G",
            "1T",
            "99999999999999999999G",
            "18014398509481984G",
        ] {
            assert!(memory_mib(wrong).is_err(), "{wrong}");
        }
    }
}
