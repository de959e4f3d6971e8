//! [`Broker`]: every operation a wire can ask for.

use crate::access::Context;
use crate::enumeration::Enumerations;
use crate::errors;
use crate::events::Subscribers;
use crate::instances::Shape;
use crate::namespaces::{End, ServedNamespace};
use crate::provider::{Association, Provider};
use crate::schema;
use cim::{
    CimError, Class, Instance, Name, Namespace, ObjectPath, Property, QualifierDecl, Type, Value,
};
use std::collections::HashMap;
use std::sync::Arc;

/// How much of a class is wanted (DSP0200 GetClass).
#[derive(Clone, Debug, Default)]
pub struct ClassOptions {
    /// Only what the class declares or overrides itself.
    pub local_only: bool,
    /// With qualifiers.
    pub include_qualifiers: bool,
    /// With the introducing class of each member.
    pub include_class_origin: bool,
    /// Only these properties.
    pub property_list: Option<Vec<Name>>,
}

/// Filters of Associators (DSP0200 5.4.2.14). Names are trimmed and compared without case;
/// subclasses match.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct AssociatorFilter {
    pub assoc_class: Option<Name>,
    pub result_class: Option<Name>,
    pub role: Option<Name>,
    pub result_role: Option<Name>,
    /// WQL's `RequiredQualifier`: the result's class has it.
    pub required_qualifier: Option<Name>,
    /// WQL's `RequiredAssocQualifier`: the association has it.
    pub required_assoc_qualifier: Option<Name>,
}

/// Filters of References (DSP0200 5.4.2.16).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ReferenceFilter {
    pub result_class: Option<Name>,
    pub role: Option<Name>,
    /// WQL's `RequiredQualifier`: the association has it.
    pub required_qualifier: Option<Name>,
}

/// What a query found.
#[derive(Clone, Debug)]
pub enum QueryResult {
    /// Instances, paths filled in, projected to the SELECT list (system properties such as
    /// `__PATH` in the list are put in as string properties).
    Instances(Vec<Instance>),
    /// ASSOCIATORS/REFERENCES OF with `ClassDefsOnly` or `SchemaOnly`, and schema queries
    /// (`FROM meta_class`).
    Classes(Vec<Arc<Class>>),
}

/// What a method call came to, typed as declared.
#[derive(Clone, Debug)]
pub struct InvokeResult {
    /// Declared type and value of the return value.
    pub return_value: (Type, Value),
    /// Every declared output parameter, nulls included, in declared order.
    pub out: Vec<Property>,
    /// What an error code among return values means in this case; see
    /// [`MethodOutcome::explanation`](crate::MethodOutcome).
    pub explanation: Option<String>,
}

/// Something that was registered does not fit the classes of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A provider or an association row names a class that is not in the schema.
    #[error("namespace {namespace} has no class {class}, which {registered_by} names")]
    UnknownClass {
        /// The namespace.
        namespace: Namespace,
        /// The missing class.
        class: Name,
        /// `a provider` or the association class whose row it is.
        registered_by: String,
    },
    /// A provider serves an abstract class or an association class.
    #[error(
        "{class} in namespace {namespace} is abstract or an association: no provider can serve it"
    )]
    NotServable {
        /// The namespace.
        namespace: Namespace,
        /// The class.
        class: Name,
    },
    /// Two providers serve one class.
    #[error("{class} in namespace {namespace} is served by more than one provider")]
    ServedTwice {
        /// The namespace.
        namespace: Namespace,
        /// The class.
        class: Name,
    },
    /// A row's role is not a reference of its class.
    #[error("association {association} in namespace {namespace} has no reference {role}")]
    UnknownRole {
        /// The namespace.
        namespace: Namespace,
        /// The association class.
        association: Name,
        /// The role.
        role: Name,
    },
    /// No class at one end of a row is served by any provider.
    #[error(
        "nobody serves a class at end {role} of association {association} in namespace {namespace}"
    )]
    UnservedEnd {
        /// The namespace.
        namespace: Namespace,
        /// The association class.
        association: Name,
        /// The role.
        role: Name,
    },
}

/// The object manager. Set up with `add_*`, then shared and only read.
pub struct Broker {
    host_name: String,
    namespaces: Vec<ServedNamespace>,
    namespace_index: HashMap<Namespace, usize>,
    enumerations: Enumerations,
    subscribers: Subscribers,
}

impl Broker {
    /// An object manager without namespaces; `host_name` is `__SERVER` and the host in paths.
    pub fn new(host_name: impl Into<String>) -> Broker {
        Broker {
            host_name: host_name.into(),
            namespaces: Vec::new(),
            namespace_index: HashMap::new(),
            enumerations: Enumerations::default(),
            subscribers: Subscribers::default(),
        }
    }

    /// `__SERVER`, and the host in paths.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Adds a namespace with its classes. Before the broker is shared.
    pub fn add_namespace(&mut self, namespace: Namespace, classes: cim::mof::Repository) {
        let served = ServedNamespace::new(namespace.clone(), classes);
        match self.namespace_index.get(&namespace) {
            Some(&at) => self.namespaces[at] = served,
            None => {
                self.namespace_index
                    .insert(namespace, self.namespaces.len());
                self.namespaces.push(served);
            }
        }
    }

    /// Adds who makes the instances of some classes of `namespace`, which must be there.
    ///
    /// # Panics
    /// When the namespace has not been added: a mistake in the program, not in its input.
    pub fn add_provider(&mut self, namespace: &Namespace, provider: Arc<dyn Provider>) {
        self.namespace_mut(namespace).add_provider(&provider);
    }

    /// Adds rows to the association table of `namespace`, which must be there.
    ///
    /// # Panics
    /// When the namespace has not been added: a mistake in the program, not in its input.
    pub fn add_associations(&mut self, namespace: &Namespace, associations: Vec<Association>) {
        self.namespace_mut(namespace).add_associations(associations);
    }

    /// Whether all that was registered fits together; what does not, all of it. For the end of the
    /// set-up.
    pub fn check(&self) -> Result<(), Vec<SetupError>> {
        let found: Vec<SetupError> = self.namespaces.iter().flat_map(setup_errors).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// All namespaces, in the order in which they were added.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.iter().map(|n| n.name.clone()).collect()
    }

    /// The classes of a namespace, resolved.
    pub fn schema(&self, namespace: &Namespace) -> Result<&cim::mof::Repository, CimError> {
        Ok(&self.namespace(namespace)?.repository)
    }

    /// The classes that every namespace has besides its own: the roots of WMI's events, and what
    /// clients look up by name. [`Broker::get_class`] answers for them in each namespace.
    pub fn system_schema(&self) -> &'static cim::mof::Repository {
        crate::namespaces::system_classes()
    }

    /// The open and pull sessions over this broker's answers.
    pub fn enumerations(&self) -> &Enumerations {
        &self.enumerations
    }

    pub(crate) fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    pub(crate) fn find_namespace(&self, namespace: &Namespace) -> Option<&ServedNamespace> {
        self.namespaces.get(*self.namespace_index.get(namespace)?)
    }

    pub(crate) fn namespace(&self, namespace: &Namespace) -> Result<&ServedNamespace, CimError> {
        self.find_namespace(namespace)
            .ok_or_else(|| errors::unknown_namespace(namespace, &self.namespaces()))
    }

    fn namespace_mut(&mut self, namespace: &Namespace) -> &mut ServedNamespace {
        let at = self.namespace_index.get(namespace).copied();
        match at.and_then(|at| self.namespaces.get_mut(at)) {
            Some(found) => found,
            None => panic!("namespace {namespace} has not been added to the broker"),
        }
    }
}

/// Classes.
impl Broker {
    /// One class, inherited members included unless `options` say otherwise.
    pub fn get_class(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
        options: &ClassOptions,
    ) -> Result<Class, CimError> {
        let _ = context;
        let class = self.namespace(namespace)?.class(class)?;
        Ok(schema::shaped(class, options))
    }

    /// The subclasses of `below` (the roots without it); with `deep` all of them, parents first.
    pub fn enumerate_classes(
        &self,
        context: &Context,
        namespace: &Namespace,
        below: Option<&Name>,
        deep: bool,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let _ = context;
        self.classes_below(namespace, below, deep, options)
    }

    /// One qualifier type.
    pub fn get_qualifier(
        &self,
        context: &Context,
        namespace: &Namespace,
        name: &Name,
    ) -> Result<QualifierDecl, CimError> {
        let _ = context;
        self.qualifier_declaration(namespace, name)
    }

    /// All qualifier types.
    pub fn enumerate_qualifiers(
        &self,
        context: &Context,
        namespace: &Namespace,
    ) -> Result<Vec<QualifierDecl>, CimError> {
        let _ = context;
        let space = self.namespace(namespace)?;
        Ok(space.repository.qualifiers().to_vec())
    }
}

/// Instances. All answers carry complete paths (host and namespace filled in). References in
/// properties and in keys have the namespace and no host: they compare equal to each other.
impl Broker {
    /// By path: partial keys, unnamed keys and any case resolve when they are unambiguous.
    pub fn get_instance(
        &self,
        context: &Context,
        namespace: &Namespace,
        path: &ObjectPath,
        property_list: Option<&[Name]>,
    ) -> Result<Instance, CimError> {
        let space = self.namespace_of(namespace, path)?;
        let mut instance = self.resolve(context, space, path)?;
        let shape = Shape {
            of_class: None,
            property_list,
        };
        shape.apply(&mut instance);
        Ok(instance)
    }

    /// Of `class` and its subclasses. Without `deep`, properties that subclasses add are left out.
    pub fn enumerate_instances(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
        deep: bool,
        property_list: Option<&[Name]>,
    ) -> Result<Vec<Instance>, CimError> {
        let space = self.namespace(namespace)?;
        let class = space.class(class)?;
        let shape = Shape {
            of_class: (!deep).then_some(class.as_ref()),
            property_list,
        };
        let mut found = self.instances_below(context, space, class, &[], &|_| true)?;
        for instance in &mut found {
            shape.apply(instance);
        }
        Ok(found)
    }

    /// The paths of [`Broker::enumerate_instances`].
    pub fn enumerate_instance_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
    ) -> Result<Vec<ObjectPath>, CimError> {
        let space = self.namespace(namespace)?;
        let class = space.class(class)?;
        self.paths_below(context, space, class)
    }
}

/// Associations. An object that several links lead to is answered once for each of them.
impl Broker {
    /// The objects linked to `source`.
    pub fn associators(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
        property_list: Option<&[Name]>,
    ) -> Result<Vec<Instance>, CimError> {
        let shape = Shape {
            of_class: None,
            property_list,
        };
        self.associated_instances(context, namespace, source, filter, shape)
    }

    /// The paths of [`Broker::associators`].
    pub fn associator_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        self.associated_paths(context, namespace, source, filter)
    }

    /// The association instances that refer to `source`.
    pub fn references(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
        property_list: Option<&[Name]>,
    ) -> Result<Vec<Instance>, CimError> {
        let shape = Shape {
            of_class: None,
            property_list,
        };
        self.referring_instances(context, namespace, source, filter, shape)
    }

    /// The paths of [`Broker::references`].
    pub fn reference_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        self.referring_paths(context, namespace, source, filter)
    }

    /// The same four when the source is a class (paths with `Keys::Class`): answers classes.
    pub fn associator_classes(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &Name,
        filter: &AssociatorFilter,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let _ = context;
        self.associated_classes_of(namespace, source, filter, options)
    }

    /// The association classes that can refer to objects of class `source`.
    pub fn reference_classes(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &Name,
        filter: &ReferenceFilter,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        let _ = context;
        self.association_classes_of(namespace, source, filter, options)
    }
}

/// Queries and method calls.
impl Broker {
    /// `language` is `WQL`, `DMTF:CQL` or `DMTF:FQL`.
    pub fn query(
        &self,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        query: &str,
    ) -> Result<QueryResult, CimError> {
        self.run_query(context, namespace, language, query)
    }

    /// Calls a method. `arguments` come as the wire decoded them; the broker checks names, types,
    /// and required ones, and converts strings that hold embedded instances.
    ///
    /// The call runs to its end even when the returned future is dropped: a client that goes away
    /// leaves no half-done change. Needs a Tokio runtime.
    pub async fn invoke(
        &self,
        context: &Context,
        namespace: &Namespace,
        target: &ObjectPath,
        method: &Name,
        arguments: Vec<(Name, Value)>,
    ) -> Result<InvokeResult, CimError> {
        self.run_method(context, namespace, target, method, arguments)
            .await
    }
}

fn setup_errors(space: &ServedNamespace) -> Vec<SetupError> {
    let mut found = Vec::new();
    let mut require = |class: &Name, registered_by: &str| {
        if space.find_class(class).is_none() {
            found.push(SetupError::UnknownClass {
                namespace: space.name.clone(),
                class: class.clone(),
                registered_by: registered_by.to_owned(),
            });
        }
    };
    for served in space.all_served() {
        require(&served.class, "a provider");
    }
    for row in &space.associations {
        require(&row.class, "an association row");
        for end in [End::First, End::Second] {
            for class in row.classes_at(end) {
                require(class, row.class.as_str());
            }
        }
    }
    for (at, served) in space.all_served().iter().enumerate() {
        let (namespace, class) = (space.name.clone(), served.class.clone());
        let declared = space.find_class(&class);
        if declared.is_some_and(|class| class.is_abstract() || class.is_association()) {
            found.push(SetupError::NotServable { namespace, class });
        } else if space
            .all_served()
            .iter()
            .take(at)
            .any(|other| other.class == class)
        {
            found.push(SetupError::ServedTwice { namespace, class });
        }
    }
    for row in &space.associations {
        let Some(class) = space.find_class(&row.class) else {
            continue;
        };
        for end in [End::First, End::Second] {
            let role = row.role(end);
            if !class.references().any(|reference| reference.name == *role) {
                found.push(SetupError::UnknownRole {
                    namespace: space.name.clone(),
                    association: row.class.clone(),
                    role: role.clone(),
                });
            }
            let ends = row.classes_at(end);
            if !ends.iter().any(|c| space.served_below(c).next().is_some()) {
                found.push(SetupError::UnservedEnd {
                    namespace: space.name.clone(),
                    association: row.class.clone(),
                    role: role.clone(),
                });
            }
        }
    }
    found
}
