//! Associators and references, of instances and of classes.

use super::{Call, Outcome, instances, place, returned};
use cim::{CimError, Name, ObjectPath};
use cim_broker::{AssociatorFilter, ClassOptions, ReferenceFilter};
use cim_xml::response::{InstanceForm, PathForm, Returned};

pub(super) fn associators(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.object("ObjectName")?;
    let filter = associator_filter(&mut call)?;
    if source.is_class() {
        let options = class_options(&mut call)?;
        call.parameters.finish()?;
        let classes = call.broker.associator_classes(
            call.context,
            &call.namespace,
            &source.class,
            &filter,
            &options,
        )?;
        return Ok(call.classes_with_path(classes, options.include_class_origin));
    }
    let class_origin = instances::instance_options(&mut call)?;
    let properties = call.parameters.names("PropertyList")?;
    call.parameters.finish()?;
    let found = call.broker.associators(
        call.context,
        &call.namespace,
        &source,
        &filter,
        properties.as_deref(),
    )?;
    Ok(call.instances(InstanceForm::ObjectWithPath, found, class_origin))
}

pub(super) fn associator_names(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.object("ObjectName")?;
    let filter = associator_filter(&mut call)?;
    call.parameters.finish()?;
    if source.is_class() {
        let classes = call.broker.associator_classes(
            call.context,
            &call.namespace,
            &source.class,
            &filter,
            &ClassOptions::default(),
        )?;
        return Ok(call.class_paths(classes.iter().map(|class| &class.name)));
    }
    let paths = call
        .broker
        .associator_names(call.context, &call.namespace, &source, &filter)?;
    Ok(call.object_paths(paths))
}

pub(super) fn references(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.object("ObjectName")?;
    let filter = reference_filter(&mut call)?;
    if source.is_class() {
        let options = class_options(&mut call)?;
        call.parameters.finish()?;
        let classes = call.broker.reference_classes(
            call.context,
            &call.namespace,
            &source.class,
            &filter,
            &options,
        )?;
        return Ok(call.classes_with_path(classes, options.include_class_origin));
    }
    let class_origin = instances::instance_options(&mut call)?;
    let properties = call.parameters.names("PropertyList")?;
    call.parameters.finish()?;
    let found = call.broker.references(
        call.context,
        &call.namespace,
        &source,
        &filter,
        properties.as_deref(),
    )?;
    Ok(call.instances(InstanceForm::ObjectWithPath, found, class_origin))
}

pub(super) fn reference_names(mut call: Call<'_>) -> Outcome {
    let source = call.parameters.object("ObjectName")?;
    let filter = reference_filter(&mut call)?;
    call.parameters.finish()?;
    if source.is_class() {
        let classes = call.broker.reference_classes(
            call.context,
            &call.namespace,
            &source.class,
            &filter,
            &ClassOptions::default(),
        )?;
        return Ok(call.class_paths(classes.iter().map(|class| &class.name)));
    }
    let paths = call
        .broker
        .reference_names(call.context, &call.namespace, &source, &filter)?;
    Ok(call.object_paths(paths))
}

pub(super) fn associator_filter(call: &mut Call<'_>) -> Result<AssociatorFilter, CimError> {
    Ok(AssociatorFilter {
        assoc_class: call.parameters.name("AssocClass")?,
        result_class: call.parameters.name("ResultClass")?,
        role: call.parameters.name("Role")?,
        result_role: call.parameters.name("ResultRole")?,
        ..AssociatorFilter::default()
    })
}

pub(super) fn reference_filter(call: &mut Call<'_>) -> Result<ReferenceFilter, CimError> {
    Ok(ReferenceFilter {
        result_class: call.parameters.name("ResultClass")?,
        role: call.parameters.name("Role")?,
        ..ReferenceFilter::default()
    })
}

/// Of a class as an associator there is no `LocalOnly`: it comes whole.
fn class_options(call: &mut Call<'_>) -> Result<ClassOptions, CimError> {
    Ok(ClassOptions {
        local_only: false,
        include_qualifiers: call.parameters.boolean("IncludeQualifiers", false)?,
        include_class_origin: call.parameters.boolean("IncludeClassOrigin", false)?,
        property_list: call.parameters.names("PropertyList")?,
    })
}

impl Call<'_> {
    fn class_paths<'n>(
        &self,
        names: impl Iterator<Item = &'n Name>,
    ) -> cim_xml::response::IntrinsicResult {
        returned(Returned::Paths {
            form: PathForm::Object,
            paths: names.map(|name| self.class_path(name)).collect(),
        })
    }

    fn object_paths(&self, mut paths: Vec<ObjectPath>) -> cim_xml::response::IntrinsicResult {
        for path in &mut paths {
            place::complete(self.broker, &self.namespace, path);
        }
        returned(Returned::Paths {
            form: PathForm::Object,
            paths,
        })
    }
}
