//! Class declarations: what GetClass answers, and what the broker checks requests against.

use crate::{Name, Type, Value};

/// A qualifier on a class, property, method or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Qualifier {
    /// Its name.
    pub name: Name,
    /// Declared type.
    pub ty: Type,
    /// Its value.
    pub value: Value,
    /// Flavor: may a subclass change it.
    pub overridable: bool,
    /// Flavor: do subclasses inherit it.
    pub to_subclass: bool,
    /// Flavor: is the text translatable.
    pub translatable: bool,
}

/// A qualifier type (`Qualifier Key : boolean = false, Scope(property, reference), Flavor(..)`).
#[derive(Clone, Debug, PartialEq)]
pub struct QualifierDecl {
    /// Its name.
    pub name: Name,
    /// Type of its values.
    pub ty: Type,
    /// Value when none is given.
    pub default: Value,
    /// Where it may stand: class, association, indication, property, reference, method,
    /// parameter, or any.
    pub scopes: Vec<Name>,
    /// Flavor: may a subclass change it.
    pub overridable: bool,
    /// Flavor: do subclasses inherit it.
    pub to_subclass: bool,
    /// Flavor: is the text translatable.
    pub translatable: bool,
}

/// A property, references included (`ty.kind == Reference`).
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyDecl {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// For a reference, or an embedded object of a known class: that class.
    pub class_ref: Option<Name>,
    /// Fixed length of an array.
    pub array_size: Option<u32>,
    /// The class's default.
    pub default: Value,
    /// Its qualifiers.
    pub qualifiers: Vec<Qualifier>,
    /// The class that introduced it.
    pub origin: Name,
    /// Whether it came from a superclass unchanged.
    pub propagated: bool,
}

/// A parameter of a method. `In` and `Out` are qualifiers; use [`ParameterDecl::is_in`] and
/// [`ParameterDecl::is_out`].
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterDecl {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// For a reference or `EmbeddedInstance`: the class.
    pub class_ref: Option<Name>,
    /// Fixed length of an array.
    pub array_size: Option<u32>,
    /// Its qualifiers.
    pub qualifiers: Vec<Qualifier>,
}

/// A method.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodDecl {
    /// Its name.
    pub name: Name,
    /// Type of the return value.
    pub return_type: Type,
    /// Parameters in declared order.
    pub parameters: Vec<ParameterDecl>,
    /// Its qualifiers.
    pub qualifiers: Vec<Qualifier>,
    /// The class that introduced it.
    pub origin: Name,
    /// Whether it came from a superclass unchanged.
    pub propagated: bool,
}

/// A class. As parsed from MOF it holds what it declares itself; as served by a
/// `mof::Repository` it holds the inherited members too.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: Name,
    /// Its superclass.
    pub superclass: Option<Name>,
    /// Its qualifiers.
    pub qualifiers: Vec<Qualifier>,
    /// Its properties.
    pub properties: Vec<PropertyDecl>,
    /// Its methods.
    pub methods: Vec<MethodDecl>,
}
