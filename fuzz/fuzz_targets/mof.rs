//! MOF: whatever compiles prints as MOF that compiles to the same.
#![no_main]

use cim::mof::{
    Members, Repository, parse_instances, print_class, print_instance, print_qualifier,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(repository) = Repository::compile(&[("fuzz.mof", text)]) {
        let mut printed = String::new();
        for qualifier in repository.qualifiers() {
            printed.push_str(&print_qualifier(qualifier));
        }
        for class in repository.classes() {
            printed.push_str(&print_class(class, Members::Own));
        }
        let again = Repository::compile(&[("printed.mof", &printed)])
            .unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.classes().count(), repository.classes().count());
    }
    if let Ok(instances) = parse_instances(text) {
        let printed: String = instances.iter().map(print_instance).collect();
        let again = parse_instances(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.len(), instances.len());
    }
});
