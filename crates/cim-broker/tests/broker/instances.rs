//! Enumerating and getting instances, and the spellings of their paths.

use crate::fleet::{HOST, account, administrator, machine_id, machine_path, names, path, world};
use cim::{CimStatus, Name, ObjectPath, Value};
use cim_broker::Role;

#[test]
fn a_base_class_has_the_instances_of_all_its_subclasses() {
    let world = world(2, 1);
    let instances = world
        .broker
        .enumerate_instances(
            &administrator(),
            &world.namespace,
            &Name::new("t_system"),
            true,
            None,
        )
        .unwrap();
    let classes: Vec<&str> = instances.iter().map(|i| i.class.as_str()).collect();
    assert_eq!(classes, ["T_Host", "T_Machine", "T_Machine"]);
    assert!(instances[1].get("Memory").is_some());
    let all = world
        .broker
        .enumerate_instance_names(&administrator(), &world.namespace, &Name::new("T_Element"))
        .unwrap();
    assert_eq!(all.len(), 1 + 2 + 4 + 2 + 3 + 1);
}

#[test]
fn without_deep_inheritance_properties_of_subclasses_are_left_out() {
    let world = world(1, 0);
    let instances = world
        .broker
        .enumerate_instances(
            &administrator(),
            &world.namespace,
            &Name::new("T_System"),
            false,
            None,
        )
        .unwrap();
    let machine = instances.iter().find(|i| i.class.is("T_Machine")).unwrap();
    let properties: Vec<&str> = machine.properties.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        properties,
        ["Caption", "ElementName", "CreationClassName", "Name"]
    );
}

#[test]
fn property_lists_trim_properties_and_never_the_path() {
    let world = world(1, 0);
    let get = |list: &[&str]| {
        world
            .broker
            .get_instance(
                &administrator(),
                &world.namespace,
                &machine_path(0),
                Some(&names(list)),
            )
            .unwrap()
    };
    let trimmed = get(&["STATE", "NoSuchProperty"]);
    assert_eq!(trimmed.properties.len(), 1);
    assert_eq!(
        trimmed.path.as_ref().unwrap().key_str("name"),
        Some(machine_id(0).as_str())
    );
    assert!(get(&[]).properties.is_empty());
}

#[test]
fn paths_are_complete_and_lead_back_to_an_equal_instance() {
    let world = world(2, 2);
    for class in ["T_Element", "T_Dependency", "T_SettingOf"] {
        let class = Name::new(class);
        let instances = world
            .broker
            .enumerate_instances(&administrator(), &world.namespace, &class, true, None)
            .unwrap();
        let paths = world
            .broker
            .enumerate_instance_names(&administrator(), &world.namespace, &class)
            .unwrap();
        let own: Vec<_> = instances.iter().map(|i| i.path.clone().unwrap()).collect();
        assert_eq!(own, paths);
        for instance in instances {
            let path = instance.path.clone().unwrap();
            assert_eq!(path.host.as_deref(), Some(HOST));
            assert_eq!(path.namespace.as_ref(), Some(&world.namespace));
            let got = world
                .broker
                .get_instance(&administrator(), &world.namespace, &path, None)
                .unwrap();
            assert_eq!(got, instance);
            let printed = ObjectPath::parse(&path.to_string()).unwrap();
            let got = world
                .broker
                .get_instance(&administrator(), &world.namespace, &printed, None)
                .unwrap();
            assert_eq!(got, instance);
        }
    }
}

#[test]
fn every_spelling_of_a_path_resolves() {
    let world = world(3, 0);
    let id = machine_id(1);
    let lower = id.to_lowercase();
    let spellings = [
        format!(r#"T_Machine.CreationClassName="T_Machine",Name="{id}""#),
        format!(r#"t_machine.NAME="{lower}",creationclassname="t_machine""#),
        format!(r#"T_Machine.Name="{id}""#),
        format!(r#"T_System.CreationClassName="T_Machine",Name="{id}""#),
        format!(r#"T_System.Name='{id}'"#),
        format!(r#"\\HV1\root\fleet:T_Machine.Name="{id}""#),
        format!(r#"\\.\ROOT\Fleet:T_Machine.Name="{id}""#),
        format!(r#"//someone-else/root/fleet:T_Machine.Name="{id}""#),
        format!(r#"root/fleet:T_Machine.Name="{id}""#),
    ];
    for spelling in spellings {
        let found = world
            .broker
            .get_instance(&administrator(), &world.namespace, &path(&spelling), None)
            .unwrap_or_else(|error| panic!("{spelling}: {error}"));
        assert_eq!(found.str("ElementName"), Some("vm1"), "{spelling}");
    }
}

#[test]
fn slashes_in_key_values_may_be_turned() {
    let world = world(2, 0);
    let id = machine_id(1);
    for key in [
        format!(r"Microsoft:{id}\\Disk\\0"),
        format!("Microsoft:{id}//Disk//0"),
        format!("microsoft:{}/disk/0", id.to_lowercase()),
    ] {
        for class in ["T_DiskSetting", "T_Setting"] {
            let found = world
                .broker
                .get_instance(
                    &administrator(),
                    &world.namespace,
                    &path(&format!(r#"{class}.InstanceID="{key}""#)),
                    None,
                )
                .unwrap();
            assert!(found.class.is("T_DiskSetting"), "{key}");
        }
    }
}

#[test]
fn a_namespace_split_into_host_and_namespace_is_put_together() {
    let world = world(1, 0);
    let mut path = machine_path(0);
    path.host = Some("root".to_owned());
    path.namespace = Some(cim::Namespace::new("fleet"));
    assert!(
        world
            .broker
            .get_instance(&administrator(), &world.namespace, &path, None)
            .is_ok()
    );
    path.host = None;
    let error = world
        .broker
        .get_instance(&administrator(), &world.namespace, &path, None)
        .unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidNamespace);
}

#[test]
fn unnamed_partial_and_quoted_keys_resolve_when_one_instance_fits() {
    let world = world(1, 0);
    let get = |text: &str| {
        world
            .broker
            .get_instance(&administrator(), &world.namespace, &path(text), None)
    };
    assert!(get("T_Slot=2").is_ok());
    assert!(get(r#"T_Slot="0x2""#).is_ok());
    assert!(get(r#"T_Slot.Number="1""#).is_ok());
    assert!(get(r#"T_Service.CreationClassName="T_Service""#).is_ok());
    assert!(get("T_Service=@").is_ok());
    let error = get(r#"T_Service="manager""#).unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
    assert!(error.message.contains("2 keys"), "{error}");
}

#[test]
fn ambiguous_paths_say_how_many_fit() {
    let world = world(3, 0);
    let error = world
        .broker
        .get_instance(
            &administrator(),
            &world.namespace,
            &path(r#"T_Machine.CreationClassName="T_Machine""#),
            None,
        )
        .unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidParameter);
    assert!(error.message.starts_with("3 instances"), "{error}");
    assert!(error.message.contains("Name"), "{error}");
}

#[test]
fn what_is_not_found_names_the_wrong_key() {
    let world = world(2, 0);
    let miss = |text: &str| {
        let error = world
            .broker
            .get_instance(&administrator(), &world.namespace, &path(text), None)
            .unwrap_err();
        assert_eq!(error.status, CimStatus::NotFound, "{text}: {error}");
        error.message
    };
    let id = machine_id(0);
    let message = miss(&format!(
        r#"T_Machine.CreationClassName="T_Ghost",Name="{id}""#
    ));
    assert!(message.contains("for key CreationClassName"), "{message}");
    let message = miss(r#"T_Machine.CreationClassName="T_Machine",Name="nobody""#);
    assert!(message.contains("\"nobody\" for key Name"), "{message}");
    let message = miss(&format!(r#"T_Machine.Name="{id}",Colour="red""#));
    assert!(message.contains("no key Colour"), "{message}");
    let message = miss(r#"T_Slot.Number="many""#);
    assert!(message.contains("Number"), "{message}");
    miss("T_Slot=77");
}

#[test]
fn a_class_path_is_no_instance() {
    let world = world(1, 0);
    let error = world
        .broker
        .get_instance(&administrator(), &world.namespace, &path("T_Machine"), None)
        .unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidParameter);
    assert!(error.message.contains("CreationClassName, Name"), "{error}");
}

#[test]
fn accounts_without_rights_see_nothing_and_viewers_everything() {
    let world = world(2, 1);
    let nobody = account("guest", Role::None);
    let viewer = account("eve", Role::Viewer);
    for class in ["T_Element", "T_SettingOf"] {
        let class = Name::new(class);
        let seen = |context| {
            world
                .broker
                .enumerate_instances(context, &world.namespace, &class, true, None)
                .unwrap()
                .len()
        };
        assert_eq!(seen(&nobody), 0);
        assert!(seen(&viewer) > 2);
    }
    let error = world
        .broker
        .get_instance(&nobody, &world.namespace, &machine_path(0), None)
        .unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
}

#[test]
fn keys_keep_their_types() {
    let world = world(1, 0);
    let slot = world
        .broker
        .get_instance(&administrator(), &world.namespace, &path("T_Slot=1"), None)
        .unwrap();
    assert_eq!(slot.get("Number"), Some(&Value::Uint32(1)));
    assert_eq!(
        slot.path.unwrap().key("Number"),
        Some(&cim::KeyValue::Unsigned(1))
    );
}
