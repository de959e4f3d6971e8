//! One namespace as it is served: its classes, who makes their instances, its association table.

use crate::access::Context;
use crate::errors;
use crate::provider::{Association, Provider};
use cim::mof::Repository;
use cim::{CimError, Class, Name, Namespace};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The classes that every namespace has without anyone's doing.
static SYSTEM: LazyLock<Repository> = LazyLock::new(|| {
    let source = include_str!("../mof/system.mof");
    match Repository::compile(&[("system.mof", source)]) {
        Ok(classes) => classes,
        Err(error) => panic!("the classes of this crate do not compile: {error}"),
    }
});

/// See [`crate::Broker::system_schema`].
pub(crate) fn system_classes() -> &'static Repository {
    &SYSTEM
}

/// Which end of an association row an object stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    First,
    Second,
}

impl End {
    pub(crate) fn other(self) -> End {
        match self {
            End::First => End::Second,
            End::Second => End::First,
        }
    }
}

impl Association {
    pub(crate) fn role(&self, end: End) -> &Name {
        match end {
            End::First => &self.roles.0,
            End::Second => &self.roles.1,
        }
    }

    pub(crate) fn classes_at(&self, end: End) -> &[Name] {
        match end {
            End::First => &self.end_classes.0,
            End::Second => &self.end_classes.1,
        }
    }

    pub(crate) fn end_of_role(&self, role: &Name) -> Option<End> {
        if self.roles.0 == *role {
            Some(End::First)
        } else if self.roles.1 == *role {
            Some(End::Second)
        } else {
            None
        }
    }
}

/// A class that a provider makes instances of.
pub(crate) struct Served {
    pub(crate) class: Name,
    pub(crate) provider: Arc<dyn Provider>,
}

pub(crate) struct ServedNamespace {
    pub(crate) name: Namespace,
    pub(crate) repository: Repository,
    /// In the order of registration, which is the order of base class enumerations.
    served: Vec<Served>,
    served_index: HashMap<Name, usize>,
    /// Positions in `served` of what lies at or below a class, in the same order.
    served_below: HashMap<Name, Vec<usize>>,
    pub(crate) associations: Vec<Association>,
    /// Rows by the classes that they declare for an end.
    rows_by_end: HashMap<Name, Vec<(usize, End)>>,
}

impl ServedNamespace {
    pub(crate) fn new(name: Namespace, repository: Repository) -> Self {
        ServedNamespace {
            name,
            repository,
            served: Vec::new(),
            served_index: HashMap::new(),
            served_below: HashMap::new(),
            associations: Vec::new(),
            rows_by_end: HashMap::new(),
        }
    }

    pub(crate) fn add_provider(&mut self, provider: &Arc<dyn Provider>) {
        for class in provider.classes() {
            let served = Served {
                class: class.clone(),
                provider: Arc::clone(provider),
            };
            let at = self.served.len();
            let ancestors: Vec<Name> = self.lineage(&class).map(|c| c.name.clone()).collect();
            for ancestor in ancestors {
                self.served_below.entry(ancestor).or_default().push(at);
            }
            self.served_index.insert(class, at);
            self.served.push(served);
        }
    }

    pub(crate) fn add_associations(&mut self, associations: Vec<Association>) {
        for association in associations {
            let row = self.associations.len();
            for end in [End::First, End::Second] {
                for class in association.classes_at(end) {
                    let rows = self.rows_by_end.entry(class.clone()).or_default();
                    if !rows.contains(&(row, end)) {
                        rows.push((row, end));
                    }
                }
            }
            self.associations.push(association);
        }
    }

    /// The class, or error 5.
    pub(crate) fn class(&self, name: &Name) -> Result<&Arc<Class>, CimError> {
        self.find_class(name)
            .ok_or_else(|| errors::unknown_class(name, &self.name))
    }

    pub(crate) fn find_class(&self, name: &Name) -> Option<&Arc<Class>> {
        self.repository.class(name).or_else(|| SYSTEM.class(name))
    }

    /// `class` and its superclasses, nearest first.
    fn lineage<'a>(&'a self, class: &Name) -> impl Iterator<Item = &'a Arc<Class>> {
        let itself = self.find_class(class).into_iter();
        itself.chain(self.repository.superclasses(class))
    }

    /// Whether `class` is `base` or a subclass of it.
    pub(crate) fn is_a(&self, class: &Name, base: &Name) -> bool {
        self.repository.is_a(class, base) || SYSTEM.is_a(class, base)
    }

    /// Who makes instances of exactly `class`.
    pub(crate) fn provider_of(&self, class: &Name) -> Option<&Served> {
        self.served.get(*self.served_index.get(class)?)
    }

    /// The classes with instances at or below `base`, in registration order.
    pub(crate) fn served_below(&self, base: &Name) -> impl Iterator<Item = &Served> {
        let positions = self.served_below.get(base).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|at| self.served.get(*at))
    }

    /// [`Self::served_below`], without the classes whose instances the caller may not see.
    pub(crate) fn visible_below(
        &self,
        context: &Context,
        base: &Name,
    ) -> impl Iterator<Item = &Served> {
        let role = context.role;
        self.served_below(base)
            .filter(move |served| role >= served.provider.read_role(&served.class))
    }

    /// The association rows that objects of `class` can stand in, and where, in table order.
    pub(crate) fn rows_at(&self, class: &Name) -> Vec<(usize, End)> {
        let mut rows: Vec<(usize, End)> = self
            .lineage(class)
            .filter_map(|ancestor| self.rows_by_end.get(&ancestor.name))
            .flatten()
            .copied()
            .collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// The rows whose association class is `base` or a subclass of it, in table order.
    pub(crate) fn rows_below(&self, base: &Name) -> impl Iterator<Item = &Association> {
        self.associations
            .iter()
            .filter(move |row| self.is_a(&row.class, base))
    }

    pub(crate) fn all_served(&self) -> &[Served] {
        &self.served
    }
}
