//! Method calls: who may, on what, with which arguments; the call itself as a task of its own; the
//! outcome in its declared types.
//!
//! Every call that needs more than the right to read leaves an event with the target `audit`: who,
//! from where, what, with which result. It is written by the call's own task, so also when the
//! caller has gone.

use crate::access::{Context, Role};
use crate::arguments::Refusal;
use crate::broker::{Broker, InvokeResult};
use crate::errors;
use crate::namespaces::{Served, ServedNamespace};
use crate::provider::{Arguments, MethodOutcome, Provider};
use cim::{
    CimError, CimStatus, Class, MethodDecl, Name, Namespace, ObjectPath, Property, Type, Value,
};
use std::sync::Arc;
use tracing::Instrument;

impl Broker {
    pub(crate) async fn run_method(
        &self,
        context: &Context,
        namespace: &Namespace,
        target: &ObjectPath,
        method: &Name,
        arguments: Vec<(Name, Value)>,
    ) -> Result<InvokeResult, CimError> {
        let space = self.namespace_of(namespace, target)?;
        let served = self.method_server(space, target, method)?;
        let (class, decl) = declaration(space, &served.class, method)?;
        if context.role < served.provider.required_role(&class.name, &decl.name) {
            return self.deny(context, space, served, class, decl, target);
        }
        // The instance may be of another subclass than the one that was asked about access.
        let target = self.method_target(context, space, target, decl)?;
        let served = match space.provider_of(&target.class) {
            Some(served) => served,
            None => return Err(not_served(&target.class, method)),
        };
        let (class, decl) = declaration(space, &served.class, method)?;
        let required = served.provider.required_role(&class.name, &decl.name);
        if context.role < required {
            return self.deny(context, space, served, class, decl, &target);
        }
        let outcome = match self.bind_arguments(context, space, &class.name, decl, arguments) {
            Ok(arguments) => {
                let call = Call {
                    provider: Arc::clone(&served.provider),
                    context: context.clone(),
                    target,
                    method: decl.name.clone(),
                    audited: required > Role::Viewer,
                };
                call.run(arguments).await?
            }
            Err(Refusal::Call(error)) => return Err(error),
            Err(Refusal::Fault(fault)) => {
                served
                    .provider
                    .bad_argument(&class.name, &decl.name, &fault)?
            }
        };
        self.outcome(space, class, decl, outcome)
    }

    /// What the provider answers to those who may not.
    fn deny(
        &self,
        context: &Context,
        space: &ServedNamespace,
        served: &Served,
        class: &Class,
        method: &MethodDecl,
        target: &ObjectPath,
    ) -> Result<InvokeResult, CimError> {
        let outcome = served.provider.access_denied(&class.name, &method.name);
        audit(context, target, &method.name, "denied");
        self.outcome(space, class, method, outcome?)
    }

    /// A class at or below the target's that is served and has the method. Which instance it is
    /// does not matter yet: access is decided before a caller learns what exists.
    fn method_server<'a>(
        &self,
        space: &'a ServedNamespace,
        target: &ObjectPath,
        method: &Name,
    ) -> Result<&'a Served, CimError> {
        let class = space.class(&target.class)?;
        let mut served = space
            .served_below(&class.name)
            .filter_map(|served| Some((served, space.find_class(&served.class)?)));
        match served.find(|(_, class)| class.method(method.as_str()).is_some()) {
            Some((served, _)) => Ok(served),
            None if class.method(method.as_str()).is_some() => Err(not_served(&class.name, method)),
            None => Err(no_method(class, method)),
        }
    }

    /// The canonical path of the target, or the class for a static method.
    fn method_target(
        &self,
        context: &Context,
        space: &ServedNamespace,
        target: &ObjectPath,
        method: &MethodDecl,
    ) -> Result<ObjectPath, CimError> {
        if target.is_class() {
            let is_static = method
                .qualifier("Static")
                .is_some_and(cim::Qualifier::is_true);
            let class = space.class(&target.class)?;
            if !is_static {
                return Err(errors::class_path_for_instance(class));
            }
            return Ok(self.complete(space, ObjectPath::of_class(class.name.clone())));
        }
        let instance = self.resolve(context, space, target)?;
        instance.path.ok_or_else(|| errors::no_instance(target))
    }

    /// What the provider answered, typed as declared.
    fn outcome(
        &self,
        space: &ServedNamespace,
        class: &Class,
        method: &MethodDecl,
        outcome: MethodOutcome,
    ) -> Result<InvokeResult, CimError> {
        let broken = |what: &str| {
            errors::internal(
                "a method answered what it does not declare",
                format!("{}.{}: {what}", class.name, method.name),
            )
        };
        let typed = |element: &str, ty: Type, value: Value| {
            value
                .coerce(ty)
                .map(|value| self.with_complete_references(space, value))
                .map_err(|reason| broken(&format!("{element}: {reason}")))
        };
        let mut given = outcome.out;
        let mut out = Vec::new();
        for parameter in method.outputs() {
            let position = given.iter().position(|(name, _)| *name == parameter.name);
            let value = position.map_or(Value::Null, |at| given.swap_remove(at).1);
            out.push(Property {
                name: parameter.name.clone(),
                ty: parameter.ty,
                value: typed(parameter.name.as_str(), parameter.ty, value)?,
                origin: None,
            });
        }
        if let Some((name, _)) = given.first() {
            return Err(broken(&format!("there is no output parameter {name}")));
        }
        let return_value = typed("the return value", method.return_type, outcome.return_value)?;
        Ok(InvokeResult {
            return_value: (method.return_type, return_value),
            out,
            explanation: outcome.explanation,
        })
    }

    fn with_complete_references(&self, space: &ServedNamespace, value: Value) -> Value {
        match value {
            Value::Reference(path) => Value::from(self.complete(space, *path)),
            Value::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(|item| self.with_complete_references(space, item))
                    .collect(),
            ),
            other => other,
        }
    }
}

fn declaration<'a>(
    space: &'a ServedNamespace,
    class: &Name,
    method: &Name,
) -> Result<(&'a Class, &'a MethodDecl), CimError> {
    let class = space.class(class)?;
    let method = class
        .method(method.as_str())
        .ok_or_else(|| no_method(class, method))?;
    Ok((class, method))
}

fn no_method(class: &Class, method: &Name) -> CimError {
    let methods: Vec<&str> = class.methods.iter().map(|m| m.name.as_str()).collect();
    let advice = match methods.as_slice() {
        [] => "It has no methods.".to_owned(),
        names => format!("Its methods are: {}.", names.join(", ")),
    };
    CimError::new(
        CimStatus::MethodNotFound,
        format!("Class {} has no method {method}. {advice}", class.name),
    )
}

fn not_served(class: &Name, method: &Name) -> CimError {
    CimError::new(
        CimStatus::MethodNotAvailable,
        format!("{class}.{method} is declared, but this server does not serve it."),
    )
}

/// One call of a provider's method.
struct Call {
    provider: Arc<dyn Provider>,
    context: Context,
    target: ObjectPath,
    method: Name,
    audited: bool,
}

impl Call {
    /// Runs it as a task of its own, so that it ends properly even when the caller does not wait
    /// for it.
    async fn run(self, arguments: Arguments) -> Result<MethodOutcome, CimError> {
        let name = format!("{}.{}", self.target.class, self.method);
        let span = tracing::info_span!(
            "method",
            user = %self.context.user,
            peer = %self.context.peer,
            class = %self.target.class,
            method = %self.method
        );
        let task = async move {
            let target = self.target.clone();
            let outcome = self
                .provider
                .invoke(&self.context, &target, &self.method, arguments)
                .await;
            if self.audited {
                let result = match &outcome {
                    Ok(outcome) => outcome.return_value.to_text().unwrap_or_default(),
                    Err(error) => format!("error {:?}", error.status),
                };
                audit(&self.context, &self.target, &self.method, &result);
            }
            outcome
        };
        match tokio::spawn(task.instrument(span)).await {
            Ok(outcome) => outcome,
            Err(failure) => Err(errors::internal(
                "a method call broke off",
                format!("{name}: {failure}"),
            )),
        }
    }
}

fn audit(context: &Context, target: &ObjectPath, method: &Name, result: &str) {
    tracing::info!(
        target: "audit",
        user = %context.user,
        peer = %context.peer,
        object = %target.relpath(),
        %method,
        result,
    );
}
