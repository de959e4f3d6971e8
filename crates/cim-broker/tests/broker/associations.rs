//! Associators, references and association instances: one table behind all of them.

use crate::fleet::{World, account, administrator, machine_id, machine_path, path, world};
use cim::{CimError, CimStatus, KeyValue, Name, ObjectPath, Value};
use cim_broker::{AssociatorFilter, ReferenceFilter, Role};

fn filter(assoc: &str, result: &str, role: &str, result_role: &str) -> AssociatorFilter {
    let name = |text: &str| (!text.is_empty()).then(|| Name::new(text));
    AssociatorFilter {
        assoc_class: name(assoc),
        result_class: name(result),
        role: name(role),
        result_role: name(result_role),
        ..AssociatorFilter::default()
    }
}

fn associators(
    world: &World,
    source: &ObjectPath,
    filter: &AssociatorFilter,
) -> Result<Vec<ObjectPath>, CimError> {
    let (context, namespace) = (administrator(), &world.namespace);
    let names = world
        .broker
        .associator_names(&context, namespace, source, filter);
    let instances = world
        .broker
        .associators(&context, namespace, source, filter, None);
    // Both forms must describe the same set in the same order.
    match (&names, &instances) {
        (Ok(names), Ok(instances)) => {
            let own: Vec<_> = instances.iter().map(|i| i.path.clone().unwrap()).collect();
            assert_eq!(&own, names);
        }
        _ => assert_eq!(names.as_ref().err(), instances.as_ref().err()),
    }
    names
}

fn ids(paths: &[ObjectPath]) -> Vec<&str> {
    let id = |path: &ObjectPath| match path.key("InstanceID").or(path.key("Name")) {
        Some(KeyValue::String(_)) => true,
        _ => panic!("{path}"),
    };
    assert!(paths.iter().all(id));
    paths
        .iter()
        .map(|p| p.key_str("InstanceID").or(p.key_str("Name")).unwrap())
        .collect()
}

#[test]
fn links_come_in_table_order_then_in_provider_order() {
    let world = world(2, 2);
    let found = associators(&world, &machine_path(1), &AssociatorFilter::default()).unwrap();
    assert_eq!(
        ids(&found),
        [
            "HV1",
            &format!("Microsoft:{}", machine_id(1)),
            "Microsoft:S000001-0000",
            "Microsoft:S000001-0001",
        ]
    );
}

#[test]
fn filters_apply_alone_and_together() {
    let world = world(2, 2);
    let count = |assoc: &str, result: &str, role: &str, result_role: &str| {
        let filter = filter(assoc, result, role, result_role);
        associators(&world, &machine_path(1), &filter)
            .unwrap()
            .len()
    };
    assert_eq!(count("T_SettingOf", "", "", ""), 3);
    assert_eq!(count("t_currentsettingof ", "", "", ""), 1);
    assert_eq!(count("T_Dependency", "", "", ""), 1);
    assert_eq!(count("", "T_Setting", "", ""), 3);
    assert_eq!(count("", "T_SYSTEM", "", ""), 1);
    assert_eq!(count("", "T_DiskSetting", "", ""), 0);
    assert_eq!(count("", "", "dependent", ""), 1);
    assert_eq!(count("", "", "Antecedent", ""), 0);
    assert_eq!(count("", "", "", "setting"), 3);
    assert_eq!(
        count("T_SettingOf", "T_MachineSetting", "Element", "Setting"),
        3
    );
    assert_eq!(
        count("T_SettingOf", "T_MachineSetting", "Setting", "Element"),
        0
    );
    assert_eq!(count("T_Hosted", "T_MachineSetting", "", ""), 0);
}

#[test]
fn an_object_linked_twice_appears_twice() {
    let world = world(1, 3);
    let middle = path(r#"T_MachineSetting.InstanceID="Microsoft:S000000-0001""#);
    let found = associators(&world, &middle, &AssociatorFilter::default()).unwrap();
    // Its machine, its child, its parent.
    assert_eq!(found.len(), 3);
    let tree = |role: &str| {
        let filter = filter("T_ParentChild", "", role, "");
        let found = associators(&world, &middle, &filter).unwrap();
        ids(&found)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(tree("Antecedent"), ["Microsoft:S000000-0002"]);
    assert_eq!(tree("Dependent"), ["Microsoft:S000000-0000"]);
}

#[test]
fn sources_resolve_like_any_path_and_must_exist() {
    let world = world(2, 1);
    let id = machine_id(1).to_lowercase();
    for source in [
        format!(r#"T_System.Name="{id}""#),
        format!(r#"\\.\root/fleet:t_machine.name='{id}'"#),
    ] {
        let found = associators(&world, &path(&source), &AssociatorFilter::default()).unwrap();
        assert_eq!(found.len(), 3, "{source}");
    }
    let none = path(r#"T_Machine.CreationClassName="T_Machine",Name="nobody""#);
    let error = associators(&world, &none, &AssociatorFilter::default()).unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
    let guest = account("guest", Role::None);
    let error = world
        .broker
        .associator_names(
            &guest,
            &world.namespace,
            &machine_path(0),
            &AssociatorFilter::default(),
        )
        .unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
}

#[test]
fn unknown_filter_classes_are_bad_parameters() {
    let world = world(1, 0);
    for (assoc, result) in [("T_Nothing", ""), ("", "T_Nothing"), ("T_Machine", "")] {
        let filter = filter(assoc, result, "", "");
        let error = associators(&world, &machine_path(0), &filter).unwrap_err();
        assert_eq!(error.status, CimStatus::InvalidParameter, "{error}");
    }
}

#[test]
fn references_agree_with_associators() {
    let world = world(2, 2);
    let (context, namespace) = (administrator(), &world.namespace);
    let instances = world
        .broker
        .references(
            &context,
            namespace,
            &machine_path(1),
            &ReferenceFilter::default(),
            None,
        )
        .unwrap();
    let names = world
        .broker
        .reference_names(
            &context,
            namespace,
            &machine_path(1),
            &ReferenceFilter::default(),
        )
        .unwrap();
    let own: Vec<_> = instances.iter().map(|i| i.path.clone().unwrap()).collect();
    assert_eq!(own, names);
    let far: Vec<_> = instances
        .iter()
        .map(|i| {
            let far = i.get("Setting").or(i.get("Antecedent")).unwrap();
            far.as_reference().unwrap().relative()
        })
        .collect();
    let associated = associators(&world, &machine_path(1), &AssociatorFilter::default()).unwrap();
    let associated: Vec<_> = associated.iter().map(ObjectPath::relative).collect();
    assert_eq!(far, associated);
    let current = world
        .broker
        .references(
            &context,
            namespace,
            &machine_path(1),
            &ReferenceFilter {
                result_class: Some(Name::new("T_CURRENTsettingof")),
                role: Some(Name::new("element")),
                ..ReferenceFilter::default()
            },
            None,
        )
        .unwrap();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0].get("IsCurrent"), Some(&Value::Boolean(true)));
}

#[test]
fn keys_of_association_paths_equal_the_properties_and_have_no_host() {
    let world = world(1, 1);
    let all = world
        .broker
        .enumerate_instances(
            &administrator(),
            &world.namespace,
            &Name::new("T_SettingOf"),
            true,
            None,
        )
        .unwrap();
    assert_eq!(all.len(), 2);
    for instance in all {
        let path = instance.path.clone().unwrap();
        for role in ["Element", "Setting"] {
            let Some(KeyValue::Reference(key)) = path.key(role) else {
                panic!("{path}");
            };
            assert_eq!(key.host, None);
            assert_eq!(key.namespace.as_ref(), Some(&world.namespace));
            assert_eq!(
                instance.get(role).unwrap().as_reference(),
                Some(key.as_ref())
            );
        }
    }
}

#[test]
fn association_instances_are_got_by_any_spelling_of_their_ends() {
    let world = world(2, 1);
    let get = |text: String| {
        world
            .broker
            .get_instance(&administrator(), &world.namespace, &path(&text), None)
    };
    let id = machine_id(1);
    let machine = format!(r#"T_System.Name=\"{}\""#, id.to_lowercase());
    let setting = format!(r#"\\\\other\\root\\fleet:T_Setting.InstanceID=\"Microsoft:{id}\""#);
    let found = get(format!(
        r#"T_SettingOf.Element="{machine}",Setting="{setting}""#
    ))
    .unwrap();
    assert!(found.class.is("T_CurrentSettingOf"));
    // One end is enough when it decides.
    let found = get(format!(r#"T_SettingOf.Setting="{setting}""#)).unwrap();
    assert!(found.class.is("T_CurrentSettingOf"));
    let error = get(format!(r#"T_SettingOf.Element="{machine}""#)).unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidParameter);
    let error = get(format!(
        r#"T_SettingOf.Element="{machine}",Setting="T_Setting.InstanceID=\"nothing\"""#
    ))
    .unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
    let other = format!(r#"T_Machine.Name=\"{}\""#, machine_id(0));
    let error = get(format!(
        r#"T_SettingOf.Element="{other}",Setting="{setting}""#
    ))
    .unwrap_err();
    assert_eq!(error.status, CimStatus::NotFound);
}
