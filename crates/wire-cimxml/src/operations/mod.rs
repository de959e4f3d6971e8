//! One CIM operation: its parameters out of the request, the broker's answer into the response.
//!
//! What each operation takes and gives is DSP0200's table, one module for each group. Reads run on
//! threads that may block, since a long answer takes a while to put together; method calls wait for
//! the provider instead.

mod associations;
mod classes;
mod instances;
mod methods;
mod parameters;
mod place;
mod pull;

use cim::{CimError, CimStatus, Instance, Namespace};
use cim_broker::enumeration::Enumerations;
use cim_broker::{Broker, Context};
use cim_xml::request::{IntrinsicCall, Request};
use cim_xml::response::{InstanceForm, IntrinsicResult, Response, Returned};
use parameters::Parameters;
use std::sync::Arc;
use tokio::task::JoinError;

/// The operations over one broker.
#[derive(Clone)]
pub(crate) struct Operations {
    broker: Arc<Broker>,
    enumerations: Arc<Enumerations>,
}

/// What an operation is run with.
pub(super) struct Call<'a> {
    broker: &'a Arc<Broker>,
    enumerations: &'a Enumerations,
    context: &'a Context,
    namespace: Namespace,
    parameters: Parameters,
}

type Outcome = Result<IntrinsicResult, CimError>;

impl Operations {
    pub(crate) fn new(broker: Arc<Broker>, enumerations: Arc<Enumerations>) -> Self {
        Operations {
            broker,
            enumerations,
        }
    }

    /// Answers one request, with what is to be said beside the answer: what an error code that a
    /// method returned means. Only a task that panicked or was cut off is an error here.
    pub(crate) async fn answer(
        &self,
        context: &Context,
        request: Request,
    ) -> Result<(Response, Option<String>), JoinError> {
        match request {
            Request::Extrinsic(call) => {
                let method = call.method.clone();
                let (outcome, explanation) =
                    match methods::invoke(&self.broker, context, call).await {
                        Ok((answer, explanation)) => (Ok(answer), explanation),
                        Err(error) => (Err(error), None),
                    };
                Ok((Response::Extrinsic { method, outcome }, explanation))
            }
            Request::Intrinsic(call) => {
                let (this, context) = (self.clone(), context.clone());
                tokio::task::spawn_blocking(move || {
                    let operation = call.operation.clone();
                    let outcome = this.intrinsic(&context, call);
                    (Response::Intrinsic { operation, outcome }, None)
                })
                .await
            }
        }
    }

    fn intrinsic(&self, context: &Context, call: IntrinsicCall) -> Outcome {
        // Every operation says so when the namespace is not there, whatever else is wrong.
        self.broker.schema(&call.namespace)?;
        let run = operation(&call.operation)?;
        run(Call {
            broker: &self.broker,
            enumerations: &self.enumerations,
            context,
            parameters: Parameters::new(call.parameters, &self.broker)?,
            namespace: call.namespace,
        })
    }
}

/// DSP0200's operations by name, whatever its case.
fn operation(name: &str) -> Result<fn(Call<'_>) -> Outcome, CimError> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "getclass" => classes::get_class,
        "enumerateclasses" => classes::enumerate_classes,
        "enumerateclassnames" => classes::enumerate_class_names,
        "getqualifier" => classes::get_qualifier,
        "enumeratequalifiers" => classes::enumerate_qualifiers,
        "getinstance" => instances::get_instance,
        "enumerateinstances" => instances::enumerate_instances,
        "enumerateinstancenames" => instances::enumerate_instance_names,
        "getproperty" => instances::get_property,
        "execquery" => instances::exec_query,
        "associators" => associations::associators,
        "associatornames" => associations::associator_names,
        "references" => associations::references,
        "referencenames" => associations::reference_names,
        "openenumerateinstances" => pull::open_enumerate_instances,
        "openenumerateinstancepaths" => pull::open_enumerate_instance_paths,
        "openassociatorinstances" => pull::open_associator_instances,
        "openassociatorinstancepaths" => pull::open_associator_instance_paths,
        "openreferenceinstances" => pull::open_reference_instances,
        "openreferenceinstancepaths" => pull::open_reference_instance_paths,
        "openqueryinstances" => pull::open_query_instances,
        "pullinstanceswithpath" => pull::pull_instances_with_path,
        "pullinstancepaths" => pull::pull_instance_paths,
        "pullinstances" => pull::pull_instances,
        "closeenumeration" => pull::close_enumeration,
        "enumerationcount" => pull::enumeration_count,
        "createinstance" | "modifyinstance" | "deleteinstance" | "setproperty" => {
            return Err(CimError::new(
                CimStatus::NotSupported,
                format!(
                    "{name} is not supported: objects are made, changed and removed by methods. \
                     GetClass of the service class that manages them shows which; call it with \
                     a METHODCALL (InvokeMethod)."
                ),
            ));
        }
        "createclass" | "modifyclass" | "deleteclass" | "setqualifier" | "deletequalifier" => {
            return Err(CimError::new(
                CimStatus::NotSupported,
                format!("{name} is not supported: the classes of this server are fixed."),
            ));
        }
        _ => {
            return Err(CimError::new(
                CimStatus::NotSupported,
                format!("{name} is not an operation of this server."),
            ));
        }
    })
}

impl Call<'_> {
    /// Instances in `form`, told apart from plain strings where the class says that they embed
    /// objects.
    fn instances(
        &self,
        form: InstanceForm,
        mut instances: Vec<Instance>,
        class_origin: bool,
    ) -> IntrinsicResult {
        for instance in &mut instances {
            place::mark_embedded(self.broker, &self.namespace, instance);
            if let Some(path) = &mut instance.path {
                place::complete(self.broker, &self.namespace, path);
            }
        }
        returned(Returned::Instances {
            form,
            instances,
            class_origin,
        })
    }
}

/// A result that is a return value alone.
fn returned(returned: Returned) -> IntrinsicResult {
    IntrinsicResult {
        returned: Some(returned),
        parameters: Vec::new(),
    }
}
