//! Subscribe, Renew, GetStatus, Unsubscribe (DSP0226 section 10), and pulls of what has happened.
//!
//! Events are pulled (the client asks, and waits as long as its `OperationTimeout` says) or pushed
//! (`delivery`). What a subscriber does not take in time is bounded by the broker, and what it misses
//! is told.

use super::Call;
use super::delivery::{self, Delivery, Wrapping};
use super::enumeration::lifetime;
use super::filter::{Filter, read_filter};
use super::subscriptions::Subscribed;
use crate::resource::Resource;
use crate::soap::duration::format_duration;
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::uri;
use crate::soap::writer::Writer;
use crate::soap::xml::Element;
use std::time::Duration;
use uuid::Uuid;

/// The ways of delivery: pulled, or pushed in some wrapping.
const PULL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Pull";
const PUSH: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/DeliveryModes/Push";
const PUSH_WITH_ACK: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/PushWithAck";
const EVENTS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Events";
/// Events that one answer may hold, whatever the client asks for.
const MOST_EVENTS: usize = 1000;

pub(super) async fn subscribe(call: Call) -> Result<Reply, Fault> {
    let body = operation(&call, "Subscribe")?;
    let resource = call.resource()?;
    let delivery = body
        .child(uri::EVENTING, "Delivery")
        .ok_or_else(|| Fault::schema("Subscribe says nothing of wse:Delivery."))?;
    let wrapping = match delivery.attribute("Mode").map(str::trim).unwrap_or(PUSH) {
        PULL => None,
        PUSH => Some(Wrapping::Single),
        PUSH_WITH_ACK => Some(Wrapping::Acknowledged),
        EVENTS => Some(Wrapping::Batch),
        other => return Err(Fault::delivery_mode(other)),
    };
    let lifetime = lifetime(&call, body, uri::EVENTING)?;
    let (language, query) = match read_filter(body)? {
        Filter::Query(language, query) => (language, query),
        Filter::None => ("WQL", whole_class(&call, &resource)?),
        Filter::Selectors(_) | Filter::Association(_) => {
            return Err(Fault::filter(
                "Events are selected by WQL: SELECT * FROM __InstanceModificationEvent WITHIN 1 \
                 WHERE TargetInstance ISA 'Class'.",
            ));
        }
    };
    let destination = match wrapping {
        Some(wrapping) => {
            let peer = &call.context.peer;
            Some(Delivery::read(wrapping, body, delivery, peer).await?)
        }
        None => None,
    };
    let subscription =
        call.broker()
            .subscribe(&call.context, &resource.namespace, language, &query)?;
    let subscribed = Subscribed::new(subscription, resource.family);
    let open = &call.operations.subscriptions;
    let user = &call.context.user;
    let is_pulled = destination.is_none();
    let id = match destination {
        None => open.keep(user, subscribed, lifetime),
        Some(to) => open.keep_sending(user, lifetime, |id| {
            delivery::deliver(call.operations.clone(), user.clone(), id, subscribed, to)
        }),
    };
    let mut w = Writer::default();
    w.open("e:SubscribeResponse").open("e:SubscriptionManager");
    w.leaf("a:Address", uri::ANONYMOUS);
    w.open("a:ReferenceParameters");
    w.leaf("e:Identifier", &format!("uuid:{id}"));
    w.close().close();
    w.leaf("e:Expires", &format_duration(lifetime));
    if is_pulled {
        w.leaf("n:EnumerationContext", &format!("uuid:{id}"));
    }
    Ok(Reply::with_body(w.finish()))
}

/// The events of a class without a filter. Which objects they are of must be said, so this is for
/// classes whose events are of one kind of object; the broker says what is missing.
fn whole_class(call: &Call, resource: &Resource) -> Result<String, Fault> {
    let class = resource.declared(call.broker())?;
    Ok(format!("SELECT * FROM {}", class.name))
}

pub(super) fn renew(call: &Call) -> Result<Reply, Fault> {
    let body = operation(call, "Renew")?;
    let lifetime = lifetime(call, body, uri::EVENTING)?;
    let open = &call.operations.subscriptions;
    open.renew(&call.context.user, identifier(call)?, lifetime)?;
    Ok(expires("e:RenewResponse", lifetime))
}

pub(super) fn status(call: &Call) -> Result<Reply, Fault> {
    let open = &call.operations.subscriptions;
    let left = open.left(&call.context.user, identifier(call)?)?;
    Ok(expires("e:GetStatusResponse", left))
}

pub(super) fn unsubscribe(call: &Call) -> Result<Reply, Fault> {
    let open = &call.operations.subscriptions;
    open.end(&call.context.user, identifier(call)?)?;
    Ok(Reply::default())
}

/// Whether a Pull is one of events.
pub(super) fn is_pull(call: &Call) -> bool {
    let context = context(call).and_then(read_id);
    context.is_some_and(|id| call.operations.subscriptions.has(id))
}

/// Waits for events: at least one, and those that have happened with it.
pub(super) async fn pull(call: Call) -> Result<Reply, Fault> {
    let id = context(&call)
        .and_then(read_id)
        .ok_or_else(Fault::enumeration_context)?;
    let most = super::enumeration::most_items(&call)?.min(MOST_EVENTS);
    let open = &call.operations.subscriptions;
    let shared = open.find(&call.context.user, id)?;
    // Another pull of the same subscription goes first.
    let mut subscribed = shared.lock().await;
    let room = call.room.saturating_sub(512);
    let mut items = String::new();
    let mut count = 0;
    while count < most {
        let item = match subscribed.pending.take() {
            Some(item) => item,
            None if count == 0 => call.event(&mut subscribed).await?,
            // What has happened already comes along; nothing is waited for.
            None => {
                let next = call.event(&mut subscribed);
                match tokio::time::timeout(Duration::ZERO, next).await {
                    Ok(next) => next?,
                    Err(_) => break,
                }
            }
        };
        if count > 0 && items.len() + item.len() > room {
            subscribed.pending = Some(item);
            break;
        }
        items.push_str(&item);
        count += 1;
    }
    let mut w = Writer::default();
    w.open("n:PullResponse");
    w.leaf("n:EnumerationContext", &format!("uuid:{id}"));
    w.open("n:Items").raw(&items);
    Ok(Reply::with_body(w.finish()))
}

impl Call {
    async fn event(&self, subscribed: &mut Subscribed) -> Result<String, Fault> {
        let next = delivery::next_event(self.broker(), subscribed, self.without_nil());
        next.await.map(|(_, event)| event)
    }
}

fn expires(response: &str, lifetime: Duration) -> Reply {
    let mut w = Writer::default();
    w.open(response);
    w.leaf("e:Expires", &format_duration(lifetime));
    Reply::with_body(w.finish())
}

fn operation<'a>(call: &'a Call, name: &str) -> Result<&'a Element, Fault> {
    let body = call.request.body.as_ref();
    body.filter(|it| it.is(uri::EVENTING, name))
        .ok_or_else(|| Fault::schema(format!("The body is not wse:{name}.")))
}

fn identifier(call: &Call) -> Result<Uuid, Fault> {
    let text = call.request.subscription.as_deref();
    text.and_then(read_id).ok_or_else(Fault::subscription)
}

fn context(call: &Call) -> Option<&str> {
    let body = call.request.body.as_ref()?;
    let context = body.child(uri::ENUMERATION, "EnumerationContext")?;
    Some(context.trimmed())
}

fn read_id(text: &str) -> Option<Uuid> {
    let text = text.trim();
    Uuid::try_parse(text.strip_prefix("uuid:").unwrap_or(text)).ok()
}
