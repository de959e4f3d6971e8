//! The interop namespace, read the way a client that knows nothing of the server reads it.

use crate::fleet::{account, administrator, world};
use cim::{CimStatus, Instance, KeyValue, Name, Namespace, Value};
use cim_broker::interop::{
    Authentication, CommunicationMechanism, NAMESPACE, Product, Protocol, add_interop,
};
use cim_broker::{AssociatorFilter, Broker, ReferenceFilter, Role};

fn broker() -> Broker {
    let mut broker = Broker::new("HV1");
    let classes = crate::fleet::repository();
    broker.add_namespace(Namespace::new(r"root\fleet"), classes.clone());
    broker.add_namespace(Namespace::new(r"root\fleet\v2"), classes);
    let mechanism =
        |name: &str, protocol, authentication: &[Authentication]| CommunicationMechanism {
            name: name.to_owned(),
            protocol,
            authentication: authentication.to_vec(),
        };
    add_interop(
        &mut broker,
        &Product {
            name: "example".to_owned(),
            version: "1.2.3".to_owned(),
        },
        &[
            mechanism("cimxml", Protocol::CimXml, &[Authentication::Basic]),
            mechanism(
                "wsman",
                Protocol::WsManagement,
                &[Authentication::Basic, Authentication::Ntlm],
            ),
            mechanism("dcom", Protocol::Dcom, &[Authentication::Ntlm]),
        ],
    )
    .unwrap();
    broker.check().unwrap();
    broker
}

fn interop() -> Namespace {
    Namespace::new(NAMESPACE)
}

fn all(broker: &Broker, class: &str) -> Vec<Instance> {
    broker
        .enumerate_instances(&administrator(), &interop(), &Name::new(class), true, None)
        .unwrap()
}

#[test]
fn only_one_name_leads_to_the_namespace() {
    let broker = broker();
    for other in ["root/interop", "root/PG_InterOp"] {
        let error = broker
            .enumerate_instance_names(
                &administrator(),
                &Namespace::new(other),
                &Name::new("CIM_Namespace"),
            )
            .unwrap_err();
        assert_eq!(error.status, CimStatus::InvalidNamespace);
    }
}

#[test]
fn every_namespace_is_described_with_slashes() {
    let names: Vec<String> = all(&broker(), "CIM_Namespace")
        .iter()
        .map(|i| i.str("Name").unwrap().to_owned())
        .collect();
    assert_eq!(names, ["interop", "root/fleet", "root/fleet/v2"]);
}

#[test]
fn there_is_one_object_manager_and_its_version_can_be_read() {
    let managers = all(&broker(), "CIM_ObjectManager");
    let [manager] = managers.as_slice() else {
        panic!("{}", managers.len());
    };
    assert_eq!(manager.str("ElementName"), Some("example"));
    let (_, version) = manager
        .str("Description")
        .unwrap()
        .rsplit_once(" version ")
        .unwrap();
    assert_eq!(version, "1.2.3");
}

#[test]
fn protocols_and_profiles_are_told() {
    let broker = broker();
    let mechanisms = all(&broker, "CIM_ObjectManagerCommunicationMechanism");
    let numbers: Vec<&Value> = mechanisms
        .iter()
        .map(|m| m.value("CommunicationMechanism"))
        .collect();
    assert_eq!(
        numbers,
        [&Value::Uint16(4), &Value::Uint16(1), &Value::Uint16(2)]
    );
    assert_eq!(all(&broker, "CIM_CIMXMLCommunicationMechanism").len(), 1);
    let profiles = all(&broker, "CIM_RegisteredProfile");
    assert_eq!(
        profiles[0].str("RegisteredName"),
        Some("Profile Registration")
    );
    assert!(all(&broker, "CIM_ReferencedProfile").is_empty());
    let class = broker
        .get_class(
            &administrator(),
            &interop(),
            &Name::new("CIM_RegisteredProfile"),
            &cim_broker::ClassOptions {
                include_qualifiers: true,
                ..Default::default()
            },
        )
        .unwrap();
    let organization = class.property("RegisteredOrganization").unwrap();
    assert!(organization.qualifier("Values").is_some());
}

#[test]
fn the_central_instance_of_a_profile_is_found() {
    let broker = broker();
    let profile = all(&broker, "CIM_RegisteredProfile")
        .remove(0)
        .path
        .unwrap();
    let names = |filter: &AssociatorFilter| {
        broker
            .associator_names(&administrator(), &interop(), &profile, filter)
            .unwrap()
    };
    let central = names(&AssociatorFilter {
        assoc_class: Some("CIM_ElementConformsToProfile".into()),
        result_role: Some("ManagedElement".into()),
        ..AssociatorFilter::default()
    });
    assert_eq!(central, std::slice::from_ref(&profile));
    // The profile conforms to itself: one link, however it is asked for.
    assert_eq!(names(&AssociatorFilter::default()).len(), 1);
    let references = broker
        .reference_names(
            &administrator(),
            &interop(),
            &profile,
            &ReferenceFilter::default(),
        )
        .unwrap();
    assert_eq!(references.len(), 1);
}

#[test]
fn associations_link_what_there_is() {
    let broker = broker();
    assert_eq!(all(&broker, "CIM_NamespaceInManager").len(), 3);
    assert_eq!(all(&broker, "CIM_CommMechanismForManager").len(), 3);
    assert_eq!(all(&broker, "CIM_HostedService").len(), 1);
    assert_eq!(all(&broker, "CIM_HostedAccessPoint").len(), 3);
    assert_eq!(all(&broker, "CIM_Dependency").len(), 10);
}

#[test]
fn everything_reads_back_equal_and_keys_match() {
    let broker = broker();
    for class in [
        "CIM_ManagedElement",
        "CIM_Dependency",
        "CIM_ElementConformsToProfile",
    ] {
        for instance in all(&broker, class) {
            let path = instance.path.clone().unwrap();
            assert_eq!(path.namespace, Some(interop()));
            let got = broker
                .get_instance(&administrator(), &interop(), &path, None)
                .unwrap();
            assert_eq!(got, instance);
            let cim::Keys::Named(keys) = &path.keys else {
                panic!("{path}");
            };
            for (name, value) in keys {
                let key = KeyValue::from_value(instance.value(name.as_str())).unwrap();
                assert_eq!(&key, value, "{path}");
            }
        }
    }
}

#[test]
fn accounts_without_rights_may_read_it() {
    let mut broker = broker();
    let seen = broker
        .enumerate_instance_names(
            &account("guest", Role::None),
            &interop(),
            &Name::new("CIM_ManagedElement"),
        )
        .unwrap();
    assert_eq!(seen.len(), 1 + 1 + 3 + 3 + 1);
    let world = world(1, 0);
    broker.add_namespace(world.namespace, cim::mof::Repository::default());
}
