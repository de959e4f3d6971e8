//! SPNEGO: no bytes make a parser panic, and what decodes encodes to the same token.
#![no_main]

use spnego::token::{Init, Response};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(token) = Init::decode(data) {
        assert_eq!(Init::decode(&token.encode()), Ok(token));
    }
    if let Ok(token) = Response::decode(data) {
        assert_eq!(Response::decode(&token.encode()), Ok(token));
    }
});
