//! The fuzz target's seeds: what a fuzzer once found stays found, and good ones are still read.

use cim_xml::Limits;
use cim_xml::request::RequestMessage;

#[test]
fn requests() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/seeds/cim_xml_request"
    );
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a seed");
        for end in 0..=bytes.len() {
            let Ok(message) = RequestMessage::decode(&bytes[..end], Limits::REQUEST) else {
                continue;
            };
            let text = message.encode();
            let again = RequestMessage::decode(text.as_bytes(), Limits::RESPONSE);
            assert!(again.is_ok(), "{again:?}: {text}");
            read += usize::from(end == bytes.len());
        }
    }
    assert!(read >= 6, "{read}");
}
