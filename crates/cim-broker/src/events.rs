//! Event queries: what happens to instances from now on, told to those who asked.
//!
//! A provider announces changes of its instances as they happen ([`Provider::changes`]); nothing is
//! polled, and `WITHIN` only bounds a delay that there is not. A [`Subscription`] makes events of
//! the changes that its query asks for, when it is asked for the next one, so that a subscriber
//! that does not keep up costs no more than the provider's bounded memory of changes. It is told
//! when it has lost some.
//!
//! A subscriber sees the changes of what it could enumerate: an account without rights may
//! subscribe, and nothing arrives.

use crate::access::Context;
use crate::broker::Broker;
use crate::errors;
use crate::namespaces::{End, ServedNamespace};
use crate::provider::{Change, Changes, Interruption, Provider};
use crate::query::{self, ProjectionNames};
use cim::wql::{EventQuery, InstanceRow};
use cim::{CimError, CimStatus, Class, Instance, Name, Namespace, Value};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

/// The root of all events.
const EVENT: &str = "__Event";
/// The root of what happens to instances.
const OPERATION: &str = "__InstanceOperationEvent";
const CREATION: &str = "__InstanceCreationEvent";
const MODIFICATION: &str = "__InstanceModificationEvent";
const DELETION: &str = "__InstanceDeletionEvent";

/// From 1601 to 1970, in units of 100 nanoseconds.
const EPOCH_1601: i64 = 116_444_736_000_000_000;

/// How many subscriptions there may be.
const MOST: usize = 512;
/// How many of them may belong to one account.
const MOST_OF_ONE: usize = 64;

/// Who has subscribed, and how often.
#[derive(Default)]
pub(crate) struct Subscribers {
    by_account: Arc<Mutex<HashMap<String, usize>>>,
}

/// The right to one subscription; given back when dropped.
struct Place {
    by_account: Arc<Mutex<HashMap<String, usize>>>,
    account: String,
}

impl Subscribers {
    fn take(&self, account: &str) -> Result<Place, CimError> {
        let mut counts = self
            .by_account
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(account).copied().unwrap_or(0);
        if own >= MOST_OF_ONE || counts.values().sum::<usize>() >= MOST {
            return Err(CimError::new(
                CimStatus::ServerLimitsExceeded,
                format!(
                    "There are as many event subscriptions as there may be ({MOST_OF_ONE} of one \
                     account, {MOST} in all). End some first."
                ),
            ));
        }
        counts.insert(account.to_owned(), own + 1);
        Ok(Place {
            by_account: Arc::clone(&self.by_account),
            account: account.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .by_account
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

/// A query for events, and what has been found for it. Ended by dropping it.
pub struct Subscription {
    context: Context,
    namespace: Namespace,
    query: EventQuery,
    /// The classes whose objects the subscriber may see events of, without their subclasses.
    classes: Vec<Name>,
    streams: Vec<Box<dyn Changes>>,
    /// Events that were made and not taken yet.
    ready: VecDeque<Instance>,
    _place: Place,
}

impl Subscription {
    /// The query.
    pub fn query(&self) -> &EventQuery {
        &self.query
    }

    /// The namespace that the events' objects are in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// Why a subscription gives no event.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoEvent {
    /// So many changes came and went before they were looked at. What follows is told again.
    #[error("{0} changes were not told, because the subscriber did not take them in time")]
    Missed(u64),
    /// There will be no more events: the server ends.
    #[error("the server ends")]
    Ended,
    /// An event could not be made.
    #[error("{0}")]
    Failed(CimError),
}

impl Broker {
    /// Begins to watch for the events that `query` asks for. They are fetched with
    /// [`Broker::next_event`]; those that happen before they are asked for are kept, within limits.
    pub fn subscribe(
        &self,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        query: &str,
    ) -> Result<Subscription, CimError> {
        let space = self.namespace(namespace)?;
        let query = EventQuery::parse_in(language, query).map_err(query::refused)?;
        check_event_class(space, &query)?;
        let targets = target_classes(space, &query)?;
        check_properties(space, &query, &targets)?;
        let place = self.subscribers().take(&context.user)?;
        let watched = Watched::of(space, context, &targets);
        let streams = watched.streams();
        if streams.is_empty() && !watched.hidden {
            return Err(nobody_announces(&targets));
        }
        Ok(Subscription {
            context: context.clone(),
            namespace: space.name.clone(),
            query,
            classes: watched.classes,
            streams,
            ready: VecDeque::new(),
            _place: place,
        })
    }

    /// Waits for the next event of a subscription that this broker made. Dropping the future loses
    /// nothing.
    pub async fn next_event(&self, subscription: &mut Subscription) -> Result<Instance, NoEvent> {
        loop {
            if let Some(event) = subscription.ready.pop_front() {
                return Ok(event);
            }
            if subscription.streams.is_empty() {
                // The subscriber may see none of what it asked for.
                std::future::pending::<()>().await;
            }
            let changes = match next_changes(&mut subscription.streams).await {
                Ok(changes) => changes,
                Err(Interruption::Missed(count)) => return Err(NoEvent::Missed(count)),
                Err(Interruption::Ended) => return Err(NoEvent::Ended),
            };
            let space = self
                .namespace(&subscription.namespace)
                .map_err(NoEvent::Failed)?;
            for change in changes {
                let event = self.event(space, subscription, change);
                subscription.ready.extend(event.map_err(NoEvent::Failed)?);
            }
        }
    }

    /// The event that a change is to a subscriber, if it asked for it.
    fn event(
        &self,
        space: &ServedNamespace,
        subscription: &Subscription,
        change: Change,
    ) -> Result<Option<Instance>, CimError> {
        if let Change::Link { ends, .. } = &change
            && !(is_visible(space, &subscription.context, &ends.0.class)
                && is_visible(space, &subscription.context, &ends.1.class))
        {
            return Ok(None);
        }
        let Some((kind, target, previous)) = self.operation(space, change)? else {
            return Ok(None);
        };
        let query = &subscription.query;
        let wanted = subscription.classes.contains(&target.class)
            && space.is_a(&Name::new(kind), &query.select.class);
        if !wanted {
            return Ok(None);
        }
        let class = space.class(&Name::new(kind))?;
        let mut event = event_instance(class, target, previous)
            .map_err(|error| errors::internal("an event does not fit its class", error))?;
        let row = InstanceRow {
            instance: &event,
            server: self.host_name(),
            namespace: &space.name,
            repository: Some(&space.repository),
        };
        if !query.matches(&row) {
            return Ok(None);
        }
        if let Some(names) = query.select.projection_names() {
            self.project(space, &mut event, &names);
        }
        Ok(Some(event))
    }

    /// What a change is called, with the object and what it was before.
    #[allow(clippy::type_complexity)]
    fn operation(
        &self,
        space: &ServedNamespace,
        change: Change,
    ) -> Result<Option<(&'static str, Instance, Option<Instance>)>, CimError> {
        let finished = |instance: Box<Instance>| {
            let class = space.class(&instance.class)?;
            self.finish(space, class, *instance)
        };
        Ok(match change {
            Change::Instance { before, after } => match (before, after) {
                (None, Some(after)) => Some((CREATION, finished(after)?, None)),
                (Some(before), Some(after)) => {
                    Some((MODIFICATION, finished(after)?, Some(finished(before)?)))
                }
                (Some(before), None) => Some((DELETION, finished(before)?, None)),
                (None, None) => None,
            },
            Change::Link {
                association,
                ends,
                appeared,
            } => {
                let kind = if appeared { CREATION } else { DELETION };
                let link = self.link_between(space, &association, ends);
                let instance = link.map(|link| self.association_instance(space, &link));
                instance.transpose()?.map(|instance| (kind, instance, None))
            }
        })
    }
}

fn event_instance(
    class: &Class,
    target: Instance,
    previous: Option<Instance>,
) -> Result<Instance, cim::InstanceError> {
    let now = cim::DateTime::now().unix_micros().unwrap_or(0);
    let created = now.saturating_mul(10).saturating_add(EPOCH_1601);
    let mut event = Instance::of_class(class);
    event.set("TIME_CREATED", u64::try_from(created).unwrap_or(0))?;
    event.set("TargetInstance", Value::from(target))?;
    if let Some(previous) = previous {
        event.set("PreviousInstance", Value::from(previous))?;
    }
    Ok(event)
}

/// Refuses classes that are not of events that happen here.
fn check_event_class(space: &ServedNamespace, query: &EventQuery) -> Result<(), CimError> {
    let class = space.class(&query.select.class)?;
    query.select.check(class).map_err(query::refused)?;
    let is_event = space.is_a(&class.name, &Name::new(EVENT));
    if !is_event {
        return Err(CimError::new(
            CimStatus::InvalidQuery,
            format!(
                "{} is not a class of events. Ask for {CREATION}, {MODIFICATION}, {DELETION} or \
                 {OPERATION}, with TargetInstance ISA '{}' as condition.",
                class.name, class.name
            ),
        ));
    }
    let operation = Name::new(OPERATION);
    if space.is_a(&class.name, &operation) || space.is_a(&operation, &class.name) {
        return Ok(());
    }
    Err(CimError::new(
        CimStatus::NotSupported,
        format!(
            "No events of class {} happen here. Those that do are {CREATION}, {MODIFICATION} and \
             {DELETION}.",
            class.name
        ),
    ))
}

/// The classes that the condition names, as declared.
fn target_classes(space: &ServedNamespace, query: &EventQuery) -> Result<Vec<Name>, CimError> {
    let Some(named) = query.target_classes() else {
        return Err(CimError::new(
            CimStatus::InvalidQuery,
            "The query is too broad: it asks for events of every object there is. Say which \
             class: add TargetInstance ISA 'Class' to its condition.",
        ));
    };
    named
        .iter()
        .map(|name| Ok(space.class(name)?.name.clone()))
        .collect()
}

/// Refuses conditions on properties that no object in question can have.
fn check_properties(
    space: &ServedNamespace,
    query: &EventQuery,
    targets: &[Name],
) -> Result<(), CimError> {
    let has = |class: &Name, property: &Name| {
        let class = space.find_class(class);
        class.is_some_and(|class| class.property(property.as_str()).is_some())
    };
    for property in query.target_properties() {
        let known = property.as_str().starts_with("__")
            || targets.iter().any(|target| {
                let below = space.repository.subclasses(target, true);
                has(target, &property) || below.iter().any(|it| has(&it.name, &property))
            });
        if !known {
            let classes: Vec<&str> = targets.iter().map(Name::as_str).collect();
            return Err(CimError::new(
                CimStatus::InvalidQuery,
                format!(
                    "The condition looks at property {property}, which objects of class {} do not \
                     have. Check the spelling.",
                    classes.join(" or ")
                ),
            ));
        }
    }
    Ok(())
}

fn nobody_announces(targets: &[Name]) -> CimError {
    let classes: Vec<&str> = targets.iter().map(Name::as_str).collect();
    CimError::new(
        CimStatus::NotSupported,
        format!(
            "Changes of {} are not announced. Poll with a query on the class itself instead.",
            classes.join(" and ")
        ),
    )
}

/// Whether the caller may see instances of exactly `class`.
fn is_visible(space: &ServedNamespace, context: &Context, class: &Name) -> bool {
    let served = space.provider_of(class);
    served.is_some_and(|served| context.role >= served.provider.read_role(&served.class))
}

/// What a subscriber may watch, and who announces it.
struct Watched {
    classes: Vec<Name>,
    providers: Vec<Arc<dyn Provider>>,
    /// Whether there is something that the subscriber may not see.
    hidden: bool,
}

impl Watched {
    fn of(space: &ServedNamespace, context: &Context, targets: &[Name]) -> Self {
        let mut watched = Watched {
            classes: Vec::new(),
            providers: Vec::new(),
            hidden: false,
        };
        for target in targets {
            for served in space.served_below(target) {
                if !is_visible(space, context, &served.class) {
                    watched.hidden = true;
                    continue;
                }
                watched.add(&served.class, [&served.provider]);
            }
            for row in space.rows_below(target) {
                let seen = |end| {
                    let mut classes = row.classes_at(end).iter();
                    classes.any(|class| is_visible(space, context, class))
                };
                if !(seen(End::First) && seen(End::Second)) {
                    watched.hidden = true;
                    continue;
                }
                let everyone = space.all_served().iter().map(|served| &served.provider);
                watched.add(&row.class, everyone);
            }
        }
        watched
    }

    fn add<'a>(
        &mut self,
        class: &Name,
        providers: impl IntoIterator<Item = &'a Arc<dyn Provider>>,
    ) {
        if !self.classes.contains(class) {
            self.classes.push(class.clone());
        }
        for provider in providers {
            if !self.providers.iter().any(|it| Arc::ptr_eq(it, provider)) {
                self.providers.push(Arc::clone(provider));
            }
        }
    }

    fn streams(&self) -> Vec<Box<dyn Changes>> {
        let announced = self.providers.iter();
        announced
            .filter_map(|provider| provider.changes(&self.classes))
            .collect()
    }
}

/// What the first of the streams that has something has.
async fn next_changes(streams: &mut [Box<dyn Changes>]) -> Result<Vec<Change>, Interruption> {
    type Next<'a> = Pin<Box<dyn Future<Output = Result<Vec<Change>, Interruption>> + Send + 'a>>;
    let mut waiting: Vec<Next<'_>> = streams.iter_mut().map(|stream| stream.next()).collect();
    std::future::poll_fn(|task| {
        for next in &mut waiting {
            if let Poll::Ready(result) = next.as_mut().poll(task) {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}
