//! Arguments that are cut off or changed: answered, never panicked over.

use crate::service::{CLSID, ICOUNTER, activation_stub, arguments, exporter};
use dce_rpc::{Call, Caller, Connection, Endpoint, Identity, Level, SyntaxId};
use std::sync::Arc;
use uuid::Uuid;

fn caller() -> Caller {
    let address = ([127, 0, 0, 1], 1).into();
    let connection = Connection {
        id: 1,
        peer: address,
        local: address,
    };
    let identity = Identity {
        account: "alice".to_owned(),
        workstation: String::new(),
    };
    Caller {
        connection: Arc::new(connection),
        identity: Some(Arc::new(identity)),
        level: Level::Privacy,
    }
}

/// Makes a call as the server would.
async fn call(endpoint: &Endpoint, interface: usize, opnum: u16, stub: &[u8]) -> bool {
    let caller = caller();
    let interface = &endpoint.interfaces[interface];
    let call = Call {
        interface: interface.syntax(),
        opnum,
        stub,
        caller: &caller,
    };
    interface.call(call).await.is_ok()
}

#[tokio::test]
async fn recorded_stubs_are_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/dcom_call");
    let (exporter, _alive) = exporter((135, 4000));
    let endpoint = exporter.resolver_endpoint();
    let mut accepted = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let [which, opnum, stub @ ..] = &bytes[..] else {
            panic!("a seed is too short");
        };
        let which = usize::from(*which) % endpoint.interfaces.len();
        for end in 0..=stub.len() {
            let answered = call(&endpoint, which, (*opnum).into(), &stub[..end]).await;
            accepted += usize::from(answered && end == stub.len());
        }
    }
    assert!(accepted >= 6, "{accepted}");
}

#[tokio::test]
async fn stubs_that_are_cut_off_or_changed_are_survived() {
    let (exporter, _alive) = exporter((135, 4000));
    let endpoint = exporter.resolver_endpoint();
    let mut old = arguments();
    old.uuid(CLSID).null().null().u32(2).u32(0).u32(1);
    old.pointer().u32(1).uuid(ICOUNTER).u16(1).u32(1).u16(7);
    let stubs = [
        (1, 4, activation_stub(CLSID, &[ICOUNTER], false)),
        (1, 3, activation_stub(CLSID, &[ICOUNTER], true)),
        (2, 0, old.into_bytes()),
        (0, 2, vec![7; 64]),
        (0, 4, vec![1; 32]),
        (0, 1, vec![1; 8]),
    ];
    for (interface, opnum, stub) in &stubs {
        for end in 0..stub.len() {
            call(&endpoint, *interface, *opnum, &stub[..end]).await;
        }
        for at in 0..stub.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = stub.clone();
                changed[at] = value;
                call(&endpoint, *interface, *opnum, &changed).await;
            }
        }
    }
    let objects = exporter.object_endpoint().objects.unwrap();
    let caller = caller();
    for end in 0..40 {
        let call = Call {
            interface: SyntaxId::new(ICOUNTER, 0),
            opnum: 3,
            stub: &arguments().into_bytes()[..end.min(32)],
            caller: &caller,
        };
        assert!(objects.call(Uuid::from_u128(5), call).await.is_err());
    }
}
