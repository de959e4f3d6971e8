//! Inheritance: from classes with their own members to classes with all of them (DSP0004 5.1.2 and
//! the flavors of 5.6.1).
//!
//! A member of the superclass is inherited with those of its qualifiers that have the flavor
//! `ToSubclass`. A member declared again overrides the inherited one, with or without the `Override`
//! qualifier, takes its place and its origin, and may change qualifiers but for those with
//! `DisableOverride`; its type must stay, though a reference may narrow to a subclass. A default
//! that is not given again stays. The parameters of an overriding method are those it declares.
//!
//! The keys of a class come from the topmost class that has keys, with one exception: an association
//! may add references that are keys, since schemas in use have such associations.

use super::declare::Declared;
use super::{Fault, MofErrorKind};
use crate::{Class, MethodDecl, Name, PropertyDecl, Qualifier};

/// `own`, with what it inherits from `superclass`. `is_a` answers for classes resolved before.
pub(super) fn inherit(
    own: Declared,
    superclass: &Class,
    is_a: &dyn Fn(&Name, &Name) -> bool,
) -> Result<Class, Fault> {
    let Declared {
        class: mut own,
        at,
        members,
    } = own;
    let class_name = own.name.clone();
    own.qualifiers = merged(&superclass.qualifiers, own.qualifiers)
        .map_err(|qualifier| fixed(at, class_name.to_string(), qualifier))?;
    let mut offsets = members.into_iter();
    let mut at_next = || offsets.next().unwrap_or(at);

    let has_keys = superclass.keys().next().is_some();
    let mut properties: Vec<PropertyDecl> = superclass.properties.iter().map(propagate).collect();
    for property in own.properties {
        let at = at_next();
        let inherited = properties.iter_mut().find(|it| it.name == property.name);
        check_override(
            &class_name,
            &property.name,
            &property.qualifiers,
            inherited.is_some(),
        )
        .map_err(|kind| Fault::new(at, kind))?;
        match inherited {
            Some(slot) => override_property(&class_name, slot, property, is_a, has_keys)
                .map_err(|kind| Fault::new(at, kind))?,
            None if has_keys && property.is_key() && !property.is_reference() => {
                return Err(Fault::new(at, extra_key(&class_name, &property.name)));
            }
            None => properties.push(property),
        }
    }
    own.properties = properties;

    let mut methods: Vec<MethodDecl> = superclass.methods.iter().map(propagate_method).collect();
    for method in own.methods {
        let at = at_next();
        let inherited = methods.iter_mut().find(|it| it.name == method.name);
        check_override(
            &class_name,
            &method.name,
            &method.qualifiers,
            inherited.is_some(),
        )
        .map_err(|kind| Fault::new(at, kind))?;
        match inherited {
            Some(slot) => {
                override_method(&class_name, slot, method).map_err(|kind| Fault::new(at, kind))?
            }
            None => methods.push(method),
        }
    }
    own.methods = methods;
    Ok(own)
}

/// A class without a superclass has nothing to override.
pub(super) fn check_root(declared: &Declared) -> Result<(), Fault> {
    let class = &declared.class;
    let properties = class.properties.iter().map(|it| (&it.name, &it.qualifiers));
    let methods = class.methods.iter().map(|it| (&it.name, &it.qualifiers));
    for ((name, qualifiers), at) in properties.chain(methods).zip(&declared.members) {
        check_override(&class.name, name, qualifiers, false)
            .map_err(|kind| Fault::new(*at, kind))?;
    }
    Ok(())
}

fn inheritable(qualifiers: &[Qualifier]) -> Vec<Qualifier> {
    qualifiers
        .iter()
        .filter(|qualifier| qualifier.to_subclass)
        .cloned()
        .collect()
}

fn propagate(property: &PropertyDecl) -> PropertyDecl {
    PropertyDecl {
        name: property.name.clone(),
        ty: property.ty,
        class_ref: property.class_ref.clone(),
        array_size: property.array_size,
        default: property.default.clone(),
        qualifiers: inheritable(&property.qualifiers),
        origin: property.origin.clone(),
        propagated: true,
    }
}

fn propagate_method(method: &MethodDecl) -> MethodDecl {
    MethodDecl {
        name: method.name.clone(),
        return_type: method.return_type,
        parameters: method.parameters.clone(),
        qualifiers: inheritable(&method.qualifiers),
        origin: method.origin.clone(),
        propagated: true,
    }
}

/// Inherited qualifiers, changed and followed by the element's own. Fails with the name of one that
/// must not change.
fn merged(inherited: &[Qualifier], own: Vec<Qualifier>) -> Result<Vec<Qualifier>, Name> {
    let mut out = inheritable(inherited);
    for qualifier in own {
        match out.iter_mut().find(|it| it.name == qualifier.name) {
            Some(slot) if !slot.overridable && slot.value != qualifier.value => {
                return Err(qualifier.name);
            }
            Some(slot) => *slot = qualifier,
            None => out.push(qualifier),
        }
    }
    Ok(out)
}

fn fixed(at: usize, element: String, qualifier: Name) -> Fault {
    Fault::new(at, MofErrorKind::FixedQualifier { element, qualifier })
}

fn extra_key(class: &Name, member: &Name) -> MofErrorKind {
    MofErrorKind::ExtraKey {
        member: format!("{class}.{member}"),
        class: class.clone(),
    }
}

/// `Override("Name")` must name the inherited member of that very name (`Class.Name` will do).
fn check_override(
    class: &Name,
    member: &Name,
    qualifiers: &[Qualifier],
    inherited: bool,
) -> Result<(), MofErrorKind> {
    let Some(qualifier) = qualifiers.iter().find(|it| it.name.is("Override")) else {
        return Ok(());
    };
    let overridden = qualifier.value.as_str().unwrap_or(member.as_str());
    let name = overridden.rsplit('.').next().unwrap_or(overridden);
    if inherited && member.is(name) {
        Ok(())
    } else {
        Err(MofErrorKind::NothingToOverride {
            member: format!("{class}.{member}"),
            overridden: overridden.to_owned(),
        })
    }
}

fn override_property(
    class: &Name,
    slot: &mut PropertyDecl,
    own: PropertyDecl,
    is_a: &dyn Fn(&Name, &Name) -> bool,
    has_keys: bool,
) -> Result<(), MofErrorKind> {
    let member = format!("{class}.{}", own.name);
    let narrows = match (&own.class_ref, &slot.class_ref) {
        (Some(narrow), Some(wide)) if own.is_reference() => is_a(narrow, wide),
        _ => true,
    };
    if own.ty != slot.ty || !narrows {
        return Err(MofErrorKind::OverrideType {
            member,
            found: described(&own),
            inherited: described(slot),
        });
    }
    if has_keys && own.is_key() && !slot.is_key() {
        return Err(extra_key(class, &own.name));
    }
    let qualifiers = merged(&slot.qualifiers, own.qualifiers).map_err(|qualifier| {
        MofErrorKind::FixedQualifier {
            element: member,
            qualifier,
        }
    })?;
    *slot = PropertyDecl {
        name: own.name,
        ty: own.ty,
        class_ref: own.class_ref.or_else(|| slot.class_ref.take()),
        array_size: own.array_size.or(slot.array_size),
        default: if own.default.is_null() {
            std::mem::replace(&mut slot.default, crate::Value::Null)
        } else {
            own.default
        },
        qualifiers,
        origin: slot.origin.clone(),
        propagated: false,
    };
    Ok(())
}

fn described(property: &PropertyDecl) -> String {
    match &property.class_ref {
        Some(class) if property.is_reference() => format!("{} to {class}", property.ty),
        _ => property.ty.to_string(),
    }
}

fn override_method(
    class: &Name,
    slot: &mut MethodDecl,
    own: MethodDecl,
) -> Result<(), MofErrorKind> {
    let member = format!("{class}.{}", own.name);
    if own.return_type != slot.return_type {
        return Err(MofErrorKind::OverrideType {
            member,
            found: own.return_type.to_string(),
            inherited: slot.return_type.to_string(),
        });
    }
    let qualifiers = merged(&slot.qualifiers, own.qualifiers).map_err(|qualifier| {
        MofErrorKind::FixedQualifier {
            element: member,
            qualifier,
        }
    })?;
    *slot = MethodDecl {
        qualifiers,
        origin: slot.origin.clone(),
        ..own
    };
    Ok(())
}
