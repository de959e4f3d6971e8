//! What a provider answers, and how it declares its associations.

use crate::access::{Context, Role};
use async_trait::async_trait;
use cim::{CimError, CimStatus, Instance, Keys, Name, ObjectPath, Property, Value};

/// A top-level `property = literal` conjunct of the query being answered. A provider may use it to
/// look things up in an index; it need not, because the broker applies the whole filter afterwards.
/// It must not be stricter than the broker: strings compare without case, and a literal may be of
/// another type than the property (`ResourceType = '10'`); when in doubt, ignore the equality.
///
/// A text literal that is the path of an instance comes as `Value::Reference`, complete and in
/// canonical spelling when there is such an object: a property holds it if it is that reference, or
/// text that names the same object.
#[derive(Clone, Debug, PartialEq)]
pub struct Equality {
    /// The property.
    pub property: Name,
    /// The literal, not yet converted to the property's type.
    pub value: Value,
}

/// The input parameters of a method call, checked and converted to their declared types: embedded
/// instances arrive as `Value::Instance`, references as `Value::Reference`. A parameter that the
/// caller left out is absent or `Null`.
///
/// A reference that names an existing object of this server arrives as that object's complete
/// path, whatever class was declared; one that names nothing arrives as it came, and text that is
/// no path at all as `Value::String`. What to make of those is the method's to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// Name and value, in declared order.
    pub values: Vec<(Name, Value)>,
}

impl Arguments {
    /// The value of `name`; `Null` when it was not given.
    pub fn get(&self, name: &str) -> &Value {
        self.values
            .iter()
            .find(|(parameter, _)| parameter.is(name))
            .map_or(&Value::Null, |(_, value)| value)
    }
}

/// What a method call came to: the return value and the output parameters (those not named are
/// null).
#[derive(Clone, Debug, PartialEq)]
pub struct MethodOutcome {
    /// The return value.
    pub return_value: Value,
    /// Output parameters by name.
    pub out: Vec<(Name, Value)>,
    /// When the return value is an error code: what happened, why and what to do, in words. A code
    /// alone tells a person too little; wires carry this where their protocol has room for it.
    pub explanation: Option<String>,
}

/// What is wrong with one argument of a method call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentFaultKind {
    /// The declaration says `Required`, and the argument is absent or NULL.
    Missing,
    /// The value is not of the declared type and cannot be read as one.
    Type,
    /// The text of an embedded instance cannot be read, or names a class or property that is not
    /// there.
    Embedded,
}

/// An argument that the broker could not bring into its declared form.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgumentFault {
    /// The parameter, as declared.
    pub parameter: Name,
    /// What is wrong.
    pub kind: ArgumentFaultKind,
    /// The answer where a protocol error is wanted; its message says what and where.
    pub error: CimError,
}

/// What happened to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// To an instance. One of the two is absent when it has come into being, or is gone.
    Instance {
        /// As it was, path filled in.
        before: Option<Box<Instance>>,
        /// As it is, path filled in.
        after: Option<Box<Instance>>,
    },
    /// To a link between two objects; the broker makes the association's instance.
    Link {
        /// The association class, one that has a row in the association table.
        association: Name,
        /// The objects at the first and the second end.
        ends: (ObjectPath, ObjectPath),
        /// Whether it has come into being, rather than ceased to be.
        appeared: bool,
    },
}

/// Why changes are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// So many were not taken in time, and are lost. The next ones follow.
    #[error("{0} changes were not taken in time")]
    Missed(u64),
    /// There will be no more.
    #[error("there will be no more changes")]
    Ended,
}

/// The changes of some classes from a certain moment on, in the order in which they happen. What
/// is kept for a reader that does not take them is bounded.
#[async_trait]
pub trait Changes: Send {
    /// Waits for the next changes; those that come together happened together. Nothing may be lost
    /// when the future is dropped.
    async fn next(&mut self) -> Result<Vec<Change>, Interruption>;
}

/// Instances that are made as they are taken.
pub type Instances = Box<dyn Iterator<Item = Result<Instance, CimError>> + Send>;

/// Answers for some classes of one namespace. Reads are synchronous: they look at published state
/// and never wait.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The concrete classes whose instances this provider makes, associations excluded.
    fn classes(&self) -> Vec<Name>;

    /// Which role a caller needs to see instances of `class`. Callers below it get empty
    /// enumerations, and "not found" for a path.
    fn read_role(&self, class: &Name) -> Role {
        let _ = class;
        Role::Viewer
    }

    /// All instances of exactly `class`, paths filled in, in the order clients rely on. With a
    /// `filter`, instances that do not satisfy it may be left out; none that does may be.
    fn enumerate(
        &self,
        context: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<Instance>, CimError>;

    /// [`Provider::enumerate`], each instance made when it is taken, of the moment of this call. For
    /// providers of many instances.
    fn stream(
        &self,
        context: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Instances, CimError> {
        let all = self.enumerate(context, class, filter)?;
        Ok(Box::new(all.into_iter().map(Ok)))
    }

    /// The paths of [`Provider::enumerate`], where they are cheaper than the instances.
    fn enumerate_paths(
        &self,
        context: &Context,
        class: &Name,
        filter: &[Equality],
    ) -> Result<Vec<ObjectPath>, CimError> {
        let instances = self.enumerate(context, class, filter)?;
        Ok(instances.into_iter().filter_map(|i| i.path).collect())
    }

    /// One instance by its complete keys, in declared spelling and type. Key values are as the
    /// caller spelled them and compare as [`cim::KeyValue::means_same`] does (an index folds them with
    /// [`ObjectPath::index_key`] or [`cim::path::fold_key_text`]). The default enumerates with the
    /// keys as filter.
    fn get(&self, context: &Context, path: &ObjectPath) -> Result<Option<Instance>, CimError> {
        let filter = key_equalities(&path.keys);
        let instances = self.enumerate(context, &path.class, &filter)?;
        Ok(instances
            .into_iter()
            .find(|i| i.path.as_ref().is_some_and(|p| p.names_same_object(path))))
    }

    /// The changes of instances of exactly these classes from now on, as they happen; association
    /// classes among them mean their links. `None` when this provider announces none of them.
    fn changes(&self, classes: &[Name]) -> Option<Box<dyn Changes>> {
        let _ = classes;
        None
    }

    /// Which role a caller needs for `method` of `class`.
    fn required_role(&self, class: &Name, method: &Name) -> Role;

    /// Calls `method` on `target` (an instance that exists, or the class for a static method).
    async fn invoke(
        &self,
        context: &Context,
        target: &ObjectPath,
        method: &Name,
        arguments: Arguments,
    ) -> Result<MethodOutcome, CimError> {
        let _ = (context, target, arguments);
        Err(CimError::new(
            CimStatus::MethodNotAvailable,
            format!("The method {method} is declared but not served."),
        ))
    }

    /// What to answer when an argument is missing or not of the declared form. Hyper-V's classes
    /// answer a return code, others the error.
    fn bad_argument(
        &self,
        class: &Name,
        method: &Name,
        fault: &ArgumentFault,
    ) -> Result<MethodOutcome, CimError> {
        let _ = (class, method);
        Err(fault.error.clone())
    }

    /// What to answer when the caller's role does not allow `method`. Hyper-V's classes answer a
    /// return code, others an error.
    fn access_denied(&self, class: &Name, method: &Name) -> Result<MethodOutcome, CimError> {
        Err(CimError::new(
            CimStatus::AccessDenied,
            format!("The account may not call {class}.{method}."),
        ))
    }
}

/// Looks from one end of an association to the other: the paths at the far end that `from` (a
/// complete path of the near end's class or a subclass) is linked to, in the order clients rely
/// on, one entry for each link; duplicates are kept.
pub type Traverse =
    Box<dyn Fn(&Context, &ObjectPath) -> Result<Vec<ObjectPath>, CimError> + Send + Sync>;

/// One association class: two roles, a function each way. The broker makes its instances,
/// associators and references from this row.
pub struct Association {
    /// The association class.
    pub class: Name,
    /// The reference properties: first and second end.
    pub roles: (Name, Name),
    /// The concrete classes found at each end (for enumerating, and to skip rows that cannot
    /// apply to a source).
    pub end_classes: (Vec<Name>, Vec<Name>),
    /// From an object at the first end to those at the second.
    pub forward: Traverse,
    /// From an object at the second end to those at the first.
    pub backward: Traverse,
    /// Properties of the link besides its two references (first, second end given), where the
    /// class has any that are not null.
    #[allow(clippy::type_complexity)]
    pub properties: Option<Box<dyn Fn(&ObjectPath, &ObjectPath) -> Vec<Property> + Send + Sync>>,
}

/// Keys as equalities, for looking an instance up by enumeration.
pub(crate) fn key_equalities(keys: &Keys) -> Vec<Equality> {
    match keys {
        Keys::Named(keys) => keys
            .iter()
            .map(|(name, value)| Equality {
                property: name.clone(),
                value: Value::from(value.clone()),
            })
            .collect(),
        Keys::Class | Keys::Singleton | Keys::Unnamed(_) => Vec::new(),
    }
}
