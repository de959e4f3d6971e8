//! The fuzz targets' seeds: what a fuzzer once found stays found, and good ones are still read.

use cim::wql::{Condition, EventQuery, Query};
use cim::{DateTime, ObjectPath};
use std::path::Path;

/// The texts among a target's seeds; its fuzzer passes over others too.
fn seeds(target: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let entries = std::fs::read_dir(folder.join(target)).unwrap();
    let bytes = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    bytes.filter_map(|it| String::from_utf8(it).ok()).collect()
}

/// A text, and what of it could have arrived.
fn beginnings(text: &str) -> impl Iterator<Item = &str> {
    (0..=text.len()).filter_map(|end| text.get(..end))
}

#[test]
fn queries() {
    let (mut queries, mut events, mut conditions) = (0, 0, 0);
    for seed in seeds("wql") {
        for text in beginnings(&seed) {
            let _ = (Query::parse(text), EventQuery::parse_in("WQL", text));
            let _ = Condition::parse(text);
        }
        queries += usize::from(Query::parse(&seed).is_ok());
        events += usize::from(EventQuery::parse_in("WQL", &seed).is_ok());
        conditions += usize::from(Condition::parse(&seed).is_ok());
    }
    assert!(queries >= 6 && events >= 1 && conditions >= 1);
}

#[test]
fn datetimes() {
    let mut read = 0;
    for seed in seeds("datetime") {
        for text in beginnings(&seed) {
            let Ok(value) = text.parse::<DateTime>() else {
                continue;
            };
            let printed = value.to_string();
            let again: DateTime = printed.parse().unwrap();
            assert_eq!(again.to_string(), printed, "{text}");
            read += 1;
        }
    }
    assert!(read >= 4, "{read}");
}

#[test]
fn object_paths() {
    let mut read = 0;
    for seed in seeds("object_path") {
        for text in beginnings(&seed) {
            let Ok(path) = ObjectPath::parse(text) else {
                continue;
            };
            for printed in [path.to_string(), path.wbem_uri()] {
                assert_eq!(ObjectPath::parse(&printed).unwrap(), path, "{printed}");
            }
            assert_eq!(path.index_key(), path.relative().index_key());
            read += 1;
        }
    }
    assert!(read >= 6, "{read}");
}
