//! CIM-XML responses, as the client reads them: no bytes make the reader panic, and what was read
//! can be written.
#![no_main]

use cim_xml::Limits;
use cim_xml::response::ResponseMessage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ResponseMessage::decode(bytes, Limits::REQUEST) {
        message.encode();
    }
});
