//! `ExecMethod`: parameters out of the object that the client sent, results into one of ours.

use super::objects::{self, localize_value, locate};
use crate::call_result::Outcome;
use crate::encoder::Encoder;
use crate::session::{Refused, Session};
use crate::status;
use cim::{CimError, CimStatus, Instance, MethodDecl, Name, ObjectPath, Property, Value};
use cim_broker::InvokeResult;
use dce_rpc::Caller;
use dcom::HResult;
use wmi_object::block::unit_of_objref;
use wmi_object::{ClassSource, Limits, parameters};

/// What is to be called.
pub(super) struct MethodCall {
    pub(super) path: String,
    pub(super) method: String,
    /// The reference to the parameters, by value.
    pub(super) parameters: Option<Vec<u8>>,
}

/// Calls a method. The call runs to its end even when nobody waits for it: the broker sees to that.
pub(super) async fn invoke(
    session: &Session,
    caller: &Caller,
    call: MethodCall,
) -> Result<Outcome, HResult> {
    let method = Name::new(call.method.trim());
    let prepared = session.ask(caller, move |session, context| {
        let (place, target) = locate(session, &call.path)?;
        let arguments = arguments(call.parameters.as_deref())?;
        Ok((place, target, arguments, context.clone()))
    });
    let (place, target, arguments, context) = prepared.await?;
    let broker = &place.service.broker;
    let result = broker
        .invoke(&context, place.namespace(), &target, &method, arguments)
        .await;
    let result = match result {
        Ok(result) => result,
        Err(error) => return Err(refusal(&place, caller, target, &error).await),
    };
    let block = output(&place.encoder, &target, &method, result)?;
    Ok(Outcome::Object(wmi_object::objref(&block).into()))
}

/// WMI has codes of their own for wrong parameters of methods and for paths that fit several objects.
async fn refusal(
    place: &Session,
    caller: &Caller,
    target: ObjectPath,
    error: &CimError,
) -> HResult {
    let code = status::of_error(error);
    match error.status {
        _ if target.is_class() => code,
        CimStatus::TypeMismatch => status::INVALID_METHOD_PARAMETERS,
        CimStatus::InvalidParameter => {
            let found = place.ask(caller, move |place, context| {
                objects::instance(place, context, &target).map(drop)
            });
            match found.await {
                Err(status::INVALID_OBJECT_PATH) => status::INVALID_OBJECT_PATH,
                _ => status::INVALID_METHOD_PARAMETERS,
            }
        }
        _ => code,
    }
}

/// The parameters that the client gave. Their types are the broker's business.
fn arguments(reference: Option<&[u8]>) -> Result<Vec<(Name, Value)>, Refused> {
    let Some(reference) = reference else {
        return Ok(Vec::new());
    };
    let wrong = || Refused(status::INVALID_METHOD_PARAMETERS);
    let unit = unit_of_objref(reference).ok_or_else(wrong)?;
    let object = wmi_object::decode(unit, Limits::REQUEST).map_err(|error| {
        tracing::debug!(%error, "parameters cannot be read");
        wrong()
    })?;
    let given = object.into_instance().ok_or_else(wrong)?;
    let arguments = given.properties.into_iter().map(|property| {
        let mut value = property.value;
        localize_value(&mut value);
        (property.name, value)
    });
    Ok(arguments.collect())
}

/// The object block of what a method gave.
fn output(
    encoder: &Encoder,
    target: &ObjectPath,
    method: &Name,
    result: InvokeResult,
) -> Result<Vec<u8>, HResult> {
    let Some(declared) = declaration(encoder, &target.class, method) else {
        tracing::error!(class = %target.class, %method, "a method that was called is not declared");
        return Err(status::FAILED);
    };
    let class = parameters::output_class(&declared);
    let (ty, value) = result.return_value;
    let returned = Property {
        name: Name::new(parameters::RETURN_VALUE),
        ty,
        value,
        origin: None,
    };
    let mut properties = result.out;
    properties.push(returned);
    for property in &mut properties {
        encoder.complete_value(&mut property.value);
    }
    let instance = Instance {
        class: class.name.clone(),
        path: None,
        properties,
    };
    encoder.loose_instance_block(&class, &instance)
}

/// How a method is declared, by the class itself or by the first of its subclasses that has it.
fn declaration(encoder: &Encoder, class: &Name, method: &Name) -> Option<MethodDecl> {
    let own = |class: &Name| {
        let lineage = encoder.lineage(class)?;
        lineage.class().method(method.as_str()).cloned()
    };
    own(class).or_else(|| {
        let schema = encoder.broker().schema(encoder.namespace()).ok()?;
        let below = schema.subclasses(class, true).into_iter();
        below.filter_map(|class| own(&class.name)).next()
    })
}
