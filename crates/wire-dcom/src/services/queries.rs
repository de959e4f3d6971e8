//! What answers an enumerator: queries, instances of a class, classes, events.
//!
//! Instances that the client goes through once are made as it takes them. Those that it may go back
//! to are made at once, and what they may take is bounded by the holdings.

use super::{FORWARD_ONLY, PROTOTYPE, SHALLOW, Services, texts};
use crate::encoder::{Projection, Texts};
use crate::enumerator::Enumerator;
use crate::feed::{Feed, Item, Results};
use crate::session::{Refused, Session};
use crate::{ids, status, stub};
use cim::Name;
use cim::wql::{self, Query, Select};
use cim_broker::enumeration::size_of_instance;
use cim_broker::{ClassOptions, Context, Instances, QueryStream};
use dce_rpc::Fault;
use dcom::{HResult, ObjectCall};
use std::sync::Arc;

/// What an item takes besides what it holds.
const ITEM: usize = size_of::<Item>() + 2 * size_of::<usize>();
/// What a provider keeps of an instance that is not made yet.
const HANDLE: usize = 64;

impl Services {
    /// `ExecQuery([in] BSTR strQueryLanguage, [in] BSTR strQuery, [in] long lFlags, [in]
    /// IWbemContext *, [out] IEnumWbemClassObject **)`.
    pub(super) async fn exec_query(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let (language, query, flags) = query_arguments(call)?;
        let feed = self.session.ask(call.caller, move |session, context| {
            if flags & PROTOTYPE != 0 {
                let shape = prototype(session, context, &language, &query)?;
                return Ok(results_feed(session, shape, flags));
            }
            let broker = &session.service.broker;
            let found = broker.stream_query(context, session.namespace(), &language, &query)?;
            match found {
                QueryStream::Instances(stream) => {
                    let projection = match Query::parse_in(&language, &query) {
                        Ok(Query::Select(select)) => projection(&select),
                        _ => None,
                    };
                    instance_feed(session, context, stream, projection, flags)
                }
                QueryStream::Classes(classes) => {
                    let names = classes.iter().map(|class| class.name.clone());
                    class_feed(session, context, names.collect(), flags)
                }
            }
        });
        let feed = feed.await;
        Ok(put_feed(call, feed))
    }

    /// `CreateInstanceEnum([in] BSTR strSuperClass, [in] long lFlags, [in] IWbemContext *, [out]
    /// IEnumWbemClassObject **)`.
    pub(super) async fn create_instance_enum(
        &self,
        call: &mut ObjectCall<'_>,
    ) -> Result<HResult, Fault> {
        let (class, flags) = class_arguments(call)?;
        let feed = self.session.ask(call.caller, move |session, context| {
            let class = Name::new(class.trim());
            let broker = &session.service.broker;
            let found =
                broker.stream_instances(context, session.namespace(), &class, true, None)?;
            let found: Instances = match flags & SHALLOW {
                0 => found,
                _ => Box::new(found.filter(move |found| {
                    let instance = found.as_ref();
                    instance.map_or(true, |instance| instance.class == class)
                })),
            };
            instance_feed(session, context, found, None, flags)
        });
        let feed = feed.await;
        Ok(put_feed(call, feed))
    }

    /// `CreateClassEnum([in] BSTR strSuperclass, [in] long lFlags, [in] IWbemContext *, [out]
    /// IEnumWbemClassObject **)`. No superclass means the roots.
    pub(super) async fn create_class_enum(
        &self,
        call: &mut ObjectCall<'_>,
    ) -> Result<HResult, Fault> {
        let (class, flags) = class_arguments(call)?;
        let feed = self.session.ask(call.caller, move |session, context| {
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
            class_feed(session, context, names, flags)
        });
        let feed = feed.await;
        Ok(put_feed(call, feed))
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
        Ok(put_feed(call, feed))
    }
}

fn put_feed(call: &mut ObjectCall<'_>, feed: Result<Arc<Feed>, HResult>) -> HResult {
    let reference = feed.and_then(|feed| call.export(Enumerator::new(feed), ids::ENUMERATOR));
    call.put_interface(reference)
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

fn results_feed(session: &Session, results: Results, flags: i32) -> Arc<Feed> {
    let encoder = Arc::clone(&session.encoder);
    Feed::of_results(encoder, results, flags & FORWARD_ONLY != 0)
}

fn instance_feed(
    session: &Session,
    context: &Context,
    stream: Instances,
    projection: Option<Arc<Projection>>,
    flags: i32,
) -> Result<Arc<Feed>, Refused> {
    let holdings = &session.service.holdings;
    if flags & FORWARD_ONLY != 0 {
        let (least, most) = stream.size_hint();
        let bytes = most.unwrap_or(least).saturating_mul(HANDLE);
        let lease = holdings.take(&context.user, bytes)?;
        let encoder = Arc::clone(&session.encoder);
        return Ok(Feed::of_stream(encoder, projection, stream, lease));
    }
    let mut lease = holdings.take(&context.user, 0)?;
    let mut items = Vec::new();
    let mut bytes = 0;
    for instance in stream {
        let mut instance = instance?;
        session.encoder.complete(&mut instance);
        let size = size_of_instance(&instance).saturating_add(ITEM);
        lease.grow(size)?;
        bytes += size;
        items.push(Arc::new(Item::Instance(instance)));
    }
    let results = Results {
        items,
        projection,
        texts: Texts::Left,
        lease,
        bytes,
    };
    Ok(results_feed(session, results, flags))
}

fn class_feed(
    session: &Session,
    context: &Context,
    names: Vec<Name>,
    flags: i32,
) -> Result<Arc<Feed>, Refused> {
    let bytes = names.len() * ITEM;
    let names = names.into_iter();
    let results = Results {
        items: names.map(|name| Arc::new(Item::Class(name))).collect(),
        projection: None,
        texts: texts(flags),
        lease: session.service.holdings.take(&context.user, bytes)?,
        bytes,
    };
    Ok(results_feed(session, results, flags))
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
