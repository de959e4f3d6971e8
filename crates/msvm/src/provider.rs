//! The provider that the broker asks.

use crate::changes::HyperVChanges;
use crate::errors;
use crate::host::Host;
use crate::methods::{self, Refusal};
use crate::read;
use async_trait::async_trait;
use cim::{CimError, Instance, Name, ObjectPath};
use cim_broker::provider::ArgumentFault;
use cim_broker::{Arguments, Changes, Context, Equality, Instances, MethodOutcome, Provider, Role};
use std::sync::Arc;

/// Answers for every class of the namespace that is not an association.
pub(crate) struct HyperV {
    host: Arc<Host>,
}

impl HyperV {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        HyperV { host }
    }
}

#[async_trait]
impl Provider for HyperV {
    fn classes(&self) -> Vec<Name> {
        read::classes(self.host.version)
            .into_iter()
            .map(Name::new)
            .collect()
    }

    fn enumerate(
        &self,
        _: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        self.host
            .list(class.as_str(), filter)
            .iter()
            .map(|subject| self.host.instance(subject))
            .collect()
    }

    /// The machines, snapshots and jobs of this moment, which do not change any more.
    fn stream(
        &self,
        _: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Instances, CimError> {
        let host = self.host.clone();
        let subjects = self.host.list(class.as_str(), filter).into_iter();
        Ok(Box::new(subjects.map(move |it| host.instance(&it))))
    }

    fn enumerate_paths(
        &self,
        _: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<ObjectPath>, CimError> {
        let subjects = self.host.list(class.as_str(), filter);
        Ok(subjects
            .iter()
            .map(|subject| self.host.path(subject))
            .collect())
    }

    fn get(&self, _: &Context, path: &ObjectPath) -> Result<Option<Instance>, CimError> {
        self.host
            .resolve(path)
            .map(|subject| self.host.instance(&subject))
            .transpose()
    }

    fn changes(&self, classes: &[Name]) -> Option<Box<dyn Changes>> {
        let changes = HyperVChanges::of(&self.host, classes)?;
        Some(Box::new(changes))
    }

    fn required_role(&self, class: &Name, method: &Name) -> Role {
        methods::required_role(self.host.version, class, method)
    }

    async fn invoke(
        &self,
        context: &Context,
        target: &ObjectPath,
        method: &Name,
        arguments: Arguments,
    ) -> Result<MethodOutcome, CimError> {
        Ok(self.host.call(context, target, method, &arguments).await)
    }

    fn bad_argument(
        &self,
        class: &Name,
        method: &Name,
        fault: &ArgumentFault,
    ) -> Result<MethodOutcome, CimError> {
        tracing::info!(%class, %method, reason = %fault.error, "bad argument");
        let refusal = Refusal::invalid(fault.error.message.clone());
        Ok(self.host.refused(class, method, refusal))
    }

    fn access_denied(&self, class: &Name, method: &Name) -> Result<MethodOutcome, CimError> {
        tracing::info!(%class, %method, "access denied");
        let refusal = Refusal {
            codes: errors::DENIED,
            text: format!(
                "The account may not call {class}.{method}. Use an account whose role allows it."
            ),
        };
        Ok(self.host.refused(class, method, refusal))
    }
}
