//! Sealed messages over plain HTTP: what can be taken apart can be put together again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_wsman::encryption;

fuzz_target!(|data: &[u8]| {
    if let Ok(sealed) = encryption::parse(&encryption::content_type(), data) {
        let again = encryption::compose(sealed.original_type, sealed.signature, sealed.data);
        assert_eq!(encryption::parse("", &again), Ok(sealed));
    }
});
