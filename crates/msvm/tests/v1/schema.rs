//! The classes compared with the facts known about the real ones, member by member.

use cim::mof::Repository;
use cim::{CimType, Class, Name, Type, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;

const V1: &str = include_str!("../facts/v1.json");
const V2: &str = include_str!("../facts/v2.json");

/// What differs, one line for each difference.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: impl Fn() -> String,
        ours: T,
        fact: T,
    ) {
        if ours != fact {
            self.0
                .push(format!("{}: {ours:?}, should be {fact:?}", what()));
        }
    }
}

fn text(json: &Json) -> String {
    json.as_str().expect("a string in the facts").to_owned()
}

fn texts(json: &Json) -> Vec<String> {
    let items = json.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(text).collect()
}

fn object(json: &Json) -> impl Iterator<Item = (&String, &Json)> {
    json.as_object().into_iter().flatten()
}

/// A type as the facts write it: `uint16[]`, `ref:CIM_System`, `object:Msvm_SummaryInformation[]`.
fn type_text(ty: Type, class_ref: Option<&Name>) -> String {
    let class = class_ref.map_or("", Name::as_str);
    let kind = match ty.kind {
        CimType::Reference => format!("ref:{class}"),
        CimType::Object => format!("object:{class}"),
        kind => kind.name().to_owned(),
    };
    format!("{kind}{}", if ty.array { "[]" } else { "" })
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// ValueMap and Values of an element as one map; without Values each stands for itself.
fn value_map<'a>(
    qualifier: impl Fn(&str) -> Option<&'a cim::Qualifier>,
) -> BTreeMap<String, String> {
    let list = |name| {
        qualifier(name)
            .map(|q| strings(&q.value))
            .unwrap_or_default()
    };
    let (map, labels) = (list("ValueMap"), list("Values"));
    let labels = if labels.is_empty() {
        map.clone()
    } else {
        labels
    };
    assert_eq!(
        map.len(),
        labels.len(),
        "ValueMap and Values have one length"
    );
    map.into_iter().zip(labels).collect()
}

fn fact_map(facts: &Json, index: &Json) -> BTreeMap<String, String> {
    let index = usize::try_from(index.as_u64().expect("an index")).expect("a small index");
    object(&facts["value_maps"][index])
        .map(|(value, label)| {
            let label = label.as_str().filter(|label| !label.is_empty());
            (value.clone(), label.unwrap_or(value).to_owned())
        })
        .collect()
}

fn compare_properties(class: &Class, fact: &Json, facts: &Json, found: &mut Differences) {
    let name = |member: &str| format!("{}.{member}", class.name);
    for (property, ty) in object(&fact["properties"]) {
        let Some(ours) = class.property(property) else {
            found.0.push(format!("{} is missing", name(property)));
            continue;
        };
        found.check(
            || name(property),
            ours.name.as_str().to_owned(),
            property.clone(),
        );
        found.check(
            || format!("type of {}", name(property)),
            type_text(
                ours.ty,
                ours.class_ref
                    .as_ref()
                    .filter(|_| ours.ty.kind != CimType::String),
            ),
            text(ty),
        );
    }
    let known: usize = fact["properties"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    found.check(
        || format!("number of properties of {}", class.name),
        class.properties.len(),
        known,
    );
    let writable = |property: &str| {
        let decl = class.property(property);
        decl.and_then(|decl| decl.qualifier("Write"))
            .is_some_and(cim::Qualifier::is_true)
    };
    let write = texts(&fact["write"]);
    for (property, _) in object(&fact["properties"]) {
        found.check(
            || format!("whether {} can be written", name(property)),
            writable(property),
            write.contains(property),
        );
    }
    for (property, index) in object(&fact["values"]) {
        let ours = class.property(property);
        let ours = ours
            .map(|decl| value_map(|q| decl.qualifier(q)))
            .unwrap_or_default();
        found.check(
            || format!("values of {}", name(property)),
            ours,
            fact_map(facts, index),
        );
    }
}

fn compare_methods(class: &Class, fact: &Json, facts: &Json, found: &mut Differences) {
    for (method, signature) in object(&fact["methods"]) {
        let name = || format!("{}.{method}", class.name);
        let Some(ours) = class.method(method) else {
            found.0.push(format!("{} is missing", name()));
            continue;
        };
        found.check(
            || format!("return type of {}", name()),
            type_text(ours.return_type, None),
            text(&signature["returns"]),
        );
        let parameters: Vec<Vec<String>> = ours
            .parameters
            .iter()
            .map(|parameter| {
                let direction = match (parameter.is_in(), parameter.is_out()) {
                    (true, true) => "inout",
                    (false, true) => "out",
                    _ => "in",
                };
                let is_string = parameter.ty.kind == CimType::String;
                let class_ref = parameter.class_ref.as_ref();
                let mut all = vec![
                    parameter.name.as_str().to_owned(),
                    direction.to_owned(),
                    type_text(parameter.ty, class_ref.filter(|_| !is_string)),
                ];
                if let (true, Some(cim::class::Embedded::Instance(class))) =
                    (is_string, parameter.embedded())
                {
                    all.push(class.to_owned());
                }
                all
            })
            .collect();
        let facts_of = signature["parameters"].as_array();
        let known: Vec<_> = facts_of.into_iter().flatten().map(texts).collect();
        found.check(|| format!("parameters of {}", name()), parameters, known);
        if let index @ Json::Number(_) = &signature["values"] {
            found.check(
                || format!("return values of {}", name()),
                value_map(|q| ours.qualifier(q)),
                fact_map(facts, index),
            );
        }
    }
}

#[test]
fn every_class_is_as_the_facts_say() {
    compare(V1, &msvm::schema::repository().expect("our MOF"), 214);
}

#[test]
fn every_class_of_v2_is_as_the_facts_say() {
    compare(V2, &msvm::schema::repository_v2().expect("our MOF"), 431);
}

fn compare(facts: &str, repository: &Repository, classes: usize) {
    let facts: Json = serde_json::from_str(facts).expect("facts");
    let mut found = Differences::default();
    let mut compared = 0;
    for (name, fact) in object(&facts["classes"]) {
        let Some(class) = repository.class(&Name::new(name)) else {
            found.0.push(format!("{name} is missing"));
            continue;
        };
        found.check(
            || "name".to_owned(),
            class.name.as_str().to_owned(),
            name.clone(),
        );
        found.check(
            || format!("superclass of {name}"),
            class.superclass.as_ref().map(|s| s.as_str().to_owned()),
            fact["superclass"].as_str().map(str::to_owned),
        );
        let flag = |of: &str| fact[of].as_bool().unwrap_or(false);
        found.check(
            || format!("{name} abstract"),
            class.is_abstract(),
            flag("abstract"),
        );
        found.check(
            || format!("{name} association"),
            class.is_association(),
            flag("association"),
        );
        let mut keys: Vec<_> = class
            .keys()
            .map(|key| key.name.as_str().to_owned())
            .collect();
        let mut known = texts(&fact["keys"]);
        keys.sort();
        known.sort();
        found.check(|| format!("keys of {name}"), keys, known);
        if let Some(version) = fact["version"].as_str() {
            let ours = class.qualifier("Version").and_then(|q| q.value.as_str());
            found.check(|| format!("version of {name}"), ours, Some(version));
        }
        compare_properties(class, fact, &facts, &mut found);
        compare_methods(class, fact, &facts, &mut found);
        compared += 1;
    }
    assert!(
        found.0.is_empty(),
        "{} differences:\n{}",
        found.0.len(),
        found.0.join("\n")
    );
    assert_eq!(compared, classes);
}

#[test]
fn nothing_in_the_classes_leads_nowhere() {
    for repository in [msvm::schema::repository(), msvm::schema::repository_v2()] {
        assert_eq!(repository.expect("our MOF").unresolved(), Vec::new());
    }
}
