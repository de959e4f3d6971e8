//! An account that has logged in to a namespace, and its way into the broker.

use crate::encoder::Encoder;
use crate::holdings::{HoldingLimits, Holdings};
use crate::status;
use cim::{CimError, Namespace};
use cim_broker::{Broker, Context, Role};
use dce_rpc::Caller;
use dcom::HResult;
use std::collections::HashMap;
use std::sync::Arc;

/// Knows what accounts may do.
pub trait Authority: Send + Sync + 'static {
    /// The role of an account that has logged on; none if it is gone since. May block: it is called
    /// for every request, on a thread that may wait.
    fn role(&self, account: &str) -> Option<Role>;
}

/// What all sessions share.
pub(crate) struct Service {
    pub(crate) broker: Arc<Broker>,
    authority: Arc<dyn Authority>,
    encoders: HashMap<Namespace, Arc<Encoder>>,
    pub(crate) holdings: Arc<Holdings>,
}

impl Service {
    pub(crate) fn new(
        broker: Arc<Broker>,
        authority: Arc<dyn Authority>,
        limits: HoldingLimits,
    ) -> Arc<Self> {
        let encoder = |namespace: Namespace| {
            let encoder = Encoder::new(&broker, namespace.clone());
            (namespace, Arc::new(encoder))
        };
        Arc::new(Service {
            encoders: broker.namespaces().into_iter().map(encoder).collect(),
            broker,
            authority,
            holdings: Holdings::new(limits),
        })
    }

    /// A session in a namespace, if there is one of that name.
    pub(crate) fn session(self: &Arc<Self>, namespace: &Namespace) -> Option<Session> {
        let encoder = self.encoders.get(namespace)?;
        Some(Session {
            service: Arc::clone(self),
            encoder: Arc::clone(encoder),
        })
    }

    /// What the caller may do at the moment.
    fn context(&self, caller: &Caller) -> Option<Context> {
        let account = &caller.identity.as_ref()?.account;
        Some(Context {
            role: self.authority.role(account)?,
            user: account.clone(),
            peer: caller.connection.peer.ip().to_canonical().to_string(),
        })
    }
}

/// A namespace that somebody has logged in to.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) service: Arc<Service>,
    pub(crate) encoder: Arc<Encoder>,
}

impl Session {
    pub(crate) fn namespace(&self) -> &Namespace {
        self.encoder.namespace()
    }

    /// The caller with the role that it has at the moment.
    pub(crate) async fn context(&self, caller: &Caller) -> Result<Context, HResult> {
        let (service, caller) = (Arc::clone(&self.service), caller.clone());
        let context = tokio::task::spawn_blocking(move || service.context(&caller)).await;
        context.ok().flatten().ok_or(status::ACCESS_DENIED)
    }

    /// Asks the broker something on a thread that may take its time.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        caller: &Caller,
        question: impl FnOnce(&Session, &Context) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, HResult> {
        let (session, caller) = (self.clone(), caller.clone());
        let task = tokio::task::spawn_blocking(move || {
            let context = session.service.context(&caller);
            let context = context.ok_or(Refused(status::ACCESS_DENIED))?;
            question(&session, &context)
        });
        match task.await {
            Ok(answer) => answer.map_err(|refused| refused.0),
            Err(failure) => {
                tracing::error!(%failure, "a request broke off");
                Err(status::FAILED)
            }
        }
    }
}

/// Why there is no answer: an error of the broker in WMI's code, or one of ours.
pub(crate) struct Refused(pub(crate) HResult);

impl From<CimError> for Refused {
    fn from(error: CimError) -> Self {
        Refused(status::of_error(&error))
    }
}

impl From<HResult> for Refused {
    fn from(code: HResult) -> Self {
        Refused(code)
    }
}
