//! Classes and qualifier types.

use super::{Call, Outcome, returned};
use cim::CimError;
use cim_broker::ClassOptions;
use cim_xml::response::Returned;

pub(super) fn get_class(mut call: Call<'_>) -> Outcome {
    let class = call.parameters.required_name("ClassName")?;
    let mut options = class_options(&mut call)?;
    options.property_list = call.parameters.names("PropertyList")?;
    call.parameters.finish()?;
    let class = call
        .broker
        .get_class(call.context, &call.namespace, &class, &options)?;
    Ok(returned(Returned::Classes {
        classes: vec![class],
        class_origin: options.include_class_origin,
    }))
}

pub(super) fn enumerate_classes(mut call: Call<'_>) -> Outcome {
    let below = call.parameters.name("ClassName")?;
    let deep = call.parameters.boolean("DeepInheritance", false)?;
    let options = class_options(&mut call)?;
    call.parameters.finish()?;
    let classes = call.broker.enumerate_classes(
        call.context,
        &call.namespace,
        below.as_ref(),
        deep,
        &options,
    )?;
    Ok(returned(Returned::Classes {
        classes,
        class_origin: options.include_class_origin,
    }))
}

pub(super) fn enumerate_class_names(mut call: Call<'_>) -> Outcome {
    let below = call.parameters.name("ClassName")?;
    let deep = call.parameters.boolean("DeepInheritance", false)?;
    call.parameters.finish()?;
    let options = ClassOptions {
        local_only: true,
        ..ClassOptions::default()
    };
    let classes = call.broker.enumerate_classes(
        call.context,
        &call.namespace,
        below.as_ref(),
        deep,
        &options,
    )?;
    let names = classes.into_iter().map(|class| class.name).collect();
    Ok(returned(Returned::ClassNames(names)))
}

pub(super) fn get_qualifier(mut call: Call<'_>) -> Outcome {
    let name = call.parameters.required_name("QualifierName")?;
    call.parameters.finish()?;
    let declaration = call
        .broker
        .get_qualifier(call.context, &call.namespace, &name)?;
    Ok(returned(Returned::Qualifiers(vec![declaration])))
}

pub(super) fn enumerate_qualifiers(call: Call<'_>) -> Outcome {
    call.parameters.finish()?;
    let declarations = call
        .broker
        .enumerate_qualifiers(call.context, &call.namespace)?;
    Ok(returned(Returned::Qualifiers(declarations)))
}

fn class_options(call: &mut Call<'_>) -> Result<ClassOptions, CimError> {
    Ok(ClassOptions {
        local_only: call.parameters.boolean("LocalOnly", true)?,
        include_qualifiers: call.parameters.boolean("IncludeQualifiers", true)?,
        include_class_origin: call.parameters.boolean("IncludeClassOrigin", false)?,
        property_list: None,
    })
}
