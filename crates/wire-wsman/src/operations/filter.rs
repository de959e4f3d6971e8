//! What is enumerated: all of a class, or what a filter selects. Each kind of filter becomes an
//! operation of the broker.

use super::Call;
use super::enumerations::{Mode, Rest};
use crate::reference::{Selector, SelectorValue, read_reference, read_selectors};
use crate::resource::{Resource, path_of};
use crate::soap::fault::Fault;
use crate::soap::uri;
use crate::soap::xml::Element;
use cim::{CimError, CimStatus, Instance, Name, Namespace, ObjectPath};
use cim_broker::{AssociatorFilter, QueryStream, ReferenceFilter};

const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
const SELECTORS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
const ASSOCIATIONS: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";
const CQL: &str = "http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf";
const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";

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
pub enum Polymorphism {
    /// Their instances come whole.
    Include,
    /// Their instances come as ones of the class.
    Exclude,
    /// Their instances do not come.
    None,
}

impl Call {
    /// Finds what is enumerated, and in which namespace.
    pub(super) fn find(
        &self,
        resource: &Resource,
        filter: Filter,
        mode: Mode,
    ) -> Result<(Namespace, Rest), Fault> {
        let namespace = resource.namespace.clone();
        let rest = match filter {
            Filter::None => self.whole_class(resource, mode)?,
            Filter::Query(language, text) => self.query(&namespace, language, &text)?,
            Filter::Selectors(selectors) => {
                let class = &resource.declared(self.broker())?.name;
                self.query(&namespace, "WQL", &selection(class, &selectors)?)?
            }
            Filter::Association(filter) => return self.associated(resource, *filter),
        };
        Ok((namespace, rest))
    }

    /// Some clients stop at the first object of another class than the one they asked for: objects of
    /// exactly that class come first, in a walk of their own where there are others.
    fn whole_class(&self, resource: &Resource, mode: Mode) -> Result<Rest, Fault> {
        let (broker, context, namespace) =
            (self.shared_broker(), &self.context, &resource.namespace);
        let class = resource.declared(broker)?;
        if mode == Mode::References {
            let mut paths = broker.enumerate_instance_names(context, namespace, &class.name)?;
            paths.sort_by_key(|it| it.class != class.name);
            return Ok(Rest::of_paths(paths));
        }
        let walk = || broker.stream_instances(context, namespace, &class.name, true, None);
        let schema = broker.schema(namespace)?;
        if class.is_abstract() || schema.subclasses(&class.name, true).is_empty() {
            return Ok(Rest::of_stream(walk()?));
        }
        let is_exact = |name: Name, wanted: bool| {
            move |it: &Result<Instance, CimError>| {
                it.as_ref().map_or(true, |it| (it.class == name) == wanted)
            }
        };
        let exact = walk()?.filter(is_exact(class.name.clone(), true));
        let others = walk()?.filter(is_exact(class.name.clone(), false));
        Ok(Rest::of_stream(Box::new(exact.chain(others))))
    }

    fn query(&self, namespace: &Namespace, language: &str, text: &str) -> Result<Rest, Fault> {
        let broker = self.shared_broker();
        let found = broker.stream_query(&self.context, namespace, language, text);
        match found.map_err(wrong_query)? {
            QueryStream::Instances(objects) => Ok(Rest::of_stream(objects)),
            QueryStream::Classes(_) => Err(Fault::filter(
                "The query selects classes; what is enumerated are instances.",
            )),
        }
    }

    fn associated(
        &self,
        resource: &Resource,
        filter: AssociationFilter,
    ) -> Result<(Namespace, Rest), Fault> {
        let (broker, context) = (self.broker(), &self.context);
        let namespace = filter.source.namespace.as_ref();
        let namespace = namespace.unwrap_or(&resource.namespace);
        let properties = (!filter.properties.is_empty()).then_some(filter.properties.as_slice());
        let first = filter.result_class.clone().or(resource.class.clone());
        let mut found = if filter.links {
            let wanted = ReferenceFilter {
                result_class: filter.result_class.or(filter.association_class),
                role: filter.role,
                required_qualifier: None,
            };
            broker.references(context, namespace, &filter.source, &wanted, properties)?
        } else {
            let wanted = AssociatorFilter {
                assoc_class: filter.association_class,
                result_class: filter.result_class,
                role: filter.role,
                result_role: filter.result_role,
                ..AssociatorFilter::default()
            };
            broker.associators(context, namespace, &filter.source, &wanted, properties)?
        };
        if let Some(first) = first {
            found.sort_by_key(|it| it.class != first);
        }
        Ok((namespace.clone(), Rest::of_instances(found)))
    }
}

/// What a query names and there is not makes the filter wrong, not the address.
fn wrong_query(error: CimError) -> Fault {
    match error.status {
        CimStatus::InvalidClass => Fault {
            error: Some(error.status),
            ..Fault::filter(error.message)
        },
        _ => error.into(),
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
