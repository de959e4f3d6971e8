//! The fuzz targets' seeds, as the service would meet them: none makes a reader panic or run away.
//! Those that are named good or bad are that; the others a fuzzer found.

use std::path::Path;
use wire_wsman::encryption;
use wire_wsman::soap::{request, xml};

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("seeds") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        found.push((name, std::fs::read(&path).expect("a seed")));
    }
    assert!(!found.is_empty(), "no seeds in {folder:?}");
    found
}

fn is_good(name: &str) -> Option<bool> {
    match name.split_once('_')?.0 {
        "good" => Some(true),
        "bad" => Some(false),
        _ => None,
    }
}

#[test]
fn requests() {
    for (name, seed) in seeds("soap_request") {
        let read = xml::parse(&seed, xml::Limits::REQUEST).map(request::read);
        if let Some(expected) = is_good(&name) {
            assert_eq!(
                matches!(&read, Ok((_, Ok(_)))),
                expected,
                "{name}: {read:?}"
            );
        }
    }
}

#[test]
fn filters() {
    for (name, seed) in seeds("wsman_filter") {
        let read = xml::parse(&seed, xml::Limits::REQUEST)
            .map(|it| wire_wsman::filter::read_filter(&it.root));
        if let Some(expected) = is_good(&name) {
            assert_eq!(matches!(&read, Ok(Ok(_))), expected, "{name}: {read:?}");
        }
    }
}

#[test]
fn sealed_messages() {
    for (name, seed) in seeds("multipart_encrypted") {
        let read = encryption::parse(&encryption::content_type(), &seed);
        if let Some(expected) = is_good(&name) {
            assert_eq!(read.is_ok(), expected, "{name}: {read:?}");
        }
        if let Ok(sealed) = read {
            let again = encryption::compose(sealed.original_type, sealed.signature, sealed.data);
            assert_eq!(encryption::parse("", &again), Ok(sealed));
        }
    }
}
