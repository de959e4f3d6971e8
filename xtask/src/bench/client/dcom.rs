//! WMI over DCOM (MS-DCOM, MS-WMI): a logon by NTLM at the resolver, an activation, a login to the
//! namespace, and calls of `IWbemServices`.

mod blocking;
mod stub;

use std::net::TcpStream;

use cim::{CimType, Class, Instance, ObjectPath, PropertyDecl, Type, Value};
use dce_rpc::SyntaxId;
use dce_rpc::client::{Client, Credentials};
use dce_rpc::ndr::{Reader, Writer};
use dcom::objref::{self, StandardReference};
use dcom::properties::{self, Received, Request};
use dcom::{HResult, ObjRef};
use ntlm::initiator::Initiator;
use spnego::Dialect;
use uuid::{Uuid, uuid};
use wmi_object::{ClassLayout, Lineage, NoClasses, encode_instance};

use self::blocking::{Blocking, at_once};
use super::PATIENCE;
use crate::{Failure, Outcome};

pub use dce_rpc::Level;

const ACTIVATOR: Uuid = uuid!("000001a0-0000-0000-c000-000000000046");
const REM_UNKNOWN: Uuid = uuid!("00000131-0000-0000-c000-000000000046");
const LEVEL1_LOGIN: Uuid = uuid!("f309ad18-d86a-11d0-a075-00c04fb68820");
const LEVEL1_LOGIN_CLASS: Uuid = uuid!("8bc3f05e-d86b-11d0-a075-00c04fb68820");
const SERVICES: Uuid = uuid!("9556dc99-828c-11cf-a37e-00aa003240c7");
const ENUMERATOR: Uuid = uuid!("027947e1-d731-11ce-a357-000000000001");

/// The interfaces of the objects' port; each has its place here as its presentation context.
const OBJECT_INTERFACES: [Uuid; 4] = [LEVEL1_LOGIN, SERVICES, ENUMERATOR, REM_UNKNOWN];

/// An operation: the presentation context of its interface, its number.
type Operation = (u16, u16);
const NTLM_LOGIN: Operation = (0, 6);
const GET_OBJECT: Operation = (1, 6);
const EXEC_QUERY: Operation = (1, 20);
const EXEC_METHOD: Operation = (1, 24);
const NEXT: Operation = (2, 4);
const RELEASE: Operation = (3, 5);
/// Of the activator, which is the only interface of its connection.
const CREATE_INSTANCE: Operation = (0, 4);

const NAMESPACE: &str = "//./root/virtualization";
/// Return immediately, forward only.
const FORWARD_ONLY: i32 = 0x30;
/// Wait as long as it takes.
const FOREVER: i32 = -1;
/// Where the HRESULT and ORPCTHAT end and the results begin.
const ORPCTHAT: usize = 8;

/// Where and how to log on.
#[derive(Clone, Copy, Debug)]
pub struct Logon<'a> {
    pub resolver: &'a str,
    pub objects: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    pub level: Level,
}

impl Logon<'_> {
    fn connect(&self, address: &str, interfaces: &[Uuid]) -> Result<Client<Blocking>, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client::new(Blocking(stream));
        let credentials = Credentials {
            initiator: Initiator::new(self.user, self.password),
            dialect: Dialect::Ntlm,
            level: self.level,
            context: 1,
        };
        let syntaxes = interfaces.iter().map(|it| SyntaxId::new(*it, 0));
        let syntaxes: Vec<_> = syntaxes.collect();
        at_once(client.bind(&syntaxes, Some(&credentials)))??;
        Ok(client)
    }

    /// A login object, and the IPID of `IRemUnknown`.
    fn activate(&self) -> Result<(StandardReference, Uuid), Failure> {
        let mut activator = self.connect(self.resolver, &[ACTIVATOR])?;
        let request = Request {
            class: LEVEL1_LOGIN_CLASS,
            interfaces: vec![LEVEL1_LOGIN],
        };
        let wanted = ObjRef::Custom {
            interface: properties::IID_IN,
            class: properties::CLSID_IN,
            data: request.encode(),
        };
        let mut arguments = stub::arguments();
        arguments.null();
        objref::write_interface_pointer(&mut arguments, Some(&wanted.encode()));
        let results = call(&mut activator, None, CREATE_INSTANCE, arguments)?;
        let ObjRef::Custom { data, .. } = ObjRef::decode(stub::first_object(&results)?)? else {
            return Err("the activation's properties are not where they should be".into());
        };
        let received = Received::decode(&data)?;
        let login = received.references.into_iter().next();
        let login = login.ok_or("the activation gave nothing")??;
        Ok((stub::standard(&login)?, received.unknown))
    }
}

/// A connection to the objects' port that has logged in to the namespace.
pub struct Dcom {
    objects: Client<Blocking>,
    unknown: Uuid,
    services: Uuid,
}

impl Dcom {
    pub fn log_in(logon: &Logon<'_>) -> Result<Self, Failure> {
        let (login, unknown) = logon.activate()?;
        let objects = logon.connect(logon.objects, &OBJECT_INTERFACES)?;
        let mut client = Dcom {
            objects,
            unknown,
            services: Uuid::nil(),
        };
        let mut arguments = stub::arguments();
        arguments.pointer().wide_string(NAMESPACE).align(4);
        arguments.null().i32(0).null();
        let results = client.call(login.ipid, NTLM_LOGIN, arguments)?;
        client.services = stub::standard(stub::first_object(&results)?)?.ipid;
        client.release(&login)?;
        Ok(client)
    }

    fn call(
        &mut self,
        ipid: Uuid,
        operation: Operation,
        arguments: Writer,
    ) -> Result<Vec<u8>, Failure> {
        call(&mut self.objects, Some(ipid), operation, arguments)
    }

    /// Gives all references to an object back.
    fn release(&mut self, object: &StandardReference) -> Outcome {
        let mut arguments = stub::arguments();
        arguments.u16(1).u32(1);
        arguments.uuid(object.ipid).u32(object.references).u32(0);
        self.call(self.unknown, RELEASE, arguments).map(drop)
    }

    /// ExecQuery, forward only; one Next that comes to the end; the enumerator is released. Fails
    /// unless so many objects are found; gives the results of Next, with the objects in them.
    pub fn query(&mut self, wql: &str, expected: u32) -> Result<Vec<u8>, Failure> {
        let mut arguments = stub::arguments();
        stub::bstr(&mut arguments, "WQL");
        stub::bstr(&mut arguments, wql);
        arguments.i32(FORWARD_ONLY).null();
        let results = self.call(self.services, EXEC_QUERY, arguments)?;
        let enumerator = stub::standard(stub::first_object(&results)?)?;
        let mut arguments = stub::arguments();
        arguments.i32(FOREVER).u32(expected.saturating_add(1));
        let found = self.call(enumerator.ipid, NEXT, arguments)?;
        // Room, offset, count.
        let count = Reader::new(found.get(ORPCTHAT + 8..).unwrap_or_default()).u32()?;
        if stub::result(&found)? != HResult::FALSE || count != expected {
            return Err(format!("{count} objects for {wql}, and more or fewer are there").into());
        }
        self.release(&enumerator)?;
        Ok(found)
    }

    /// GetObject of an instance.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        let mut arguments = stub::arguments();
        stub::bstr(&mut arguments, path);
        arguments.i32(0).null();
        arguments.pointer().null();
        arguments.null();
        self.call(self.services, GET_OBJECT, arguments)
    }

    /// ExecMethod with parameters from [`parameters`]. What it returns is in the results, unread.
    pub fn exec_method(
        &mut self,
        path: &str,
        method: &str,
        parameters: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let mut arguments = stub::arguments();
        stub::bstr(&mut arguments, path);
        stub::bstr(&mut arguments, method);
        arguments.i32(0).null();
        objref::write_interface_pointer(&mut arguments, Some(parameters));
        arguments.pointer().null();
        arguments.null();
        self.call(self.services, EXEC_METHOD, arguments)
    }
}

/// Makes a call; fails if its HRESULT is an error.
fn call(
    client: &mut Client<Blocking>,
    ipid: Option<Uuid>,
    (context, number): Operation,
    arguments: Writer,
) -> Result<Vec<u8>, Failure> {
    let results = at_once(client.call(context, ipid, number, &arguments.into_bytes()))??;
    let result = stub::result(&results)?;
    match result.is_error() {
        true => Err(format!("operation {number} of {ipid:?}: {result}").into()),
        false => Ok(results),
    }
}

/// The objects by value in the results of GetObject, Next or ExecMethod.
pub fn objects(results: &[u8]) -> Result<Vec<Instance>, Failure> {
    stub::objects(results)
}

/// A parameter of a method.
pub type Parameter<'a> = (&'a str, CimType, Vec<Value>);

/// The parameters of a method, arrays all, as an object by value.
pub fn parameters(given: Vec<Parameter<'_>>) -> Result<Vec<u8>, Failure> {
    let mut class = Class::new(wmi_object::parameters::CLASS);
    for (name, kind, _) in &given {
        let ty = Type {
            kind: *kind,
            array: true,
        };
        let property = PropertyDecl::new(*name, ty, wmi_object::parameters::CLASS);
        class.properties.push(property);
    }
    let mut instance = Instance::of_class(&class);
    for (name, _, values) in given {
        instance.set(name, Value::Array(values))?;
    }
    let layout = ClassLayout::new(&Lineage::root(&class))?;
    let block = encode_instance(&layout, &instance, None, &NoClasses)?;
    Ok(wmi_object::objref(&block))
}

/// A reference as the value of a parameter.
pub fn reference(path: &str) -> Result<Value, Failure> {
    Ok(Value::from(ObjectPath::parse(path)?))
}
