//! Embedded instances: no text makes the reader panic, and an instance that was read and written
//! reads back as one of the same class with the same properties.
#![no_main]

use cim_xml::embedded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(instance) = embedded::parse_instance(text) {
        let written = embedded::write_instance(&instance);
        match embedded::parse_instance(&written) {
            Ok(again) => {
                assert_eq!(again.class, instance.class);
                assert_eq!(again.properties.len(), instance.properties.len());
            }
            Err(error) => panic!("{error}: {written}"),
        }
    }
});
