//! The service as client commands see it: a connection, a namespace, and the few calls that they
//! are made of.

use crate::cli::Global;
use crate::commands::account::password;
use crate::commands::text;
use crate::failure::{Failure, chain};
use crate::serve;
use cim::{Class, Instance, Name, Namespace, ObjectPath, Property, Value};
use cim_broker::AssociatorFilter;
use std::time::Duration;
use wire_cimxml::client::{Answer, QueryAnswer, Trust};
use wire_cimxml::{Client, ClientError};

/// How long one call may take. ApplyVirtualSystemSnapshot and the like answer when they are done.
const CALL: Duration = Duration::from_secs(300);

/// A connection to the service.
pub struct Service {
    client: Client,
    namespace: Namespace,
}

/// What a method answered.
pub struct Reply {
    /// The method.
    method: String,
    /// Its return value: 0, 4096 or one of Hyper-V's error codes.
    pub code: u32,
    /// Its output parameters.
    pub out: Vec<Property>,
    /// What an error code means in this case, in the service's words.
    explanation: Option<String>,
}

impl Service {
    /// Connects to the local socket, or to `--url`.
    pub async fn connect(global: &Global) -> Result<Self, Failure> {
        let client = match (&global.url, &global.user, &global.password_file) {
            (Some(url), Some(user), Some(file)) => {
                let trust = match &global.ca_file {
                    Some(file) => trust(file)?,
                    None => Trust::Nobody,
                };
                Client::connect(url, user, &password(file)?, trust)
                    .await
                    .map_err(|error| {
                        failed(&error).remedy(
                            "Check --url, and for https give --ca-file with the certificate.",
                        )
                    })?
            }
            _ => {
                let socket = serve::local_socket(&global.data_dir);
                Client::connect_unix(&socket).await.map_err(|error| {
                    Failure::new(chain(&error)).remedy(format!(
                        "Start it with `rootvirt serve --data-dir {}`, or give --data-dir or --url.",
                        global.data_dir.display()
                    ))
                })?
            }
        };
        Ok(Service {
            client: client.with_timeout(CALL),
            namespace: Namespace::new(&global.namespace),
        })
    }

    /// Instances by WQL.
    pub async fn query(&self, wql: &str) -> Result<Vec<Instance>, Failure> {
        let answer = self.client.exec_query(&self.namespace, wql).await;
        match answer.map_err(|error| failed(&error))? {
            QueryAnswer::Instances(instances) => Ok(instances),
            QueryAnswer::Classes(_) => Err(Failure::usage(
                "The query asks for classes; `rootvirt class` prints them.",
            )),
        }
    }

    /// One instance.
    pub async fn get(&self, path: &ObjectPath) -> Result<Instance, Failure> {
        self.client
            .get_instance(&self.namespace, path, None)
            .await
            .map_err(|error| failed(&error))
    }

    /// One class with everything it inherits.
    pub async fn class(&self, name: &str) -> Result<Class, Failure> {
        self.client
            .get_class(&self.namespace, &Name::new(name))
            .await
            .map_err(|error| failed(&error))
    }

    /// Associators of `path` through `assoc_class`.
    pub async fn associators(
        &self,
        path: &ObjectPath,
        assoc_class: &str,
        result_class: &str,
    ) -> Result<Vec<Instance>, Failure> {
        let filter = AssociatorFilter {
            assoc_class: Some(Name::new(assoc_class)),
            result_class: Some(Name::new(result_class)),
            ..AssociatorFilter::default()
        };
        self.client
            .associators(&self.namespace, path, &filter, None)
            .await
            .map_err(|error| failed(&error))
    }

    /// The resource settings of a configuration, of every class.
    pub async fn resources(&self, settings: &ObjectPath) -> Result<Vec<Instance>, Failure> {
        self.associators(
            settings,
            "Msvm_VirtualSystemSettingDataComponent",
            "CIM_ResourceAllocationSettingData",
        )
        .await
    }

    /// The Default template of a resource sub type, as a client copies it.
    pub async fn default_template(&self, sub_type: &str) -> Result<Instance, Failure> {
        let wql = format!(
            "SELECT * FROM CIM_ResourceAllocationSettingData WHERE ResourceSubType = {} AND \
             InstanceID LIKE '%\\\\Default'",
            text::wql_string(sub_type)
        );
        self.query(&wql).await?.into_iter().next().ok_or_else(|| {
            Failure::new(format!(
                "The service has no default template for {sub_type:?}."
            ))
        })
    }

    /// An instance of `class` with only these properties, as clients send it.
    pub async fn new_instance(
        &self,
        class: &str,
        set: &[(&str, Value)],
    ) -> Result<Instance, Failure> {
        let class = self.class(class).await?;
        let mut properties = Vec::with_capacity(set.len());
        for (name, value) in set {
            let declared = class.property(name).ok_or_else(|| {
                Failure::new(format!(
                    "The service's {} has no property {name}.",
                    class.name
                ))
            })?;
            properties.push(Property {
                name: declared.name.clone(),
                ty: declared.ty,
                value: value.clone(),
                origin: None,
            });
        }
        Ok(Instance {
            class: class.name,
            path: None,
            properties,
        })
    }

    /// Calls a method of `path`.
    pub async fn invoke(
        &self,
        path: &ObjectPath,
        method: &str,
        arguments: Vec<(&str, Value)>,
    ) -> Result<Reply, Failure> {
        let arguments = arguments
            .into_iter()
            .map(|(name, value)| (Name::new(name), value))
            .collect();
        let answer: Answer = self
            .client
            .invoke_method(&self.namespace, path, &Name::new(method), arguments)
            .await
            .map_err(|error| failed(&error))?;
        let code = answer.return_value.as_u32().ok_or_else(|| {
            Failure::new(format!(
                "{method} answered no number: {:?}.",
                answer.return_value
            ))
        })?;
        Ok(Reply {
            method: method.to_owned(),
            code,
            out: answer.out,
            explanation: answer.explanation,
        })
    }

    /// Calls a method of the one `Msvm_VirtualSystemManagementService`.
    pub async fn invoke_service(
        &self,
        method: &str,
        arguments: Vec<(&str, Value)>,
    ) -> Result<Reply, Failure> {
        self.invoke_only("Msvm_VirtualSystemManagementService", method, arguments)
            .await
    }

    /// Calls a method of the one `Rootvirt_SnapshotService`.
    pub async fn invoke_snapshot_service(
        &self,
        method: &str,
        arguments: Vec<(&str, Value)>,
    ) -> Result<Reply, Failure> {
        self.invoke_only("Rootvirt_SnapshotService", method, arguments)
            .await
    }

    /// Calls a method of the one instance of `class`.
    async fn invoke_only(
        &self,
        class: &str,
        method: &str,
        arguments: Vec<(&str, Value)>,
    ) -> Result<Reply, Failure> {
        let class = Name::new(class);
        let paths = self
            .client
            .enumerate_instance_names(&self.namespace, &class)
            .await
            .map_err(|error| failed(&error))?;
        let path = paths.first().ok_or_else(|| {
            Failure::new("The account has no rights on the virtual machines.")
                .remedy("Use an account with the role viewer, operator or administrator.")
        })?;
        self.invoke(path, method, arguments).await
    }

    /// What this service measured of a job and says of its failure.
    pub async fn job_statistics(&self, id: &str) -> Option<Instance> {
        let id = text::wql_string(id);
        let wql = format!("SELECT * FROM Rootvirt_JobStatistics WHERE InstanceID = {id}");
        self.query(&wql).await.ok()?.into_iter().next()
    }

    /// What this service measured of a machine's snapshots, in any order.
    pub async fn snapshot_statistics(&self, machine: &str) -> Result<Vec<Instance>, Failure> {
        let machine = text::wql_string(machine);
        self.query(&format!(
            "SELECT * FROM Rootvirt_SnapshotStatistics WHERE SystemName = {machine}"
        ))
        .await
    }
}

impl Reply {
    /// For methods that answer 0 when they are done.
    pub fn expect_done(&self, method: &str) -> Result<(), Failure> {
        debug_assert_eq!(self.method, method);
        if self.code == 0 {
            Ok(())
        } else {
            Err(self.failure())
        }
    }

    /// What a return code means: in the service's words, else as Hyper-V documents it.
    pub fn failure(&self) -> Failure {
        if let Some(explanation) = &self.explanation {
            return Failure::new(format!("{}: {explanation} ({})", self.method, self.code));
        }
        let meaning = match self.code {
            32768 => "it failed",
            32769 => "access is denied",
            32770 => "this is not supported",
            32772 => "it timed out",
            32773 => "a parameter is invalid",
            32774 => "the virtual machine is in use by another operation",
            32775 => "the virtual machine's state does not allow it",
            32776 => "a parameter has an incorrect data type",
            32777 => "the virtual machine is not available",
            32778 => "there is not enough memory",
            32779 => "a file was not found",
            _ => "it failed for a reason that the service does not name",
        };
        Failure::new(format!("{}: {meaning} ({})", self.method, self.code))
    }

    /// An output parameter that is a reference.
    pub fn reference(&self, name: &str) -> Result<ObjectPath, Failure> {
        self.find(name)
            .and_then(reference_of)
            .ok_or_else(|| self.missing(name))
    }

    /// An output parameter that is an embedded instance.
    pub fn instance(&self, name: &str) -> Result<&Instance, Failure> {
        self.find(name)
            .and_then(Value::as_instance)
            .ok_or_else(|| self.missing(name))
    }

    /// The first of an output parameter that is an array of references.
    pub fn first_reference(&self, name: &str) -> Result<ObjectPath, Failure> {
        self.find(name)
            .and_then(Value::as_array)
            .and_then(<[Value]>::first)
            .and_then(reference_of)
            .ok_or_else(|| self.missing(name))
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.out
            .iter()
            .find(|out| out.name.is(name))
            .map(|out| &out.value)
    }

    fn missing(&self, name: &str) -> Failure {
        Failure::new(format!(
            "{} answered {} without {name}.",
            self.method, self.code
        ))
    }
}

fn reference_of(value: &Value) -> Option<ObjectPath> {
    match value {
        Value::Reference(path) => Some((**path).clone()),
        Value::String(text) => ObjectPath::parse(text).ok(),
        _ => None,
    }
}

fn trust(file: &std::path::Path) -> Result<Trust, Failure> {
    // One certificate is taken as the server's own; several are authorities.
    Trust::certificate_file(file)
        .or_else(|_| Trust::authorities_file(file))
        .map_err(|error| Failure::usage(format!("--ca-file {}: {error}", file.display())))
}

fn failed(error: &ClientError) -> Failure {
    Failure::new(chain(error))
}
