//! WQL: no text makes the parser or the evaluator panic, and NOT never selects what the condition
//! itself selects.
#![no_main]

use cim::wql::{Condition, EventQuery, InstanceRow, Query};
use cim::{Instance, Namespace, ObjectPath, Property, Value};
use libfuzzer_sys::fuzz_target;

fn instance() -> Instance {
    let values = [
        ("A", Value::from("text")),
        ("B", Value::from(10u16)),
        ("C", Value::from(true)),
        ("D", Value::from(1.5f64)),
        ("E", Value::Null),
        ("F", Value::from(vec!["x", "y"])),
        ("G", Value::from(ObjectPath::of_instance("X", [("K", "v")]))),
        ("H", Value::from(r#"\\HOST\root\virtualization:X.K="a\\b""#)),
        ("I", Value::from(cim::DateTime::from_unix_micros(0))),
    ];
    Instance {
        class: "X".into(),
        path: Some(ObjectPath::of_instance("X", [("K", "v")])),
        properties: values
            .into_iter()
            .map(|(name, value)| Property {
                name: name.into(),
                ty: value
                    .type_of()
                    .unwrap_or(cim::Type::scalar(cim::CimType::String)),
                value,
                origin: None,
            })
            .collect(),
    }
}

fuzz_target!(|text: &str| {
    let instance = instance();
    let namespace = Namespace::new("root/virtualization");
    let row = InstanceRow {
        instance: &instance,
        server: "HOST",
        namespace: &namespace,
        repository: None,
    };
    if let Ok(Query::Select(select)) = Query::parse(text) {
        select.matches(&row);
        select.equalities();
    }
    if let Ok(query) = EventQuery::parse_in("WQL", text) {
        query.matches(&row);
        query.target_classes();
        query.target_properties();
    }
    if let Ok(condition) = Condition::parse(text) {
        let plain = condition.evaluate(&row);
        let negated = Condition::Not(Box::new(condition)).evaluate(&row);
        assert_eq!(plain.map(|it| !it), negated);
    }
});
