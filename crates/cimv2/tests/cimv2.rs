//! The namespace through the broker, as clients ask.

use cim::{Instance, Namespace};
use cim_broker::{Broker, Context, QueryResult, Role};

fn broker() -> Broker {
    let mut broker = Broker::new("HOST1");
    let processors = |machine: Option<&str>| {
        let machine = machine.unwrap_or("web01").to_owned();
        vec![cimv2::VirtualProcessor {
            machine,
            number: 0,
            total: 70,
            guest: Some(50),
        }]
    };
    cimv2::register(&mut broker, "HOST1", std::sync::Arc::new(processors)).expect("the namespace");
    broker.check().expect("rows and classes fit");
    broker
}

fn ask(broker: &Broker, role: Role, query: &str) -> Vec<Instance> {
    let caller = Context {
        user: "someone".to_owned(),
        role,
        peer: "127.0.0.1".to_owned(),
    };
    match broker.query(&caller, &Namespace::new("root/cimv2"), "WQL", query) {
        Ok(QueryResult::Instances(instances)) => instances,
        other => panic!("{query}: {other:?}"),
    }
}

fn one(query: &str) -> Instance {
    let mut found = ask(&broker(), Role::Viewer, query);
    assert_eq!(found.len(), 1, "{query}");
    found.remove(0)
}

/// What clients conclude from the version is whether the host has Hyper-V's first namespace (6.0 to
/// 6.3) and the second one (6.2 and later): this host has both.
#[test]
fn the_version_says_which_namespaces_there_are() {
    let system = one("SELECT * FROM Win32_OperatingSystem ");
    let version = system.str("Version").expect("a version");
    let parts: Vec<u32> = version
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    assert!(matches!(parts[..], [6, 2..=3, _]), "{version}");
    assert_eq!(system.str("BuildNumber"), version.rsplit('.').next());
    assert_eq!(system.str("CSName"), Some("HOST1"));
}

#[test]
fn memory_and_processors_are_those_of_this_computer() {
    let system = one(
        "SELECT NumberOfLogicalProcessors, TotalPhysicalMemory FROM Win32_ComputerSystem WHERE Name = 'host1'",
    );
    let threads = std::thread::available_parallelism()
        .expect("processors")
        .get();
    let told = system.value("NumberOfLogicalProcessors").as_u64();
    assert!(told >= u64::try_from(threads).ok());
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("memory");
    let kib: u64 = meminfo
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a size");
    assert_eq!(
        system.value("TotalPhysicalMemory").as_u64(),
        Some(kib * 1024)
    );
}

/// How libvirt's driver asks for processors.
#[test]
fn processors_are_reached_from_the_computer() {
    let query = "ASSOCIATORS OF {Win32_ComputerSystem.Name='HOST1'} WHERE \
                 AssocClass = Win32_ComputerSystemProcessor ResultClass = Win32_Processor";
    let reached = ask(&broker(), Role::Viewer, query);
    let all = ask(&broker(), Role::Viewer, "SELECT * FROM Win32_Processor");
    assert!(!reached.is_empty());
    let names = |found: &[Instance]| -> Vec<Option<String>> {
        found
            .iter()
            .map(|one| one.str("DeviceID").map(str::to_owned))
            .collect()
    };
    assert_eq!(names(&reached), names(&all));
}

#[test]
fn the_product_has_an_identifier() {
    let product = one("SELECT * FROM Win32_ComputerSystemProduct");
    // A computer without firmware and without /etc/machine-id has none to tell.
    if let Some(uuid) = product.str("UUID") {
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
    }
}

#[test]
fn disks_have_a_size_and_space() {
    for disk in ask(
        &broker(),
        Role::Viewer,
        "SELECT * FROM Win32_LogicalDisk WHERE DriveType = 3",
    ) {
        let number = |name: &str| disk.value(name).as_u64().expect(name);
        assert!(number("FreeSpace") <= number("Size"), "{disk:?}");
    }
}

/// How libvirt's driver asks.
#[test]
fn virtual_processors_are_counted() {
    let class = "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor";
    let counted = one(&format!(
        "SELECT * FROM {class} WHERE Name = 'web02:Hv VP 0'"
    ));
    assert_eq!(counted.str("Name"), Some("web02:Hv VP 0"));
    let number = |name: &str| counted.value(name).as_u64();
    assert_eq!(number("PercentTotalRunTime"), Some(70));
    assert_eq!(number("PercentGuestRunTime"), Some(50));
    assert_eq!(number("PercentHypervisorRunTime"), Some(20));
    let none = format!("SELECT * FROM {class} WHERE Name = 'web02:Hv VP 1'");
    assert!(ask(&broker(), Role::Viewer, &none).is_empty());
}

#[test]
fn without_rights_there_is_nothing() {
    assert!(ask(&broker(), Role::None, "SELECT * FROM Win32_OperatingSystem").is_empty());
}
