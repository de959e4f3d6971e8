//! The program's DCOM as `dcerpc` meets it: its unmodified client, at packet privacy, and its PDUs
//! with the signatures of `ntlmssp`, which it stands on, at packet integrity. Both check what the
//! service signs and seals; a test here shows that they do.
//!
//! The program is named by `ROOTVIRT_TEST_PROGRAM`.

mod integrity;
mod service;

use dcerpc::dcom::{self, CLSID_WBEM_LEVEL1_LOGIN, IID_IWBEM_LEVEL1_LOGIN, IID_IWBEM_SERVICES};
use dcerpc::dcom_wmi::{self, StdObjRef};
use dcerpc::ndr::NdrEncoder;
use dcerpc::transport::RpcTcp;
use dcerpc::{RpcError, Syntax};
use integrity::Signed;
use service::{ACCOUNT, PASSWORD, Service};

/// Of one logical call chain (MS-DCOM 2.2.13.4).
const CAUSALITY: [u8; 16] = [0x5a; 16];
/// RemoteCreateInstance, of the activator.
const REMOTE_CREATE_INSTANCE: u16 = 4;
const SERVER_ALIVE_2: u16 = 5;
/// Of IWbemLevel1Login.
const NTLM_LOGIN: u16 = 6;
/// Of IWbemServices.
const GET_OBJECT: u16 = 6;
const ACCESS_DENIED: u32 = 5;
/// WBEM_E_INVALID_CLASS.
const INVALID_CLASS: u32 = 0x8004_1010;

fn exporter() -> Syntax {
    Syntax::new(dcom::IID_IOBJECT_EXPORTER, 0, 0)
}

fn activator() -> Syntax {
    Syntax::new(dcom::IID_ISYSTEM_ACTIVATOR, 0, 0)
}

fn activation() -> Vec<u8> {
    let interfaces = [IID_IWBEM_LEVEL1_LOGIN];
    dcom_wmi::remote_create_instance_stub(&CAUSALITY, CLSID_WBEM_LEVEL1_LOGIN, &interfaces)
}

/// The arguments of NTLMLogin for a namespace.
fn login(namespace: &str) -> Vec<u8> {
    let mut stub = NdrEncoder::new();
    stub.bytes(&dcom::orpc_this_flags(&CAUSALITY, 0));
    stub.referent();
    stub.conformant_varying_wstr(namespace);
    stub.align(4);
    stub.null_ptr();
    stub.u32(0);
    stub.null_ptr();
    stub.into_bytes()
}

/// The arguments of GetObject for a path.
fn get_object(path: &str) -> Vec<u8> {
    let units: Vec<u16> = path.encode_utf16().collect();
    let count = u32::try_from(units.len()).expect("a short path");
    let mut stub = NdrEncoder::new();
    stub.bytes(&dcom::orpc_this_flags(&CAUSALITY, 0));
    stub.referent();
    stub.u32(count);
    stub.u32(count * 2);
    stub.u32(count);
    units.into_iter().for_each(|unit| stub.u16(unit));
    stub.align(4);
    stub.u32(0);
    stub.null_ptr();
    // The object is wanted, the call result is not.
    stub.referent();
    stub.null_ptr();
    stub.null_ptr();
    stub.into_bytes()
}

async fn sealed(address: &str, syntax: Syntax, password: &str) -> RpcTcp {
    let mut client = RpcTcp::connect(address).await.expect("a connection");
    let bound = client.bind_sealed(syntax, "", ACCOUNT, password, "CLIENT");
    bound.await.expect("bound");
    client
}

fn has_text(reply: &[u8], text: &str) -> bool {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let contains = |needle: &[u8]| reply.windows(needle.len()).any(|it| it == needle);
    contains(text.as_bytes()) || contains(&wide)
}

#[tokio::test]
async fn the_resolver_answers_without_a_logon() {
    let service = Service::start();
    let connected = dcom::ObjectExporter::connect(&service.resolver).await;
    let alive = connected.expect("bound").server_alive().await;
    assert_eq!(alive.expect("an answer"), 0);
}

/// It takes the first port that the activation names for that of the objects, so the resolver's must
/// be the one that is never named: 135.
#[tokio::test]
async fn the_crates_own_wmi_client_logs_in_and_calls() {
    let Some(service) = Service::start_at_the_well_known_port() else {
        eprintln!("skipped: port 135 cannot be had");
        return;
    };
    let host = &service.resolver;
    let session = dcom_wmi::wmi_connect(host, "", ACCOUNT, PASSWORD, None, "CLIENT").await;
    assert_eq!(session.expect("a session").port, service.objects_port());
    // The one method that it knows is of a class that is not here.
    let called = dcom_wmi::wmi_exec(host, "", ACCOUNT, PASSWORD, None, "CLIENT", "true").await;
    assert_eq!(called.expect("an answer").cast_unsigned(), INVALID_CLASS);
}

#[tokio::test]
async fn seals_of_many_fragments_are_right() {
    let service = Service::start();
    let mut client = sealed(&service.resolver, exporter(), PASSWORD).await;
    let alive = client.call_sealed(SERVER_ALIVE_2, &[]).await;
    assert_eq!(dcom_wmi::activation_hresult(&alive.expect("an answer")), 0);

    let mut client = sealed(&service.resolver, activator(), PASSWORD).await;
    let reply = client
        .call_sealed(REMOTE_CREATE_INSTANCE, &activation())
        .await;
    let login_object = reference(&reply.expect("activated"));
    let objects = &service.objects;
    let syntax = Syntax::new(IID_IWBEM_LEVEL1_LOGIN, 0, 0);
    let mut client = sealed(objects, syntax, PASSWORD).await;
    let stub = login("//./root/virtualization");
    let reply = client.call_sealed_object(NTLM_LOGIN, &login_object.ipid, &stub);
    let services = reference(&reply.await.expect("logged in"));

    let syntax = Syntax::new(IID_IWBEM_SERVICES, 0, 0);
    let mut client = sealed(objects, syntax, PASSWORD).await;
    for class in [
        "Msvm_VirtualSystemManagementService",
        "Msvm_ComputerSystem",
        "Msvm_VirtualSystemManagementService",
    ] {
        let stub = get_object(class);
        let reply = client.call_sealed_object(GET_OBJECT, &services.ipid, &stub);
        let reply = reply.await.expect("a class");
        assert_eq!(dcom_wmi::activation_hresult(&reply), 0);
        assert!(has_text(&reply, class));
        // More than a fragment holds.
        assert!(reply.len() > 6000, "{class}: {}", reply.len());
    }
}

#[tokio::test]
async fn signatures_are_right() {
    let service = Service::start();
    let mut client = Signed::connect(&service.resolver).await;
    client.bind(exporter(), ACCOUNT, PASSWORD).await;
    for _ in 0..3 {
        let alive = client.call(SERVER_ALIVE_2, None, &[], |_| {}).await;
        assert_eq!(dcom_wmi::activation_hresult(&alive.expect("an answer")), 0);
    }

    let mut client = Signed::connect(&service.resolver).await;
    client.bind(activator(), ACCOUNT, PASSWORD).await;
    let stub = activation();
    let reply = client.call(REMOTE_CREATE_INSTANCE, None, &stub, |_| {});
    let login_object = reference(&reply.await.expect("activated"));
    let objects = &service.objects;
    let mut client = Signed::connect(objects).await;
    let syntax = Syntax::new(IID_IWBEM_LEVEL1_LOGIN, 0, 0);
    client.bind(syntax, ACCOUNT, PASSWORD).await;
    let stub = login("//./root/virtualization");
    let reply = client.call(NTLM_LOGIN, Some(&login_object.ipid), &stub, |_| {});
    let services = reference(&reply.await.expect("logged in"));

    let mut client = Signed::connect(objects).await;
    let syntax = Syntax::new(IID_IWBEM_SERVICES, 0, 0);
    client.bind(syntax, ACCOUNT, PASSWORD).await;
    let class = "Msvm_VirtualSystemManagementService";
    let stub = get_object(class);
    let reply = client.call(GET_OBJECT, Some(&services.ipid), &stub, |_| {});
    let reply = reply.await.expect("a class");
    assert!(has_text(&reply, class));
    assert!(reply.len() > 6000, "{}", reply.len());
}

/// The verifier's own test: it does not take just anything.
#[tokio::test]
async fn a_changed_answer_is_noticed() {
    let service = Service::start();
    let mut client = Signed::connect(&service.resolver).await;
    client.bind(exporter(), ACCOUNT, PASSWORD).await;
    let changed = client
        .call(SERVER_ALIVE_2, None, &[], |pdu| pdu[24] ^= 1)
        .await;
    assert!(matches!(changed, Err(RpcError::Protocol(_))), "{changed:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let service = Service::start();
    let mut client = sealed(&service.resolver, exporter(), "wrong").await;
    let refused = client.call_sealed(SERVER_ALIVE_2, &[]).await;
    assert!(refused.is_err());
    let mut client = Signed::connect(&service.resolver).await;
    client.bind(exporter(), ACCOUNT, "wrong").await;
    let refused = client.call(SERVER_ALIVE_2, None, &[], |_| {}).await;
    assert!(
        matches!(refused, Err(RpcError::Fault(ACCESS_DENIED))),
        "{refused:?}"
    );
}

fn reference(reply: &[u8]) -> StdObjRef {
    assert_eq!(dcom_wmi::activation_hresult(reply), 0);
    dcom_wmi::parse_stdobjref(reply).expect("a reference")
}
