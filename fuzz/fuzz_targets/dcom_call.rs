//! DCOM: no arguments make a call panic, whatever operation of whatever interface they are for, and
//! references that decode encode to the same ones.
#![no_main]

use dce_rpc::{Call, Caller, Connection, Fault, Identity, Level, SyntaxId};
use dcom::properties::{Received, Request};
use dcom::{Class, Configuration, Exporter, HResult, ObjRef, Object, ObjectCall};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use uuid::Uuid;

const IID: Uuid = uuid::uuid!("5aa0a1f5-0002-4e4b-9b3c-8b8a7d2f0000");
const CLSID: Uuid = uuid::uuid!("5aa0a1f5-0001-4e4b-9b3c-8b8a7d2f0000");

struct Thing;

#[async_trait::async_trait]
impl Object for Thing {
    fn interfaces(&self) -> &[Uuid] {
        &[IID]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let other = call.take_interface()?;
        let other = other.and_then(|other| call.resolve(&other));
        call.results.u32(other.is_some().into());
        Ok(HResult::OK)
    }
}

#[async_trait::async_trait]
impl Class for Thing {
    async fn create(&self, _: &Caller) -> Result<Arc<dyn Object>, HResult> {
        Ok(Arc::new(Thing))
    }
}

static CALLER: LazyLock<Caller> = LazyLock::new(|| {
    let address = ([127, 0, 0, 1], 1).into();
    Caller {
        connection: Arc::new(Connection {
            id: 1,
            peer: address,
            local: address,
        }),
        identity: Some(Arc::new(Identity {
            account: "alice".to_owned(),
            workstation: String::new(),
        })),
        level: Level::Privacy,
    }
});

/// Nothing here ever waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a call waits"),
    }
}

/// The IPID of the first reference in results.
fn ipid(results: &[u8]) -> Option<Uuid> {
    let at = results.windows(8).position(|bytes| bytes == b"MEOW\x01\0\0\0")?;
    match ObjRef::decode(&results[at..]) {
        Ok(ObjRef::Standard { reference, .. }) => Some(reference.ipid),
        _ => None,
    }
}

fn call_with(stub: &[u8], interface: SyntaxId, opnum: u16) -> Call<'_> {
    Call {
        interface,
        opnum,
        stub,
        caller: &CALLER,
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[which, opnum], stub)) = data.split_first_chunk() else {
        return;
    };
    if let Ok(reference) = ObjRef::decode(stub) {
        assert_eq!(ObjRef::decode(&reference.encode()), Ok(reference));
    }
    if let Ok(request) = Request::decode(stub) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    // What clients read; nothing of it is written again.
    let _ = Received::decode(stub);
    let mut configuration = Configuration::new(135, 4000);
    configuration.classes.insert(CLSID, Arc::new(Thing));
    let exporter = Exporter::new(configuration);
    let resolver = exporter.resolver_endpoint().interfaces;
    let objects = exporter.object_endpoint().objects.expect("objects");
    let interface = &resolver[usize::from(which) % resolver.len()];
    let result = now(interface.call(call_with(stub, interface.syntax(), opnum.into())));
    // Whatever was activated is called with the same arguments.
    let object = result.ok().and_then(|results| ipid(&results));
    for object in object.into_iter().chain([Uuid::from_u128(opnum.into())]) {
        let call = call_with(stub, SyntaxId::new(IID, 0), opnum.into());
        let _ = now(objects.call(object, call));
    }
    assert!(exporter.usage().objects <= 1);
});
