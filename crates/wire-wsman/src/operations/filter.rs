//! What is enumerated: all of a class, or what a filter selects. Each kind of filter becomes an
//! operation of the broker.

use super::Call;
use super::enumerations::{Mode, Rest};
use crate::reference::{Selector, SelectorValue, read_reference, read_selectors};
use crate::resource::{Resource, path_of};
use crate::soap::fault::Fault;
use crate::soap::uri;
use crate::soap::xml::Element;
use cim::wql::{Projection, Query};
use cim::{Instance, Name, Namespace, ObjectPath};
use cim_broker::{AssociatorFilter, QueryResult, ReferenceFilter};

const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
const SELECTORS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
const ASSOCIATIONS: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";
const CQL: &str = "http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf";
const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";

/// Answers with more objects than this wait as paths.
const HELD_AS_THEY_ARE: usize = 256;

/// What a filter selects.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Everything.
    None,
    /// A query, and its language as the broker knows it.
    Query(&'static str, String),
    /// The instances with these values.
    Selectors(Vec<Selector>),
    /// What an association links to an object, or the links themselves.
    Association(Box<AssociationFilter>),
}

/// DSP0227 section 17.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociationFilter {
    source: ObjectPath,
    /// Whether the links are asked for, rather than the objects at their other ends.
    links: bool,
    association_class: Option<Name>,
    role: Option<Name>,
    result_class: Option<Name>,
    result_role: Option<Name>,
    properties: Vec<Name>,
}

/// Reads the filter of an Enumerate or a Subscribe.
pub fn read_filter(operation: &Element) -> Result<Filter, Fault> {
    let filter = operation.children.iter().find(|it| {
        it.local == "Filter"
            && [uri::WSMAN, uri::ENUMERATION, uri::EVENTING].contains(&&*it.namespace)
    });
    let Some(filter) = filter else {
        return Ok(Filter::None);
    };
    let dialect = filter.attribute("Dialect").unwrap_or(XPATH).trim();
    if dialect.eq_ignore_ascii_case(WQL) {
        return Ok(Filter::Query("WQL", filter.trimmed().to_owned()));
    }
    match dialect {
        CQL => Ok(Filter::Query("DMTF:CQL", filter.trimmed().to_owned())),
        SELECTORS => {
            let set = filter.child(uri::WSMAN, "SelectorSet");
            let set = set.ok_or_else(|| Fault::filter("The filter has no SelectorSet."))?;
            Ok(Filter::Selectors(read_selectors(set)?))
        }
        ASSOCIATIONS => {
            let kind = filter.children.iter().find(|it| {
                it.is(uri::BINDING, "AssociatedInstances")
                    || it.is(uri::BINDING, "AssociationInstances")
            });
            let kind = kind.ok_or_else(|| {
                Fault::filter(
                    "The filter has neither AssociatedInstances nor AssociationInstances.",
                )
            })?;
            association(kind).map(|it| Filter::Association(Box::new(it)))
        }
        other => Err(Fault::dialect(other)),
    }
}

fn association(filter: &Element) -> Result<AssociationFilter, Fault> {
    let object = filter.child(uri::BINDING, "Object");
    let object = object.and_then(read_reference);
    let source = object.ok_or_else(|| {
        Fault::filter("The association filter has no Object that is an endpoint reference.")
    })?;
    let name = |local: &str| {
        let found = filter.child(uri::BINDING, local)?;
        let text = found.trimmed();
        (!text.is_empty()).then(|| Name::new(text))
    };
    let properties = filter
        .children
        .iter()
        .filter(|it| it.is(uri::BINDING, "IncludeResultProperty"));
    Ok(AssociationFilter {
        source: path_of(&source?)?,
        links: filter.local == "AssociationInstances",
        association_class: name("AssociationClassName"),
        role: name("Role"),
        result_class: name("ResultClassName"),
        result_role: name("ResultRole"),
        properties: properties.map(|it| Name::new(it.trimmed())).collect(),
    })
}

/// What subclasses mean to an enumeration (DSP0227 section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polymorphism {
    /// Their instances come whole.
    Include,
    /// Their instances come as ones of the class.
    Exclude,
    /// Their instances do not come.
    None,
}

/// What is enumerated, and where.
pub(super) struct Found {
    pub(super) namespace: Namespace,
    pub(super) rest: Rest,
}

impl Call {
    /// Finds what is enumerated.
    pub(super) fn find(
        &self,
        resource: &Resource,
        filter: Filter,
        mode: Mode,
        polymorphism: Polymorphism,
    ) -> Result<Found, Fault> {
        let namespace = resource.namespace.clone();
        let exact = match polymorphism {
            Polymorphism::None => resource.class.clone(),
            _ => None,
        };
        let first = resource.class.clone();
        match filter {
            Filter::None => self.whole_class(resource, exact),
            Filter::Query(language, query) => {
                let asked = self.query(&namespace, language, &query, mode)?;
                Ok(Found {
                    namespace,
                    rest: asked,
                })
            }
            Filter::Selectors(selectors) => {
                let class = &resource.declared(self.broker())?.name;
                let query = selection(class, &selectors)?;
                let rest = self.query(&namespace, "WQL", &query, mode)?;
                Ok(Found { namespace, rest })
            }
            Filter::Association(filter) => {
                let rest = self.associated(&namespace, *filter, mode, first)?;
                Ok(Found { namespace, rest })
            }
        }
    }

    fn whole_class(&self, resource: &Resource, exact: Option<Name>) -> Result<Found, Fault> {
        let namespace = resource.namespace.clone();
        let class = resource.declared(self.broker())?;
        // A link is not found by its path without a search: links wait as they are.
        if class.is_association() {
            let all = self.broker().enumerate_instances(
                &self.context,
                &namespace,
                &class.name,
                true,
                None,
            )?;
            let rest = Rest::Instances(all.into_iter());
            return Ok(Found { namespace, rest });
        }
        let paths =
            self.broker()
                .enumerate_instance_names(&self.context, &namespace, &class.name)?;
        let mut paths = paths;
        if let Some(exact) = exact {
            paths.retain(|it| it.class == exact);
        }
        // Some clients stop at the first object of another class than the one they asked for.
        paths.sort_by_key(|it| it.class != class.name);
        let rest = Rest::Paths(paths.into_iter());
        Ok(Found { namespace, rest })
    }

    fn query(
        &self,
        namespace: &Namespace,
        language: &str,
        query: &str,
        mode: Mode,
    ) -> Result<Rest, Fault> {
        let failed = |error: cim::CimError| {
            let known = matches!(
                error.status,
                cim::CimStatus::InvalidQuery | cim::CimStatus::QueryLanguageNotSupported
            );
            // What a query names and there is not makes the filter wrong, not the address.
            let unknown = error.status == cim::CimStatus::InvalidClass;
            let fault = Fault::from(error.clone());
            match unknown && !known {
                true => Fault {
                    error: Some(error.status),
                    ..Fault::filter(error.message)
                },
                false => fault,
            }
        };
        let select = match Query::parse_in(language, query) {
            Ok(Query::Select(select)) => Some(select),
            _ => None,
        };
        let everything = select
            .as_ref()
            .is_some_and(|it| it.projection == Projection::All);
        if let Some(select) = &select
            && everything
            && select.filter.is_none()
            && let Some(class) = self.broker().schema(namespace)?.class(&select.class)
            && !class.is_association()
        {
            let names =
                self.broker()
                    .enumerate_instance_names(&self.context, namespace, &select.class);
            let mut paths = names.map_err(failed)?;
            paths.sort_by_key(|it| it.class != select.class);
            return Ok(Rest::Paths(paths.into_iter()));
        }
        let found = self
            .broker()
            .query(&self.context, namespace, language, query)
            .map_err(failed)?;
        let QueryResult::Instances(mut instances) = found else {
            return Err(Fault::filter(
                "The query selects classes; instances are enumerated here.",
            ));
        };
        if let Some(select) = &select {
            instances.sort_by_key(|it| it.class != select.class);
        }
        Ok(self.waiting(instances, mode, everything || select.is_none()))
    }

    fn associated(
        &self,
        namespace: &Namespace,
        filter: AssociationFilter,
        mode: Mode,
        first: Option<Name>,
    ) -> Result<Rest, Fault> {
        let space = filter.source.namespace.clone();
        let space = space.unwrap_or_else(|| namespace.clone());
        let properties = (!filter.properties.is_empty()).then_some(filter.properties.as_slice());
        let mut found = if filter.links {
            let wanted = ReferenceFilter {
                result_class: filter
                    .result_class
                    .clone()
                    .or(filter.association_class.clone()),
                role: filter.role.clone(),
                required_qualifier: None,
            };
            self.broker()
                .references(&self.context, &space, &filter.source, &wanted, properties)?
        } else {
            let wanted = AssociatorFilter {
                assoc_class: filter.association_class.clone(),
                result_class: filter.result_class.clone(),
                role: filter.role.clone(),
                result_role: filter.result_role.clone(),
                ..AssociatorFilter::default()
            };
            self.broker()
                .associators(&self.context, &space, &filter.source, &wanted, properties)?
        };
        if let Some(first) = filter.result_class.clone().or(first) {
            found.sort_by_key(|it| it.class != first);
        }
        Ok(self.waiting(found, mode, properties.is_none() && !filter.links))
    }

    /// What is kept of an answer until it is pulled. Objects that can be fetched again by their paths
    /// need not wait themselves.
    fn waiting(&self, instances: Vec<Instance>, mode: Mode, can_be_fetched: bool) -> Rest {
        let many = instances.len() > HELD_AS_THEY_ARE;
        let named = instances.iter().all(|it| it.path.is_some());
        if named && (mode == Mode::References || (many && can_be_fetched)) {
            let paths: Vec<ObjectPath> = instances.into_iter().filter_map(|it| it.path).collect();
            return Rest::Paths(paths.into_iter());
        }
        Rest::Instances(instances.into_iter())
    }
}

/// A query for the instances with these values.
fn selection(class: &Name, selectors: &[Selector]) -> Result<String, Fault> {
    let mut query = format!("SELECT * FROM {class}");
    for (index, selector) in selectors.iter().enumerate() {
        let SelectorValue::Text(text) = &selector.value else {
            let reason = "Selector filters compare text; use an association filter for references.";
            return Err(Fault::filter(reason));
        };
        let plausible = selector
            .name
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_');
        if selector.name.is_empty() || !plausible {
            return Err(Fault::filter(format!(
                "{:?} is no property.",
                selector.name
            )));
        }
        query.push_str(if index == 0 { " WHERE " } else { " AND " });
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
        query.push_str(&format!("{} = '{escaped}'", selector.name));
    }
    Ok(query)
}
