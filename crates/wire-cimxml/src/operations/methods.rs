//! Method calls.

use super::place;
use cim::{CimError, CimStatus, CimType, Embedded, MethodDecl, Name, Namespace};
use cim_broker::{Broker, Context};
use cim_xml::request::MethodCall;
use cim_xml::response::MethodResult;
use std::sync::Arc;

/// Calls a method. Types of arguments are the broker's business; a parameter given twice has no
/// meaning that it could find. Gives the answer, and what an error code in it means in words.
pub(super) async fn invoke(
    broker: &Broker,
    context: &Context,
    call: MethodCall,
) -> Result<(MethodResult, Option<String>), CimError> {
    let mut target = call.target;
    place::localize(broker, &mut target);
    let namespace = target
        .namespace
        .clone()
        .unwrap_or_else(|| Namespace::new(""));
    broker.schema(&namespace)?;
    let mut arguments: Vec<(Name, cim::Value)> = Vec::with_capacity(call.arguments.len().min(64));
    for mut argument in call.arguments {
        if arguments.iter().any(|(name, _)| *name == argument.name) {
            return Err(CimError::new(
                CimStatus::InvalidParameter,
                format!("The parameter {} is given twice.", argument.name),
            ));
        }
        if arguments.len() >= 256 {
            let message = "There are too many parameters.";
            return Err(CimError::new(CimStatus::InvalidParameter, message));
        }
        place::localize_value(broker, &mut argument.value);
        arguments.push((argument.name, argument.value));
    }
    let class = target.class.clone();
    let result = broker
        .invoke(context, &namespace, &target, &call.method, arguments)
        .await?;
    let declared = declared(broker, &namespace, &class, &call.method);
    // NULL is said by leaving the parameter out: one widespread client crashes on an empty one.
    let mut parameters: Vec<cim::Property> = result
        .out
        .into_iter()
        .filter(|parameter| !parameter.value.is_null())
        .collect();
    for parameter in &mut parameters {
        let embeds = declared
            .as_ref()
            .and_then(|method| method.parameter(parameter.name.as_str()))
            .and_then(|declared| declared.embedded())
            .is_some_and(|embedded| matches!(embedded, Embedded::Instance(_) | Embedded::Object));
        if embeds && parameter.ty.kind == CimType::String {
            parameter.ty.kind = CimType::Object;
        }
    }
    let answer = MethodResult {
        return_value: Some(result.return_value),
        parameters,
    };
    Ok((answer, result.explanation))
}

fn declared(
    broker: &Broker,
    namespace: &Namespace,
    class: &Name,
    method: &Name,
) -> Option<MethodDecl> {
    let class: &Arc<cim::Class> = broker.schema(namespace).ok()?.class(class)?;
    class.method(method.as_str()).cloned()
}
