//! The provider that the tests run the broker on: some machines with settings, held in memory, with
//! counters that show what the broker asked for.

use async_trait::async_trait;
use cim::mof::Repository;
use cim::path::fold_key_text;
use cim::{CimError, Class, Instance, Name, Namespace, ObjectPath, Property, Type, Value};
use cim_broker::{
    ArgumentFault, ArgumentFaultKind, Arguments, Association, Broker, Context, Equality, Instances,
    MethodOutcome, Provider, Role,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

pub const HOST: &str = "HV1";
pub const NAMESPACE: &str = r"root\fleet";

/// What the broker asked of the provider.
#[derive(Default)]
pub struct Counters {
    /// Instances handed out by enumerations.
    pub enumerated: AtomicUsize,
    /// Calls of a traverse function.
    pub traversed: AtomicUsize,
    /// The filters that came with enumerations, as text.
    pub filters: Mutex<Vec<String>>,
}

impl Counters {
    pub fn enumerated(&self) -> usize {
        self.enumerated.swap(0, Ordering::SeqCst)
    }

    pub fn traversed(&self) -> usize {
        self.traversed.swap(0, Ordering::SeqCst)
    }

    pub fn filters(&self) -> Vec<String> {
        std::mem::take(&mut self.filters.lock().expect("filters"))
    }
}

/// Instances of some classes, indexed by each string property.
pub struct Fleet {
    instances: HashMap<Name, Vec<Instance>>,
    index: HashMap<(Name, Name, String), Vec<usize>>,
    pub counters: Arc<Counters>,
    pub gate: Arc<Notify>,
    pub entered: Arc<Notify>,
    pub finished: Arc<AtomicUsize>,
    pub received: Mutex<Option<Arguments>>,
}

/// The form in which a text stands in the index: names and paths compare as keys do, other texts
/// only without case.
fn indexed(property: &Name, text: &str) -> String {
    if property.is("InstanceID") || property.is("Name") || property.is("Parent") {
        fold_key_text(text)
    } else {
        text.to_lowercase()
    }
}

impl Fleet {
    /// The fewest candidates that the index gives for one of the equalities.
    fn picks(&self, class: &Name, filter: &[Equality]) -> Option<Vec<usize>> {
        let sample = self.instances.get(class)?.first()?;
        let candidates = filter.iter().filter_map(|equality| {
            let text = match &equality.value {
                // All paths in the fleet's properties are in canonical spelling.
                Value::Reference(path) => indexed(&equality.property, &path.to_string()),
                other => indexed(&equality.property, other.as_str()?),
            };
            let property = sample.property(equality.property.as_str())?;
            let key = (class.clone(), equality.property.clone(), text);
            let is_text = property.ty == Type::scalar(cim::CimType::String);
            is_text.then(|| self.index.get(&key).cloned().unwrap_or_default())
        });
        candidates.min_by_key(Vec::len)
    }
}

#[async_trait]
impl Provider for Fleet {
    fn classes(&self) -> Vec<Name> {
        let mut classes: Vec<Name> = [
            "T_Host",
            "T_Machine",
            "T_MachineSetting",
            "T_DiskSetting",
            "T_Slot",
            "T_Service",
        ]
        .into_iter()
        .map(Name::new)
        .collect();
        classes.retain(|class| self.instances.contains_key(class));
        classes
    }

    fn enumerate(
        &self,
        _context: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        let described: Vec<String> = filter
            .iter()
            .map(|e| format!("{}={:?}", e.property, e.value))
            .collect();
        self.counters
            .filters
            .lock()
            .expect("filters")
            .push(format!("{class}: {}", described.join(", ")));
        let all = self.instances.get(class).map_or(&[][..], Vec::as_slice);
        let found: Vec<Instance> = match self.picks(class, filter) {
            Some(picks) => picks.into_iter().map(|at| all[at].clone()).collect(),
            None => all.to_vec(),
        };
        self.counters
            .enumerated
            .fetch_add(found.len(), Ordering::SeqCst);
        Ok(found)
    }

    fn stream(
        &self,
        context: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Instances, CimError> {
        let all = self.enumerate(context, class, filter)?;
        self.counters
            .enumerated
            .fetch_sub(all.len(), Ordering::SeqCst);
        let counters = Arc::clone(&self.counters);
        Ok(Box::new(all.into_iter().map(move |instance| {
            counters.enumerated.fetch_add(1, Ordering::SeqCst);
            Ok(instance)
        })))
    }

    fn required_role(&self, _class: &Name, method: &Name) -> Role {
        if method.is("Ping") {
            Role::Viewer
        } else {
            Role::Operator
        }
    }

    async fn invoke(
        &self,
        _context: &Context,
        _target: &ObjectPath,
        method: &Name,
        arguments: Arguments,
    ) -> Result<MethodOutcome, CimError> {
        match method.as_str() {
            "Ping" => Ok(MethodOutcome {
                explanation: None,
                return_value: Value::Uint32(0),
                out: vec![(Name::new("Answer"), Value::from("here"))],
            }),
            "Create" => {
                let result = arguments.get("Target").clone();
                *self.received.lock().expect("received") = Some(arguments);
                let out = match result {
                    Value::Reference(_) => vec![(Name::new("Result"), result)],
                    _ => Vec::new(),
                };
                Ok(MethodOutcome {
                    explanation: None,
                    return_value: Value::Uint32(4096),
                    out,
                })
            }
            "Wait" => {
                self.entered.notify_one();
                self.gate.notified().await;
                self.finished.fetch_add(1, Ordering::SeqCst);
                self.entered.notify_one();
                Ok(MethodOutcome {
                    explanation: None,
                    return_value: Value::Uint32(0),
                    out: Vec::new(),
                })
            }
            "Break" => Ok(MethodOutcome {
                explanation: None,
                return_value: Value::from("not a number"),
                out: Vec::new(),
            }),
            _ => Err(CimError::new(
                cim::CimStatus::MethodNotAvailable,
                "declared but not served",
            )),
        }
    }

    fn bad_argument(
        &self,
        _class: &Name,
        _method: &Name,
        fault: &ArgumentFault,
    ) -> Result<MethodOutcome, CimError> {
        // Like Hyper-V: what cannot be read is a return code; the rest is the protocol's.
        match fault.kind {
            ArgumentFaultKind::Embedded => Ok(MethodOutcome {
                explanation: None,
                return_value: Value::Uint32(32773),
                out: Vec::new(),
            }),
            _ => Err(fault.error.clone()),
        }
    }

    fn access_denied(&self, class: &Name, method: &Name) -> Result<MethodOutcome, CimError> {
        if method.is("Ping") {
            return Err(CimError::new(
                cim::CimStatus::AccessDenied,
                format!("{class}.{method}"),
            ));
        }
        Ok(MethodOutcome {
            explanation: None,
            return_value: Value::Uint32(32769),
            out: Vec::new(),
        })
    }
}

/// A broker over a fleet, and the two ends that tests look at.
pub struct World {
    pub broker: Arc<Broker>,
    pub fleet: Arc<Fleet>,
    pub namespace: Namespace,
}

impl World {
    pub fn counters(&self) -> &Counters {
        &self.fleet.counters
    }
}

pub fn administrator() -> Context {
    account("root", Role::Administrator)
}

pub fn account(user: &str, role: Role) -> Context {
    Context {
        user: user.to_owned(),
        role,
        peer: "local".to_owned(),
    }
}

pub fn machine_id(number: usize) -> String {
    format!("AAAAAAAA-0000-0000-0000-{number:012X}")
}

pub fn repository() -> Repository {
    Repository::compile(&[("fleet.mof", include_str!("fleet.mof"))]).expect("the test's classes")
}

struct Maker {
    repository: Repository,
    instances: HashMap<Name, Vec<Instance>>,
}

impl Maker {
    fn class(&self, name: &str) -> Arc<Class> {
        Arc::clone(self.repository.class(&Name::new(name)).expect("a class"))
    }

    fn add(&mut self, class: &str, values: Vec<(&str, Value)>) -> ObjectPath {
        let class = self.class(class);
        let mut builder = Instance::builder(&class);
        for (name, value) in values {
            builder = builder.set(name, value);
        }
        let instance = builder.build_named().expect("an instance");
        let path = instance.path.clone().expect("a path");
        self.instances
            .entry(class.name.clone())
            .or_default()
            .push(instance);
        path
    }
}

type Pairs = Arc<Vec<(ObjectPath, ObjectPath)>>;

fn row(
    class: &str,
    roles: (&str, &str),
    ends: (&[&str], &[&str]),
    pairs: Vec<(ObjectPath, ObjectPath)>,
    counters: &Arc<Counters>,
) -> Association {
    let names = |classes: &[&str]| classes.iter().map(Name::new).collect();
    let pairs: Pairs = Arc::new(pairs);
    let index = |from_first: bool| {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, (first, second)) in pairs.iter().enumerate() {
            let near = if from_first { first } else { second };
            index.entry(near.index_key()).or_default().push(at);
        }
        index
    };
    let forward = (index(true), Arc::clone(&pairs), Arc::clone(counters));
    let backward = (index(false), Arc::clone(&pairs), Arc::clone(counters));
    Association {
        class: Name::new(class),
        roles: (Name::new(roles.0), Name::new(roles.1)),
        end_classes: (names(ends.0), names(ends.1)),
        forward: Box::new(move |_, from| {
            let (index, pairs, counters) = &forward;
            counters.traversed.fetch_add(1, Ordering::SeqCst);
            let found = index.get(&from.index_key()).into_iter().flatten();
            Ok(found.map(|at| pairs[*at].1.clone()).collect())
        }),
        backward: Box::new(move |_, from| {
            let (index, pairs, counters) = &backward;
            counters.traversed.fetch_add(1, Ordering::SeqCst);
            let found = index.get(&from.index_key()).into_iter().flatten();
            Ok(found.map(|at| pairs[*at].0.clone()).collect())
        }),
        properties: None,
    }
}

/// `machines` machines, each with one current setting and `snapshots` more that form a chain.
pub fn world(machines: usize, snapshots: usize) -> World {
    let mut maker = Maker {
        repository: repository(),
        instances: HashMap::new(),
    };
    let host = maker.add(
        "T_Host",
        vec![
            ("CreationClassName", "T_Host".into()),
            ("Name", HOST.into()),
            ("Processors", 8_u16.into()),
        ],
    );
    for number in 0..3_u32 {
        maker.add("T_Slot", vec![("Number", number.into())]);
    }
    maker.add(
        "T_Service",
        vec![
            ("CreationClassName", "T_Service".into()),
            ("Name", "manager".into()),
        ],
    );
    let (mut hosted, mut current, mut of_machine, mut tree) = (vec![], vec![], vec![], vec![]);
    for number in 0..machines {
        let id = machine_id(number);
        let machine = maker.add(
            "T_Machine",
            vec![
                ("CreationClassName", "T_Machine".into()),
                ("Name", id.as_str().into()),
                ("ElementName", format!("vm{number}").into()),
                ("State", u16::try_from(number % 3).expect("small").into()),
                ("Memory", (512 + number as u64).into()),
                ("Notes", vec![format!("note {number}")].into()),
            ],
        );
        hosted.push((host.clone(), machine.clone()));
        let active = maker.add(
            "T_MachineSetting",
            vec![
                ("InstanceID", format!("Microsoft:{id}").into()),
                ("SystemName", id.as_str().into()),
                ("Kind", 3_u16.into()),
            ],
        );
        current.push((machine.clone(), active.clone()));
        maker.add(
            "T_DiskSetting",
            vec![
                ("InstanceID", format!(r"Microsoft:{id}\Disk\0").into()),
                ("ElementName", format!(r"\\server\share{number}").into()),
                ("ResourceType", 21_u16.into()),
                ("ReadOnly", (number % 2 == 0).into()),
            ],
        );
        let mut parent: Option<ObjectPath> = None;
        for snapshot in 0..snapshots {
            let setting = maker.add(
                "T_MachineSetting",
                vec![
                    (
                        "InstanceID",
                        format!("Microsoft:S{number:06}-{snapshot:04}").into(),
                    ),
                    ("SystemName", id.as_str().into()),
                    ("Kind", 5_u16.into()),
                    (
                        "Parent",
                        parent
                            .clone()
                            .map(|p| p.located(HOST, Namespace::new(NAMESPACE)).to_string())
                            .into(),
                    ),
                ],
            );
            of_machine.push((machine.clone(), setting.clone()));
            if let Some(parent) = parent.replace(setting.clone()) {
                tree.push((parent, setting));
            }
        }
    }
    let counters = Arc::new(Counters::default());
    let mut is_current = row(
        "T_CurrentSettingOf",
        ("Element", "Setting"),
        (&["T_Machine"], &["T_MachineSetting"]),
        current,
        &counters,
    );
    is_current.properties = Some(Box::new(|_, _| {
        vec![Property {
            name: Name::new("IsCurrent"),
            ty: Type::scalar(cim::CimType::Boolean),
            value: Value::Boolean(true),
            origin: None,
        }]
    }));
    let dependency = ("Antecedent", "Dependent");
    let rows = vec![
        row(
            "T_Hosted",
            dependency,
            (&["T_Host"], &["T_Machine"]),
            hosted,
            &counters,
        ),
        is_current,
        row(
            "T_SettingOf",
            ("Element", "Setting"),
            (&["T_Machine"], &["T_MachineSetting"]),
            of_machine,
            &counters,
        ),
        row(
            "T_ParentChild",
            dependency,
            (&["T_MachineSetting"], &["T_MachineSetting"]),
            tree,
            &counters,
        ),
    ];
    finished(maker, rows, counters)
}

fn finished(maker: Maker, rows: Vec<Association>, counters: Arc<Counters>) -> World {
    let mut index: HashMap<(Name, Name, String), Vec<usize>> = HashMap::new();
    for (class, instances) in &maker.instances {
        for (at, instance) in instances.iter().enumerate() {
            for property in &instance.properties {
                if let Some(text) = property.value.as_str() {
                    let key = (
                        class.clone(),
                        property.name.clone(),
                        indexed(&property.name, text),
                    );
                    index.entry(key).or_default().push(at);
                }
            }
        }
    }
    let fleet = Arc::new(Fleet {
        instances: maker.instances,
        index,
        counters,
        gate: Arc::new(Notify::new()),
        entered: Arc::new(Notify::new()),
        finished: Arc::new(AtomicUsize::new(0)),
        received: Mutex::new(None),
    });
    let namespace = Namespace::new(NAMESPACE);
    let mut broker = Broker::new(HOST);
    broker.add_namespace(namespace.clone(), maker.repository);
    broker.add_provider(&namespace, Arc::clone(&fleet) as Arc<dyn Provider>);
    broker.add_associations(&namespace, rows);
    broker.check().expect("a broker that fits together");
    World {
        broker: Arc::new(broker),
        fleet,
        namespace,
    }
}

/// The path in `text`, for brevity.
pub fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("a path")
}

pub fn machine_path(number: usize) -> ObjectPath {
    path(&format!(
        r#"T_Machine.CreationClassName="T_Machine",Name="{}""#,
        machine_id(number)
    ))
}

pub fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(Name::new).collect()
}
