//! One request: what is asked of the broker, and the answer.
//!
//! ```text
//! transfer       Get, Put, Create, Delete
//! classes        Get of a class, and which classes are enumerated
//! enumeration    Enumerate, Pull, Release;  filter: what is enumerated
//! invoke         methods
//! eventing       Subscribe, Renew, GetStatus, Unsubscribe, pulls of events
//!   delivery     events that are pushed
//! service        Identify, the service's own settings
//! ```
//!
//! Reads run on threads that may block, since a long answer takes a while to put together; method
//! calls wait for the provider instead.

mod classes;
mod delivery;
mod enumeration;
pub(crate) mod enumerations;
mod eventing;
pub mod filter;
mod invoke;
mod service;
mod subscriptions;
mod transfer;

use crate::resource::Resource;
use crate::server::Roles;
use crate::soap::fault::Fault;
use crate::soap::reply::{Reply, overhead};
use crate::soap::request::{Origin, Request};
use crate::soap::{duration, uri};
use cim_broker::{Broker, Context};
use enumerations::{Enumerations, Limits};
use std::sync::Arc;
use std::time::Duration;
use subscriptions::Subscriptions;

/// How long an answer may be when the client does not say.
const DEFAULT_ENVELOPE: usize = 500 << 10;
/// How long an answer is at most, whatever the client says.
const LARGEST_ENVELOPE: usize = 16 << 20;
/// How long an operation may take when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Options that are known.
const OPTIONS: [&str; 8] = [
    "ExcludeNilProperties",
    "ShowExtensions",
    "IncludeQualifiers",
    "IncludeClassOrigin",
    "IncludeInheritanceHierarchy",
    "msftwinrm:UsePreciseArrays",
    "includeInheritedElements",
    "includeQualifiers",
];

/// What the service says that it is.
#[derive(Clone, Debug)]
pub struct Product {
    /// Its name.
    pub vendor: String,
    /// Its version.
    pub version: String,
}

/// The operations over one broker.
#[derive(Clone)]
pub(crate) struct Operations {
    broker: Arc<Broker>,
    enumerations: Arc<Enumerations>,
    subscriptions: Arc<Subscriptions>,
    roles: Option<Arc<dyn Roles>>,
    product: Arc<Product>,
}

/// One request, with what it is worked on with.
struct Call {
    operations: Operations,
    context: Context,
    request: Request,
    /// Bytes that the body of the answer may have.
    room: usize,
}

impl Operations {
    /// Without `roles`, accounts are taken to stay as long as what they have subscribed to.
    pub(crate) fn new(
        broker: Arc<Broker>,
        roles: Option<Arc<dyn Roles>>,
        product: Product,
    ) -> Self {
        Operations {
            broker,
            enumerations: Arc::new(Enumerations::new(Limits::default())),
            subscriptions: Arc::default(),
            roles,
            product: Arc::new(product),
        }
    }

    /// The host's name, for faults.
    pub(crate) fn host_name(&self) -> &str {
        self.broker.host_name()
    }

    /// Whether there still is an account of this name.
    fn is_account(&self, user: &str) -> bool {
        let mut roles = self.roles.iter();
        roles.all(|roles| roles.role(user).is_some())
    }

    /// What anybody may know.
    pub(crate) fn identify(&self, security_profiles: &[String]) -> Reply {
        service::identify(&self.product, security_profiles)
    }

    /// Answers one request that is not Identify.
    pub(crate) async fn answer(
        &self,
        context: Context,
        request: Request,
        origin: &Origin,
    ) -> Result<Reply, Fault> {
        let largest = request.max_envelope.unwrap_or(DEFAULT_ENVELOPE);
        let largest = largest.min(LARGEST_ENVELOPE);
        // What cannot be given in parts is given whole to a client that sets no limit: screenshots.
        let most = match request.max_envelope {
            Some(_) => largest,
            None => LARGEST_ENVELOPE,
        };
        let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let action = format!("{}Response", request.action);
        let call = Call {
            operations: self.clone(),
            context,
            request,
            room: largest.saturating_sub(overhead(origin)),
        };
        call.check_options()?;
        let answer = tokio::time::timeout(timeout, call.run()).await;
        let answer = answer.map_err(|_| {
            Fault::timed_out(format!(
                "The operation takes longer than {}. What it has begun goes on.",
                duration::format_duration(timeout)
            ))
        })?;
        let mut reply = answer?;
        if reply.action.is_empty() {
            reply.action = action;
        }
        if reply.body.len() + reply.headers.len() > most.saturating_sub(overhead(origin)) {
            let reason = format!(
                "The answer has {} bytes, more than MaxEnvelopeSize ({most}) leaves room for.",
                reply.body.len()
            );
            return Err(Fault::encoding_limit("MaxEnvelopeSize", reason));
        }
        Ok(reply)
    }
}

impl Call {
    async fn run(self) -> Result<Reply, Fault> {
        let action = self.request.action.as_str();
        let (namespace, name) = action.rsplit_once('/').unwrap_or(("", action));
        let read: fn(&Call) -> Result<Reply, Fault> = match (namespace, name) {
            (uri::TRANSFER, "Get") if classes::is_meant(&self) => classes::get,
            (uri::TRANSFER, "Get") => transfer::get,
            (uri::TRANSFER, "Put") => transfer::put,
            (uri::TRANSFER, "Create") => transfer::create,
            (uri::TRANSFER, "Delete") => transfer::delete,
            (uri::ENUMERATION, "Enumerate") if classes::is_meant(&self) => {
                enumeration::enumerate_classes
            }
            (uri::ENUMERATION, "Enumerate") => enumeration::enumerate,
            (uri::ENUMERATION, "Pull") if eventing::is_pull(&self) => {
                return eventing::pull(self).await;
            }
            (uri::ENUMERATION, "Pull") => enumeration::pull,
            (uri::ENUMERATION, "Release") => enumeration::release,
            (uri::EVENTING, "Subscribe") => return eventing::subscribe(self).await,
            (uri::EVENTING, "Renew") => eventing::renew,
            (uri::EVENTING, "GetStatus") => eventing::status,
            (uri::EVENTING, "Unsubscribe") => eventing::unsubscribe,
            (uri::TRANSFER | uri::ENUMERATION | uri::EVENTING, _) => {
                let reason = format!("The action {action} is not one of this service.");
                return Err(Fault::action_not_supported(reason));
            }
            _ => return invoke::invoke(self).await,
        };
        let work = tokio::task::spawn_blocking(move || read(&self));
        work.await.map_err(|error| {
            tracing::error!(%error, "a request could not be worked on");
            Fault::internal("The request could not be worked on; the service's log says why.")
        })?
    }

    fn shared_broker(&self) -> &Arc<Broker> {
        &self.operations.broker
    }

    fn broker(&self) -> &Broker {
        &self.operations.broker
    }

    fn resource(&self) -> Result<Resource, Fault> {
        Resource::of(&self.request.target()?)
    }

    fn check_options(&self) -> Result<(), Fault> {
        let known = |name: &str| OPTIONS.iter().any(|it| it.eq_ignore_ascii_case(name));
        let mut strange = self.request.options.iter();
        match strange.find(|it| it.must_comply && !known(&it.name)) {
            Some(option) => Err(Fault::option(format!(
                "The option {} must be complied with, and is not known here.",
                option.name
            ))),
            None => Ok(()),
        }
    }

    fn without_nil(&self) -> bool {
        let mut options = self.request.options.iter();
        options.any(|it| {
            it.name.eq_ignore_ascii_case("ExcludeNilProperties")
                && !it.value.eq_ignore_ascii_case("false")
        })
    }
}

impl Reply {
    /// A reply whose action is the request's with `Response`.
    fn with_body(body: String) -> Self {
        Reply {
            body,
            ..Reply::default()
        }
    }
}
