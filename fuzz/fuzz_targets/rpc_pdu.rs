//! RPC's PDUs, the verification trailer and NDR: no bytes make a reader panic, bodies that decode
//! encode to the same ones, and nothing reads beyond its data.
#![no_main]

use dce_rpc::SyntaxId;
use dce_rpc::ndr::Reader;
use dce_rpc::pdu::{self, Fragment, flags};
use dce_rpc::verification::{self, Expected};

fn fragment(data: &[u8]) {
    let Ok(fragment) = Fragment::decode(data.to_vec()) else {
        return;
    };
    let kind = fragment.header.packet_type;
    let again = |body: &[u8]| {
        let bytes = pdu::encode(kind, flags::WHOLE, 1, body, None)?;
        Fragment::decode(bytes).ok()
    };
    if let Ok(bind) = fragment.bind() {
        let again = again(&bind.encode()).and_then(|fragment| fragment.bind().ok());
        assert_eq!(again, Some(bind));
    }
    if let Ok(result) = fragment.bind_result() {
        let again = again(&result.encode()).and_then(|fragment| fragment.bind_result().ok());
        assert_eq!(again, Some(result));
    }
    if let Ok(request) = fragment.request() {
        let stub = fragment.body_from(request.stub_start);
        assert!(stub.len() < data.len());
    }
    let _ = (fragment.response(), fragment.auth_value());
}

fn ndr(data: &[u8]) {
    let Some((script, stub)) = data.split_at_checked(data.len().min(16)) else {
        return;
    };
    let mut reader = Reader::new(stub);
    for step in script {
        let _ = match step % 12 {
            0 => reader.u8().map(drop),
            1 => reader.u16().map(drop),
            2 => reader.u32().map(drop),
            3 => reader.u64().map(drop),
            4 => reader.uuid().map(drop),
            5 => reader.pointer().map(drop),
            6 => reader.wide_string(usize::from(*step)).map(drop),
            7 => reader.counted_bytes(1 << 20).map(drop),
            8 => reader.count(usize::MAX, usize::from(*step)).map(|count| {
                assert!(count <= stub.len());
            }),
            9 => reader.units(usize::from(*step)).map(drop),
            10 => {
                reader.align(usize::from(*step));
                Ok(())
            }
            _ => reader.bytes(usize::from(*step)).map(drop),
        };
        assert!(reader.position() + reader.remaining() == stub.len());
        assert_eq!(reader.rest().len(), reader.remaining());
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fragment(data);
    ndr(data);
    let expected = Expected {
        interface: SyntaxId::NONE,
        context: 0,
        call: 1,
        opnum: 0,
    };
    if let Ok(length) = verification::strip(data, &expected) {
        assert!(length <= data.len());
    }
});
