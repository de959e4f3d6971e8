//! Subscriptions, pulled, to the rings of a bell.

use crate::support::{Shop, WQL, ask, ask_as, context, envelope, filter, pull, serve, value};
use async_trait::async_trait;
use cim::mof::Repository;
use cim::{CimError, Instance, KeyValue, Name, Namespace, ObjectPath};
use cim_broker::{Broker, Change, Changes, Context, Equality, Interruption, Provider, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use wire_wsman::soap::uri;

const BELLS: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/bells/*";
const PULL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Pull";
const MOF: &str = "class Bell { [Key] string Name; uint32 Rings; };";

struct Bells {
    classes: Repository,
    rings: broadcast::Sender<Vec<Change>>,
}

impl Bells {
    fn bell(&self, rings: u32) -> Box<Instance> {
        let class = self.classes.class(&Name::new("Bell")).expect("the class");
        let bell = Instance::builder(class)
            .set("Name", "big")
            .set("Rings", rings);
        let mut bell = bell.build().expect("a bell");
        let path = ObjectPath::of_instance("Bell", [("Name", KeyValue::String("big".to_owned()))]);
        bell.path = Some(path.located("tower", Namespace::new("root/bells")));
        Box::new(bell)
    }

    fn ring(&self, rings: u32) {
        let change = Change::Instance {
            before: Some(self.bell(rings - 1)),
            after: Some(self.bell(rings)),
        };
        // Nobody may be listening.
        let _ = self.rings.send(vec![change]);
    }
}

#[async_trait]
impl Provider for Bells {
    fn classes(&self) -> Vec<Name> {
        vec![Name::new("Bell")]
    }

    fn enumerate(&self, _: &Context, _: &Name, _: &[Equality]) -> Result<Vec<Instance>, CimError> {
        Ok(vec![*self.bell(0)])
    }

    fn required_role(&self, _: &Name, _: &Name) -> Role {
        Role::Viewer
    }

    fn changes(&self, _: &[Name]) -> Option<Box<dyn Changes>> {
        Some(Box::new(Rings(self.rings.subscribe())))
    }
}

struct Rings(broadcast::Receiver<Vec<Change>>);

#[async_trait]
impl Changes for Rings {
    async fn next(&mut self) -> Result<Vec<Change>, Interruption> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(count) => Interruption::Missed(count),
            broadcast::error::RecvError::Closed => Interruption::Ended,
        })
    }
}

async fn tower() -> (Shop, Arc<Bells>) {
    let classes = || Repository::compile(&[("bells.mof", MOF)]).expect("the classes");
    let bells = Arc::new(Bells {
        classes: classes(),
        rings: broadcast::Sender::new(8),
    });
    let mut broker = Broker::new("tower");
    let namespace = Namespace::new("root/bells");
    broker.add_namespace(namespace.clone(), classes());
    broker.add_provider(&namespace, bells.clone());
    (serve(broker).await, bells)
}

fn eventing(operation: &str, headers: &str, content: &str) -> String {
    let action = format!("{}/{operation}", uri::EVENTING);
    let body = format!(
        "<e:{operation} xmlns:e=\"{}\">{content}</e:{operation}>",
        uri::EVENTING
    );
    envelope(&action, BELLS, headers, &body)
}

fn subscribe(mode: &str, query: &str) -> String {
    let content = format!(
        "<e:Delivery Mode=\"{mode}\"/><e:Expires>PT10M</e:Expires>{}",
        filter(WQL, query)
    );
    eventing("Subscribe", "", &content)
}

const LOUD: &str = "SELECT * FROM __InstanceModificationEvent WITHIN 2 WHERE TargetInstance ISA 'Bell' \
    AND TargetInstance.Rings &gt; 1";

fn with_patience(request: &str, timeout: &str) -> String {
    let header = format!("<wsman:OperationTimeout>{timeout}</wsman:OperationTimeout></s:Header>");
    request.replace("</s:Header>", &header)
}

#[tokio::test]
async fn events_are_pulled_as_they_happen() {
    let (shop, bells) = tower().await;
    let reply = ask(&shop, &subscribe(PULL, LOUD)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let content = reply.content();
    assert_eq!(value(&content, "Expires"), "PT600S");
    let name = context(&content).expect("a context");
    let patient = with_patience(&pull(BELLS, &name, ""), "PT60S");
    let (reply, ()) = tokio::join!(ask(&shop, &patient), async {
        bells.ring(1);
        bells.ring(2);
    });
    let content = reply.content();
    let items = content.child(uri::ENUMERATION, "Items").expect("Items");
    assert_eq!(items.children.len(), 1, "{}", reply.text());
    assert_eq!(items.children[0].local, "__InstanceModificationEvent");
    assert!(reply.text().contains("Rings"), "{}", reply.text());
    assert_eq!(context(&content), Some(name.clone()));
    // Several at once, when that is asked for.
    bells.ring(3);
    bells.ring(4);
    let several = patient.replace(
        "</wsen:Pull>",
        "<wsen:MaxElements>9</wsen:MaxElements></wsen:Pull>",
    );
    let content = ask(&shop, &several).await.content();
    assert_eq!(
        content
            .child(uri::ENUMERATION, "Items")
            .expect("Items")
            .children
            .len(),
        2
    );
    // What was missed is told.
    for ring in 5..30 {
        bells.ring(ring);
    }
    assert!(
        ask(&shop, &patient)
            .await
            .text()
            .contains("<w:DroppedEvents>")
    );
    // When nothing happens the client hears so, and the subscription goes on.
    for _ in 0..8 {
        assert_eq!(ask(&shop, &patient).await.status, 200);
    }
    let brief = with_patience(&pull(BELLS, &name, ""), "PT0.2S");
    assert_eq!(
        ask(&shop, &brief).await.fault(),
        ("TimedOut".to_owned(), String::new(), 2_150_858_793)
    );
    bells.ring(30);
    assert_eq!(ask(&shop, &patient).await.status, 200);
}

#[tokio::test]
async fn subscriptions_belong_to_one_account_and_end() {
    let (shop, _bells) = tower().await;
    let reply = ask(&shop, &subscribe(PULL, LOUD)).await;
    let name = context(&reply.content()).expect("a context");
    let identifier = format!(
        "<e:Identifier xmlns:e=\"{}\">{name}</e:Identifier>",
        uri::EVENTING
    );
    let renew = eventing("Renew", &identifier, "<e:Expires>PT20M</e:Expires>");
    assert_eq!(
        value(&ask(&shop, &renew).await.content(), "Expires"),
        "PT1200S"
    );
    let status = eventing("GetStatus", &identifier, "");
    assert!(value(&ask(&shop, &status).await.content(), "Expires").starts_with("PT1"));
    let end = eventing("Unsubscribe", &identifier, "");
    for request in [&renew, &status, &end] {
        assert_eq!(
            ask_as(&shop, "other", request).await.fault().0,
            "InvalidMessage"
        );
    }
    let foreign = ask_as(&shop, "other", &pull(BELLS, &name, "")).await;
    assert_eq!(foreign.fault().0, "InvalidEnumerationContext");
    assert_eq!(ask(&shop, &end).await.status, 200);
    assert_eq!(ask(&shop, &end).await.fault().0, "InvalidMessage");
    assert_eq!(
        ask(&shop, &pull(BELLS, &name, "")).await.fault().0,
        "InvalidEnumerationContext"
    );
}

#[tokio::test]
async fn subscriptions_that_cannot_be_say_why() {
    let (shop, _bells) = tower().await;
    let elsewhere = "<e:NotifyTo><wsa:Address>http://192.0.2.7/</wsa:Address></e:NotifyTo>";
    let cases = [
        (
            subscribe("urn:carrier-pigeon", LOUD),
            "DeliveryModeRequestedUnavailable",
        ),
        (push(elsewhere), "InvalidMessage"),
        (push(""), "SchemaValidationError"),
        (subscribe(PULL, "SELECT * FROM Bell"), "CannotProcessFilter"),
        (
            subscribe(PULL, "SELECT * FROM __InstanceModificationEvent WITHIN 2"),
            "CannotProcessFilter",
        ),
        (
            subscribe(PULL, LOUD).replace("PT10M", "yesterday"),
            "InvalidExpirationTime",
        ),
    ];
    for (request, subcode) in cases {
        assert_eq!(ask(&shop, &request).await.fault().0, subcode, "{request}");
    }
}

/// A subscription whose events are sent in batches.
fn push(delivery: &str) -> String {
    let content = format!(
        "<e:Delivery Mode=\"http://schemas.dmtf.org/wbem/wsman/1/wsman/Events\">{delivery}\
         </e:Delivery>{}",
        filter(WQL, LOUD)
    );
    eventing("Subscribe", "", &content)
}

/// Takes one message, acknowledges it and gives it.
async fn receive(listener: &TcpListener) -> String {
    let accept = tokio::time::timeout(Duration::from_secs(60), listener.accept());
    let (mut stream, _) = accept
        .await
        .expect("a message in time")
        .expect("a connection");
    let mut message = Vec::new();
    while !message.ends_with(b"</s:Envelope>") {
        assert!(
            stream
                .read_buf(&mut message)
                .await
                .expect("a whole message")
                > 0
        );
    }
    let ack = envelope(
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/Ack",
        "urn:x",
        "",
        "",
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: {}\r\n\r\n{ack}",
        ack.len()
    );
    stream.write_all(answer.as_bytes()).await.expect("is taken");
    String::from_utf8(message).expect("text")
}

#[tokio::test]
async fn events_are_pushed_with_the_parameters_of_the_receiver() {
    let (shop, bells) = tower().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let notify = format!(
        "<e:NotifyTo><wsa:Address>http://{address}/here</wsa:Address><wsa:ReferenceParameters>\
         <c:Cookie xmlns:c=\"urn:c\">47 &lt; 11</c:Cookie></wsa:ReferenceParameters></e:NotifyTo>"
    );
    let reply = ask(&shop, &push(&notify)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(context(&reply.content()), None);
    let manager = reply.content();
    let manager = manager
        .child(uri::EVENTING, "SubscriptionManager")
        .expect("a manager");
    let parameters = manager
        .child(uri::ADDRESSING, "ReferenceParameters")
        .expect("parameters");
    let name = value(parameters, "Identifier");
    bells.ring(1);
    bells.ring(2);
    let message = receive(&listener).await;
    assert!(message.starts_with("POST /here HTTP/1.1\r\n"), "{message}");
    for part in [
        "<a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/Events</a:Action>",
        "<y:Cookie xmlns:y=\"urn:c\">47 &lt; 11</y:Cookie>",
        "<w:AckRequested/>",
        "<w:Events><w:Event Action=\"http://schemas.dmtf.org/wbem/wsman/1/wsman/Event\">",
        "__InstanceModificationEvent",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let identifier = format!(
        "<e:Identifier xmlns:e=\"{}\">{name}</e:Identifier>",
        uri::EVENTING
    );
    assert_eq!(
        ask(&shop, &eventing("Unsubscribe", &identifier, ""))
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&shop, &eventing("GetStatus", &identifier, ""))
            .await
            .fault()
            .0,
        "InvalidMessage"
    );
}

#[tokio::test]
async fn a_quiet_subscription_has_a_heartbeat() {
    let (shop, _bells) = tower().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let notify = format!(
        "<e:NotifyTo><wsa:Address>http://{address}</wsa:Address></e:NotifyTo>\
         <wsman:Heartbeats>PT1S</wsman:Heartbeats>"
    );
    assert_eq!(ask(&shop, &push(&notify)).await.status, 200);
    for _ in 0..2 {
        let message = receive(&listener).await;
        assert!(
            message.contains("Action=\"http://schemas.dmtf.org/wbem/wsman/1/wsman/Heartbeat\""),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_removed_account_gets_no_more_events() {
    let (shop, bells) = tower().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let reference = format!("<wsa:Address>http://{address}</wsa:Address>");
    let notify = format!("<e:NotifyTo>{reference}</e:NotifyTo>");
    let subscribe = push(&notify).replace(
        "<e:Delivery",
        &format!("<e:EndTo>{reference}</e:EndTo><e:Delivery"),
    );
    assert_eq!(ask(&shop, &subscribe).await.status, 200);
    bells.ring(2);
    assert!(
        receive(&listener)
            .await
            .contains("__InstanceModificationEvent")
    );
    shop.accounts.remove("reader");
    bells.ring(3);
    let last = receive(&listener).await;
    assert!(
        last.contains("<e:Code>e:SourceCanceling</e:Code>"),
        "{last}"
    );
    assert!(!last.contains("__InstanceModificationEvent"), "{last}");
}
