//! Classes and qualifiers.

use crate::fleet::{administrator, names, world};
use cim::{CimStatus, Name, Namespace};
use cim_broker::{AssociatorFilter, ClassOptions, ReferenceFilter};

fn full() -> ClassOptions {
    ClassOptions {
        include_qualifiers: true,
        ..ClassOptions::default()
    }
}

#[test]
fn class_and_namespace_are_found_in_any_spelling() {
    let world = world(1, 0);
    for namespace in [r"root\fleet", "ROOT/Fleet", "/root/fleet/", r"\root\FLEET"] {
        let class = world
            .broker
            .get_class(
                &administrator(),
                &Namespace::new(namespace),
                &Name::new("t_MACHINE"),
                &full(),
            )
            .unwrap();
        assert_eq!(class.name.as_str(), "T_Machine");
        assert!(class.property("name").unwrap().is_key());
        assert!(class.property("Caption").is_some());
    }
}

#[test]
fn unknown_namespace_and_class_say_which() {
    let world = world(1, 0);
    let get = |namespace: &str, class: &str| {
        world
            .broker
            .get_class(
                &administrator(),
                &Namespace::new(namespace),
                &Name::new(class),
                &full(),
            )
            .unwrap_err()
    };
    let error = get("root/nowhere", "T_Machine");
    assert_eq!(error.status, CimStatus::InvalidNamespace);
    assert!(error.message.contains(r"root\nowhere") && error.message.contains(r"root\fleet"));
    let error = get("root/fleet", "T_Nothing");
    assert_eq!(error.status, CimStatus::InvalidClass);
    assert!(error.message.contains("T_Nothing"));
}

#[test]
fn options_shape_the_class() {
    let world = world(1, 0);
    let get = |options: ClassOptions| {
        world
            .broker
            .get_class(
                &administrator(),
                &world.namespace,
                &Name::new("T_Machine"),
                &options,
            )
            .unwrap()
    };
    let local = get(ClassOptions {
        local_only: true,
        ..full()
    });
    assert!(local.property("State").is_some() && local.property("Name").is_none());
    let bare = get(ClassOptions::default());
    assert!(bare.properties.iter().all(|p| p.qualifiers.is_empty()));
    let listed = get(ClassOptions {
        property_list: Some(names(&["STATE", "nonsense"])),
        ..full()
    });
    let listed: Vec<&str> = listed.properties.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(listed, ["State"]);
}

#[test]
fn classes_are_enumerated_flat_and_deep() {
    let world = world(1, 0);
    let list = |below: Option<&str>, deep: bool| -> Vec<String> {
        world
            .broker
            .enumerate_classes(
                &administrator(),
                &world.namespace,
                below.map(Name::new).as_ref(),
                deep,
                &full(),
            )
            .unwrap()
            .into_iter()
            .map(|class| class.name.as_str().to_owned())
            .collect()
    };
    assert_eq!(
        list(None, false),
        ["T_Element", "T_Dependency", "T_SettingOf"]
    );
    assert_eq!(list(Some("t_system"), false), ["T_Machine", "T_Host"]);
    assert_eq!(list(None, true).len(), 14);
    assert!(list(Some("T_Host"), true).is_empty());
}

#[test]
fn qualifier_types_are_served() {
    let world = world(1, 0);
    let get = |name: &str| {
        world
            .broker
            .get_qualifier(&administrator(), &world.namespace, &Name::new(name))
    };
    assert!(get("association").is_ok());
    assert_eq!(get("Nonsense").unwrap_err().status, CimStatus::NotFound);
    let all = world
        .broker
        .enumerate_qualifiers(&administrator(), &world.namespace)
        .unwrap();
    assert!(all.iter().any(|q| q.name.is("Key")));
}

#[test]
fn associations_of_a_class_answer_classes() {
    let world = world(1, 0);
    let broker = &world.broker;
    let machine = Name::new("T_Machine");
    let references = broker
        .reference_classes(
            &administrator(),
            &world.namespace,
            &machine,
            &ReferenceFilter::default(),
            &full(),
        )
        .unwrap();
    let references: Vec<&str> = references.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        references,
        [
            "T_Dependency",
            "T_Hosted",
            "T_SettingOf",
            "T_CurrentSettingOf"
        ]
    );
    let associators = broker
        .associator_classes(
            &administrator(),
            &world.namespace,
            &machine,
            &AssociatorFilter {
                assoc_class: Some(Name::new("T_SettingOf ")),
                result_class: Some(Name::new("t_setting")),
                ..AssociatorFilter::default()
            },
            &full(),
        )
        .unwrap();
    let associators: Vec<&str> = associators.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(associators, ["T_Setting"]);
}

mod setup {
    //! What is registered must fit the classes.

    use crate::fleet::{NAMESPACE, repository, world};
    use cim::{Name, Namespace};
    use cim_broker::{Association, Broker, Provider, SetupError};
    use std::sync::Arc;

    fn row(class: &str, roles: (&str, &str), ends: (&str, &str)) -> Association {
        Association {
            class: Name::new(class),
            roles: (Name::new(roles.0), Name::new(roles.1)),
            end_classes: (vec![Name::new(ends.0)], vec![Name::new(ends.1)]),
            forward: Box::new(|_, _| Ok(Vec::new())),
            backward: Box::new(|_, _| Ok(Vec::new())),
            properties: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_found() {
        let namespace = Namespace::new(NAMESPACE);
        let mut broker = Broker::new("HV1");
        broker.add_namespace(namespace.clone(), repository());
        let fleet = world(1, 0).fleet;
        broker.add_provider(&namespace, Arc::clone(&fleet) as Arc<dyn Provider>);
        assert_eq!(broker.check(), Ok(()));
        broker.add_provider(&namespace, fleet);
        broker.add_associations(
            &namespace,
            vec![
                row("T_Nothing", ("A", "B"), ("T_Host", "T_Host")),
                row("T_Hosted", ("Antecedent", "Wrong"), ("T_Host", "T_Machine")),
                row(
                    "T_Hosted",
                    ("Antecedent", "Dependent"),
                    ("T_Host", "T_Typo"),
                ),
            ],
        );
        let found = broker.check().unwrap_err();
        let has = |wanted: &dyn Fn(&SetupError) -> bool| found.iter().any(wanted);
        assert!(has(
            &|e| matches!(e, SetupError::ServedTwice { class, .. } if class.is("T_Host"))
        ));
        assert!(has(
            &|e| matches!(e, SetupError::UnknownClass { class, .. } if class.is("T_Nothing"))
        ));
        assert!(has(
            &|e| matches!(e, SetupError::UnknownClass { class, .. } if class.is("T_Typo"))
        ));
        assert!(has(
            &|e| matches!(e, SetupError::UnknownRole { role, .. } if role.is("Wrong"))
        ));
        assert!(has(
            &|e| matches!(e, SetupError::UnservedEnd { role, .. } if role.is("Dependent"))
        ));
    }
}
