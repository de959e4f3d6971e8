//! What is there and how it is shown.

use crate::fixture::{Fixture, HOST, SERVICE, path, text};
use cim::{CimType, Instance, Name, ObjectPath, Value};
use serde_json::Value as Json;

const RECORDED: &str = include_str!("../facts/recorded.json");
const GENERIC: &str = "Msvm_ResourceAllocationSettingData";

fn recorded() -> Json {
    serde_json::from_str(RECORDED).expect("facts")
}

/// Whether a value is what a real host showed.
fn same(ours: &Value, fact: &Json) -> bool {
    match fact {
        Json::Null => ours.is_null(),
        Json::Bool(flag) => ours.as_bool() == Some(*flag),
        Json::Number(number) => ours.as_u64() == number.as_u64(),
        Json::String(text) => ours.as_str() == Some(text),
        _ => false,
    }
}

fn assert_recorded(ours: &Instance, facts: &Json) {
    for (property, fact) in facts.as_object().expect("properties") {
        let value = ours.value(property);
        assert!(
            same(value, fact),
            "{}.{property}: {value:?}, should be {fact}",
            ours.class
        );
    }
}

fn sub_types(resources: &[Instance]) -> Vec<Option<&str>> {
    resources
        .iter()
        .map(|resource| resource.str("ResourceSubType"))
        .collect()
}

fn fact_texts(facts: &Json) -> Vec<Option<&str>> {
    facts
        .as_array()
        .expect("a list")
        .iter()
        .map(Json::as_str)
        .collect()
}

/// Every class that may have instances, associations too.
fn concrete_classes(fixture: &Fixture) -> Vec<Name> {
    let schema = fixture
        .broker
        .schema(&fixture.namespace)
        .expect("the schema");
    schema
        .classes()
        .filter(|class| !class.is_abstract() && !class.is_association())
        .map(|class| class.name.clone())
        .collect()
}

#[tokio::test]
async fn every_instance_is_as_its_class_declares() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    fixture.add_ide_disk(&machine, "disk.raw").await;
    let port = fixture.template(
        "Msvm_SyntheticEthernetPortSettingData",
        "Microsoft Synthetic Ethernet Port",
    );
    fixture.add(&machine, &port, &[]).await;

    let mut seen = 0;
    for name in concrete_classes(&fixture) {
        let schema = fixture
            .broker
            .schema(&fixture.namespace)
            .expect("the schema");
        let class = schema.class(&name).expect("a class").clone();
        for instance in fixture.enumerate(name.as_str()) {
            assert_eq!(instance.class, class.name);
            let ours: Vec<_> = instance
                .properties
                .iter()
                .map(|p| (&p.name, p.ty))
                .collect();
            let declared: Vec<_> = class.properties.iter().map(|p| (&p.name, p.ty)).collect();
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
            assert_eq!(fixture.get(path), instance, "{path}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} instances");
}

#[tokio::test]
async fn default_templates_are_those_of_a_real_host() {
    let fixture = Fixture::new().await;
    let recorded = recorded();
    let templates = recorded["templates"].as_array().expect("templates");
    assert_eq!(templates.len(), 7);
    for template in templates {
        let class = template["class"].as_str().expect("a class");
        let sub_type = template["properties"]["ResourceSubType"]
            .as_str()
            .expect("a sub type");
        assert_recorded(&fixture.template(class, sub_type), &template["properties"]);
        // The spelling of other clients, and one that has no wildcard.
        let same = fixture.one(&format!(
            "SELECT * FROM {class} WHERE ResourceSubType LIKE '{sub_type}' AND InstanceID LIKE '%Default%'"
        ));
        assert_eq!(text(&same, "ResourceSubType"), sub_type);
    }
}

#[tokio::test]
async fn a_new_machine_has_the_resources_of_a_real_one() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let settings = fixture.settings(&machine);
    let recorded = recorded();

    let generic = fixture.resources(&settings, GENERIC);
    assert_eq!(sub_types(&generic), fact_texts(&recorded["new machine"]));
    let memory = fixture
        .resources(&settings, "Msvm_MemorySettingData")
        .remove(0);
    assert_recorded(&memory, &recorded["memory"]);
    assert_eq!(memory.value("VirtualQuantity").as_u64(), Some(512));
    let processor = fixture
        .resources(&settings, "Msvm_ProcessorSettingData")
        .remove(0);
    assert_recorded(&processor, &recorded["processor"]);
    let guid = text(&machine, "Name");
    assert_eq!(
        text(&memory, "InstanceID"),
        format!("Microsoft:{guid}\\4764334d-e001-4176-82ee-5594ec9b530e")
    );
    assert_eq!(
        text(&processor, "InstanceID"),
        format!("Microsoft:{guid}\\b637f346-6a0e-4dec-af52-bd70cb80a21d\\0")
    );
    // Every class of resources is a class of its own: none shows up among the generic ones.
    assert_eq!(generic.len(), 12);
}

#[tokio::test]
async fn added_resources_stand_where_a_real_host_lists_them() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let (drive, medium) = fixture.add_ide_disk(&machine, "disk.raw").await;
    let controller = fixture.template(GENERIC, "Microsoft Synthetic SCSI Controller");
    fixture.add(&machine, &controller, &[]).await;

    let guid = text(&machine, "Name");
    let ide = format!("Microsoft:{guid}\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0");
    assert_eq!(text(&drive, "InstanceID"), format!("{ide}\\0\\D"));
    assert_eq!(text(&medium, "InstanceID"), format!("{ide}\\0\\L"));
    assert_eq!(text(&medium, "Parent"), path(&drive).to_string());

    let settings = fixture.settings(&machine);
    let generic = fixture.resources(&settings, GENERIC);
    assert_eq!(
        sub_types(&generic),
        fact_texts(&recorded()["with disk and SCSI controller"])
    );
    // A drive is found by its controller's path, raw in the query.
    let controller = text(&drive, "Parent");
    let found = fixture.one(&format!(
        "SELECT * FROM {GENERIC} WHERE Parent = '{controller}'"
    ));
    assert_eq!(found, drive);
}

#[tokio::test]
async fn machines_are_found_in_every_way_that_clients_ask() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    fixture.define("db01").await;
    let guid = text(&machine, "Name").to_owned();
    for query in [
        "SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'web01'".to_owned(),
        "select * from MSVM_ComputerSystem Where elementname = 'WEB01'".to_owned(),
        format!("SELECT * FROM Msvm_ComputerSystem WHERE Name = '{guid}'"),
        format!(
            "SELECT * FROM Msvm_ComputerSystem WHERE Name = '{}'",
            guid.to_lowercase()
        ),
        format!("SELECT * FROM CIM_ComputerSystem WHERE Name = \"{guid}\""),
    ] {
        assert_eq!(fixture.one(&query), machine, "{query}");
    }
    let all = fixture.query("SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER");
    assert_eq!(all.len(), 2);
    let all = fixture.query(
        "SELECT * FROM Msvm_ComputerSystem WHERE Description <> 'Microsoft Hosting Computer System'",
    );
    assert_eq!(all.len(), 2);
    let settings = fixture.settings(&machine);
    for query in [
        format!(
            "SELECT * FROM Msvm_VirtualSystemSettingData WHERE SettingType = 3 AND SystemName = '{guid}'"
        ),
        format!(
            "SELECT * FROM Msvm_VirtualSystemSettingData WHERE InstanceID = 'Microsoft:{guid}'"
        ),
        "SELECT * FROM Msvm_VirtualSystemSettingData WHERE ElementName = 'web01'".to_owned(),
    ] {
        assert_eq!(fixture.one(&query), settings, "{query}");
    }
    let nothing = fixture.query(&format!(
        "SELECT * FROM Msvm_VirtualSystemSettingData WHERE SystemName = '{guid}' AND InstanceID <> 'Microsoft:{guid}'"
    ));
    assert_eq!(nothing, []);
    let resources = fixture.query(&format!(
        "SELECT * FROM {GENERIC} WHERE InstanceID LIKE 'Microsoft:{guid}%'"
    ));
    assert_eq!(resources.len(), 12);
}

#[tokio::test]
async fn one_object_answers_to_every_spelling_of_its_path() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let guid = text(&machine, "Name").to_owned();
    let lower = guid.to_lowercase();
    for spelling in [
        format!(
            r#"\\{HOST}\root\virtualization:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="{guid}""#
        ),
        format!(
            r#"//{HOST}/root/virtualization:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="{guid}""#
        ),
        format!(
            r#"\\.\Root\Virtualization:msvm_computersystem.Name="{lower}",CreationClassName="msvm_computersystem""#
        ),
        format!("Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{guid}'"),
        format!(r#"Msvm_ComputerSystem.Name="{guid}""#),
    ] {
        let path = ObjectPath::parse(&spelling).expect("a path");
        assert_eq!(fixture.get(&path), machine, "{spelling}");
    }
    let memory = format!(r"Microsoft:{guid}\4764334d-e001-4176-82ee-5594ec9b530e");
    for spelling in [
        format!(
            r#"Msvm_MemorySettingData.InstanceID="{}""#,
            memory.replace('\\', r"\\")
        ),
        format!(r#"Msvm_MemorySettingData.InstanceID="{memory}""#),
        format!(
            r#"Msvm_MemorySettingData.InstanceID="{}""#,
            memory.replace('\\', "//").to_uppercase()
        ),
        format!(r#"Msvm_MemorySettingData="{memory}""#),
    ] {
        let path = ObjectPath::parse(&spelling).expect("a path");
        assert_eq!(
            text(&fixture.get(&path), "InstanceID"),
            memory,
            "{spelling}"
        );
    }
}

#[tokio::test]
async fn the_chain_from_a_pool_leads_to_the_default_template() {
    let fixture = Fixture::new().await;
    let pool = fixture.one(
        "SELECT * FROM Msvm_ResourcePool WHERE ResourceType = '10' AND \
         ResourceSubType = 'Microsoft Synthetic Ethernet Port' AND OtherResourceType = null",
    );
    let capabilities = fixture.associators(&pool, "", "Msvm_AllocationCapabilities");
    assert_eq!(capabilities.len(), 1);
    let links = fixture.query(&format!(
        "REFERENCES OF {{{}}} WHERE ResultClass = Msvm_SettingsDefineCapabilities",
        path(&capabilities[0]).relpath()
    ));
    assert_eq!(links.len(), 4);
    let default: Vec<_> = links
        .iter()
        .filter(|link| link.value("ValueRole").as_u16() == Some(0))
        .collect();
    assert_eq!(default.len(), 1);
    let template = default[0]
        .value("PartComponent")
        .as_reference()
        .expect("a template")
        .clone();
    let template = fixture.get(&template);
    assert_eq!(
        text(&template, "InstanceID"),
        "Microsoft:Definition\\6A45335D-4C3A-44B7-B61F-C9808BBDF8ED\\Default"
    );
    assert_eq!(text(&template, "PoolID"), text(&pool, "PoolID"));
}

#[tokio::test]
async fn the_host_leads_to_its_machines_and_its_service() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let host = fixture.one(&format!(
        "SELECT * FROM Msvm_ComputerSystem WHERE Name = '{HOST}'"
    ));
    assert_eq!(text(&host, "Caption"), "Hosting Computer System");
    let hosted = fixture.associators(&host, "Msvm_HostedDependency", "");
    assert_eq!(hosted, std::slice::from_ref(&machine));
    let services = fixture.associators(&host, "Msvm_HostedService", SERVICE);
    assert_eq!(services.len(), 1);
    assert_eq!(text(&services[0], "Name"), "vmms");
    // Without a filter the active settings come once, and before anything else of their class.
    let settings = fixture.associators(&machine, "", "Msvm_VirtualSystemSettingData");
    assert_eq!(settings, [fixture.settings(&machine)]);
    // A machine that is off has no devices, and no way to be asked to shut down.
    assert_eq!(fixture.associators(&machine, "Msvm_SystemDevice", ""), []);
    let global = fixture.associators(&machine, "", "Msvm_VirtualSystemGlobalSettingData");
    assert_eq!(
        text(&global[0], "InstanceID"),
        format!("Microsoft:{}\\Global", text(&machine, "Name"))
    );
}

#[tokio::test]
async fn every_association_can_be_enumerated() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    fixture.add_ide_disk(&machine, "disk.raw").await;
    let schema = fixture
        .broker
        .schema(&fixture.namespace)
        .expect("the schema");
    let classes: Vec<Name> = schema
        .classes()
        .filter(|class| !class.is_abstract() && class.is_association())
        .map(|class| class.name.clone())
        .collect();
    let mut links = 0;
    for class in classes {
        for link in fixture.enumerate(class.as_str()) {
            for property in &link.properties {
                if property.ty.kind == CimType::Reference {
                    let end = property.value.as_reference().expect("an end");
                    fixture.get(end);
                }
            }
            links += 1;
        }
    }
    assert!(links > 60, "{links} links");
}

#[tokio::test]
async fn the_state_of_a_machine_that_is_off() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    assert_eq!(machine.value("EnabledState").as_u16(), Some(3));
    assert_eq!(machine.value("RequestedState").as_u16(), Some(12));
    assert_eq!(machine.value("HealthState").as_u16(), Some(5));
    assert_eq!(machine.value("OperationalStatus"), &Value::from([2u16]));
    assert_eq!(machine.value("OnTimeInMilliseconds").as_u64(), Some(0));
    let settings = fixture.settings(&machine);
    assert_eq!(
        text(&settings, "Description"),
        "Active settings for the virtual machine"
    );
    assert!(settings.value("Parent").is_null());
    let time = settings.value("CreationTime").to_text().expect("a time");
    assert_eq!(time.len(), 25);
    assert!(time.ends_with("-000"), "{time}");
}
