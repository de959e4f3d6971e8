//! `IWbemServices` (MS-WMI 3.1.4.3): what is asked of a namespace.
//!
//! Here: which operation is which, and arguments out of their stubs. The operations are in the
//! modules below. Classes and instances cannot be put or deleted: that is what methods are for.

mod methods;
mod objects;
mod queries;

use crate::call_result::{CallResult, Outcome};
use crate::encoder::Texts;
use crate::session::Session;
use crate::{ids, status, stub};
use async_trait::async_trait;
use cim::Namespace;
use dce_rpc::Fault;
use dcom::{HResult, Object, ObjectCall, objref};
use std::future::Future;
use std::sync::Arc;
use uuid::Uuid;

/// Flag: subclasses are not wanted (`WBEM_FLAG_SHALLOW`).
const SHALLOW: i32 = 0x1;
/// Flag: the shape of the results instead of the results (`WBEM_FLAG_PROTOTYPE`).
const PROTOTYPE: i32 = 0x2;
/// Flag: answer before the call is done (`WBEM_FLAG_RETURN_IMMEDIATELY`).
const RETURN_IMMEDIATELY: i32 = 0x10;
/// Flag: results are gone through once (`WBEM_FLAG_FORWARD_ONLY`).
const FORWARD_ONLY: i32 = 0x20;
/// Flag: translatable qualifiers too (`WBEM_FLAG_USE_AMENDED_QUALIFIERS`).
const AMENDED: i32 = 0x2_0000;

/// A namespace that somebody has logged in to.
pub(crate) struct Services {
    session: Session,
}

impl Services {
    pub(crate) fn new(session: Session) -> Self {
        Services { session }
    }
}

#[async_trait]
impl Object for Services {
    fn interfaces(&self) -> &[Uuid] {
        &[ids::SERVICES]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match call.opnum {
            3 => self.open_namespace(call).await,
            6 => self.get_object(call).await,
            // PutClass, PutInstance
            8 | 14 => {
                objref::read_interface_pointer(&mut call.arguments)?;
                refuse_change(call)
            }
            // DeleteClass, DeleteInstance
            10 | 16 => {
                stub::read_bstr(&mut call.arguments)?;
                refuse_change(call)
            }
            12 => self.create_class_enum(call).await,
            18 => self.create_instance_enum(call).await,
            20 => self.exec_query(call).await,
            22 => self.exec_notification_query(call).await,
            24 => self.exec_method(call).await,
            // QueryObjectSink([in] long lFlags, [out] IWbemObjectSink **)
            5 => {
                call.results.null();
                Ok(HResult::NOT_IMPLEMENTED)
            }
            // CancelAsyncCall, and what would need calls back to the client
            4 | 7 | 9 | 11 | 13 | 15 | 17 | 19 | 21 | 23 | 25 => Ok(HResult::NOT_IMPLEMENTED),
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}

/// Objects are made, changed and removed by methods; classes are fixed.
fn refuse_change(call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
    let _flags = call.arguments.i32()?;
    stub::skip_context(&mut call.arguments)?;
    let room = stub::read_room(&mut call.arguments)?;
    stub::write_result(&mut call.results, room, None);
    Ok(status::NOT_SUPPORTED)
}

fn texts(flags: i32) -> Texts {
    match flags & AMENDED {
        0 => Texts::Left,
        _ => Texts::Amended,
    }
}

impl Services {
    /// `OpenNamespace([in] BSTR, [in] long lFlags, [in] IWbemContext *, [in, out, unique]
    /// IWbemServices **, [in, out, unique] IWbemCallResult **)`.
    async fn open_namespace(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let name = stub::read_bstr(&mut call.arguments)?;
        let flags = call.arguments.i32()?;
        stub::skip_context(&mut call.arguments)?;
        let session = self.below(&name.unwrap_or_default());
        let open = async move { session.map(Outcome::Services) };
        answer(call, flags, open).await
    }

    /// A namespace inside this one; clients are also known to give whole names.
    fn below(&self, name: &str) -> Result<Session, HResult> {
        let service = &self.session.service;
        let inside = Namespace::new(format!("{}\\{name}", self.session.namespace()));
        let found = service.session(&inside);
        let found = found.or_else(|| service.session(&Namespace::new(name)));
        found.ok_or(status::INVALID_NAMESPACE)
    }

    /// `GetObject([in] BSTR strObjectPath, [in] long lFlags, [in] IWbemContext *, [in, out, unique]
    /// IWbemClassObject **, [in, out, unique] IWbemCallResult **)`.
    async fn get_object(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let path = stub::read_bstr(&mut call.arguments)?;
        let flags = call.arguments.i32()?;
        stub::skip_context(&mut call.arguments)?;
        let (session, caller) = (self.session.clone(), call.caller.clone());
        let get = async move {
            let path = path.unwrap_or_default();
            objects::get(&session, &caller, path, texts(flags)).await
        };
        answer(call, flags, get).await
    }

    /// `ExecMethod([in] BSTR strObjectPath, [in] BSTR strMethodName, [in] long lFlags, [in]
    /// IWbemContext *, [in] IWbemClassObject *pInParams, [in, out, unique] IWbemClassObject **, [in,
    /// out, unique] IWbemCallResult **)`.
    async fn exec_method(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let path = stub::read_bstr(&mut call.arguments)?;
        let method = stub::read_bstr(&mut call.arguments)?;
        let flags = call.arguments.i32()?;
        stub::skip_context(&mut call.arguments)?;
        let parameters = objref::read_interface_pointer(&mut call.arguments)?;
        let method = methods::MethodCall {
            path: path.unwrap_or_default(),
            method: method.unwrap_or_default(),
            parameters: parameters.map(<[u8]>::to_vec),
        };
        let (session, caller) = (self.session.clone(), call.caller.clone());
        let invoke = async move { methods::invoke(&session, &caller, method).await };
        answer(call, flags, invoke).await
    }
}

/// Reads where the client has room for the result and for a call result, does the work, or begins it
/// if the client wants to be answered at once, and writes both.
async fn answer(
    call: &mut ObjectCall<'_>,
    flags: i32,
    work: impl Future<Output = Result<Outcome, HResult>> + Send + 'static,
) -> Result<HResult, Fault> {
    let result_room = stub::read_room(&mut call.arguments)?;
    let call_room = stub::read_room(&mut call.arguments)?;
    if flags & RETURN_IMMEDIATELY != 0 && call_room {
        let begun = call.export(CallResult::begin(work), ids::CALL_RESULT);
        stub::write_result(&mut call.results, result_room, None);
        stub::write_result(&mut call.results, call_room, begun.as_deref().ok());
        return Ok(begun.err().unwrap_or(HResult::OK));
    }
    let result = match work.await {
        Ok(Outcome::Object(object)) => Ok(object),
        Ok(Outcome::Services(session)) => call
            .export(Arc::new(Services::new(session)), ids::SERVICES)
            .map(Arc::from),
        Err(error) => Err(error),
    };
    stub::write_result(&mut call.results, result_room, result.as_deref().ok());
    stub::write_result(&mut call.results, call_room, None);
    Ok(result.err().unwrap_or(HResult::OK))
}
