//! CIM-XML requests: no bytes make the reader panic, and what was read is written as something that
//! reads back.
#![no_main]

use cim_xml::Limits;
use cim_xml::request::RequestMessage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = RequestMessage::decode(bytes, Limits::REQUEST) {
        let text = message.encode();
        if let Err(error) = RequestMessage::decode(text.as_bytes(), Limits::RESPONSE) {
            panic!("{error}: {text}");
        }
    }
});
