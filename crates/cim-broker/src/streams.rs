//! Answers that are made as they are taken: an enumeration of ten thousand machines costs a handle on
//! each of them until it is pulled, not ten thousand instances.
//!
//! What there is, is decided when the stream is made; providers hold on to what they had then
//! ([`crate::Provider::stream`]).

use crate::access::Context;
use crate::broker::{Broker, QueryResult};
use crate::instances::Shape;
use crate::namespaces::ServedNamespace;
use crate::provider::{Equality, Instances};
use crate::query::{NamesPaths, ProjectionNames, refused};
use cim::wql::{Query, Select};
use cim::{CimError, Class, Instance, Name, Namespace};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a query answers, the instances as a stream.
pub enum QueryStream {
    /// See [`QueryResult::Instances`].
    Instances(Instances),
    /// See [`QueryResult::Classes`].
    Classes(Vec<Arc<Class>>),
}

/// Whether an instance, as its provider made it, is an answer.
type Keep = Arc<dyn Fn(&Broker, &ServedNamespace, &Instance) -> bool + Send + Sync>;

impl Broker {
    /// [`Broker::enumerate_instances`], one by one.
    pub fn stream_instances(
        self: &Arc<Self>,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
        deep: bool,
        property_list: Option<Vec<Name>>,
    ) -> Result<Instances, CimError> {
        let space = self.namespace(namespace)?;
        let class = Arc::clone(space.class(class)?);
        let every: Keep = Arc::new(|_, _, _| true);
        let found = self.stream_below(context, space, &class, &[], &every)?;
        if deep && property_list.is_none() {
            return Ok(found);
        }
        Ok(Box::new(found.map(move |instance| {
            let mut instance = instance?;
            let shape = Shape {
                of_class: (!deep).then_some(class.as_ref()),
                property_list: property_list.as_deref(),
            };
            shape.apply(&mut instance);
            Ok(instance)
        })))
    }

    /// [`Broker::query`], one by one where the query is a SELECT that has to look at instances.
    pub fn stream_query(
        self: &Arc<Self>,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        query: &str,
    ) -> Result<QueryStream, CimError> {
        let space = self.namespace(namespace)?;
        if let Query::Select(select) = Query::parse_in(language, query).map_err(refused)?
            && let Some(found) = self.stream_select(context, space, select)?
        {
            return Ok(QueryStream::Instances(found));
        }
        Ok(match self.query(context, namespace, language, query)? {
            QueryResult::Instances(all) => {
                QueryStream::Instances(Box::new(all.into_iter().map(Ok)))
            }
            QueryResult::Classes(classes) => QueryStream::Classes(classes),
        })
    }

    /// Nothing where the answer is not one walk over instances.
    fn stream_select(
        self: &Arc<Self>,
        context: &Context,
        space: &ServedNamespace,
        select: Select,
    ) -> Result<Option<Instances>, CimError> {
        let Some(class) = space.find_class(&select.class) else {
            return Ok(None);
        };
        let class = Arc::clone(class);
        select.check(&class).map_err(refused)?;
        let (filter, second) = self.pushed_down(context, space, &class, &select)?;
        if second.is_some() || select.names_paths() {
            return Ok(None);
        }
        let names = select.projection_names();
        let keep: Keep =
            Arc::new(move |broker, space, instance| select.matches(&broker.row(space, instance)));
        let found = self.stream_below(context, space, &class, &filter, &keep)?;
        let Some(names) = names else {
            return Ok(Some(found));
        };
        let broker = Arc::clone(self);
        let namespace = space.name.clone();
        Ok(Some(Box::new(found.map(move |instance| {
            let mut instance = instance?;
            broker.project(broker.namespace(&namespace)?, &mut instance, &names);
            Ok(instance)
        }))))
    }

    /// [`Broker::instances_below`], one by one.
    fn stream_below(
        self: &Arc<Self>,
        context: &Context,
        space: &ServedNamespace,
        class: &Class,
        filter: &[Equality],
        keep: &Keep,
    ) -> Result<Instances, CimError> {
        let mut parts: Vec<Instances> = Vec::new();
        for served in space.visible_below(context, &class.name) {
            let made = served.provider.stream(context, &served.class, filter)?;
            let (broker, keep) = (Arc::clone(self), Arc::clone(keep));
            let (namespace, class) = (space.name.clone(), served.class.clone());
            parts.push(Box::new(made.filter_map(move |instance| {
                let finished = || {
                    let space = broker.namespace(&namespace)?;
                    let instance = instance?;
                    if !keep(&broker, space, &instance) {
                        return Ok(None);
                    }
                    let instance = broker.finish(space, space.class(&class)?, instance)?;
                    Ok(Some(instance))
                };
                finished().transpose()
            })));
        }
        let mut links = Vec::new();
        for link in self.links_below(context, space, class, filter)? {
            let instance = self.association_instance(space, &link)?;
            if keep(self, space, &instance) {
                links.push(Ok(instance));
            }
        }
        parts.push(Box::new(links.into_iter()));
        Ok(Box::new(Parts(parts.into())))
    }
}

/// One stream after the other; it knows how many there can be in all.
struct Parts(VecDeque<Instances>);

impl Iterator for Parts {
    type Item = Result<Instance, CimError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.front_mut()?.next() {
                None => self.0.pop_front(),
                next => return next,
            };
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let hints = self.0.iter().map(|part| part.size_hint());
        hints.fold((0, Some(0)), |(least, most), (some, rest)| {
            let most = most.zip(rest).and_then(|(a, b)| a.checked_add(b));
            (least.saturating_add(some), most)
        })
    }
}
