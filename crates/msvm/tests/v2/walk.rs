//! Every object of both namespaces looked at: as declared, found again by its path, and the same
//! objects on both sides.

use crate::fixture::{Fixture, HOST, changed, path, reference, text};
use crate::site::Site;
use cim::{CimType, Instance, Name, Namespace, Value};

/// A machine made by V1's calls, with a disk and a connected network port.
async fn furnished(site: &mut Site) -> Instance {
    site.namespace = Namespace::new(msvm::NAMESPACE);
    let machine = site.define("furnished").await;
    let memory = site.resources(&site.settings(&machine), "Msvm_MemorySettingData");
    let size = changed(&memory[0], &[("VirtualQuantity", 64u64.into())]);
    let arguments = [
        ("ComputerSystem", reference(&machine)),
        ("ResourceSettingData", Value::Array(vec![size])),
    ];
    let answer = site.call("ModifyVirtualSystemResources", &arguments).await;
    assert_eq!(answer.code, 0);
    site.add_ide_disk(&machine, "disk.raw").await;
    let port = site.template(
        "Msvm_SyntheticEthernetPortSettingData",
        "Microsoft Synthetic Ethernet Port",
    );
    let switch = Value::from(["a switch port"]);
    site.add(&machine, &port, &[("Connection", switch)]).await;
    site.namespace = Namespace::new(msvm::NAMESPACE_V2);
    site.get(&cim::ObjectPath::of_instance(
        "Msvm_ComputerSystem",
        [
            ("CreationClassName", "Msvm_ComputerSystem"),
            ("Name", text(&machine, "Name")),
        ],
    ))
}

fn concrete(site: &Fixture, associations: bool) -> Vec<Name> {
    let schema = site.broker.schema(&site.namespace).expect("the schema");
    schema
        .classes()
        .filter(|class| !class.is_abstract() && class.is_association() == associations)
        .map(|class| class.name.clone())
        .collect()
}

/// Every instance of the namespace; checked.
fn instances(site: &Fixture) -> Vec<Instance> {
    let mut all = Vec::new();
    for name in concrete(site, false) {
        let schema = site.broker.schema(&site.namespace).expect("the schema");
        let class = schema.class(&name).expect("a class").clone();
        for instance in site.enumerate(name.as_str()) {
            if instance.class != class.name {
                continue;
            }
            let ours: Vec<_> = instance.properties.iter().map(|p| &p.name).collect();
            let declared: Vec<_> = class.properties.iter().map(|p| &p.name).collect();
            assert_eq!(ours, declared, "properties of {name}");
            for property in &instance.properties {
                assert!(
                    property.value.matches_type(property.ty),
                    "{name}.{}: {:?}",
                    property.name,
                    property.value
                );
            }
            let path = path(&instance);
            assert_eq!(path.host.as_deref(), Some(HOST));
            assert_eq!(site.get(path).path, instance.path, "{path}");
            all.push(instance);
        }
    }
    all
}

fn links(site: &Fixture) -> usize {
    let mut links = 0;
    for class in concrete(site, true) {
        for link in site.enumerate(class.as_str()) {
            for property in &link.properties {
                if property.ty.kind == CimType::Reference {
                    site.get(property.value.as_reference().expect("an end"));
                }
            }
            links += 1;
        }
    }
    links
}

#[tokio::test]
async fn every_object_is_as_declared_and_in_both_namespaces() {
    let mut site = Site::new().await;
    let system = furnished(&mut site).await;
    site.snapshot(&system).await;
    let answer = site.request_state(&system, 2).await;
    assert_eq!(answer.code, 4096);
    site.done(&answer.path("Job")).await;

    let v2 = instances(&site);
    assert!(v2.len() > 100, "{} instances", v2.len());
    assert!(links(&site) > 100);
    let v1 = site.in_v1(instances);
    // What is one object has one identity on both sides.
    let ids = |of: &[Instance], class: &str| -> Vec<String> {
        let of = of.iter().filter(|i| i.class.is(class));
        let id = |i: &Instance| {
            let id = i.str("InstanceID").or_else(|| i.str("DeviceID"));
            id.or_else(|| i.str("Name")).unwrap_or_default().to_owned()
        };
        let mut ids: Vec<String> = of.map(id).collect();
        ids.sort();
        ids
    };
    for class in [
        "Msvm_ComputerSystem",
        "Msvm_VirtualSystemSettingData",
        "Msvm_MemorySettingData",
        "Msvm_ProcessorSettingData",
        "Msvm_SyntheticEthernetPortSettingData",
        "Msvm_ConcreteJob",
        "Msvm_DiskDrive",
        "Msvm_Keyboard",
        "Msvm_LogicalDisk",
        "Msvm_Processor",
    ] {
        let (one, two) = (ids(&v1, class), ids(&v2, class));
        assert!(!one.is_empty(), "{class}");
        assert_eq!(one, two, "{class}");
    }
    // What V1 shows in one class of resources stands in several in V2.
    let mut generic = ids(&v1, "Msvm_ResourceAllocationSettingData");
    generic.sort();
    let mut split: Vec<String> = [
        "Msvm_ResourceAllocationSettingData",
        "Msvm_StorageAllocationSettingData",
        "Msvm_SyntheticDisplayControllerSettingData",
    ]
    .iter()
    .flat_map(|class| ids(&v2, class))
    .collect();
    split.sort();
    assert_eq!(generic, split);
    let connections = ids(&v2, "Msvm_EthernetPortAllocationSettingData");
    // The active one, the snapshot's and the four templates.
    assert_eq!(connections.len(), 6);
}
