//! Instances: by path, by class, by query.

use super::{Call, Outcome, place, returned};
use cim::{CimError, CimStatus, Keys, Name, ObjectPath};
use cim_broker::QueryResult;
use cim_xml::response::{InstanceForm, PathForm, Returned};
use std::sync::Arc;

pub(super) fn get_instance(mut call: Call<'_>) -> Outcome {
    let path = call.parameters.instance("InstanceName")?;
    let class_origin = instance_options(&mut call)?;
    let properties = call.parameters.names("PropertyList")?;
    call.parameters.finish()?;
    let instance =
        call.broker
            .get_instance(call.context, &call.namespace, &path, properties.as_deref())?;
    Ok(call.instances(InstanceForm::Plain, vec![instance], class_origin))
}

pub(super) fn enumerate_instances(mut call: Call<'_>) -> Outcome {
    let class = call.parameters.required_name("ClassName")?;
    let deep = call.parameters.boolean("DeepInheritance", true)?;
    let class_origin = instance_options(&mut call)?;
    let properties = call.parameters.names("PropertyList")?;
    call.parameters.finish()?;
    let instances = call.broker.enumerate_instances(
        call.context,
        &call.namespace,
        &class,
        deep,
        properties.as_deref(),
    )?;
    Ok(call.instances(InstanceForm::Named, instances, class_origin))
}

pub(super) fn enumerate_instance_names(mut call: Call<'_>) -> Outcome {
    let class = call.parameters.required_name("ClassName")?;
    call.parameters.finish()?;
    let paths = call
        .broker
        .enumerate_instance_names(call.context, &call.namespace, &class)?;
    Ok(returned(Returned::Paths {
        form: PathForm::Name,
        paths,
    }))
}

pub(super) fn get_property(mut call: Call<'_>) -> Outcome {
    let path = call.parameters.instance("InstanceName")?;
    let name = call.parameters.required_name("PropertyName")?;
    call.parameters.finish()?;
    let wanted = std::slice::from_ref(&name);
    let mut instance =
        call.broker
            .get_instance(call.context, &call.namespace, &path, Some(wanted))?;
    let at = instance
        .properties
        .iter()
        .position(|property| property.name == name);
    match at {
        Some(at) => {
            let property = instance.properties.swap_remove(at);
            Ok(returned(Returned::Value(property.value)))
        }
        None => Err(CimError::new(
            CimStatus::NoSuchProperty,
            format!("The class {} has no property {name}.", instance.class),
        )),
    }
}

pub(super) fn exec_query(mut call: Call<'_>) -> Outcome {
    let language = call.parameters.required_text("QueryLanguage")?;
    let query = call.parameters.required_text("Query")?;
    call.parameters.finish()?;
    match call
        .broker
        .query(call.context, &call.namespace, &language, &query)?
    {
        QueryResult::Instances(instances) => {
            // All objects of one answer stand in the same element.
            let form = if instances.iter().all(|instance| instance.path.is_some()) {
                InstanceForm::ObjectWithPath
            } else {
                InstanceForm::Object
            };
            Ok(call.instances(form, instances, false))
        }
        QueryResult::Classes(classes) => {
            let classes = classes.into_iter().map(Arc::unwrap_or_clone);
            Ok(call.classes_with_path(classes, false))
        }
    }
}

/// Takes the options that instances have. `LocalOnly` is not honoured, as DSP0200 advises since
/// 1.3, and instances have no qualifiers. What is left is whether to name the introducing class.
pub(super) fn instance_options(call: &mut Call<'_>) -> Result<bool, CimError> {
    call.parameters.boolean("LocalOnly", true)?;
    call.parameters.boolean("IncludeQualifiers", false)?;
    call.parameters.boolean("IncludeClassOrigin", false)
}

impl Call<'_> {
    /// The path of a class in this call's namespace.
    pub(super) fn class_path(&self, class: &Name) -> ObjectPath {
        let mut path = ObjectPath::new(class.clone(), Keys::Class);
        place::complete(self.broker, &self.namespace, &mut path);
        path
    }

    /// Classes with their paths.
    pub(super) fn classes_with_path(
        &self,
        classes: impl IntoIterator<Item = cim::Class>,
        class_origin: bool,
    ) -> cim_xml::response::IntrinsicResult {
        let classes = classes
            .into_iter()
            .map(|class| (self.class_path(&class.name), class))
            .collect();
        returned(Returned::ClassesWithPath {
            classes,
            class_origin,
        })
    }
}
