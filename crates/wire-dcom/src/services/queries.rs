//! What answers an enumerator: queries, instances of a class, classes, events.
//!
//! Results are found at once, also when the client wants to be answered immediately; what they may
//! take until they are fetched is bounded by the holdings.

use super::{FORWARD_ONLY, PROTOTYPE, SHALLOW, Services, texts};
use crate::encoder::{Projection, Texts};
use crate::enumerator::Enumerator;
use crate::feed::{Feed, Item, Results};
use crate::session::{Refused, Session};
use crate::{ids, status, stub};
use cim::wql::{self, Query, Select};
use cim::{Instance, Name};
use cim_broker::{ClassOptions, Context, QueryResult};
use dce_rpc::Fault;
use dcom::{HResult, ObjectCall};
use std::sync::Arc;

/// What an item takes besides what it holds.
const ITEM: usize = size_of::<Item>() + 2 * size_of::<usize>();

impl Services {
    /// `ExecQuery([in] BSTR strQueryLanguage, [in] BSTR strQuery, [in] long lFlags, [in]
    /// IWbemContext *, [out] IEnumWbemClassObject **)`.
    pub(super) async fn exec_query(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let (language, query, flags) = query_arguments(call)?;
        let results = self.session.ask(call.caller, move |session, context| {
            if flags & PROTOTYPE != 0 {
                return prototype(session, context, &language, &query);
            }
            let broker = &session.service.broker;
            let found = broker.query(context, session.namespace(), &language, &query)?;
            match found {
                QueryResult::Instances(instances) => {
                    let projection = match Query::parse_in(&language, &query) {
                        Ok(Query::Select(select)) => projection(&select),
                        _ => None,
                    };
                    Ok(instance_results(session, context, instances, projection)?)
                }
                QueryResult::Classes(classes) => {
                    let names = classes.iter().map(|class| class.name.clone());
                    Ok(class_results(
                        session,
                        context,
                        names.collect(),
                        texts(flags),
                    )?)
                }
            }
        });
        let results = results.await;
        Ok(self.put_results(call, results, flags))
    }

    /// `CreateInstanceEnum([in] BSTR strSuperClass, [in] long lFlags, [in] IWbemContext *, [out]
    /// IEnumWbemClassObject **)`.
    pub(super) async fn create_instance_enum(
        &self,
        call: &mut ObjectCall<'_>,
    ) -> Result<HResult, Fault> {
        let (class, flags) = class_arguments(call)?;
        let results = self.session.ask(call.caller, move |session, context| {
            let class = Name::new(class.trim());
            let broker = &session.service.broker;
            let mut found =
                broker.enumerate_instances(context, session.namespace(), &class, true, None)?;
            if flags & SHALLOW != 0 {
                found.retain(|instance| instance.class == class);
            }
            Ok(instance_results(session, context, found, None)?)
        });
        let results = results.await;
        Ok(self.put_results(call, results, flags))
    }

    /// `CreateClassEnum([in] BSTR strSuperclass, [in] long lFlags, [in] IWbemContext *, [out]
    /// IEnumWbemClassObject **)`. No superclass means the roots.
    pub(super) async fn create_class_enum(
        &self,
        call: &mut ObjectCall<'_>,
    ) -> Result<HResult, Fault> {
        let (class, flags) = class_arguments(call)?;
        let results = self.session.ask(call.caller, move |session, context| {
            let class = class.trim();
            let below = (!class.is_empty()).then(|| Name::new(class));
            let found = session.service.broker.enumerate_classes(
                context,
                session.namespace(),
                below.as_ref(),
                flags & SHALLOW == 0,
                &ClassOptions::default(),
            )?;
            let names = found.into_iter().map(|class| class.name).collect();
            Ok(class_results(session, context, names, texts(flags))?)
        });
        let results = results.await;
        Ok(self.put_results(call, results, flags))
    }

    /// `ExecNotificationQuery`, as `ExecQuery`. The enumerator never ends; its `Next` waits for
    /// events.
    pub(super) async fn exec_notification_query(
        &self,
        call: &mut ObjectCall<'_>,
    ) -> Result<HResult, Fault> {
        let (language, query, _flags) = query_arguments(call)?;
        let feed = self.session.ask(call.caller, move |session, context| {
            let broker = &session.service.broker;
            let subscription = broker.subscribe(context, session.namespace(), &language, &query)?;
            let projection = projection(&subscription.query().select);
            let encoder = Arc::clone(&session.encoder);
            Ok(Feed::of_events(encoder, projection, subscription))
        });
        let feed = feed.await;
        let reference = feed.and_then(|feed| call.export(Enumerator::new(feed), ids::ENUMERATOR));
        Ok(call.put_interface(reference))
    }

    fn put_results(
        &self,
        call: &mut ObjectCall<'_>,
        results: Result<Results, HResult>,
        flags: i32,
    ) -> HResult {
        let encoder = Arc::clone(&self.session.encoder);
        let reference = results.and_then(|results| {
            let feed = Feed::of_results(encoder, results, flags & FORWARD_ONLY != 0);
            call.export(Enumerator::new(feed), ids::ENUMERATOR)
        });
        call.put_interface(reference)
    }
}

fn query_arguments(call: &mut ObjectCall<'_>) -> Result<(String, String, i32), Fault> {
    let language = stub::read_bstr(&mut call.arguments)?;
    let query = stub::read_bstr(&mut call.arguments)?;
    let flags = call.arguments.i32()?;
    stub::skip_context(&mut call.arguments)?;
    let language = language.unwrap_or_default();
    Ok((language, query.unwrap_or_default(), flags))
}

fn class_arguments(call: &mut ObjectCall<'_>) -> Result<(String, i32), Fault> {
    let class = stub::read_bstr(&mut call.arguments)?;
    let flags = call.arguments.i32()?;
    stub::skip_context(&mut call.arguments)?;
    Ok((class.unwrap_or_default(), flags))
}

/// What a query selects, if not everything. System properties are not among it: clients make them.
fn selected(select: &Select) -> Option<Vec<Name>> {
    let names = select.projection.names()?;
    if names.contains(&"*") {
        return None;
    }
    let names = names.into_iter().filter(|name| !name.starts_with("__"));
    Some(names.map(Name::new).collect())
}

fn projection(select: &Select) -> Option<Arc<Projection>> {
    selected(select).map(|names| Arc::new(Projection::new(names)))
}

fn instance_results(
    session: &Session,
    context: &Context,
    instances: Vec<Instance>,
    projection: Option<Arc<Projection>>,
) -> Result<Results, HResult> {
    let sizes = instances
        .iter()
        .map(cim_broker::enumeration::size_of_instance);
    let bytes = sizes.sum::<usize>() + instances.len() * ITEM;
    let lease = session.service.holdings.take(&context.user, bytes)?;
    let items = instances.into_iter().map(|mut instance| {
        session.encoder.complete(&mut instance);
        Arc::new(Item::Instance(instance))
    });
    Ok(Results {
        items: items.collect(),
        projection,
        texts: Texts::Left,
        lease,
        bytes,
    })
}

fn class_results(
    session: &Session,
    context: &Context,
    names: Vec<Name>,
    texts: Texts,
) -> Result<Results, HResult> {
    let bytes = names.len() * ITEM;
    let lease = session.service.holdings.take(&context.user, bytes)?;
    Ok(Results {
        items: names
            .into_iter()
            .map(|name| Arc::new(Item::Class(name)))
            .collect(),
        projection: None,
        texts,
        lease,
        bytes,
    })
}

/// The class that shows what a query selects, without running it.
fn prototype(
    session: &Session,
    context: &Context,
    language: &str,
    query: &str,
) -> Result<Results, Refused> {
    let select = match Query::parse_in(language, query) {
        Ok(Query::Select(select)) => select,
        Ok(Query::Associators(_) | Query::References(_)) => {
            // Its results may be of many classes.
            return Err(Refused(status::NOT_SUPPORTED));
        }
        Err(wql::QueryError::Language(_)) => return Err(Refused(status::INVALID_QUERY_TYPE)),
        Err(_) => return Err(Refused(status::INVALID_QUERY)),
    };
    let class = session.encoder.class(&select.class);
    let class = class.ok_or(Refused(status::INVALID_CLASS))?;
    let check = select.check(class);
    check.map_err(|_| Refused(status::INVALID_QUERY))?;
    let all = || class.properties.iter().map(|it| it.name.clone()).collect();
    let names = selected(&select).unwrap_or_else(all);
    let block = session.encoder.prototype_block(&class.name, &names)?;
    let bytes = block.len() + ITEM;
    Ok(Results {
        items: vec![Arc::new(Item::Block(block))],
        projection: None,
        texts: Texts::Left,
        lease: session.service.holdings.take(&context.user, bytes)?,
        bytes,
    })
}
