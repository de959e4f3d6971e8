//! The errors that several operations share, each worded once: what, why, what to do.

use cim::{CimError, CimStatus, Class, Name, Namespace, ObjectPath};

pub(crate) fn unknown_namespace(namespace: &Namespace, known: &[Namespace]) -> CimError {
    let known: Vec<&str> = known.iter().map(Namespace::as_str).collect();
    CimError::new(
        CimStatus::InvalidNamespace,
        format!(
            "There is no namespace {namespace} on this server. It has: {}.",
            known.join(", ")
        ),
    )
}

pub(crate) fn unknown_class(class: &Name, namespace: &Namespace) -> CimError {
    CimError::new(
        CimStatus::InvalidClass,
        format!(
            "There is no class {class} in namespace {namespace}. Check the spelling and the namespace."
        ),
    )
}

/// For the class filters of associators and references, where an unknown class is a bad parameter.
pub(crate) fn unknown_filter_class(
    parameter: &str,
    class: &Name,
    namespace: &Namespace,
) -> CimError {
    CimError::new(
        CimStatus::InvalidParameter,
        format!("{parameter} is {class}, but there is no such class in namespace {namespace}."),
    )
}

pub(crate) fn not_an_association(parameter: &str, class: &Name) -> CimError {
    CimError::new(
        CimStatus::InvalidParameter,
        format!("{parameter} is {class}, which is not an association class."),
    )
}

pub(crate) fn no_instance(path: &ObjectPath) -> CimError {
    CimError::new(
        CimStatus::NotFound,
        format!(
            "There is no instance {}. It may have been removed; enumerate {} to see what there is.",
            path.relpath(),
            path.class
        ),
    )
}

pub(crate) fn class_path_for_instance(class: &Class) -> CimError {
    let keys: Vec<&str> = class.keys().map(|key| key.name.as_str()).collect();
    let advice = if keys.is_empty() {
        "Name an instance of one of its subclasses.".to_owned()
    } else {
        format!("Add the key values of an instance: {}.", keys.join(", "))
    };
    CimError::new(
        CimStatus::InvalidParameter,
        format!(
            "The path names the class {}, not an instance. {advice}",
            class.name
        ),
    )
}

/// A provider or the schema broke a promise to the broker: logged with its details, and told.
pub(crate) fn internal(what: &str, detail: impl std::fmt::Display) -> CimError {
    tracing::error!(%detail, "{what}");
    CimError::new(
        CimStatus::Failed,
        format!(
            "Internal error: {what} ({detail}). This is a defect of the server; its log has the details."
        ),
    )
}
