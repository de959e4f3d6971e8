//! Events that are pushed: who they go to, how they are wrapped, and the task that sends them.
//!
//! Events go to the host that has subscribed and to no other, so that nobody can use the service to
//! reach hosts that they cannot. A delivery that fails is tried again a few times; then the
//! subscription ends, and whoever is named in `EndTo` is told.

use super::Operations;
use super::subscriptions::{Subscribed, Subscriptions};
use crate::instance::{Form, write_instance};
use crate::server::sender::{self, Destination};
use crate::soap::duration::parse_duration;
use crate::soap::fault::Fault;
use crate::soap::reply::message;
use crate::soap::uri;
use crate::soap::writer::Writer;
use crate::soap::xml::Element;
use cim_broker::{Broker, NoEvent};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const EVENT: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Event";
const EVENTS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Events";
const HEARTBEAT: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Heartbeat";
const DROPPED: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/DroppedEvents";
const ACK: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Ack";
const END: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/SubscriptionEnd";

/// Why a subscription has ended: it is not to go on.
const CANCELED: &str = "e:SourceCanceling";

/// Events in one message, in the mode that batches them.
const MOST_EVENTS: usize = 100;
/// The shortest interval of heartbeats.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);
/// How long after a failed delivery it is tried again; after the last the subscription ends.
const RETRIES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];

/// How events are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// One a message.
    Single,
    /// One a message, each acknowledged.
    Acknowledged,
    /// Several in a message, each message acknowledged.
    Batch,
}

/// Where and how events are sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    wrapping: Wrapping,
    notify: Endpoint,
    end: Option<Endpoint>,
    heartbeat: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    destination: Destination,
    /// Its reference parameters, as headers.
    headers: String,
}

impl Delivery {
    /// Reads what a Subscribe says of delivery. `peer` is the address of who subscribes.
    pub async fn read(
        wrapping: Wrapping,
        subscribe: &Element,
        delivery: &Element,
        peer: &str,
    ) -> Result<Self, Fault> {
        let notify = delivery.child(uri::EVENTING, "NotifyTo");
        let notify =
            notify.ok_or_else(|| Fault::schema("Delivery names nobody in wse:NotifyTo."))?;
        let end = match subscribe.child(uri::EVENTING, "EndTo") {
            Some(end) => Some(Endpoint::read(end, peer).await?),
            None => None,
        };
        let heartbeat = match delivery.child(uri::WSMAN, "Heartbeats") {
            None => None,
            Some(interval) => {
                let interval = parse_duration(interval.trimmed());
                let interval = interval.filter(|it| *it >= SHORTEST_HEARTBEAT);
                Some(interval.ok_or_else(|| {
                    Fault::unsupported("Heartbeats", "Heartbeats come every second at most.")
                })?)
            }
        };
        Ok(Delivery {
            wrapping,
            notify: Endpoint::read(notify, peer).await?,
            end,
            heartbeat,
        })
    }
}

impl Endpoint {
    async fn read(reference: &Element, peer: &str) -> Result<Self, Fault> {
        let address = reference.child(uri::ADDRESSING, "Address");
        let address = address.map(Element::trimmed).unwrap_or_default();
        let destination = Destination::of(address, peer).await;
        let mut w = Writer::default();
        let parameters = ["ReferenceParameters", "ReferenceProperties"];
        let parameters = parameters
            .iter()
            .filter_map(|it| reference.child(uri::ADDRESSING, it));
        for header in parameters.flat_map(|it| &it.children) {
            write_copy(&mut w, header);
        }
        Ok(Endpoint {
            destination: destination.map_err(|error| Fault {
                reason: error.to_string(),
                ..Fault::subscription()
            })?,
            headers: w.finish(),
        })
    }
}

/// An element as it came, under prefixes of its own.
fn write_copy(w: &mut Writer, element: &Element) {
    let name = format!("y:{}", element.local);
    let mut attributes = vec![("xmlns:y", &*element.namespace)];
    let plain = element
        .attributes
        .iter()
        .filter(|it| it.namespace.is_empty());
    attributes.extend(plain.map(|it| (it.local.as_str(), it.value.as_str())));
    w.open_with(&name, &attributes).text(&element.text);
    for child in &element.children {
        write_copy(w, child);
    }
    w.close();
}

/// The next event, as XML, with its action. Dropping the future loses nothing.
pub(super) async fn next_event(
    broker: &Broker,
    subscribed: &mut Subscribed,
    without_nil: bool,
) -> Result<(&'static str, String), Fault> {
    let mut w = Writer::default();
    match broker.next_event(&mut subscribed.subscription).await {
        Ok(event) => {
            let form = Form {
                class: None,
                without_nil,
            };
            write_instance(&mut w, &event, &subscribed.family, form);
            Ok((EVENT, w.finish()))
        }
        Err(NoEvent::Missed(count)) => {
            w.leaf("w:DroppedEvents", &count.to_string());
            Ok((DROPPED, w.finish()))
        }
        Err(NoEvent::Ended) => Err(Fault::internal("The service is stopping. Subscribe again.")),
        Err(NoEvent::Failed(error)) => Err(error.into()),
    }
}

/// Sends the events of a subscription until it ends, or the account that has subscribed is no more.
pub(super) async fn deliver(
    operations: Operations,
    user: String,
    id: Uuid,
    mut subscribed: Subscribed,
    delivery: Delivery,
) {
    let subscriptions: Arc<Subscriptions> = operations.subscriptions.clone();
    let (code, reason) = loop {
        let Some(expires) = subscriptions.expires(id) else {
            // Ended by its user, or expired: nothing more is owed.
            return;
        };
        let beat = delivery.heartbeat.map(|it| Instant::now() + it);
        let wake = beat.map_or(expires, |it| it.min(expires));
        let next = next_event(&operations.broker, &mut subscribed, false);
        let next = tokio::time::timeout_at(wake, next).await;
        if !operations.is_account(&user) {
            break (CANCELED, format!("There is no account {user} any more."));
        }
        let sent = match next {
            Ok(Ok(first)) => {
                let events = batch(&operations.broker, &mut subscribed, &delivery, first).await;
                send(&delivery, &events).await
            }
            Ok(Err(fault)) => break (CANCELED, fault.reason),
            Err(_) if beat.is_some_and(|it| it <= Instant::now()) => {
                send(&delivery, &[(HEARTBEAT, String::new())]).await
            }
            Err(_) => Ok(()),
        };
        if let Err(error) = sent {
            break ("e:DeliveryFailure", error.to_string());
        }
    };
    tracing::info!(subscription = %id, reason, "a subscription ends");
    subscriptions.forget(id);
    if let Some(end) = &delivery.end {
        let mut w = Writer::default();
        w.open("e:SubscriptionEnd").open("e:SubscriptionManager");
        w.leaf("a:Address", uri::ANONYMOUS);
        w.open("a:ReferenceParameters");
        w.leaf("e:Identifier", &format!("uuid:{id}"));
        w.close().close();
        w.leaf("e:Code", code);
        w.leaf_with("e:Reason", &[("xml:lang", "en-US")], &reason);
        let text = message(END, end.destination.url(), &end.headers, &w.finish());
        // Whoever cannot be reached is not told; there is nothing more to do.
        let _ = sender::post(&end.destination, text).await;
    }
}

/// What goes with the first event: in a batch, those that have happened already.
async fn batch(
    broker: &Broker,
    subscribed: &mut Subscribed,
    delivery: &Delivery,
    first: (&'static str, String),
) -> Vec<(&'static str, String)> {
    let mut events = vec![first];
    while delivery.wrapping == Wrapping::Batch && events.len() < MOST_EVENTS {
        match timeout(Duration::ZERO, next_event(broker, subscribed, false)).await {
            Ok(Ok(event)) => events.push(event),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    events
}

/// Sends one message, again if it fails.
async fn send(delivery: &Delivery, events: &[(&str, String)]) -> Result<(), sender::SendError> {
    let mut body = Writer::default();
    let is_batch = delivery.wrapping == Wrapping::Batch;
    if is_batch {
        body.open("w:Events");
    }
    for (action, event) in events {
        if is_batch {
            body.open_with("w:Event", &[("Action", action)]);
        }
        body.raw(event);
        if is_batch {
            body.close();
        }
    }
    let action = match (is_batch, events) {
        (false, [(action, _), ..]) => action,
        _ => EVENTS,
    };
    let acknowledged = delivery.wrapping != Wrapping::Single;
    let mut headers = delivery.notify.headers.clone();
    if acknowledged {
        headers.push_str("<w:AckRequested/>");
    }
    let notify = &delivery.notify.destination;
    let text = message(action, notify.url(), &headers, &body.finish());
    let mut waits = RETRIES.iter();
    loop {
        let answer = sender::post(notify, text.clone()).await;
        let error = match answer {
            Ok(answer) if !acknowledged || answer.contains(ACK) => return Ok(()),
            Ok(_) => sender::SendError::Unacknowledged,
            Err(error) => error,
        };
        tracing::debug!(%error, "an event could not be delivered");
        match waits.next() {
            Some(wait) => tokio::time::sleep(*wait).await,
            None => return Err(error),
        }
    }
}
