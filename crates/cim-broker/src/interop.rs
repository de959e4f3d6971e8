//! The interop namespace: where a CIM server describes itself to clients that know nothing of it
//! yet (DMTF DSP1033): its namespaces, the one object manager, the protocols it speaks, the
//! profiles it conforms to.
//!
//! Everything here is fixed from the start of the server on: an instance read twice is the same
//! twice. Any authenticated account may read it, whatever its role.

use crate::access::{Context, Role};
use crate::broker::Broker;
use crate::provider::{Association, Equality, Provider};
use async_trait::async_trait;
use cim::mof::Repository;
use cim::{CimError, Class, Instance, InstanceError, Name, Namespace, ObjectPath};
use std::collections::HashMap;
use std::sync::Arc;

const MOF: &str = include_str!("../mof/interop.mof");

/// The name of the namespace. DSP1033 allows `root/interop` too; answering to both would give each
/// object two names.
pub const NAMESPACE: &str = "interop";

const SYSTEM: &str = "CIM_ComputerSystem";
const OBJECT_MANAGER: &str = "CIM_ObjectManager";
const MECHANISM: &str = "CIM_ObjectManagerCommunicationMechanism";
const CIMXML_MECHANISM: &str = "CIM_CIMXMLCommunicationMechanism";
const CIM_NAMESPACE: &str = "CIM_Namespace";
const PROFILE: &str = "CIM_RegisteredProfile";

/// What answers here, as it wants to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The name, `ElementName` of the object manager.
    pub name: String,
    /// The version: one word that begins with a digit.
    pub version: String,
}

/// A protocol, as CIM numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// CIM operations over HTTP.
    CimXml,
    /// DMTF Web Services for Management.
    WsManagement,
    /// WMI's remoting over DCOM.
    Dcom,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// HTTP Basic.
    Basic,
    /// A client certificate in TLS.
    Certificate,
    /// NTLM, bare or within SPNEGO.
    Ntlm,
}

/// One protocol that the server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommunicationMechanism {
    /// Unique among the server's, and the same at each start: `cimxml`, `cimxml-tls`.
    pub name: String,
    /// Which protocol.
    pub protocol: Protocol,
    /// How its clients prove who they are.
    pub authentication: Vec<Authentication>,
}

/// Why the interop namespace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InteropError {
    /// Its own classes do not compile.
    #[error("the classes of the interop namespace: {0}")]
    Classes(#[from] cim::mof::MofError),
    /// A class that the instances need is not there.
    #[error("the interop namespace has no class {0}")]
    NoClass(Name),
    /// An instance does not fit its class.
    #[error("an instance of the interop namespace: {0}")]
    Instance(#[from] InstanceError),
}

/// Adds the interop namespace, describing the namespaces that `broker` has by now: call it last.
pub fn add_interop(
    broker: &mut Broker,
    product: &Product,
    mechanisms: &[CommunicationMechanism],
) -> Result<(), InteropError> {
    let repository = Repository::compile(&[("interop.mof", MOF)])?;
    let namespace = Namespace::new(NAMESPACE);
    let mut namespaces = vec![namespace.clone()];
    namespaces.extend(broker.namespaces());
    let mut instances = Instances {
        repository: &repository,
        host: broker.host_name().to_owned(),
        made: HashMap::new(),
    };
    instances.add_system()?;
    instances.add_object_manager(product)?;
    for described in &namespaces {
        instances.add_namespace(product, described)?;
    }
    for mechanism in mechanisms {
        instances.add_mechanism(mechanism)?;
    }
    instances.add_profile()?;
    let made = Arc::new(instances.made);
    broker.add_namespace(namespace.clone(), repository);
    let provider = SelfDescription {
        instances: Arc::clone(&made),
    };
    broker.add_provider(&namespace, Arc::new(provider));
    broker.add_associations(&namespace, associations(&made));
    Ok(())
}

type ByClass = HashMap<Name, Vec<Instance>>;

/// Makes the instances.
struct Instances<'a> {
    repository: &'a Repository,
    host: String,
    made: ByClass,
}

impl Instances<'_> {
    fn class(&self, name: &str) -> Result<&Class, InteropError> {
        let name = Name::new(name);
        match self.repository.class(&name) {
            Some(class) => Ok(class),
            None => Err(InteropError::NoClass(name)),
        }
    }

    fn add(&mut self, instance: Instance) {
        self.made
            .entry(instance.class.clone())
            .or_default()
            .push(instance);
    }

    fn add_system(&mut self) -> Result<(), InteropError> {
        let system = Instance::builder(self.class(SYSTEM)?)
            .set("CreationClassName", SYSTEM)
            .set("Name", self.host.as_str())
            .set("NameFormat", "Other")
            .set("ElementName", self.host.as_str())
            .set("Caption", "The computer that the object manager runs on")
            .set("OperationalStatus", [2_u16])
            .set("EnabledState", 2_u16)
            .build_named()?;
        self.add(system);
        Ok(())
    }

    fn add_object_manager(&mut self, product: &Product) -> Result<(), InteropError> {
        let manager = Instance::builder(self.class(OBJECT_MANAGER)?)
            .set("SystemCreationClassName", SYSTEM)
            .set("SystemName", self.host.as_str())
            .set("CreationClassName", OBJECT_MANAGER)
            .set("Name", product.name.as_str())
            .set("ElementName", product.name.as_str())
            .set("Caption", "CIM object manager")
            // Clients read the version from the end of this text.
            .set(
                "Description",
                format!(
                    "{} object manager, version {}",
                    product.name, product.version
                ),
            )
            .set("Version", product.version.as_str())
            .set("GatherStatisticalData", false)
            .set("OperationalStatus", [2_u16])
            .set("StatusDescriptions", ["OK"])
            .set("HealthState", 5_u16)
            .set("EnabledState", 2_u16)
            .set("Started", true)
            .build_named()?;
        self.add(manager);
        Ok(())
    }

    fn add_namespace(
        &mut self,
        product: &Product,
        namespace: &Namespace,
    ) -> Result<(), InteropError> {
        let segments: Vec<&str> = namespace.segments().collect();
        let described = Instance::builder(self.class(CIM_NAMESPACE)?)
            .set("SystemCreationClassName", SYSTEM)
            .set("SystemName", self.host.as_str())
            .set("ObjectManagerCreationClassName", OBJECT_MANAGER)
            .set("ObjectManagerName", product.name.as_str())
            .set("CreationClassName", CIM_NAMESPACE)
            .set("Name", segments.join("/"))
            .set("ElementName", segments.join("/"))
            .set("ClassInfo", 0_u16)
            .set("ClassType", 2_u16)
            .set(
                "DescriptionOfClassType",
                "Classes derived from the CIM schema",
            )
            .build_named()?;
        self.add(described);
        Ok(())
    }

    fn add_mechanism(&mut self, mechanism: &CommunicationMechanism) -> Result<(), InteropError> {
        let class_name = match mechanism.protocol {
            Protocol::CimXml => CIMXML_MECHANISM,
            Protocol::WsManagement | Protocol::Dcom => MECHANISM,
        };
        let (number, other) = match mechanism.protocol {
            Protocol::CimXml => (2_u16, None),
            Protocol::WsManagement => (4, None),
            Protocol::Dcom => (1, Some("WMI over DCOM")),
        };
        let (authentication, described): (Vec<u16>, Vec<&str>) = mechanism
            .authentication
            .iter()
            .map(|way| match way {
                Authentication::Basic => (3, "Basic"),
                Authentication::Certificate => (1, "TLS client certificate"),
                Authentication::Ntlm => (1, "NTLM"),
            })
            .unzip();
        let builder = Instance::builder(self.class(class_name)?)
            .set("SystemCreationClassName", SYSTEM)
            .set("SystemName", self.host.as_str())
            .set("CreationClassName", class_name)
            .set("Name", mechanism.name.as_str())
            .set("ElementName", mechanism.name.as_str())
            .set("CommunicationMechanism", number)
            .set("OtherCommunicationMechanismDescription", other)
            // Basic read, association traversal, query execution; all else is refused.
            .set("FunctionalProfilesSupported", [2_u16, 6, 7])
            .set(
                "FunctionalProfileDescriptions",
                ["Basic Read", "Association Traversal", "Query Execution"],
            )
            .set("MultipleOperationsSupported", false)
            .set("AuthenticationMechanismsSupported", authentication)
            .set("AuthenticationMechanismDescriptions", described)
            .set("OperationalStatus", [2_u16])
            .set("EnabledState", 2_u16);
        let builder = match mechanism.protocol {
            Protocol::CimXml => builder
                .set("Version", "1.0")
                .set("CIMXMLProtocolVersion", 1_u16)
                .set("CIMValidated", false),
            Protocol::WsManagement | Protocol::Dcom => builder,
        };
        let instance = builder.build_named()?;
        self.add(instance);
        Ok(())
    }

    /// The one profile that this namespace itself follows.
    fn add_profile(&mut self) -> Result<(), InteropError> {
        let profile = Instance::builder(self.class(PROFILE)?)
            .set("InstanceID", "DMTF:Profile Registration:1.0.0")
            .set("ElementName", "Profile Registration")
            .set("Caption", "DMTF Profile Registration (DSP1033)")
            .set("RegisteredOrganization", 2_u16)
            .set("RegisteredName", "Profile Registration")
            .set("RegisteredVersion", "1.0.0")
            .set("AdvertiseTypes", [2_u16])
            .set("AdvertiseTypeDescriptions", ["Not Advertised"])
            .build_named()?;
        self.add(profile);
        Ok(())
    }
}

/// Answers from the instances that were made at the start.
struct SelfDescription {
    instances: Arc<ByClass>,
}

#[async_trait]
impl Provider for SelfDescription {
    fn classes(&self) -> Vec<Name> {
        [
            SYSTEM,
            OBJECT_MANAGER,
            CIM_NAMESPACE,
            MECHANISM,
            CIMXML_MECHANISM,
            PROFILE,
        ]
        .into_iter()
        .map(Name::new)
        .collect()
    }

    fn read_role(&self, _class: &Name) -> Role {
        Role::None
    }

    fn enumerate(
        &self,
        _context: &Context,
        class: &Name,
        _filter: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        Ok(self.instances.get(class).cloned().unwrap_or_default())
    }

    fn required_role(&self, _class: &Name, _method: &Name) -> Role {
        Role::Administrator
    }
}

/// Which objects stand at one end of a row: all of these classes.
fn paths_of(made: &ByClass, classes: &[&str]) -> Vec<ObjectPath> {
    classes
        .iter()
        .filter_map(|class| made.get(&Name::new(class)))
        .flatten()
        .filter_map(|instance| instance.path.clone())
        .collect()
}

/// A row that links every object at one end with every one at the other: one of the ends has a
/// single object in all rows here.
fn complete_row(
    made: &ByClass,
    class: &str,
    roles: (&str, &str),
    first: &[&str],
    second: &[&str],
) -> Association {
    let names = |classes: &[&str]| classes.iter().map(Name::new).collect();
    let (first_paths, second_paths) = (paths_of(made, first), paths_of(made, second));
    Association {
        class: Name::new(class),
        roles: (Name::new(roles.0), Name::new(roles.1)),
        end_classes: (names(first), names(second)),
        forward: Box::new(move |_, _| Ok(second_paths.clone())),
        backward: Box::new(move |_, _| Ok(first_paths.clone())),
        properties: None,
    }
}

fn associations(made: &ByClass) -> Vec<Association> {
    let dependency = ("Antecedent", "Dependent");
    let mechanisms = [MECHANISM, CIMXML_MECHANISM];
    vec![
        complete_row(
            made,
            "CIM_HostedService",
            dependency,
            &[SYSTEM],
            &[OBJECT_MANAGER],
        ),
        complete_row(
            made,
            "CIM_HostedAccessPoint",
            dependency,
            &[SYSTEM],
            &mechanisms,
        ),
        complete_row(
            made,
            "CIM_CommMechanismForManager",
            dependency,
            &[OBJECT_MANAGER],
            &mechanisms,
        ),
        complete_row(
            made,
            "CIM_NamespaceInManager",
            dependency,
            &[OBJECT_MANAGER],
            &[CIM_NAMESPACE],
        ),
        // The registration of profiles is itself done as a profile says: its central instance is
        // the profile that describes it.
        complete_row(
            made,
            "CIM_ElementConformsToProfile",
            ("ConformantStandard", "ManagedElement"),
            &[PROFILE],
            &[PROFILE],
        ),
    ]
}
