//! [`Broker`]: every operation a wire can ask for.

use crate::access::Context;
use crate::provider::{Association, Provider};
use cim::{
    CimError, Class, Instance, Name, Namespace, ObjectPath, Property, QualifierDecl, Type, Value,
};
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
}

/// Filters of References (DSP0200 5.4.2.16).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ReferenceFilter {
    pub result_class: Option<Name>,
    pub role: Option<Name>,
}

/// What a query found.
#[derive(Clone, Debug)]
pub enum QueryResult {
    /// Instances, paths filled in, projected to the SELECT list (system properties such as
    /// `__PATH` in the list are put in as string properties).
    Instances(Vec<Instance>),
    /// ASSOCIATORS/REFERENCES OF with `ClassDefsOnly`.
    Classes(Vec<Arc<Class>>),
}

/// What a method call came to, typed as declared.
#[derive(Clone, Debug)]
pub struct InvokeResult {
    /// Declared type and value of the return value.
    pub return_value: (Type, Value),
    /// Every declared output parameter, nulls included, in declared order.
    pub out: Vec<Property>,
}

/// The object manager.
pub struct Broker {}

#[allow(clippy::unimplemented, missing_docs, unused_variables)]
impl Broker {
    /// An object manager without namespaces; `host_name` is `__SERVER` and the host in paths.
    pub fn new(host_name: impl Into<String>) -> Broker {
        unimplemented!()
    }
    pub fn host_name(&self) -> &str {
        unimplemented!()
    }
    /// Adds a namespace with its classes. Before the broker is shared.
    pub fn add_namespace(&mut self, namespace: Namespace, classes: cim::mof::Repository) {
        unimplemented!()
    }
    pub fn add_provider(&mut self, namespace: &Namespace, provider: Arc<dyn Provider>) {
        unimplemented!()
    }
    pub fn add_associations(&mut self, namespace: &Namespace, associations: Vec<Association>) {
        unimplemented!()
    }
    pub fn namespaces(&self) -> Vec<Namespace> {
        unimplemented!()
    }
    pub fn schema(&self, namespace: &Namespace) -> Result<&cim::mof::Repository, CimError> {
        unimplemented!()
    }
    // Classes.
    pub fn get_class(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
        options: &ClassOptions,
    ) -> Result<Class, CimError> {
        unimplemented!()
    }
    pub fn enumerate_classes(
        &self,
        context: &Context,
        namespace: &Namespace,
        below: Option<&Name>,
        deep: bool,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        unimplemented!()
    }
    pub fn get_qualifier(
        &self,
        context: &Context,
        namespace: &Namespace,
        name: &Name,
    ) -> Result<QualifierDecl, CimError> {
        unimplemented!()
    }
    pub fn enumerate_qualifiers(
        &self,
        context: &Context,
        namespace: &Namespace,
    ) -> Result<Vec<QualifierDecl>, CimError> {
        unimplemented!()
    }
    // Instances. All answers carry complete paths (host and namespace filled in).
    /// By path: partial keys, unnamed keys and any case resolve when they are unambiguous.
    pub fn get_instance(
        &self,
        context: &Context,
        namespace: &Namespace,
        path: &ObjectPath,
        property_list: Option<&[Name]>,
    ) -> Result<Instance, CimError> {
        unimplemented!()
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
        unimplemented!()
    }
    pub fn enumerate_instance_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
    ) -> Result<Vec<ObjectPath>, CimError> {
        unimplemented!()
    }
    pub fn associators(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
        property_list: Option<&[Name]>,
    ) -> Result<Vec<Instance>, CimError> {
        unimplemented!()
    }
    pub fn associator_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        unimplemented!()
    }
    pub fn references(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
        property_list: Option<&[Name]>,
    ) -> Result<Vec<Instance>, CimError> {
        unimplemented!()
    }
    pub fn reference_names(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        unimplemented!()
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
        unimplemented!()
    }
    pub fn reference_classes(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &Name,
        filter: &ReferenceFilter,
        options: &ClassOptions,
    ) -> Result<Vec<Class>, CimError> {
        unimplemented!()
    }
    /// `language` is `WQL`, `DMTF:CQL` or `DMTF:FQL`.
    pub fn query(
        &self,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        query: &str,
    ) -> Result<QueryResult, CimError> {
        unimplemented!()
    }
    /// Calls a method. `arguments` come as the wire decoded them; the broker checks names, types,
    /// and required ones, and converts strings that hold embedded instances.
    pub async fn invoke(
        &self,
        context: &Context,
        namespace: &Namespace,
        target: &ObjectPath,
        method: &Name,
        arguments: Vec<(Name, Value)>,
    ) -> Result<InvokeResult, CimError> {
        unimplemented!()
    }
}
