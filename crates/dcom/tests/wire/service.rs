//! A class of counters, a server that offers it, and a client that knows DCOM.

use dce_rpc::client::{Client, ClientError, Credentials};
use dce_rpc::ndr::{Reader, Writer};
use dce_rpc::{Caller, Fault, Level, Limits, Listener, Server, SyntaxId};
use dcom::objref::StandardReference;
use dcom::orpc::OrpcThis;
use dcom::properties::{self, Request};
use dcom::{Class, Configuration, Exporter, HResult, ObjRef, Object, ObjectCall, objref};
use ntlm::initiator::Initiator;
use ntlm::{NtHash, ServerNames};
use spnego::{Account, Accounts, Attempt, Audit, Dialect, Logons, Lookup, Refusal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use tokio::net::TcpStream;
use tokio::sync::watch;
use uuid::{Uuid, uuid};

pub const CLSID: Uuid = uuid!("5aa0a1f5-0001-4e4b-9b3c-8b8a7d2f0000");
pub const ICOUNTER: Uuid = uuid!("5aa0a1f5-0002-4e4b-9b3c-8b8a7d2f0000");
pub const INAME: Uuid = uuid!("5aa0a1f5-0003-4e4b-9b3c-8b8a7d2f0000");
pub const IUNHEARD: Uuid = uuid!("5aa0a1f5-0004-4e4b-9b3c-8b8a7d2f0000");
pub const IREMUNKNOWN: Uuid = uuid!("00000131-0000-0000-c000-000000000046");
pub const RESOLVER: Uuid = uuid!("99fcfec4-5260-101b-bbcb-00aa0021347a");
pub const ACTIVATOR: Uuid = uuid!("000001a0-0000-0000-c000-000000000046");
pub const OLD_ACTIVATOR: Uuid = uuid!("4d9f4ab8-7d1c-11cf-861e-0020af6e7c57");

struct Counter {
    value: AtomicI32,
    alive: watch::Sender<usize>,
}

impl Counter {
    fn new(alive: &watch::Sender<usize>) -> Arc<Self> {
        alive.send_modify(|count| *count += 1);
        Arc::new(Counter {
            value: AtomicI32::new(0),
            alive: alive.clone(),
        })
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.alive.send_modify(|count| *count -= 1);
    }
}

#[async_trait::async_trait]
impl Object for Counter {
    fn interfaces(&self) -> &[Uuid] {
        &[ICOUNTER, INAME]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match (call.interface, call.opnum) {
            // HRESULT Add([in] long, [out] long *)
            (ICOUNTER, 3) => {
                let more = call.arguments.i32()?;
                let value = self.value.fetch_add(more, Ordering::SeqCst) + more;
                call.results.i32(value);
                Ok(HResult::OK)
            }
            // HRESULT Another([out] ICounter **)
            (ICOUNTER, 4) => {
                let reference = call.export(Counter::new(&self.alive), ICOUNTER);
                Ok(call.put_interface(reference))
            }
            // HRESULT Same([in] ICounter *, [out] long *)
            (ICOUNTER, 5) => {
                let other = call.take_interface()?;
                let other = other.and_then(|other| call.resolve(&other));
                let same = other.is_some_and(|other| Arc::ptr_eq(&other, &call.this));
                call.results.i32(same.into());
                Ok(HResult::OK)
            }
            // HRESULT Name([out, string] wchar_t **)
            (INAME, 3) => {
                let who = call.caller.identity.as_ref().unwrap();
                let name = format!("{}/{:?}", who.account, call.caller.level);
                call.results.pointer().wide_string(&name);
                Ok(HResult::OK)
            }
            (ICOUNTER, 6) => Ok(HResult::NOT_IMPLEMENTED),
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}

struct Counters(watch::Sender<usize>);

#[async_trait::async_trait]
impl Class for Counters {
    async fn create(&self, _: &Caller) -> Result<Arc<dyn Object>, HResult> {
        Ok(Counter::new(&self.0))
    }
}

struct TwoAccounts;

impl Accounts for TwoAccounts {
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a> {
        let user = attempt.user.to_lowercase();
        let found = ["alice", "bob"].contains(&&*user).then(|| Account {
            name: user,
            hash: NtHash::of_password("secret"),
        });
        Box::pin(async { found })
    }
}

impl Audit for TwoAccounts {
    fn accepted(&self, _: &Attempt, _: &str) {}

    fn refused(&self, _: &str, _: Option<&Attempt>, _: &Refusal) {}
}

pub fn exporter(ports: (u16, u16)) -> (Arc<Exporter>, watch::Sender<usize>) {
    let alive = watch::Sender::new(0);
    let mut configuration = Configuration::new(ports.0, ports.1);
    let counters = Arc::new(Counters(alive.clone()));
    configuration.classes.insert(CLSID, counters);
    configuration.interfaces.extend([ICOUNTER, INAME]);
    configuration.hosts.push("HOST".to_owned());
    (Exporter::new(configuration), alive)
}

pub struct Service {
    pub exporter: Arc<Exporter>,
    /// How many counters there are.
    pub alive: watch::Receiver<usize>,
    pub resolver: SocketAddr,
    pub objects: SocketAddr,
    _server: Server,
}

impl Service {
    pub async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, 0).await.unwrap()
    }

    /// None if the port cannot be had.
    pub async fn start_at(address: Ipv4Addr, port: u16) -> Option<Self> {
        let bind = |port| Listener::bind(SocketAddr::from((address, port)));
        let resolver = bind(port).await.ok()?;
        let objects = bind(0).await.ok()?;
        let addresses = (resolver.address(), objects.address());
        let (exporter, alive) = exporter((addresses.0.port(), addresses.1.port()));
        let logons = Logons::new(
            ServerNames::of_host("host.example.org"),
            Arc::new(TwoAccounts),
            Arc::new(TwoAccounts),
        );
        let server = Server::start(
            vec![
                (resolver, exporter.resolver_endpoint()),
                (objects, exporter.object_endpoint()),
            ],
            Arc::new(logons),
            Limits::default(),
        );
        Some(Service {
            exporter,
            alive: alive.subscribe(),
            resolver: addresses.0,
            objects: addresses.1,
            _server: server,
        })
    }

    /// A client of the port 135 that has bound the resolver and both activators.
    pub async fn resolver(&self, user: Option<&str>) -> Client<TcpStream> {
        let interfaces = [RESOLVER, ACTIVATOR, OLD_ACTIVATOR];
        connect(self.resolver, &interfaces, user).await
    }

    /// A client of the objects' port.
    pub async fn objects(&self, user: &str) -> Client<TcpStream> {
        let interfaces = [ICOUNTER, IREMUNKNOWN];
        connect(self.objects, &interfaces, Some(user)).await
    }

    /// Activates a counter for alice; a client that can call it.
    pub async fn counter(&self) -> (Client<TcpStream>, StandardReference) {
        let mut resolver = self.resolver(Some("alice")).await;
        let (result, references) = activate(&mut resolver, CLSID, &[ICOUNTER]).await;
        assert_eq!(result, HResult::OK);
        (self.objects("alice").await, references[0])
    }

    /// The IPID of `IRemUnknown`, as the resolver tells it.
    pub async fn unknown(&self, oxid: u64) -> Uuid {
        let mut resolver = self.resolver(None).await;
        let mut arguments = Writer::new();
        arguments.u64(oxid).u16(1).u32(1).u16(7);
        let result = resolver.call(0, None, 4, &arguments.into_bytes()).await;
        let result = result.unwrap();
        let at = result.len() - 28;
        Reader::new(&result[at..]).uuid().unwrap()
    }
}

pub fn credentials(user: &str, level: Level) -> Credentials {
    Credentials {
        initiator: Initiator::new(user, "secret"),
        dialect: Dialect::Ntlm,
        level,
        context: 1,
    }
}

async fn connect(
    address: SocketAddr,
    interfaces: &[Uuid],
    user: Option<&str>,
) -> Client<TcpStream> {
    assert!(matches!(address.ip(), IpAddr::V4(_)));
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let syntaxes: Vec<_> = interfaces
        .iter()
        .map(|interface| SyntaxId::new(*interface, 0))
        .collect();
    let credentials = user.map(|user| credentials(user, Level::Privacy));
    client.bind(&syntaxes, credentials.as_ref()).await.unwrap();
    client
}

/// Arguments with what stands before them.
pub fn arguments() -> Writer {
    let mut writer = Writer::new();
    let this = OrpcThis {
        major: 5,
        minor: 7,
        causality: Uuid::from_u128(77),
    };
    this.write(&mut writer);
    writer
}

/// The arguments of an activation.
pub fn activation_stub(class: Uuid, interfaces: &[Uuid], class_object: bool) -> Vec<u8> {
    let request = Request {
        class,
        interfaces: interfaces.to_vec(),
    };
    let reference = ObjRef::Custom {
        interface: properties::IID_IN,
        class: properties::CLSID_IN,
        data: request.encode(),
    };
    let mut stub = arguments();
    if !class_object {
        stub.null();
    }
    objref::write_interface_pointer(&mut stub, Some(&reference.encode()));
    stub.into_bytes()
}

/// Activates by `RemoteCreateInstance`; the references that came back.
pub async fn activate(
    client: &mut Client<TcpStream>,
    class: Uuid,
    interfaces: &[Uuid],
) -> (HResult, Vec<StandardReference>) {
    let stub = activation_stub(class, interfaces, false);
    let result = client.call(1, None, 4, &stub).await.unwrap();
    (result_of(&result), references_in(&result))
}

/// The HRESULT at the end of results.
pub fn result_of(results: &[u8]) -> HResult {
    HResult(u32::from_le_bytes(*results.last_chunk().unwrap()))
}

/// All standard references in results, wherever they stand.
pub fn references_in(results: &[u8]) -> Vec<StandardReference> {
    (0..results.len())
        .filter(|at| results[*at..].starts_with(b"MEOW"))
        .filter_map(|at| match ObjRef::decode(&results[at..]) {
            Ok(ObjRef::Standard { reference, .. }) => Some(reference),
            _ => None,
        })
        .collect()
}

/// Adds to a counter.
pub async fn add(
    client: &mut Client<TcpStream>,
    ipid: Uuid,
    more: i32,
) -> Result<i32, ClientError> {
    let mut stub = arguments();
    stub.i32(more);
    let result = client.call(0, Some(ipid), 3, &stub.into_bytes()).await?;
    assert_eq!(result_of(&result), HResult::OK);
    Ok(Reader::new(&result[8..]).i32().unwrap())
}
