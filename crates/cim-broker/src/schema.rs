//! Classes and qualifier declarations as clients ask for them.

use crate::broker::{AssociatorFilter, Broker, ClassOptions, ReferenceFilter};
use crate::errors;
use crate::namespaces::{ServedNamespace, system_classes};
use cim::{CimError, CimStatus, Class, Name, Namespace, PropertyDecl, QualifierDecl};
use std::sync::Arc;

/// `class` as far as `options` want it.
pub(crate) fn shaped(class: &Class, options: &ClassOptions) -> Class {
    let mut class = class.clone();
    if options.local_only {
        class.properties.retain(|property| !property.propagated);
        class.methods.retain(|method| !method.propagated);
    }
    if let Some(wanted) = &options.property_list {
        class
            .properties
            .retain(|property| wanted.contains(&property.name));
    }
    if !options.include_qualifiers {
        class.qualifiers.clear();
        for property in &mut class.properties {
            property.qualifiers.clear();
        }
        for method in &mut class.methods {
            method.qualifiers.clear();
            for parameter in &mut method.parameters {
                parameter.qualifiers.clear();
            }
        }
    }
    class
}

impl Broker {
    pub(crate) fn classes_below(
        &self,
        namespace: &Namespace,
        below: Option<&Name>,
        deep: bool,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let space = self.namespace(namespace)?;
        if let Some(class) = below {
            space.class(class)?;
        }
        let own = &space.repository;
        let is_own = below.is_none_or(|class| own.class(class).is_some());
        let repository = if is_own { own } else { system_classes() };
        let classes: Vec<&Arc<Class>> = match below {
            Some(class) => repository.subclasses(class, deep),
            None if deep => repository.classes().collect(),
            None => repository.roots().collect(),
        };
        Ok(classes
            .into_iter()
            .map(|class| shaped(class, options))
            .collect())
    }

    pub(crate) fn qualifier_declaration(
        &self,
        namespace: &Namespace,
        name: &Name,
    ) -> Result<QualifierDecl, CimError> {
        let space = self.namespace(namespace)?;
        space
            .repository
            .qualifier(name.as_str())
            .cloned()
            .ok_or_else(|| {
                CimError::new(
                    CimStatus::NotFound,
                    format!(
                        "There is no qualifier type {name} in namespace {}.",
                        space.name
                    ),
                )
            })
    }

    /// The association classes that can refer to objects of class `source`.
    pub(crate) fn association_classes_of(
        &self,
        namespace: &Namespace,
        source: &Name,
        filter: &ReferenceFilter,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let space = self.namespace(namespace)?;
        let source = &space.class(source)?.name;
        let wanted = space.association_filter("ResultClass", filter.result_class.as_ref())?;
        let classes = space
            .association_classes(wanted)
            .filter(|class| !near_ends(space, class, source, filter.role.as_ref()).is_empty());
        Ok(classes.map(|class| shaped(class, options)).collect())
    }

    /// The classes that association classes can link class `source` to, each once.
    pub(crate) fn associated_classes_of(
        &self,
        namespace: &Namespace,
        source: &Name,
        filter: &AssociatorFilter,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let space = self.namespace(namespace)?;
        let source = &space.class(source)?.name;
        let wanted = space.association_filter("AssocClass", filter.assoc_class.as_ref())?;
        let result = space.class_filter("ResultClass", filter.result_class.as_ref())?;
        let mut found: Vec<Name> = Vec::new();
        for class in space.association_classes(wanted) {
            for near in near_ends(space, class, source, filter.role.as_ref()) {
                for far in class.references().filter(|far| far.name != near.name) {
                    let role_fits = filter.result_role.as_ref().is_none_or(|r| *r == far.name);
                    let Some(far_class) = far.class_ref.as_ref().filter(|_| role_fits) else {
                        continue;
                    };
                    let class_fits = result.is_none_or(|result| space.is_a(far_class, result));
                    if class_fits && !found.contains(far_class) {
                        found.push(far_class.clone());
                    }
                }
            }
        }
        found
            .iter()
            .map(|name| Ok(shaped(space.class(name)?, options)))
            .collect()
    }
}

/// The references of `association` that an object of class `source` may stand in.
fn near_ends<'a>(
    space: &ServedNamespace,
    association: &'a Class,
    source: &Name,
    role: Option<&Name>,
) -> Vec<&'a PropertyDecl> {
    association
        .references()
        .filter(|near| role.is_none_or(|role| *role == near.name))
        .filter(|near| {
            near.class_ref
                .as_ref()
                .is_some_and(|class| space.is_a(source, class))
        })
        .collect()
}

impl ServedNamespace {
    /// Association classes at or below `base`.
    fn association_classes<'a>(
        &'a self,
        base: Option<&'a Name>,
    ) -> impl Iterator<Item = &'a Class> {
        self.repository
            .classes()
            .map(AsRef::as_ref)
            .filter(|class| class.is_association())
            .filter(move |class| base.is_none_or(|base| self.is_a(&class.name, base)))
    }

    /// The class that a class filter names, in its declared spelling; error 4 when there is none.
    pub(crate) fn class_filter<'a>(
        &'a self,
        parameter: &str,
        class: Option<&Name>,
    ) -> Result<Option<&'a Name>, CimError> {
        let Some(class) = class else { return Ok(None) };
        let class = Name::new(class.as_str().trim());
        match self.find_class(&class) {
            Some(found) => Ok(Some(&found.name)),
            None => Err(errors::unknown_filter_class(parameter, &class, &self.name)),
        }
    }

    /// [`Self::class_filter`], for a filter that must name an association class.
    pub(crate) fn association_filter<'a>(
        &'a self,
        parameter: &str,
        class: Option<&Name>,
    ) -> Result<Option<&'a Name>, CimError> {
        let found = self.class_filter(parameter, class)?;
        match found.and_then(|name| self.find_class(name)) {
            Some(class) if !class.is_association() => {
                Err(errors::not_an_association(parameter, &class.name))
            }
            _ => Ok(found),
        }
    }
}
