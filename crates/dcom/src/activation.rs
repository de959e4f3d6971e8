//! Activation (MS-DCOM 3.1.2.5.2.3): a client names a class and gets an object.

use crate::dispatch;
use crate::exporter::Exporter;
use crate::hresult::HResult;
use crate::object::{Class, Object, ObjectCall};
use crate::objref::{self, ObjRef};
use crate::orpc::{self, OrpcThis};
use crate::properties::{self, LEVEL_HINT, MOST_INTERFACES, Reply, Request};
use async_trait::async_trait;
use dce_rpc::ndr::{Reader, Writer};
use dce_rpc::{Call, Caller, Fault, Interface, Level, SyntaxId};
use std::sync::Arc;
use uuid::{Uuid, uuid};

const IREMOTESCMACTIVATOR: Uuid = uuid!("000001a0-0000-0000-c000-000000000046");
const IACTIVATION: Uuid = uuid!("4d9f4ab8-7d1c-11cf-861e-0020af6e7c57");
const ICLASSFACTORY: Uuid = uuid!("00000001-0000-0000-c000-000000000046");
/// The longest name of a persistent object, in characters.
const LONGEST_NAME: usize = 4096;
/// In `Mode`: a class object is wanted, not an instance.
const MODE_CLASS_OBJECT: u32 = 0xffff_ffff;

/// A client's wish, from whichever interface.
struct Wish {
    class: Uuid,
    interfaces: Vec<Uuid>,
    class_object: bool,
}

/// Each interface that was asked for: a reference, or why not.
type Granted = Vec<(Uuid, Result<Vec<u8>, HResult>)>;

/// Makes the object and gives out its interfaces. Fails if there is not one to give.
async fn activate(
    exporter: &Arc<Exporter>,
    caller: &Caller,
    wish: &Wish,
) -> Result<Granted, HResult> {
    let class = exporter.configuration.classes.get(&wish.class);
    let class = class.ok_or(HResult::CLASS_NOT_REGISTERED)?;
    if wish.interfaces.is_empty() {
        return Err(HResult::INVALID_ARGUMENT);
    }
    let object: Arc<dyn Object> = match wish.class_object {
        true => Arc::new(Factory(class.clone())),
        false => class.create(caller).await?,
    };
    let mut oid = None;
    let mut granted = Vec::new();
    for interface in &wish.interfaces {
        let given = match oid {
            Some(oid) => exporter.export_again(oid, *interface),
            None => exporter.export(object.clone(), *interface, caller),
        };
        let given = given.map(|reference| {
            oid = Some(reference.oid);
            exporter.reference(*interface, reference, caller)
        });
        granted.push((*interface, given));
    }
    match (oid, granted.first()) {
        (None, Some((_, Err(error)))) => Err(*error),
        _ => Ok(granted),
    }
}

/// `IRemoteSCMActivator`, by which clients since Windows 2000 activate.
pub(crate) struct Activation(Arc<Exporter>);

impl Activation {
    pub(crate) fn new(exporter: Arc<Exporter>) -> Self {
        Activation(exporter)
    }

    fn wish(mut arguments: Reader<'_>, class_object: bool) -> Result<Result<Wish, HResult>, Fault> {
        if !OrpcThis::read(&mut arguments)?.is_served() {
            return Ok(Err(HResult::VERSION_MISMATCH));
        }
        if !class_object && objref::read_interface_pointer(&mut arguments)?.is_some() {
            return Ok(Err(HResult::NO_AGGREGATION));
        }
        let properties = objref::read_interface_pointer(&mut arguments)?;
        let properties = properties.ok_or(Fault::BAD_STUB_DATA)?;
        let ObjRef::Custom { class, data, .. } = ObjRef::decode(properties)? else {
            return Err(Fault::BAD_STUB_DATA);
        };
        if class != properties::CLSID_IN {
            return Err(Fault::BAD_STUB_DATA);
        }
        let request = Request::decode(&data)?;
        Ok(Ok(Wish {
            class: request.class,
            interfaces: request.interfaces,
            class_object,
        }))
    }

    fn reply(&self, caller: &Caller, granted: &Granted) -> Vec<u8> {
        let bindings = self.0.object_bindings(&caller.connection);
        let reply = Reply {
            interfaces: granted,
            oxid: self.0.oxid,
            bindings: &bindings,
            unknown: self.0.unknown,
        };
        ObjRef::Custom {
            interface: properties::IID_OUT,
            class: properties::CLSID_OUT,
            data: reply.encode(),
        }
        .encode()
    }
}

#[async_trait]
impl Interface for Activation {
    fn syntax(&self) -> SyntaxId {
        SyntaxId::new(IREMOTESCMACTIVATOR, 0)
    }

    fn required_level(&self) -> Level {
        self.0.configuration.level
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        let class_object = match call.opnum {
            3 => true,
            4 => false,
            _ => return Err(Fault::OPERATION_RANGE),
        };
        let granted = match Self::wish(call.arguments(), class_object)? {
            Ok(wish) => activate(&self.0, call.caller, &wish).await,
            Err(error) => Err(error),
        };
        let mut results = orpc::results();
        let reply = granted
            .as_ref()
            .ok()
            .map(|granted| self.reply(call.caller, granted));
        objref::write_interface_pointer(&mut results, reply.as_deref());
        results.u32(granted.err().unwrap_or(HResult::OK).0);
        Ok(results.into_bytes())
    }
}

/// `IActivation`, by which older clients activate.
pub(crate) struct OldActivation(Arc<Exporter>);

impl OldActivation {
    pub(crate) fn new(exporter: Arc<Exporter>) -> Self {
        OldActivation(exporter)
    }

    fn wish(mut arguments: Reader<'_>) -> Result<Result<Wish, HResult>, Fault> {
        if !OrpcThis::read(&mut arguments)?.is_served() {
            return Ok(Err(HResult::VERSION_MISMATCH));
        }
        let class = arguments.uuid()?;
        let is_persistent = arguments.pointer()?;
        if is_persistent {
            arguments.wide_string(LONGEST_NAME)?;
        }
        let storage = objref::read_interface_pointer(&mut arguments)?;
        let (_impersonation, mode) = (arguments.u32()?, arguments.u32()?);
        let count = usize::try_from(arguments.u32()?).map_err(|_| Fault::BAD_STUB_DATA)?;
        if count > MOST_INTERFACES {
            return Err(Fault::BAD_STUB_DATA);
        }
        let interfaces = match arguments.pointer()? {
            true => dispatch::interfaces(&mut arguments, count)?,
            false => Vec::new(),
        };
        if is_persistent || storage.is_some() {
            return Ok(Err(HResult::NOT_IMPLEMENTED));
        }
        Ok(Ok(Wish {
            class,
            interfaces,
            class_object: mode == MODE_CLASS_OBJECT,
        }))
    }

    /// All results are there even if there is nothing: the client knows how many it asked for.
    fn reply(&self, caller: &Caller, asked: usize, granted: Result<Granted, HResult>) -> Vec<u8> {
        let mut results = orpc::results();
        let result = granted.as_ref().err().copied().unwrap_or(HResult::OK);
        match &granted {
            Ok(_) => {
                results.u64(self.0.oxid).pointer();
                let bindings = self.0.object_bindings(&caller.connection);
                bindings.write(&mut results);
                results.uuid(self.0.unknown);
            }
            Err(_) => {
                results.u64(0).null().uuid(Uuid::nil());
            }
        }
        results.u32(LEVEL_HINT).u16(orpc::MAJOR).u16(orpc::MINOR);
        results.u32(result.0);
        let granted: Vec<Result<Vec<u8>, HResult>> = match granted {
            Ok(granted) => granted.into_iter().map(|(_, given)| given).collect(),
            Err(error) => vec![Err(error); asked],
        };
        let references = granted.iter().map(|given| given.as_deref().ok());
        dispatch::write_references(&mut results, references);
        write_results(&mut results, &granted);
        // The call as such has worked.
        results.u32(0);
        results.into_bytes()
    }
}

fn write_results(results: &mut Writer, granted: &[Result<Vec<u8>, HResult>]) {
    results.count(granted.len());
    for given in granted {
        results.u32(given.as_ref().err().unwrap_or(&HResult::OK).0);
    }
}

#[async_trait]
impl Interface for OldActivation {
    fn syntax(&self) -> SyntaxId {
        SyntaxId::new(IACTIVATION, 0)
    }

    fn required_level(&self) -> Level {
        self.0.configuration.level
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        if call.opnum != 0 {
            return Err(Fault::OPERATION_RANGE);
        }
        let (asked, granted) = match Self::wish(call.arguments())? {
            Ok(wish) => {
                let granted = activate(&self.0, call.caller, &wish).await;
                (wish.interfaces.len(), granted)
            }
            Err(error) => (0, Err(error)),
        };
        Ok(self.reply(call.caller, asked, granted))
    }
}

/// A class object: `IClassFactory` for a class.
struct Factory(Arc<dyn Class>);

#[async_trait]
impl Object for Factory {
    fn interfaces(&self) -> &[Uuid] {
        &[ICLASSFACTORY]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match call.opnum {
            // RemoteCreateInstance([in] REFIID, [out] IUnknown **)
            3 => {
                let interface = call.arguments.uuid()?;
                let created = self.0.create(call.caller).await;
                let reference = created.and_then(|object| call.export(object, interface));
                Ok(call.put_interface(reference))
            }
            // RemoteLockServer([in] BOOL): the service runs for as long as it is told to by others.
            4 => Ok(HResult::OK),
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}
