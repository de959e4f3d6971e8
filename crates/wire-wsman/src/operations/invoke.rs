//! Method calls (DSP0227 section 9). The action is the resource's address and the method's name.
//!
//! Selectors may be a part of the keys: one widespread client names a service by its class alone.

use super::Call;
use crate::instance::{ValueReader, grouped, write_property};
use crate::resource::{Resource, unquoted};
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::writer::Writer;
use cim::{CimError, CimStatus, CimType, Class, MethodDecl, Name, ObjectPath, Property, Value};
use cim_broker::InvokeResult;

/// Most parameters that a call may give.
const MOST_PARAMETERS: usize = 256;
/// The header in which an error code among return values is put into words.
const EXPLANATION: &str = "urn:rootvirt:explanation";

pub(super) async fn invoke(call: Call) -> Result<Reply, Fault> {
    let (resource, method) = call.method()?;
    let class = resource.declared(call.broker())?;
    let declared = class.method(method.as_str());
    let path = target(&resource, class, declared)?;
    let arguments = call.arguments(&resource, declared)?;
    let result = call.invoke_at(&resource, &path, &method, arguments).await?;
    let method = declared.map_or(&method, |it| &it.name);
    Ok(answer(&call, &resource, method, declared, result))
}

/// What the selectors name: with none, the class for a static method, else the only instance.
fn target(
    resource: &Resource,
    class: &Class,
    method: Option<&MethodDecl>,
) -> Result<ObjectPath, Fault> {
    let is_static =
        method.is_some_and(|it| it.qualifier("Static").is_some_and(cim::Qualifier::is_true));
    if resource.selectors.is_empty() && is_static {
        return Ok(ObjectPath {
            namespace: Some(resource.namespace.clone()),
            ..ObjectPath::of_class(class.name.clone())
        });
    }
    resource.path(class, false)
}

impl Call {
    fn method(&self) -> Result<(Resource, Name), Fault> {
        let action = self.request.action.as_str();
        let resource = self.resource()?;
        let (address, method) = action.rsplit_once('/').unwrap_or(("", action));
        let plausible = method.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !address.eq_ignore_ascii_case(&resource.uri) || method.is_empty() || !plausible {
            let reason = format!(
                "{action:?} is not an action here. A method's is the resource's address, a slash \
                 and its name: {}/Method.",
                resource.uri
            );
            return Err(Fault {
                number: 2_150_858_753,
                ..Fault::action_not_supported(reason)
            });
        }
        let method = Name::new(method);
        Ok((resource, method))
    }

    fn arguments(
        &self,
        resource: &Resource,
        method: Option<&MethodDecl>,
    ) -> Result<Vec<(Name, Value)>, Fault> {
        let Some(body) = &self.request.body else {
            return Ok(Vec::new());
        };
        let schema = self.broker().schema(&resource.namespace)?;
        let reader = ValueReader { schema };
        let groups = grouped(&body.children);
        if groups.len() > MOST_PARAMETERS {
            return Err(Fault::parameter(
                "InvalidName",
                "There are too many parameters.",
            ));
        }
        let mut arguments = Vec::with_capacity(groups.len());
        for (name, elements) in groups {
            let declared = method.map(|it| (it, it.parameter(name)));
            if let Some((method, None)) = declared {
                let inputs: Vec<&str> = method.inputs().map(|it| it.name.as_str()).collect();
                let reason = format!(
                    "The method {} has no parameter {name}. Its parameters are: {}.",
                    method.name,
                    inputs.join(", ")
                );
                return Err(Fault::parameter("InvalidName", reason));
            }
            let ty = declared.and_then(|(_, it)| it).map(|it| it.ty);
            let value = reader.value(&elements, ty)?;
            if value.is_null() {
                continue;
            }
            arguments.push((Name::new(name), value));
        }
        Ok(arguments)
    }

    async fn invoke_at(
        &self,
        resource: &Resource,
        path: &ObjectPath,
        method: &Name,
        arguments: Vec<(Name, Value)>,
    ) -> Result<InvokeResult, Fault> {
        let broker = self.broker();
        let invoke = |path: ObjectPath, arguments| async move {
            let space = &resource.namespace;
            broker
                .invoke(&self.context, space, &path, method, arguments)
                .await
        };
        let error = match invoke(path.clone(), arguments.clone()).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        match (error.status, unquoted(path)) {
            (CimStatus::NotFound, Some(bare)) => Ok(invoke(bare, arguments).await?),
            (CimStatus::InvalidParameter, _) => Err(self.wrong_parameter(resource, path, error)),
            _ => Err(error.into()),
        }
    }

    /// Whether it is the selectors that are wrong, or a parameter.
    fn wrong_parameter(&self, resource: &Resource, path: &ObjectPath, error: CimError) -> Fault {
        let found = self
            .broker()
            .get_instance(&self.context, &resource.namespace, path, None);
        match found {
            Err(found) if found.status == CimStatus::InvalidParameter => Fault {
                error: Some(found.status),
                ..Fault::selectors("AmbiguousSelectors", found.message)
            },
            _ => error.into(),
        }
    }
}

fn answer(
    call: &Call,
    resource: &Resource,
    method: &Name,
    declared: Option<&MethodDecl>,
    result: InvokeResult,
) -> Reply {
    let mut w = Writer::default();
    let output = format!("p:{method}_OUTPUT");
    w.open_with(&output, &[("xmlns:p", &resource.uri)]);
    for mut parameter in result.out {
        let embedded = declared
            .and_then(|it| it.parameter(parameter.name.as_str()))
            .and_then(|it| it.embedded());
        // Null is said by leaving out what is embedded or a reference: there is nothing to type.
        if parameter.value.is_null() && (embedded.is_some() || parameter.ty.array) {
            continue;
        }
        if embedded.is_some() && parameter.ty.kind == CimType::Object && !is_object(&parameter) {
            parameter.ty.kind = CimType::String;
        }
        write_property(&mut w, &parameter, &resource.family);
    }
    let (ty, value) = result.return_value;
    let returned = Property {
        name: Name::from("ReturnValue"),
        ty,
        value,
        origin: None,
    };
    write_property(&mut w, &returned, &resource.family);
    let mut headers = Writer::default();
    if let Some(explanation) = result.explanation {
        let declaration = [("xmlns:r", EXPLANATION)];
        headers.leaf_with("r:Explanation", &declaration, &explanation);
    }
    Reply {
        action: format!("{}Response", call.request.action),
        headers: headers.finish(),
        body: w.finish(),
    }
}

fn is_object(parameter: &Property) -> bool {
    match &parameter.value {
        Value::Instance(_) => true,
        Value::Array(items) => items.iter().all(|it| matches!(it, Value::Instance(_))),
        _ => false,
    }
}
