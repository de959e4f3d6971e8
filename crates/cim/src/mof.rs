//! MOF: the text of classes, qualifiers and instances (DSP0221), and the repository of classes that
//! is compiled from it.
//!
//! Start with [`Repository::compile`]; what inheritance means is in `resolve`. [`parse`] reads MOF
//! declaration by declaration without a repository, [`parse_instances`] reads the embedded instances
//! that some clients send as MOF, and [`print_class`] and its like write text that reads back.
//!
//! Not here: files. `#pragma include` is refused; whoever has files gives their texts.

mod ast;
mod declare;
mod lexer;
mod parser;
mod printer;
mod repository;
mod resolve;

use crate::convert::{CoercionError, ConversionError};
use crate::{Class, Instance, InstanceError, Name, QualifierDecl};

pub use printer::{Members, print_class, print_instance, print_qualifier};
pub use repository::Repository;

/// Longest MOF text, in bytes.
pub const MAX_LENGTH: usize = 16 * 1024 * 1024;

/// Longest text of embedded instances, which come from clients, in bytes.
pub const MAX_INSTANCES_LENGTH: usize = 1024 * 1024;

/// How deep instances may stand in the properties of others.
pub const MAX_NESTING: usize = 16;

/// The qualifiers of DSP0004 and those that WMI adds. Every repository has them; a file may declare
/// one again, which replaces it.
pub const STANDARD_QUALIFIERS: &str = include_str!("../mof/qualifiers.mof");

/// What MOF text declares.
#[derive(Clone, Debug, PartialEq)]
pub enum Declaration {
    /// A class, with its own members only.
    Class(Class),
    /// A qualifier type.
    Qualifier(QualifierDecl),
    /// An instance, with types guessed from how its values are written: its class is not known
    /// here. [`Instance::conform_to`] gives it the declared ones.
    Instance(Instance),
}

/// What is wrong with MOF text, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}:{line}:{column}: {kind}")]
pub struct MofError {
    /// The name that the text was given under.
    pub file: String,
    /// Counted from one.
    pub line: usize,
    /// Counted from one, in characters.
    pub column: usize,
    /// What is wrong.
    pub kind: Box<MofErrorKind>,
}

/// What is wrong with MOF text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MofErrorKind {
    /// Longer than [`MAX_LENGTH`] or, for embedded instances, [`MAX_INSTANCES_LENGTH`].
    #[error("MOF text must not be longer than {0} bytes here")]
    TooLong(usize),
    /// Nested deeper than [`MAX_NESTING`].
    #[error("instances must not be nested deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// Something else was expected.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Text, a character or a comment without its end.
    #[error("{0} without its end")]
    Unterminated(&'static str),
    /// A number that cannot be read.
    #[error("{0:?} is not a number")]
    Number(String),
    /// `#pragma include` and its like.
    #[error("#pragma {0} is not allowed here")]
    Pragma(String),
    /// A second `#pragma namespace` that says something else.
    #[error("the text is for namespace {first}, and now for {second}")]
    Namespace {
        /// The first one.
        first: String,
        /// The one that differs.
        second: String,
    },
    /// A value that does not fit what it is for.
    #[error("{0}")]
    Value(#[from] CoercionError),
    /// A qualifier that nothing declares.
    #[error("qualifier {0} is not declared")]
    UnknownQualifier(Name),
    /// A qualifier where it must not stand.
    #[error("qualifier {qualifier} cannot stand at a {scope}")]
    QualifierScope {
        /// The qualifier.
        qualifier: Name,
        /// The kind of element it stands at.
        scope: &'static str,
    },
    /// A qualifier twice at one element.
    #[error("qualifier {0} is given twice")]
    DuplicateQualifier(Name),
    /// A subclass changes a qualifier with the flavor `DisableOverride`.
    #[error("{element} changes qualifier {qualifier}, which must stay as in its superclass")]
    FixedQualifier {
        /// The class, or `Class.Member`.
        element: String,
        /// The qualifier.
        qualifier: Name,
    },
    /// A class twice.
    #[error("class {0} is declared twice")]
    DuplicateClass(Name),
    /// A member or parameter twice.
    #[error("{0} is declared twice")]
    DuplicateMember(String),
    /// No such superclass.
    #[error("class {class} is derived from {superclass}, which is not declared")]
    UnknownSuperclass {
        /// The class.
        class: Name,
        /// What it names as its superclass.
        superclass: Name,
    },
    /// A class that is its own ancestor.
    #[error("class {0} is derived from itself")]
    Cycle(Name),
    /// A member whose type differs from the one it overrides.
    #[error("{member} has type {found}, but the one it overrides has {inherited}")]
    OverrideType {
        /// `Class.Member`.
        member: String,
        /// Its type.
        found: String,
        /// The type in the superclass.
        inherited: String,
    },
    /// `Override` without anything to override.
    #[error("{member} overrides {overridden}, which no superclass has under that name")]
    NothingToOverride {
        /// `Class.Member`.
        member: String,
        /// What the qualifier names.
        overridden: String,
    },
    /// A key in a subclass of a class that has keys.
    #[error("{member} is a key, but the keys of {class} come from its superclass")]
    ExtraKey {
        /// `Class.Member`.
        member: String,
        /// The class.
        class: Name,
    },
    /// An instance of an unknown class.
    #[error("class {0} is not declared")]
    UnknownClass(Name),
    /// An alias that is not declared before it is used, or in text without a repository.
    #[error("alias ${0} is not known here")]
    UnknownAlias(Name),
    /// An instance that does not fit its class.
    #[error("{0}")]
    Instance(#[from] InstanceError),
}

impl MofErrorKind {
    fn value(element: impl Into<Name>, reason: ConversionError) -> Self {
        MofErrorKind::Value(reason.at(element))
    }
}

/// An error kind at a byte offset of a text; becomes a [`MofError`] once the text is at hand.
#[derive(Debug)]
struct Fault {
    at: usize,
    kind: Box<MofErrorKind>,
}

impl Fault {
    fn new(at: usize, kind: impl Into<MofErrorKind>) -> Self {
        Fault {
            at,
            kind: Box::new(kind.into()),
        }
    }

    fn within(self, file: &str, text: &str) -> MofError {
        let mut end = self.at.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let head = &text[..end];
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        MofError {
            file: file.to_owned(),
            line: head.matches('\n').count() + 1,
            column: head[line_start..].chars().count() + 1,
            kind: self.kind,
        }
    }
}

/// Reads the declarations of one text. Qualifiers are checked and typed by the standard ones and by
/// those that the text declares.
pub fn parse(file: &str, text: &str) -> Result<Vec<Declaration>, MofError> {
    let mut table = declare::QualifierTable::standard()?;
    let locate = |fault: Fault| fault.within(file, text);
    let parsed = parser::parse(text).map_err(locate)?;
    for item in &parsed.items {
        if let ast::Item::Qualifier(qualifier) = item {
            table.declare(qualifier).map_err(locate)?;
        }
    }
    parsed
        .items
        .iter()
        .map(|item| {
            Ok(match item {
                ast::Item::Qualifier(qualifier) => {
                    Declaration::Qualifier(declare::qualifier(qualifier)?)
                }
                ast::Item::Class(class) => Declaration::Class(declare::class(class, &table)?.class),
                ast::Item::Instance(instance) => {
                    Declaration::Instance(declare::untyped_instance(instance)?)
                }
            })
        })
        .collect::<Result<_, Fault>>()
        .map_err(locate)
}

/// Reads instances and nothing else: what clients send as embedded instances in MOF. Types are
/// guessed from how values are written; [`Instance::conform_to`] gives them the declared ones.
pub fn parse_instances(text: &str) -> Result<Vec<Instance>, MofError> {
    let locate = |fault: Fault| fault.within("embedded instance", text);
    if text.len() > MAX_INSTANCES_LENGTH {
        let kind = MofErrorKind::TooLong(MAX_INSTANCES_LENGTH);
        return Err(locate(Fault::new(0, kind)));
    }
    let parsed = parser::parse(text).map_err(locate)?;
    parsed
        .items
        .iter()
        .map(|item| match item {
            ast::Item::Instance(instance) => declare::untyped_instance(instance),
            ast::Item::Class(ast::Class { at, .. })
            | ast::Item::Qualifier(ast::QualifierDecl { at, .. }) => Err(Fault::new(
                *at,
                MofErrorKind::Expected {
                    expected: "an instance",
                    found: "another declaration".to_owned(),
                },
            )),
        })
        .collect::<Result<_, Fault>>()
        .map_err(locate)
}
