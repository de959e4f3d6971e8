//! Queries: WQL's SELECT over instances, with the parts of its condition that a provider or the
//! association table can answer handed to them, and ASSOCIATORS OF / REFERENCES OF through the same
//! code as the operations of those names.

use crate::access::Context;
use crate::broker::{AssociatorFilter, Broker, ClassOptions, QueryResult, ReferenceFilter};
use crate::instances::Shape;
use crate::namespaces::ServedNamespace;
use crate::provider::Equality;
use cim::wql::{
    AssociatorsOf, ClassRow, InstanceRow, Literal, Output, Projection, Query, QueryError,
    ReferencesOf, Select, Text,
};
use cim::{
    CimError, CimStatus, CimType, Class, Instance, Name, Namespace, ObjectPath, Property, Type,
    Value,
};
use std::collections::HashSet;
use std::sync::Arc;

/// What WMI calls the class of classes in schema queries.
const META_CLASS: &str = "meta_class";

impl Broker {
    pub(crate) fn run_query(
        &self,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        query: &str,
    ) -> Result<QueryResult, CimError> {
        // The namespace first: clients probe for it with any query.
        let space = self.namespace(namespace)?;
        match Query::parse_in(language, query).map_err(refused)? {
            Query::Select(select) => self.run_select(context, space, &select),
            Query::Associators(query) => self.run_associators(context, space, &query),
            Query::References(query) => self.run_references(context, space, &query),
        }
    }

    fn run_select(
        &self,
        context: &Context,
        space: &ServedNamespace,
        select: &Select,
    ) -> Result<QueryResult, CimError> {
        if select.class.is(META_CLASS) {
            return self.select_classes(space, select);
        }
        let class = space.class(&select.class)?;
        select.check(class).map_err(refused)?;
        let mut found = match self.named_by_path(context, space, class, select)? {
            Some(instances) => instances
                .into_iter()
                .filter(|instance| select.matches(&self.row(space, instance)))
                .collect(),
            None => self.filtered(context, space, class, select)?,
        };
        if let Some(names) = select.projection_names() {
            for instance in &mut found {
                self.project(space, instance, &names);
            }
        }
        Ok(QueryResult::Instances(found))
    }

    /// WMI's schema query: the rows are the classes themselves.
    fn select_classes(
        &self,
        space: &ServedNamespace,
        select: &Select,
    ) -> Result<QueryResult, CimError> {
        select.check(&Class::new(META_CLASS)).map_err(refused)?;
        let classes = space.repository.classes().filter(|class| {
            select.matches(&ClassRow {
                class,
                server: self.host_name(),
                namespace: &space.name,
                repository: &space.repository,
            })
        });
        Ok(QueryResult::Classes(classes.cloned().collect()))
    }

    /// The instances that pass the condition, found with the help of whoever has an index.
    fn filtered(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
        select: &Select,
    ) -> Result<Vec<Instance>, CimError> {
        let keep = |instance: &Instance| select.matches(&self.row(space, instance));
        let (first, second) = self.pushed_down(context, space, class, select)?;
        let mut found = self.instances_below(context, space, class, &first, &keep)?;
        if let Some(filter) = second {
            let again = self.instances_below(context, space, class, &filter, &keep)?;
            let seen: HashSet<Option<ObjectPath>> =
                found.iter().map(|instance| instance.path.clone()).collect();
            found.extend(again.into_iter().filter(|it| !seen.contains(&it.path)));
        }
        Ok(found)
    }

    /// The filters to enumerate with: together their answers hold every instance that can pass.
    /// There is a second when a text literal can be read in two ways (with and without escapes),
    /// for an index must be asked for each; another such literal is left to the condition itself.
    pub(crate) fn pushed_down(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
        select: &Select,
    ) -> Result<(Vec<Equality>, Option<Vec<Equality>>), CimError> {
        let mut first = Vec::new();
        let mut other_reading: Option<Equality> = None;
        for equality in select.equalities() {
            let Some(decl) = class.property(equality.property.as_str()) else {
                continue;
            };
            let of_property = |value: Value| Equality {
                property: decl.name.clone(),
                value,
            };
            let values = match equality.literal {
                Literal::Text(text) => self.readings(context, space, text)?,
                literal => number_or_boolean(literal).into_iter().collect(),
            };
            let mut values = values.into_iter().map(of_property);
            match (values.next(), values.next()) {
                (Some(only), None) => first.push(only),
                (Some(one), Some(other)) if other_reading.is_none() => {
                    // At the front, where the second filter has its counterpart.
                    first.insert(0, one);
                    other_reading = Some(other);
                }
                _ => {}
            }
        }
        let second = other_reading.map(|other| {
            let rest = first.iter().skip(1).cloned();
            std::iter::once(other).chain(rest).collect()
        });
        Ok((first, second))
    }

    /// The values that a text literal may stand for: each of its readings, as the object that it
    /// names where it is a path. Paths compare by what they name, so their text must not be looked
    /// up.
    fn readings(
        &self,
        context: &Context,
        space: &ServedNamespace,
        text: &Text,
    ) -> Result<Vec<Value>, CimError> {
        let mut values = Vec::new();
        for reading in text.readings() {
            let value = match ObjectPath::parse(reading) {
                Ok(path) if !path.is_class() => {
                    let found = self.resolve_optional(context, space, &path)?;
                    let canonical = found.and_then(|instance| instance.path);
                    Value::from(canonical.unwrap_or_else(|| self.complete(space, path)))
                }
                _ => Value::from(reading),
            };
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(values)
    }

    /// For `__PATH = '...'` and `__RELPATH = '...'`: what the path names, without a search.
    fn named_by_path(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
        select: &Select,
    ) -> Result<Option<Vec<Instance>>, CimError> {
        let equalities = select.equalities();
        let named = equalities.iter().find_map(|equality| {
            let is_path = equality.property.is("__PATH") || equality.property.is("__RELPATH");
            match equality.literal {
                Literal::Text(text) if is_path => Some(text),
                _ => None,
            }
        });
        let Some(text) = named else { return Ok(None) };
        let mut found: Vec<Instance> = Vec::new();
        for path in paths_in(self, space, text) {
            if let Some(instance) = self.resolve_optional(context, space, path)?
                && space.is_a(&instance.class, &class.name)
                && !found.iter().any(|other| other.path == instance.path)
            {
                found.push(instance);
            }
        }
        Ok(Some(found))
    }

    pub(crate) fn row<'a>(
        &'a self,
        space: &'a ServedNamespace,
        instance: &'a Instance,
    ) -> InstanceRow<'a> {
        InstanceRow {
            instance,
            server: self.host_name(),
            namespace: &space.name,
            repository: Some(&space.repository),
        }
    }

    /// Leaves what a SELECT list asks for, in its order, system properties included.
    pub(crate) fn project(&self, space: &ServedNamespace, instance: &mut Instance, names: &[Name]) {
        let row = self.row(space, instance);
        let selected = names.iter().filter_map(|name| {
            if let Some(property) = instance.property(name.as_str()) {
                return Some(property.clone());
            }
            let value = row.system_property(name.as_str())?;
            Some(Property {
                name: name.clone(),
                ty: value.type_of().unwrap_or(Type::scalar(CimType::String)),
                value,
                origin: None,
            })
        });
        let selected = selected.collect();
        instance.properties = selected;
    }

    fn run_associators(
        &self,
        context: &Context,
        space: &ServedNamespace,
        query: &AssociatorsOf,
    ) -> Result<QueryResult, CimError> {
        let filter = AssociatorFilter {
            assoc_class: query.assoc_class.clone(),
            result_class: query.result_class.clone(),
            role: query.role.clone(),
            result_role: query.result_role.clone(),
            required_qualifier: query.required_qualifier.clone(),
            required_assoc_qualifier: query.required_assoc_qualifier.clone(),
        };
        if query.output.schema_only || query.object.is_class() {
            let home = self.namespace_of(&space.name, &query.object)?;
            let classes = self.associated_classes_of(
                &home.name,
                &query.object.class,
                &filter,
                &with_qualifiers(),
            )?;
            return Ok(QueryResult::Classes(
                classes.into_iter().map(Arc::new).collect(),
            ));
        }
        let shape = Shape::default();
        let found =
            self.associated_instances(context, &space.name, &query.object, &filter, shape)?;
        self.output(space, found, query.output)
    }

    fn run_references(
        &self,
        context: &Context,
        space: &ServedNamespace,
        query: &ReferencesOf,
    ) -> Result<QueryResult, CimError> {
        let filter = ReferenceFilter {
            result_class: query.result_class.clone(),
            role: query.role.clone(),
            required_qualifier: query.required_qualifier.clone(),
        };
        if query.output.schema_only || query.object.is_class() {
            let home = self.namespace_of(&space.name, &query.object)?;
            let classes = self.association_classes_of(
                &home.name,
                &query.object.class,
                &filter,
                &with_qualifiers(),
            )?;
            return Ok(QueryResult::Classes(
                classes.into_iter().map(Arc::new).collect(),
            ));
        }
        let shape = Shape::default();
        let found =
            self.referring_instances(context, &space.name, &query.object, &filter, shape)?;
        self.output(space, found, query.output)
    }

    fn output(
        &self,
        space: &ServedNamespace,
        mut found: Vec<Instance>,
        output: Output,
    ) -> Result<QueryResult, CimError> {
        if output.class_definitions_only {
            let mut classes: Vec<Arc<Class>> = Vec::new();
            for instance in &found {
                let class = space.class(&instance.class)?;
                if !classes.iter().any(|other| other.name == class.name) {
                    classes.push(Arc::clone(class));
                }
            }
            return Ok(QueryResult::Classes(classes));
        }
        if output.keys_only {
            for instance in &mut found {
                let class = space.class(&instance.class)?;
                instance.properties.retain(|property| {
                    class
                        .property(property.name.as_str())
                        .is_some_and(|decl| decl.is_key())
                });
            }
        }
        Ok(QueryResult::Instances(found))
    }
}

/// Whether a condition names objects by their paths.
pub(crate) trait NamesPaths {
    fn names_paths(&self) -> bool;
}

impl NamesPaths for Select {
    fn names_paths(&self) -> bool {
        let mut equalities = self.equalities().into_iter();
        equalities.any(|it| it.property.is("__PATH") || it.property.is("__RELPATH"))
    }
}

fn with_qualifiers() -> ClassOptions {
    ClassOptions {
        include_qualifiers: true,
        ..ClassOptions::default()
    }
}

/// The object paths that a literal may mean, as far as they lie in this namespace.
pub(crate) fn paths_in<'a>(
    broker: &'a Broker,
    space: &'a ServedNamespace,
    text: &'a Text,
) -> impl Iterator<Item = &'a ObjectPath> {
    text.paths().iter().filter(|path| {
        let home = broker.namespace_of(&space.name, path);
        !path.is_class() && home.is_ok_and(|home| home.name == space.name)
    })
}

fn number_or_boolean(literal: &Literal) -> Option<Value> {
    match literal {
        Literal::Text(_) => None,
        Literal::Boolean(value) => Some(Value::Boolean(*value)),
        Literal::Real(value) => Some(Value::Real64(*value)),
        Literal::Integer(n) => i64::try_from(*n)
            .map(Value::Sint64)
            .or_else(|_| u64::try_from(*n).map(Value::Uint64))
            .ok(),
    }
}

/// The names in a SELECT list, each once; `None` for `*`.
pub(crate) trait ProjectionNames {
    fn projection_names(&self) -> Option<Vec<Name>>;
}

impl ProjectionNames for Select {
    fn projection_names(&self) -> Option<Vec<Name>> {
        let Projection::Properties(_) = &self.projection else {
            return None;
        };
        let mut names: Vec<Name> = Vec::new();
        for name in self.projection.names()? {
            let name = Name::new(name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        // `SELECT A, * FROM C` is everything.
        (!names.iter().any(|name| name.is("*"))).then_some(names)
    }
}

pub(crate) fn refused(error: QueryError) -> CimError {
    let status = match &error {
        QueryError::Language(_) => CimStatus::QueryLanguageNotSupported,
        QueryError::Event(_) | QueryError::Group => CimStatus::NotSupported,
        _ => CimStatus::InvalidQuery,
    };
    let advice = match &error {
        QueryError::Event(_) => " Poll with a query on the class itself instead.",
        QueryError::Group => " Count the events at the client.",
        QueryError::UnknownProperty { .. } => {
            " Check the spelling, or query the subclass that has it."
        }
        _ => "",
    };
    CimError::new(
        status,
        format!("{}.{advice}", capitalized(&error.to_string())),
    )
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
