//! Open, pull, close: answers taken in portions.

use super::{Call, Outcome, associations, place};
use cim::{CimError, CimStatus, CimType, Name, ObjectPath, Property, Type, Value};
use cim_broker::enumeration::{Batch, Kind, Objects, OpenOptions};
use cim_broker::{Instances, QueryStream};
use cim_xml::response::{InstanceForm, IntrinsicResult, PathForm, Returned};
use std::sync::Arc;
use std::time::Duration;

/// What an Open operation has settled before it looks for objects.
struct Opening {
    timeout: Duration,
    max_object_count: u32,
}

pub(super) fn open_enumerate_instances(mut call: Call<'_>) -> Outcome {
    let class = call.parameters.required_name("ClassName")?;
    let deep = call.parameters.boolean("DeepInheritance", true)?;
    let class_origin = call.parameters.boolean("IncludeClassOrigin", false)?;
    let properties = call.parameters.names("PropertyList")?;
    let opening = call.opening()?;
    let instances =
        call.broker
            .stream_instances(call.context, &call.namespace, &class, deep, properties)?;
    call.open_instances(&opening, instances, class_origin)
}

pub(super) fn open_enumerate_instance_paths(mut call: Call<'_>) -> Outcome {
    let class = call.parameters.required_name("ClassName")?;
    let opening = call.opening()?;
    let paths = call
        .broker
        .enumerate_instance_names(call.context, &call.namespace, &class)?;
    call.open_paths(&opening, paths)
}

pub(super) fn open_associator_instances(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.instance("InstanceName")?;
    let filter = associations::associator_filter(&mut call)?;
    let class_origin = call.parameters.boolean("IncludeClassOrigin", false)?;
    let properties = call.parameters.names("PropertyList")?;
    let opening = call.opening()?;
    let instances = call.broker.associators(
        call.context,
        &call.namespace,
        &source,
        &filter,
        properties.as_deref(),
    )?;
    let instances = Box::new(instances.into_iter().map(Ok));
    call.open_instances(&opening, instances, class_origin)
}

pub(super) fn open_associator_instance_paths(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.instance("InstanceName")?;
    let filter = associations::associator_filter(&mut call)?;
    let opening = call.opening()?;
    let paths = call
        .broker
        .associator_names(call.context, &call.namespace, &source, &filter)?;
    call.open_paths(&opening, paths)
}

pub(super) fn open_reference_instances(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.instance("InstanceName")?;
    let filter = associations::reference_filter(&mut call)?;
    let class_origin = call.parameters.boolean("IncludeClassOrigin", false)?;
    let properties = call.parameters.names("PropertyList")?;
    let opening = call.opening()?;
    let instances = call.broker.references(
        call.context,
        &call.namespace,
        &source,
        &filter,
        properties.as_deref(),
    )?;
    let instances = Box::new(instances.into_iter().map(Ok));
    call.open_instances(&opening, instances, class_origin)
}

pub(super) fn open_reference_instance_paths(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.instance("InstanceName")?;
    let filter = associations::reference_filter(&mut call)?;
    let opening = call.opening()?;
    let paths = call
        .broker
        .reference_names(call.context, &call.namespace, &source, &filter)?;
    call.open_paths(&opening, paths)
}

pub(super) fn open_query_instances(mut call: Call<'_>) -> Outcome {
    let options = call.open_options()?;
    if call.parameters.boolean("ReturnQueryResultClass", false)? {
        return Err(CimError::new(
            CimStatus::NotSupported,
            "ReturnQueryResultClass is not supported. Leave it out; GetClass gives the class that \
             the query names.",
        ));
    }
    call.parameters.finish()?;
    let timeout = options.check_query(call.enumerations.limits())?;
    let missing =
        |name: &str| super::parameters::invalid(format!("The parameter {name} is missing."));
    let language = options
        .filter_query_language
        .ok_or_else(|| missing("FilterQueryLanguage"))?;
    let query = options.filter_query.ok_or_else(|| missing("FilterQuery"))?;
    let found = call
        .broker
        .stream_query(call.context, &call.namespace, &language, &query)?;
    let QueryStream::Instances(instances) = found else {
        return Err(CimError::new(
            CimStatus::InvalidQuery,
            "The query selects classes; OpenQueryInstances enumerates instances. Use ExecQuery.",
        ));
    };
    let (broker, namespace) = (Arc::clone(call.broker), call.namespace.clone());
    let instances = instances.map(move |instance| {
        let mut instance = instance?;
        place::mark_embedded(&broker, &namespace, &mut instance);
        Ok(instance)
    });
    let batch = call.enumerations.open_stream(
        call.context,
        Kind::QueryInstances,
        Box::new(instances),
        timeout,
        options.max_object_count,
    )?;
    Ok(portion(batch, InstanceForm::Plain, false))
}

pub(super) fn pull_instances_with_path(call: Call<'_>) -> Outcome {
    pull(call, Kind::InstancesWithPath, InstanceForm::WithPath)
}

pub(super) fn pull_instance_paths(call: Call<'_>) -> Outcome {
    pull(call, Kind::Paths, InstanceForm::WithPath)
}

pub(super) fn pull_instances(call: Call<'_>) -> Outcome {
    pull(call, Kind::QueryInstances, InstanceForm::Plain)
}

fn pull(mut call: Call<'_>, kind: Kind, form: InstanceForm) -> Outcome {
    let session = call.parameters.required_text("EnumerationContext")?;
    let count = call.parameters.number("MaxObjectCount")?.unwrap_or(0);
    call.parameters.finish()?;
    let batch = call
        .enumerations
        .pull(call.context, kind, &session, count)?;
    // Open has left class origins in the instances only where it was asked for them; a query never
    // is.
    Ok(portion(batch, form, kind == Kind::InstancesWithPath))
}

pub(super) fn close_enumeration(mut call: Call<'_>) -> Outcome {
    let session = call.parameters.required_text("EnumerationContext")?;
    call.parameters.finish()?;
    call.enumerations.close(call.context, &session)?;
    Ok(IntrinsicResult::default())
}

pub(super) fn enumeration_count(mut call: Call<'_>) -> Outcome {
    let session = call.parameters.required_text("EnumerationContext")?;
    call.parameters.finish()?;
    let left = call.enumerations.remaining(call.context, &session)?;
    Ok(super::returned(Returned::Value(Value::Uint64(left))))
}

impl Call<'_> {
    fn open_options(&mut self) -> Result<OpenOptions, CimError> {
        Ok(OpenOptions {
            filter_query_language: self.parameters.text("FilterQueryLanguage")?,
            filter_query: self.parameters.text("FilterQuery")?,
            operation_timeout: self.parameters.number("OperationTimeout")?,
            continue_on_error: self.parameters.boolean("ContinueOnError", false)?,
            max_object_count: self.parameters.number("MaxObjectCount")?.unwrap_or(0),
        })
    }

    /// Takes and checks the parameters that all Open operations share, the last ones to be taken.
    fn opening(&mut self) -> Result<Opening, CimError> {
        let options = self.open_options()?;
        self.parameters.finish()?;
        Ok(Opening {
            timeout: options.check(self.enumerations.limits())?,
            max_object_count: options.max_object_count,
        })
    }

    fn open_instances(
        &self,
        opening: &Opening,
        instances: Instances,
        class_origin: bool,
    ) -> Outcome {
        let (broker, namespace) = (Arc::clone(self.broker), self.namespace.clone());
        let instances = instances.map(move |instance| {
            let mut instance = instance?;
            place::mark_embedded(&broker, &namespace, &mut instance);
            if let Some(path) = &mut instance.path {
                place::complete(&broker, &namespace, path);
            }
            if !class_origin {
                for property in &mut instance.properties {
                    property.origin = None;
                }
            }
            Ok(instance)
        });
        let batch = self.enumerations.open_stream(
            self.context,
            Kind::InstancesWithPath,
            Box::new(instances),
            opening.timeout,
            opening.max_object_count,
        )?;
        Ok(portion(batch, InstanceForm::WithPath, true))
    }

    fn open_paths(&self, opening: &Opening, mut paths: Vec<ObjectPath>) -> Outcome {
        for path in &mut paths {
            place::complete(self.broker, &self.namespace, path);
        }
        let batch = self.enumerations.open(
            self.context,
            Kind::Paths,
            Objects::Paths(paths),
            opening.timeout,
            opening.max_object_count,
        )?;
        Ok(portion(batch, InstanceForm::WithPath, false))
    }
}

/// The objects of a batch, and both of the parameters that every open and pull must answer.
fn portion(batch: Batch, form: InstanceForm, class_origin: bool) -> IntrinsicResult {
    let returned = match batch.objects {
        Objects::Instances(instances) => Returned::Instances {
            form,
            instances,
            class_origin,
        },
        Objects::Paths(paths) => Returned::Paths {
            form: PathForm::Instance,
            paths,
        },
    };
    let parameter = |name: &str, kind: CimType, value: Value| Property {
        name: Name::from(name),
        ty: Type::scalar(kind),
        value,
        origin: None,
    };
    let end = Value::Boolean(batch.context.is_none());
    let context = Value::String(batch.context.unwrap_or_default());
    IntrinsicResult {
        returned: Some(returned),
        parameters: vec![
            parameter("EndOfSequence", CimType::Boolean, end),
            parameter("EnumerationContext", CimType::String, context),
        ],
    }
}
