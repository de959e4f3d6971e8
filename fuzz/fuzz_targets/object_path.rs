//! Object paths: whatever parses prints, and what is printed names the same object.
#![no_main]

use cim::ObjectPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(path) = ObjectPath::parse(text) else {
        return;
    };
    for printed in [path.to_string(), path.wbem_uri()] {
        let again = ObjectPath::parse(&printed).expect("a printed path parses");
        assert_eq!(again, path, "{printed}");
    }
    assert!(path.names_same_object(&path));
    assert_eq!(path.index_key(), path.relative().index_key());
});
