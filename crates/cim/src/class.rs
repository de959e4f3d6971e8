//! Class declarations: what GetClass answers, and what the broker checks requests against.

use crate::{CimType, Name, Type, Value};

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

/// What an element with the type `string` (or `object`) really holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded<'a> {
    /// An instance of this class or of a subclass (qualifier `EmbeddedInstance`).
    Instance(&'a str),
    /// An instance or a class of any kind (qualifier `EmbeddedObject`, or the type `object`).
    Object,
}

fn find_qualifier<'a>(qualifiers: &'a [Qualifier], name: &str) -> Option<&'a Qualifier> {
    qualifiers.iter().find(|qualifier| qualifier.name.is(name))
}

fn is_set(qualifiers: &[Qualifier], name: &str) -> bool {
    find_qualifier(qualifiers, name).is_some_and(Qualifier::is_true)
}

fn embedded<'a>(
    ty: Type,
    class_ref: Option<&'a Name>,
    qualifiers: &'a [Qualifier],
) -> Option<Embedded<'a>> {
    if !matches!(ty.kind, CimType::String | CimType::Object) {
        return None;
    }
    let named = find_qualifier(qualifiers, "EmbeddedInstance").and_then(|q| q.value.as_str());
    if let Some(class) = named {
        return Some(Embedded::Instance(class));
    }
    if is_set(qualifiers, "EmbeddedObject") {
        return Some(Embedded::Object);
    }
    if ty.kind == CimType::Object {
        return Some(class_ref.map_or(Embedded::Object, |name| Embedded::Instance(name.as_str())));
    }
    None
}

impl Qualifier {
    /// Whether this is a boolean qualifier that is set.
    pub fn is_true(&self) -> bool {
        self.value == Value::Boolean(true)
    }
}

impl PropertyDecl {
    /// A property of `ty` without a default or qualifiers, introduced by `origin`.
    pub fn new(name: impl Into<Name>, ty: Type, origin: impl Into<Name>) -> Self {
        PropertyDecl {
            name: name.into(),
            ty,
            class_ref: None,
            array_size: None,
            default: Value::Null,
            qualifiers: Vec::new(),
            origin: origin.into(),
            propagated: false,
        }
    }

    /// The qualifier called `name`.
    pub fn qualifier(&self, name: &str) -> Option<&Qualifier> {
        find_qualifier(&self.qualifiers, name)
    }

    /// Whether this is a key.
    pub fn is_key(&self) -> bool {
        is_set(&self.qualifiers, "Key")
    }

    /// Whether this is a reference.
    pub fn is_reference(&self) -> bool {
        self.ty.kind == CimType::Reference
    }

    /// What is embedded in values of this property, if anything.
    pub fn embedded(&self) -> Option<Embedded<'_>> {
        embedded(self.ty, self.class_ref.as_ref(), &self.qualifiers)
    }
}

impl ParameterDecl {
    /// The qualifier called `name`.
    pub fn qualifier(&self, name: &str) -> Option<&Qualifier> {
        find_qualifier(&self.qualifiers, name)
    }

    /// Whether callers give it. `In` is TRUE by default: a parameter without `In` and `Out` is an
    /// input, one with `Out` alone is not.
    pub fn is_in(&self) -> bool {
        match self.qualifier("In") {
            Some(qualifier) => qualifier.is_true(),
            None => !self.is_out(),
        }
    }

    /// Whether the method gives it back.
    pub fn is_out(&self) -> bool {
        is_set(&self.qualifiers, "Out")
    }

    /// Whether it must not be NULL.
    pub fn required(&self) -> bool {
        is_set(&self.qualifiers, "Required")
    }

    /// What is embedded in values of this parameter, if anything.
    pub fn embedded(&self) -> Option<Embedded<'_>> {
        embedded(self.ty, self.class_ref.as_ref(), &self.qualifiers)
    }
}

impl MethodDecl {
    /// The qualifier called `name`.
    pub fn qualifier(&self, name: &str) -> Option<&Qualifier> {
        find_qualifier(&self.qualifiers, name)
    }

    /// The parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&ParameterDecl> {
        self.parameters.iter().find(|decl| decl.name.is(name))
    }

    /// Parameters that callers give, in declared order.
    pub fn inputs(&self) -> impl Iterator<Item = &ParameterDecl> {
        self.parameters.iter().filter(|decl| decl.is_in())
    }

    /// Parameters that the method gives back, in declared order.
    pub fn outputs(&self) -> impl Iterator<Item = &ParameterDecl> {
        self.parameters.iter().filter(|decl| decl.is_out())
    }
}

impl Class {
    /// A class without members.
    pub fn new(name: impl Into<Name>) -> Self {
        Class {
            name: name.into(),
            superclass: None,
            qualifiers: Vec::new(),
            properties: Vec::new(),
            methods: Vec::new(),
        }
    }

    /// The class qualifier called `name`.
    pub fn qualifier(&self, name: &str) -> Option<&Qualifier> {
        find_qualifier(&self.qualifiers, name)
    }

    /// The property called `name`.
    pub fn property(&self, name: &str) -> Option<&PropertyDecl> {
        self.properties.iter().find(|decl| decl.name.is(name))
    }

    /// The method called `name`.
    pub fn method(&self, name: &str) -> Option<&MethodDecl> {
        self.methods.iter().find(|decl| decl.name.is(name))
    }

    /// The key properties, in class order.
    pub fn keys(&self) -> impl Iterator<Item = &PropertyDecl> {
        self.properties.iter().filter(|decl| decl.is_key())
    }

    /// The reference properties, in class order: an association's roles.
    pub fn references(&self) -> impl Iterator<Item = &PropertyDecl> {
        self.properties.iter().filter(|decl| decl.is_reference())
    }

    /// Whether this is an association.
    pub fn is_association(&self) -> bool {
        is_set(&self.qualifiers, "Association")
    }

    /// Whether this is an indication.
    pub fn is_indication(&self) -> bool {
        is_set(&self.qualifiers, "Indication")
    }

    /// Whether instances can only be of its subclasses.
    pub fn is_abstract(&self) -> bool {
        is_set(&self.qualifiers, "Abstract")
    }

    /// Whether it has at most one instance, named `Class=@`.
    pub fn is_singleton(&self) -> bool {
        is_set(&self.qualifiers, "Singleton")
    }
}
