//! [`Host`]: this computer as one namespace shows it, with everything an answer is made from: the
//! machines, which both namespaces share, the namespace's classes, the host's name.

use crate::subject::Subject;
use crate::version::Version;
use cim::instance::InstanceBuilder;
use cim::{CimError, CimStatus, Class, Instance, Name, Namespace, ObjectPath};
use machines::Machines;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The computer, its machines, and the classes they are shown with.
pub(crate) struct Host {
    pub version: Version,
    pub machines: Arc<Machines>,
    /// `__SERVER`, and the `Name` of the computer system that is the host.
    pub name: String,
    pub namespace: Namespace,
    classes: HashMap<Name, Arc<Class>>,
}

impl Host {
    pub(crate) fn new(
        version: Version,
        machines: Arc<Machines>,
        name: &str,
        classes: HashMap<Name, Arc<Class>>,
    ) -> Self {
        Host {
            version,
            machines,
            name: name.to_owned(),
            namespace: Namespace::new(version.namespace()),
            classes,
        }
    }

    /// Where machines are whose definition does not say another place.
    pub(crate) fn default_root(&self) -> PathBuf {
        self.machines.data_dir().join("machines")
    }

    /// The declaration of one of our classes.
    pub(crate) fn class(&self, name: &str) -> Result<&Arc<Class>, CimError> {
        self.classes.get(&Name::new(name)).ok_or_else(|| {
            CimError::new(
                CimStatus::InvalidClass,
                format!("The schema has no class {name}."),
            )
        })
    }

    /// `path` with this host and namespace said: the one form in which paths leave this crate, so
    /// that `Parent` and `__PATH` are equal as texts.
    pub(crate) fn locate(&self, path: ObjectPath) -> ObjectPath {
        path.located(self.name.clone(), self.namespace.clone())
    }

    /// The complete path of a subject.
    pub(crate) fn path(&self, subject: &Subject) -> ObjectPath {
        self.locate(subject.relative_path(self.version, &self.name))
    }

    /// An instance of `class`, with its path.
    pub(crate) fn named(
        &self,
        class: &str,
        fill: impl FnOnce(InstanceBuilder<'_>) -> InstanceBuilder<'_>,
    ) -> Result<Instance, CimError> {
        let class = self.class(class)?;
        let mut instance = fill(Instance::builder(class))
            .build_named()
            .map_err(misfilled)?;
        instance.path = instance.path.take().map(|path| self.locate(path));
        Ok(instance)
    }

    /// An instance of `class` without a path, to be embedded.
    pub(crate) fn embedded(
        &self,
        class: &str,
        fill: impl FnOnce(InstanceBuilder<'_>) -> InstanceBuilder<'_>,
    ) -> Result<Instance, CimError> {
        fill(Instance::builder(self.class(class)?))
            .build()
            .map_err(misfilled)
    }
}

/// The tables of this crate and the schema disagree. The tests rule it out; should it happen all
/// the same, the caller learns what was wrong instead of getting half an instance.
fn misfilled(error: cim::instance::InstanceError) -> CimError {
    tracing::error!(%error, "an instance could not be filled");
    CimError::new(
        CimStatus::Failed,
        format!("An instance could not be made: {error}. Please report this as a defect."),
    )
}
