//! A small broker behind the wire, and a client that calls its objects without a socket. The fuzz
//! target uses it too.

use async_trait::async_trait;
use cim::mof::Repository;
use cim::{CimError, Class, Instance, Name, Namespace, ObjectPath, Value};
use cim_broker::{
    Arguments, Broker, Change, Changes, Context, Equality, Interruption, MethodOutcome, Provider,
    Role,
};
use dce_rpc::ndr::Writer;
use dce_rpc::{Call, Caller, Connection, Fault, Identity, Level, Objects, SyntaxId};
use dcom::orpc::OrpcThis;
use dcom::properties::{self, Request};
use dcom::{Exporter, HResult, ObjRef, objref};
use std::sync::{Arc, LazyLock};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;
use wire_dcom::{Authority, Configuration, HoldingLimits, Offer, ids};
use wmi_object::{Decoded, Limits};

pub const NAMESPACE: &str = "root\\shop";
/// More than any test takes at once.
pub const ITEMS: usize = 300;

const MOF: &str = r#"
Qualifier Description : string = null, Scope(any), Flavor(Translatable);
[Abstract] class S_Thing { string Caption; };
[Description("What is for sale.")]
class S_Item : S_Thing
{
    [Key] string Name;
    uint32 Size;
    string Tags[];
    boolean Fresh;
    object Inside;
};
class S_Rare : S_Item { sint64 Price; };
class S_Counter : S_Thing
{
    [Key] string Name;
    uint32 Order([In] S_Item REF Item, [In] object Wrapping, [In] uint16 Counts[],
        [In] string Labels[], [In] boolean Urgent, [In(false), Out] S_Item REF Sold,
        [In(false), Out] object Parcel, [In(false), Out] string Echo[]);
    uint32 Wait();
};
"#;

/// Compiled once: a fuzz target opens thousands of shops a minute.
static CLASSES: LazyLock<Repository> =
    LazyLock::new(|| Repository::compile(&[("shop.mof", MOF)]).unwrap());
static NO_CLASSES: LazyLock<Repository> =
    LazyLock::new(|| Repository::compile(&[("empty.mof", "")]).unwrap());

struct Goods {
    classes: Repository,
    changes: broadcast::Sender<Vec<Change>>,
    items: usize,
    /// What `Wait` waits for.
    open: watch::Sender<bool>,
}

impl Goods {
    fn class(&self, name: &str) -> &Class {
        self.classes.class(&Name::new(name)).unwrap()
    }

    fn item(&self, class: &str, at: usize) -> Instance {
        let inside = Instance::builder(self.class("S_Counter"))
            .set("Name", "inside")
            .build()
            .unwrap();
        Instance::builder(self.class(class))
            .set("Name", format!("{class} {at}"))
            .set("Size", u32::try_from(at).unwrap())
            .set("Tags", vec!["grün".to_owned(), String::new()])
            .set("Fresh", at.is_multiple_of(2))
            .set("Inside", Value::from(inside))
            .build_named()
            .unwrap()
    }
}

struct Stream(broadcast::Receiver<Vec<Change>>);

#[async_trait]
impl Changes for Stream {
    async fn next(&mut self) -> Result<Vec<Change>, Interruption> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(count) => Interruption::Missed(count),
            broadcast::error::RecvError::Closed => Interruption::Ended,
        })
    }
}

#[async_trait]
impl Provider for Goods {
    fn classes(&self) -> Vec<Name> {
        ["S_Item", "S_Rare", "S_Counter"].map(Name::new).to_vec()
    }

    fn enumerate(
        &self,
        _: &Context,
        class: &Name,
        _: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        Ok(match class.as_str() {
            "S_Item" => (0..self.items).map(|at| self.item("S_Item", at)).collect(),
            "S_Rare" => vec![self.item("S_Rare", 1)],
            _ => {
                let counter = Instance::builder(self.class("S_Counter")).set("Name", "main");
                vec![counter.build_named().unwrap()]
            }
        })
    }

    fn changes(&self, _: &[Name]) -> Option<Box<dyn Changes>> {
        Some(Box::new(Stream(self.changes.subscribe())))
    }

    fn required_role(&self, _: &Name, _: &Name) -> Role {
        Role::Operator
    }

    async fn invoke(
        &self,
        _: &Context,
        _: &ObjectPath,
        method: &Name,
        arguments: Arguments,
    ) -> Result<MethodOutcome, CimError> {
        if method.is("Wait") {
            let mut open = self.open.subscribe();
            let _ = open.wait_for(|open| *open).await;
        }
        let echo = arguments
            .values
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"));
        let out = vec![
            ("Sold".into(), arguments.get("Item").clone()),
            ("Parcel".into(), arguments.get("Wrapping").clone()),
            ("Echo".into(), Value::from(echo.collect::<Vec<_>>())),
        ];
        Ok(MethodOutcome {
            return_value: Value::Uint32(if method.is("Wait") { 7 } else { 4096 }),
            out: if method.is("Wait") { Vec::new() } else { out },
            explanation: None,
        })
    }
}

/// Operator is everybody but `viewer` and those whose name begins with `gone`.
struct Everybody;

impl Authority for Everybody {
    fn role(&self, account: &str) -> Option<Role> {
        match account {
            "viewer" => Some(Role::Viewer),
            _ if account.starts_with("gone") => None,
            _ => Some(Role::Operator),
        }
    }
}

pub struct Shop {
    exporter: Arc<Exporter>,
    objects: Arc<dyn Objects>,
    user: String,
    goods: Arc<Goods>,
}

impl Shop {
    pub fn new() -> Self {
        Self::with_limits(HoldingLimits::default())
    }

    pub fn with_limits(holdings: HoldingLimits) -> Self {
        Self::with(holdings, ITEMS)
    }

    /// One that is opened in no time.
    pub fn small() -> Self {
        Self::with(HoldingLimits::default(), 10)
    }

    fn with(holdings: HoldingLimits, items: usize) -> Self {
        let mut broker = Broker::new("HOST");
        let namespace = Namespace::new(NAMESPACE);
        broker.add_namespace(namespace.clone(), CLASSES.clone());
        broker.add_namespace(Namespace::new("root\\shop\\back"), NO_CLASSES.clone());
        let goods = Arc::new(Goods {
            classes: CLASSES.clone(),
            items,
            changes: broadcast::Sender::new(4),
            open: watch::Sender::new(false),
        });
        broker.add_provider(&namespace, goods.clone());
        broker.check().unwrap();
        let address = ([127, 0, 0, 1], 135).into();
        let mut configuration = Configuration::new(address, address);
        configuration.holdings = holdings;
        let offer = Offer {
            broker: Arc::new(broker),
            authority: Arc::new(Everybody),
        };
        let exporter = offer.exporter(&configuration);
        Shop {
            objects: exporter.object_endpoint().objects.unwrap(),
            exporter,
            user: "alice".to_owned(),
            goods,
        }
    }

    /// The same, called by somebody else.
    pub fn of(&self, user: &str) -> Self {
        Shop {
            exporter: self.exporter.clone(),
            objects: self.objects.clone(),
            user: user.to_owned(),
            goods: self.goods.clone(),
        }
    }

    /// How many objects clients hold.
    pub fn held(&self) -> usize {
        self.exporter.usage().objects
    }

    /// Ends all calls of `Wait`.
    pub fn open(&self) {
        self.goods.open.send_replace(true);
    }

    /// Tells that an item has appeared.
    pub fn announce(&self, at: usize) {
        let after = Some(Box::new(self.goods.item("S_Item", at)));
        let change = Change::Instance {
            before: None,
            after,
        };
        // Nobody may listen.
        let _ = self.goods.changes.send(vec![change]);
    }

    fn caller(&self) -> Caller {
        let address = ([127, 0, 0, 1], 1).into();
        Caller {
            connection: Arc::new(Connection {
                id: 1,
                peer: address,
                local: address,
            }),
            identity: Some(Arc::new(Identity {
                account: self.user.clone(),
                workstation: String::new(),
            })),
            level: Level::Privacy,
        }
    }

    /// Activates the way in.
    pub async fn activate(&self) -> Uuid {
        let request = Request {
            class: ids::CLSID_LEVEL1_LOGIN,
            interfaces: vec![ids::LEVEL1_LOGIN],
        };
        let reference = ObjRef::Custom {
            interface: properties::IID_IN,
            class: properties::CLSID_IN,
            data: request.encode(),
        };
        let mut stub = begin();
        stub.null();
        objref::write_interface_pointer(&mut stub, Some(&reference.encode()));
        let activator = &self.exporter.resolver_endpoint().interfaces[1];
        let call = Call {
            interface: activator.syntax(),
            opnum: 4,
            stub: &stub.into_bytes(),
            caller: &self.caller(),
        };
        let results = activator.call(call).await.unwrap();
        Reply(results).ipid().unwrap()
    }

    /// Calls an object.
    pub async fn call(&self, ipid: Uuid, opnum: u16, arguments: &[u8]) -> Result<Reply, Fault> {
        let mut stub = begin();
        stub.bytes(arguments);
        let call = Call {
            interface: SyntaxId::new(ids::SERVICES, 0),
            opnum,
            stub: &stub.into_bytes(),
            caller: &self.caller(),
        };
        self.objects.call(ipid, call).await.map(Reply)
    }

    /// Logs in to a namespace.
    pub async fn login(&self, resource: &str) -> Result<Uuid, HResult> {
        let login = self.activate().await;
        let reply = self.call(login, 6, &login_arguments(resource)).await;
        let reply = reply.unwrap();
        match reply.ipid() {
            Some(services) => Ok(services),
            None => Err(reply.code()),
        }
    }

    /// An enumerator of a query's results.
    pub async fn query(&self, services: Uuid, wql: &str, flags: i32) -> Result<Uuid, HResult> {
        let reply = self.call(services, 20, &query_arguments(wql, flags)).await;
        let reply = reply.unwrap();
        reply.ipid().ok_or(reply.code())
    }

    /// `IEnumWbemClassObject::Next`.
    pub async fn next(&self, enumerator: Uuid, timeout: i32, count: u32) -> Reply {
        let mut arguments = Writer::new();
        arguments.i32(timeout).u32(count);
        let reply = self.call(enumerator, 4, &arguments.into_bytes()).await;
        reply.unwrap()
    }

    /// Another interface of an object.
    pub async fn interface(&self, ipid: Uuid, interface: Uuid) -> Option<Uuid> {
        const IREMUNKNOWN: u16 = 3;
        let mut arguments = Writer::new();
        arguments.uuid(ipid).u32(1).u16(1).u32(1).uuid(interface);
        let unknown = self.unknown().await;
        let arguments = arguments.into_bytes();
        let reply = self.call(unknown, IREMUNKNOWN, &arguments).await.unwrap();
        // ORPCTHAT, the array's pointer and count, then the HRESULT and, aligned, the reference.
        let found = reply.0.get(16..20) == Some(&[0; 4]);
        let bytes = reply.0.get(48..64)?.try_into().ok()?;
        found.then(|| Uuid::from_bytes_le(bytes))
    }

    /// Gives an interface back.
    pub async fn release(&self, ipid: Uuid) {
        let mut arguments = Writer::new();
        arguments.u16(1).u32(1).uuid(ipid).u32(100).u32(0);
        let unknown = self.unknown().await;
        let released = self.call(unknown, 5, &arguments.into_bytes()).await;
        assert_eq!(released.unwrap().code(), HResult::OK);
    }

    /// The IPID of `IRemUnknown`.
    async fn unknown(&self) -> Uuid {
        let login = self.activate().await;
        let reply = self.call(login, 6, &login_arguments(NAMESPACE)).await;
        let oxid = reply.unwrap().standard().unwrap().oxid;
        let mut arguments = Writer::new();
        arguments.u64(oxid).u16(1).u32(1).u16(7);
        let resolver = &self.exporter.resolver_endpoint().interfaces[0];
        let call = Call {
            interface: resolver.syntax(),
            opnum: 4,
            stub: &arguments.into_bytes(),
            caller: &self.caller(),
        };
        let result = resolver.call(call).await.unwrap();
        let at = result.len() - 28;
        Uuid::from_bytes_le(result[at..at + 16].try_into().unwrap())
    }
}

fn begin() -> Writer {
    let mut writer = Writer::new();
    let this = OrpcThis {
        major: 5,
        minor: 7,
        causality: Uuid::from_u128(77),
    };
    this.write(&mut writer);
    writer
}

/// Results of a call.
pub struct Reply(pub Vec<u8>);

impl Reply {
    /// The HRESULT at their end.
    pub fn code(&self) -> HResult {
        HResult(u32::from_le_bytes(*self.0.last_chunk().unwrap()))
    }

    fn references(&self) -> impl Iterator<Item = &[u8]> {
        let starts = (0..self.0.len()).map(|at| &self.0[at..]);
        starts.filter(|rest| rest.starts_with(b"MEOW"))
    }

    fn standard(&self) -> Option<objref::StandardReference> {
        self.references()
            .find_map(|bytes| match ObjRef::decode(bytes) {
                Ok(ObjRef::Standard { reference, .. }) => Some(reference),
                _ => None,
            })
    }

    /// The first object to call among them.
    pub fn ipid(&self) -> Option<Uuid> {
        self.standard().map(|reference| reference.ipid)
    }

    /// The objects by value among them.
    pub fn objects(&self) -> Vec<Decoded> {
        self.references()
            .filter_map(wmi_object::block::unit_of_objref)
            .map(|unit| wmi_object::decode(unit, Limits::REQUEST).unwrap())
            .collect()
    }

    /// The instances by value among them.
    pub fn instances(&self) -> Vec<Instance> {
        let objects = self.objects().into_iter();
        objects
            .map(|object| object.into_instance().unwrap())
            .collect()
    }
}

/// Appends a BSTR.
pub fn bstr(writer: &mut Writer, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let bytes = u32::try_from(units.len() * 2).unwrap();
    writer
        .pointer()
        .count(units.len())
        .u32(bytes)
        .count(units.len());
    for unit in units {
        writer.u16(unit);
    }
    writer.align(4);
}

pub fn login_arguments(resource: &str) -> Vec<u8> {
    let mut arguments = Writer::new();
    arguments.pointer().wide_string(resource).align(4);
    arguments.null().i32(0).null();
    arguments.into_bytes()
}

pub fn query_arguments(wql: &str, flags: i32) -> Vec<u8> {
    let mut arguments = Writer::new();
    bstr(&mut arguments, "WQL");
    bstr(&mut arguments, wql);
    arguments.i32(flags).null();
    arguments.into_bytes()
}

/// Of operations that take a name, flags and a context.
pub fn named_arguments(name: &str, flags: i32) -> Writer {
    let mut arguments = Writer::new();
    bstr(&mut arguments, name);
    arguments.i32(flags).null();
    arguments
}

/// `GetObject`, with room for the object and, if wanted, for a call result.
pub fn get_arguments(path: &str, flags: i32, call_result: bool) -> Vec<u8> {
    let mut arguments = named_arguments(path, flags);
    arguments.pointer().null();
    match call_result {
        true => arguments.pointer().null(),
        false => arguments.null(),
    };
    arguments.into_bytes()
}

/// `ExecMethod`, likewise.
pub fn method_arguments(
    path: &str,
    method: &str,
    flags: i32,
    parameters: Option<&[u8]>,
    call_result: bool,
) -> Vec<u8> {
    let mut arguments = Writer::new();
    bstr(&mut arguments, path);
    bstr(&mut arguments, method);
    arguments.i32(flags).null();
    objref::write_interface_pointer(&mut arguments, parameters);
    arguments.pointer().null();
    match call_result {
        true => arguments.pointer().null(),
        false => arguments.null(),
    };
    arguments.into_bytes()
}

/// One input of the fuzz target: which object, which operation, its arguments. Gives what was
/// answered.
pub async fn fuzz(shop: &Shop, input: &[u8]) -> Option<Result<Reply, Fault>> {
    let (&[which, opnum], arguments) = input.split_first_chunk()?;
    let services = shop.login(NAMESPACE).await.unwrap();
    let wql = "SELECT Name, Inside FROM S_Item WHERE Size < 5";
    let object = match which % 6 {
        0 => shop.activate().await,
        1 => services,
        2 => shop.query(services, wql, 0).await.unwrap(),
        3 => {
            let plain = shop.query(services, wql, 0x30).await.unwrap();
            let fetch = shop.interface(plain, ids::FETCH_SMART).await.unwrap();
            let smart = shop.call(fetch, 3, &[]).await.unwrap();
            smart.ipid().unwrap()
        }
        4 => {
            let events = "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'S_Item'";
            let reply = shop
                .call(services, 22, &query_arguments(events, 0x30))
                .await;
            shop.announce(3);
            reply.unwrap().ipid().unwrap()
        }
        _ => {
            let get = get_arguments("S_Item.Name=\"S_Item 1\"", 0x10, true);
            shop.call(services, 6, &get).await.unwrap().ipid().unwrap()
        }
    };
    shop.open();
    let answer = shop.call(object, opnum.into(), arguments);
    // Events and results may be waited for as long as the client likes.
    tokio::time::timeout(std::time::Duration::from_secs(3600), answer)
        .await
        .ok()
}
