//! Samba's `rpcclient` as a client: it checks our signatures, seals, SPNEGO and header signing.
//!
//! It is found by `ROOTVIRT_TEST_RPCCLIENT`; without that, or where port 135 cannot be had, the test
//! has nothing to run and says so.

use crate::service::{Seen, logons};
use dce_rpc::ndr::{Reader, Writer};
use dce_rpc::{Call, Endpoint, Fault, Interface, Level, Limits, Listener, Server, SyntaxId};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use uuid::uuid;

/// The endpoint mapper: `rpcclient` asks it for ports, whatever it was told.
struct Mapper(u16);

#[async_trait::async_trait]
impl Interface for Mapper {
    fn syntax(&self) -> SyntaxId {
        SyntaxId::new(uuid!("e1af8308-5d1f-11c9-91a4-08002b14a0fa"), 3)
    }

    fn required_level(&self) -> Level {
        Level::None
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        const MAP: u16 = 3;
        assert_eq!(call.opnum, MAP);
        let mut arguments = call.arguments();
        if arguments.pointer()? {
            arguments.uuid()?;
        }
        assert!(arguments.pointer()?);
        arguments.u32()?;
        let mut tower = arguments.counted_bytes(1000)?.to_vec();
        let at = port_position(&tower)?;
        tower[at..at + 2].copy_from_slice(&self.0.to_be_bytes());
        let mut result = Writer::new();
        result.bytes(&[0; 20]).u32(1).u32(1).u32(0).u32(1).pointer();
        result.count(tower.len()).counted_bytes(&tower).u32(0);
        Ok(result.into_bytes())
    }
}

/// Where a tower holds the TCP port.
fn port_position(tower: &[u8]) -> Result<usize, Fault> {
    let mut reader = Reader::new(tower);
    let floors = u16::from_le_bytes(reader.array()?);
    for _ in 0..floors {
        let length = u16::from_le_bytes(reader.array()?);
        let protocol = reader.bytes(length.into())?[0];
        let length = u16::from_le_bytes(reader.array()?);
        if protocol == 7 {
            return Ok(reader.position());
        }
        reader.bytes(length.into())?;
    }
    Err(Fault::BAD_STUB_DATA)
}

/// The server service, of which only the operation that says what the server is is there.
struct ServerService;

#[async_trait::async_trait]
impl Interface for ServerService {
    fn syntax(&self) -> SyntaxId {
        SyntaxId::new(uuid!("4b324fc8-1670-01d3-1278-5a47bf6ee188"), 3)
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        const GET_INFO: u16 = 21;
        if call.opnum != GET_INFO {
            return Err(Fault::OPERATION_RANGE);
        }
        let mut arguments = call.arguments();
        if arguments.pointer()? {
            arguments.wide_string(260)?;
        }
        assert_eq!(arguments.u32()?, 101);
        assert_eq!(arguments.remaining(), 0, "{:?}", arguments.rest());
        let mut result = Writer::new();
        result.u32(101).pointer();
        result
            .u32(500)
            .pointer()
            .u32(6)
            .u32(3)
            .u32(0x1003)
            .pointer();
        result.wide_string("HOST");
        result.align(4).wide_string(&"a long comment ".repeat(1000));
        result.u32(0);
        Ok(result.into_bytes())
    }
}

#[tokio::test]
async fn rpcclient_understands_us_at_every_level() {
    let Some(program) = std::env::var_os("ROOTVIRT_TEST_RPCCLIENT") else {
        eprintln!("skipped: ROOTVIRT_TEST_RPCCLIENT does not name samba's rpcclient");
        return;
    };
    // A loopback address of this process alone, so that tests do not meet at port 135.
    let [.., c, b, a] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, c | 1, b, a.clamp(1, 254));
    let Ok(mapper) = Listener::bind(SocketAddr::from((address, 135))).await else {
        eprintln!("skipped: port 135 cannot be had");
        return;
    };
    let seen = Arc::new(Seen::default());
    let service = Listener::bind(SocketAddr::from((address, 0)))
        .await
        .unwrap();
    let offer = |interface: Arc<dyn Interface>| Endpoint {
        interfaces: vec![interface],
        objects: None,
    };
    let mapper_of = Arc::new(Mapper(service.address().port()));
    let _server = Server::start(
        vec![
            (mapper, offer(mapper_of)),
            (service, offer(Arc::new(ServerService))),
        ],
        logons(&seen),
        Limits::default(),
    );
    for (options, expected) in [
        ("ntlm,sign", true),
        ("ntlm,packet", true),
        ("ntlm,seal", true),
        ("spnego,sign", true),
        ("spnego,seal", true),
        ("ntlm,connect", false),
        ("", false),
    ] {
        let output = tokio::process::Command::new(&program)
            .arg(format!("ncacn_ip_tcp:{address}[{options}]"))
            .args(["-U", "alice%secret", "-c", "srvinfo"])
            .args(["--configfile=/dev/null", "--use-kerberos=off"])
            .output()
            .await
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            printed.contains("a long comment a long comment"),
            expected,
            "{options}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
