//! MOF as written, before anything is known about types and superclasses. Every part that can be
//! wrong later knows its byte offset.

use crate::{Name, Type};

#[derive(Debug)]
pub(super) struct Text {
    pub namespace: Option<String>,
    pub items: Vec<Item>,
}

#[derive(Debug)]
pub(super) enum Item {
    Qualifier(QualifierDecl),
    Class(Class),
    Instance(Instance),
}

#[derive(Debug)]
pub(super) struct QualifierDecl {
    pub at: usize,
    pub name: Name,
    pub ty: Type,
    pub default: Option<Literal>,
    pub scopes: Vec<Name>,
    pub flavors: Flavors,
}

/// Flavors that were said; what was not said comes from the declaration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flavors {
    pub overridable: Option<bool>,
    pub to_subclass: Option<bool>,
    pub translatable: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Qualifier {
    pub at: usize,
    pub name: Name,
    pub value: Option<Literal>,
    pub flavors: Flavors,
}

#[derive(Debug)]
pub(super) struct Class {
    pub at: usize,
    pub name: Name,
    pub superclass: Option<Name>,
    pub qualifiers: Vec<Qualifier>,
    pub properties: Vec<Property>,
    pub methods: Vec<Method>,
}

/// Type, name and array brackets: what properties and parameters have in common.
#[derive(Debug)]
pub(super) struct Element {
    pub at: usize,
    pub name: Name,
    pub ty: Type,
    pub class_ref: Option<Name>,
    pub array_size: Option<u32>,
    pub qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
pub(super) struct Property {
    pub element: Element,
    pub default: Option<Literal>,
}

#[derive(Debug)]
pub(super) struct Method {
    pub at: usize,
    pub name: Name,
    pub return_type: Type,
    pub qualifiers: Vec<Qualifier>,
    pub parameters: Vec<Element>,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub at: usize,
    pub class: Name,
    pub alias: Option<Name>,
    pub properties: Vec<(Name, Literal)>,
}

#[derive(Debug)]
pub(super) struct Literal {
    pub at: usize,
    pub kind: LiteralKind,
}

#[derive(Debug)]
pub(super) enum LiteralKind {
    Null,
    Boolean(bool),
    Integer(i128),
    Real(f64),
    Text(String),
    Character(u16),
    Alias(Name),
    Instance(Box<Instance>),
    Array(Vec<Literal>),
}
