//! A broker over real machines, and the calls that clients make.

use cim::{Instance, Name, Namespace, ObjectPath, Value};
use cim_broker::{AssociatorFilter, Broker, Context, InvokeResult, QueryResult, Role};
use machines::{Config, Machines};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

pub const HOST: &str = "HV12OSDEMO1";
pub const SERVICE: &str = "Msvm_VirtualSystemManagementService";

pub struct Fixture {
    pub broker: Broker,
    pub machines: Arc<Machines>,
    pub namespace: Namespace,
    pub folder: TempDir,
}

pub fn caller(role: Role) -> Context {
    Context {
        user: "tester".to_owned(),
        role,
        peer: "local".to_owned(),
    }
}

fn admin() -> Context {
    caller(Role::Administrator)
}

/// The text of an embedded instance as clients send it.
pub fn embedded(class: &str, properties: &[(&str, &str, &str)]) -> Value {
    let mut text = format!("<INSTANCE CLASSNAME=\"{class}\">");
    for (name, ty, value) in properties {
        text.push_str(&format!(
            "<PROPERTY NAME=\"{name}\" TYPE=\"{ty}\"><VALUE>{value}</VALUE></PROPERTY>"
        ));
    }
    text.push_str("</INSTANCE>");
    Value::String(text)
}

/// The text of a whole instance, changed, as clients send back what they read.
pub fn changed(instance: &Instance, changes: &[(&str, Value)]) -> Value {
    let mut copy = instance.clone();
    for (name, value) in changes {
        copy.set(name, value.clone())
            .expect("a property of the class");
    }
    Value::String(cim_xml::embedded::write_instance(&copy))
}

/// What a method answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u32,
    result: InvokeResult,
}

impl Answer {
    pub fn out(&self, name: &str) -> &Value {
        let found = self
            .result
            .out
            .iter()
            .find(|property| property.name.is(name));
        &found.expect("a declared output").value
    }

    pub fn path(&self, name: &str) -> ObjectPath {
        self.out(name).as_reference().expect("a reference").clone()
    }
}

impl Fixture {
    pub async fn new() -> Fixture {
        Fixture::with(|_| {}).await
    }

    pub async fn with(adapt: impl FnOnce(&mut Config)) -> Fixture {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config::new(folder.path().join("data"));
        adapt(&mut config);
        let machines = Machines::open(config).await.expect("machines");
        let mut broker = Broker::new(HOST);
        msvm::register(&mut broker, machines.clone(), HOST).expect("the namespace");
        Fixture {
            broker,
            machines,
            namespace: Namespace::new(msvm::NAMESPACE),
            folder,
        }
    }

    pub fn query(&self, text: &str) -> Vec<Instance> {
        match self.broker.query(&admin(), &self.namespace, "WQL", text) {
            Ok(QueryResult::Instances(found)) => found,
            other => panic!("{text}: {other:?}"),
        }
    }

    pub fn one(&self, text: &str) -> Instance {
        let mut found = self.query(text);
        assert_eq!(found.len(), 1, "{text}");
        found.remove(0)
    }

    pub fn get(&self, path: &ObjectPath) -> Instance {
        self.broker
            .get_instance(&admin(), &self.namespace, path, None)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn enumerate(&self, class: &str) -> Vec<Instance> {
        self.broker
            .enumerate_instances(&admin(), &self.namespace, &Name::new(class), true, None)
            .unwrap_or_else(|error| panic!("{class}: {error}"))
    }

    pub fn associators(&self, of: &Instance, assoc: &str, result: &str) -> Vec<Instance> {
        let name = |text: &str| (!text.is_empty()).then(|| Name::new(text));
        let filter = AssociatorFilter {
            assoc_class: name(assoc),
            result_class: name(result),
            ..AssociatorFilter::default()
        };
        self.broker
            .associators(&admin(), &self.namespace, path(of), &filter, None)
            .unwrap_or_else(|error| panic!("{}: {error}", path(of)))
    }

    pub fn service(&self) -> ObjectPath {
        path(&self.one(&format!("SELECT * FROM {SERVICE}"))).clone()
    }

    pub async fn call_as(
        &self,
        role: Role,
        target: &ObjectPath,
        method: &str,
        arguments: &[(&str, Value)],
    ) -> Answer {
        let arguments = arguments
            .iter()
            .map(|(name, value)| (Name::new(name), value.clone()))
            .collect();
        let result = self
            .broker
            .invoke(
                &caller(role),
                &self.namespace,
                target,
                &Name::new(method),
                arguments,
            )
            .await
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        let code = result.return_value.1.as_u32().expect("a return code");
        Answer { code, result }
    }

    pub async fn call(&self, method: &str, arguments: &[(&str, Value)]) -> Answer {
        self.call_as(Role::Administrator, &self.service(), method, arguments)
            .await
    }

    /// Defines a machine and answers its computer system.
    pub async fn define(&self, name: &str) -> Instance {
        let system = embedded(
            "Msvm_VirtualSystemGlobalSettingData",
            &[("ElementName", "string", name)],
        );
        let answer = self
            .call("DefineVirtualSystem", &[("SystemSettingData", system)])
            .await;
        assert_eq!(answer.code, 0);
        assert!(answer.out("Job").is_null());
        self.get(&answer.path("DefinedSystem"))
    }

    /// The job at its end.
    pub async fn finished(&self, job: &ObjectPath) -> Instance {
        let id = job
            .key_str("InstanceID")
            .expect("an id")
            .parse()
            .expect("a GUID");
        self.machines.wait(id).await.expect("the job's end");
        self.get(job)
    }

    /// The active settings of a machine, as the documentation's samples find them.
    pub fn settings(&self, machine: &Instance) -> Instance {
        let mut found = self.associators(
            machine,
            "Msvm_SettingsDefineState",
            "Msvm_VirtualSystemSettingData",
        );
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    pub fn resources(&self, settings: &Instance, class: &str) -> Vec<Instance> {
        self.associators(settings, "Msvm_VirtualSystemSettingDataComponent", class)
    }

    pub fn template(&self, class: &str, sub_type: &str) -> Instance {
        self.one(&format!(
            "SELECT * FROM {class} WHERE ResourceSubType = '{sub_type}' AND InstanceID LIKE '%\\Default'"
        ))
    }

    /// Adds a copy of a template with changes; answers the new resource.
    pub async fn add(
        &self,
        machine: &Instance,
        template: &Instance,
        changes: &[(&str, Value)],
    ) -> Instance {
        let answer = self
            .call(
                "AddVirtualSystemResources",
                &[
                    ("TargetSystem", reference(machine)),
                    (
                        "ResourceSettingData",
                        Value::Array(vec![changed(template, changes)]),
                    ),
                ],
            )
            .await;
        assert_eq!(answer.code, 0);
        let added = answer.out("NewResources").as_array().expect("paths");
        assert_eq!(added.len(), 1);
        self.get(added[0].as_reference().expect("a path"))
    }

    /// An empty raw disk image.
    pub fn disk_file(&self, name: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, vec![0; 1 << 20]).expect("a disk image");
        file
    }

    /// Puts a disk on the first slot of the first IDE controller; answers drive and medium.
    pub async fn add_ide_disk(&self, machine: &Instance, file: &str) -> (Instance, Instance) {
        const GENERIC: &str = "Msvm_ResourceAllocationSettingData";
        let file = self.disk_file(file);
        let controllers = self.resources(&self.settings(machine), GENERIC);
        let controller = controllers
            .iter()
            .find(|resource| {
                resource.str("ResourceSubType") == Some("Microsoft Emulated IDE Controller")
                    && resource.str("Address") == Some("0")
            })
            .expect("an IDE controller");
        let drive = self.template(GENERIC, "Microsoft Synthetic Disk Drive");
        let parent = path(controller).to_string();
        let drive = self
            .add(
                machine,
                &drive,
                &[("Parent", parent.into()), ("Address", "0".into())],
            )
            .await;
        let medium = self.template(GENERIC, "Microsoft Virtual Hard Disk");
        let connection = Value::from([file.to_str().expect("a text")]);
        let parent = path(&drive).to_string();
        let medium = self
            .add(
                machine,
                &medium,
                &[("Parent", parent.into()), ("Connection", connection)],
            )
            .await;
        (drive, medium)
    }
}

pub fn path(instance: &Instance) -> &ObjectPath {
    instance.path.as_ref().expect("a path")
}

pub fn reference(instance: &Instance) -> Value {
    Value::from(path(instance).clone())
}

pub fn text<'a>(instance: &'a Instance, property: &str) -> &'a str {
    instance
        .str(property)
        .unwrap_or_else(|| panic!("{property} of {} is no text", instance.class))
}

/// The processes of machines outlive whoever started them; tests leave none behind.
impl Drop for Fixture {
    fn drop(&mut self) {
        for machine in self.machines.all() {
            if let Some(process) = &machine.process {
                signal(process.pid, "KILL");
            }
        }
    }
}

/// Sends a signal to a process of a machine.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(
        sent.is_ok_and(|status| status.success()),
        "kill -s {name} {pid}"
    );
}
