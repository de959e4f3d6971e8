//! The parameters of a method as classes of their own: `__PARAMETERS`, one for what goes in and one
//! for what comes out (MS-WMIO 2.2.50).

use cim::{CimType, Class, MethodDecl, Name, ParameterDecl, PropertyDecl, Qualifier, Type, Value};

/// The name of every parameter class.
pub const CLASS: &str = "__PARAMETERS";

/// The property of the output class that holds the return value.
pub const RETURN_VALUE: &str = "ReturnValue";

/// The class of what callers give; `None` when the method takes nothing.
pub fn input_class(method: &MethodDecl) -> Option<Class> {
    let inputs = properties(method, ParameterDecl::is_in, "in");
    (!inputs.is_empty()).then(|| parameter_class(inputs))
}

/// The class of what the method gives back: its outputs, and the return value.
pub fn output_class(method: &MethodDecl) -> Class {
    let mut outputs = properties(method, ParameterDecl::is_out, "out");
    let mut returned = PropertyDecl::new(RETURN_VALUE, method.return_type, CLASS);
    returned.qualifiers.push(flag("out"));
    outputs.push(returned);
    parameter_class(outputs)
}

fn parameter_class(properties: Vec<PropertyDecl>) -> Class {
    let mut class = Class::new(CLASS);
    class.qualifiers.push(flag("abstract"));
    class.properties = properties;
    class
}

fn properties(
    method: &MethodDecl,
    wanted: fn(&ParameterDecl) -> bool,
    direction: &str,
) -> Vec<PropertyDecl> {
    let numbered = method.parameters.iter().zip(0_i32..);
    numbered
        .filter(|(parameter, _)| wanted(parameter))
        .map(|(parameter, id)| {
            let mut property = PropertyDecl::new(parameter.name.clone(), parameter.ty, CLASS);
            property.class_ref.clone_from(&parameter.class_ref);
            property.qualifiers.push(flag(direction));
            property.qualifiers.push(Qualifier {
                name: Name::new("ID"),
                ty: Type::scalar(CimType::Sint32),
                value: Value::Sint32(id),
                overridable: false,
                to_subclass: false,
                translatable: false,
            });
            let others = parameter.qualifiers.iter().filter(|qualifier| {
                !["in", "out", "id"]
                    .iter()
                    .any(|name| qualifier.name.is(name))
            });
            property.qualifiers.extend(others.cloned());
            property
        })
        .collect()
}

/// A boolean qualifier without flavors.
fn flag(name: &str) -> Qualifier {
    Qualifier {
        name: Name::new(name),
        ty: Type::scalar(CimType::Boolean),
        value: Value::Boolean(true),
        overridable: true,
        to_subclass: false,
        translatable: false,
    }
}

/// The method that two parameter classes describe: parameters in the order of their `ID`, those in
/// both once. Qualifiers `In` and `Out` say which are which.
pub(crate) fn method_from(
    name: Name,
    input: Option<&Class>,
    output: Option<&Class>,
) -> Option<MethodDecl> {
    let mut found: Vec<(i64, ParameterDecl)> = Vec::new();
    let mut return_type = Type::scalar(CimType::Uint32);
    let members = |class: Option<&Class>| class.map_or(Vec::new(), |it| it.properties.clone());
    for property in members(input) {
        found.push(parameter(property, "In"));
    }
    for property in members(output) {
        if property.name.is(RETURN_VALUE) {
            return_type = property.ty;
            continue;
        }
        match found.iter_mut().find(|(_, it)| it.name == property.name) {
            Some((_, both)) if both.ty == property.ty => both.qualifiers.insert(1, flag("Out")),
            Some(_) => return None,
            None => found.push(parameter(property, "Out")),
        }
    }
    found.sort_by_key(|(id, _)| *id);
    Some(MethodDecl {
        name,
        return_type,
        parameters: found.into_iter().map(|(_, it)| it).collect(),
        qualifiers: Vec::new(),
        origin: Name::new(CLASS),
        propagated: false,
    })
}

fn parameter(property: PropertyDecl, direction: &str) -> (i64, ParameterDecl) {
    let id = property.qualifier("ID").and_then(|id| id.value.as_i64());
    let mut qualifiers = vec![flag(direction)];
    qualifiers.extend(property.qualifiers.into_iter().filter(|qualifier| {
        !["in", "out", "id"]
            .iter()
            .any(|name| qualifier.name.is(name))
    }));
    let decl = ParameterDecl {
        name: property.name,
        ty: property.ty,
        class_ref: property.class_ref,
        array_size: None,
        qualifiers,
    };
    (id.unwrap_or(i64::MAX), decl)
}
