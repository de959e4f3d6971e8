//! SOAP requests: whatever the bytes, an answer within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_wsman::soap::{request, xml};

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = xml::parse(data, xml::Limits::REQUEST) {
        let (_, request) = request::read(document);
        if let Ok(request) = request {
            let _ = request.target();
        }
    }
});
