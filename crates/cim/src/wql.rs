//! WQL: parser and evaluator of the dialect that WMI clients use. The basic subset of the DMTF's
//! query languages (`SELECT * FROM C WHERE P = 'v'`) is the same text and parses alike.
//!
//! Start with [`Query::parse`]. A broker then picks instances by [`Select::class`] and
//! [`Select::equalities`] and lets [`Select::matches`] decide on each; or answers
//! [`AssociatorsOf`] and [`ReferencesOf`] from its associations. What a row is, system properties
//! included, is in [`row`]; how values compare is in `compare`.
//!
//! # NULL
//! Logic has three values. A comparison with a NULL property is unknown, and so is one that makes no
//! sense (text against a number); NOT unknown is unknown; an instance is selected only when the
//! whole condition is true. So neither `P = 'x'` nor `P <> 'x'` nor `NOT P = 'x'` selects an
//! instance whose `P` is NULL. `P = NULL` and `P <> NULL` are `IS NULL` and `IS NOT NULL`, which are
//! never unknown.
//!
//! # Backslashes
//! A backslash in a literal is an escape before a backslash or a quote, and itself elsewhere. Since
//! many clients escape nothing, `=`, `<>` and LIKE hold for the literal in either reading, and where
//! an object path is compared, both readings are parsed as paths and compared as such.
//!
//! # Events
//! A query for events to come is another thing than one for what there is: [`EventQuery`]. Each
//! parser refuses the other's queries and says so.

mod compare;
pub mod event;
mod lexer;
mod like;
mod parser;
pub mod row;

use crate::path::PathError;
use crate::{Class, Name, ObjectPath, Value};

pub use event::EventQuery;
pub use like::Pattern;
pub use row::{ClassRow, InstanceRow, Row};

/// Longest query, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// How deep parentheses and NOT may nest.
pub const MAX_NESTING: usize = 64;

/// Why text is not a query that is served.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// Longer than [`MAX_LENGTH`].
    #[error("a query must not be longer than {MAX_LENGTH} bytes; this one has {0}")]
    TooLong(usize),
    /// Nested deeper than [`MAX_NESTING`].
    #[error("a query must not nest parentheses and NOT deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// Something else was expected.
    #[error("expected {expected} at character {at} of the query, found {found}")]
    Expected {
        /// What should be there.
        expected: &'static str,
        /// Counted from one.
        at: usize,
        /// What is there.
        found: String,
    },
    /// A literal or a path in braces that does not end.
    #[error("what starts at character {at} of the query has no closing {closing}")]
    Unterminated {
        /// Counted from one.
        at: usize,
        /// The missing character.
        closing: char,
    },
    /// An event query where one for existing objects is expected.
    #[error(
        "this is an event query ({0} is an event class, or WITHIN was given), which cannot be answered at once"
    )]
    Event(Name),
    /// `GROUP`, `BY` or `HAVING` in an event query.
    #[error("GROUP, BY and HAVING are not served: events are told one by one")]
    Group,
    /// The path in braces is none.
    #[error("the object in braces: {0}")]
    Object(#[from] PathError),
    /// A property that the class does not have.
    #[error("class {class} has no property {property}")]
    UnknownProperty {
        /// The class queried.
        class: Name,
        /// The name that it lacks.
        property: Name,
    },
    /// A query language other than WQL and its like.
    #[error("query language {0:?} is not supported; use WQL")]
    Language(String),
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// `SELECT ... FROM ...`
    Select(Select),
    /// `ASSOCIATORS OF {...}`
    Associators(AssociatorsOf),
    /// `REFERENCES OF {...}`
    References(ReferencesOf),
}

/// `SELECT projection FROM class [WHERE filter]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// What is asked for.
    pub projection: Projection,
    /// The class; instances of its subclasses count too.
    pub class: Name,
    /// The condition.
    pub filter: Option<Condition>,
}

/// What a SELECT asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Projection {
    /// `*`
    All,
    /// A list of properties, system properties among them.
    Properties(Vec<PropertyPath>),
}

/// A property, `Name`, or one of an embedded instance, `TargetInstance.Name`, or an item of an
/// array, `Name[0]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyPath {
    /// The names, outermost first; never empty.
    pub segments: Vec<Name>,
    /// Which item of an array.
    pub index: Option<usize>,
}

/// `ASSOCIATORS OF {object} WHERE ...`. Blanks around names are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociatorsOf {
    /// Where to start.
    pub object: ObjectPath,
    /// `AssocClass`: only through associations of this class.
    pub assoc_class: Option<Name>,
    /// `ResultClass`: only instances of this class.
    pub result_class: Option<Name>,
    /// `Role`: the object's role.
    pub role: Option<Name>,
    /// `ResultRole`: the result's role.
    pub result_role: Option<Name>,
    /// `RequiredQualifier`: the result's class must have it.
    pub required_qualifier: Option<Name>,
    /// `RequiredAssocQualifier`: the association must have it.
    pub required_assoc_qualifier: Option<Name>,
    /// What to give back.
    pub output: Output,
}

/// `REFERENCES OF {object} WHERE ...`. Blanks around names are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferencesOf {
    /// Where to start.
    pub object: ObjectPath,
    /// `ResultClass`: only associations of this class.
    pub result_class: Option<Name>,
    /// `Role`: the object's role.
    pub role: Option<Name>,
    /// `RequiredQualifier`: the association must have it.
    pub required_qualifier: Option<Name>,
    /// What to give back.
    pub output: Output,
}

/// How much of the found instances is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// `ClassDefsOnly`: the classes of the instances, not the instances.
    pub class_definitions_only: bool,
    /// `KeysOnly`: key properties suffice.
    pub keys_only: bool,
    /// `SchemaOnly`: the object is a class, and its associations to classes are asked for.
    pub schema_only: bool,
}

/// A condition on one instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// Any of them.
    Or(Vec<Condition>),
    /// Not it.
    Not(Box<Condition>),
    /// `left op right`
    Compare {
        /// Left side.
        left: Operand,
        /// The operator.
        operator: Operator,
        /// Right side.
        right: Operand,
    },
    /// `operand [NOT] LIKE 'pattern'`
    Like {
        /// What is matched.
        operand: Operand,
        /// The pattern, in both readings of its backslashes.
        pattern: Pattern,
        /// With NOT.
        negated: bool,
    },
    /// `operand IS [NOT] NULL`, `operand = NULL`, `operand <> NULL`
    IsNull {
        /// What is looked at.
        operand: Operand,
        /// With NOT.
        negated: bool,
    },
    /// `operand ISA 'Class'`: the embedded instance, or with `__this` the row, is of the class.
    IsA {
        /// What is looked at.
        operand: PropertyPath,
        /// The class.
        class: Name,
    },
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A property, `__SERVER` and its like included.
    Property(PropertyPath),
    /// A constant.
    Literal(Literal),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Literal {
    Text(Text),
    Integer(i128),
    Real(f64),
    Boolean(bool),
}

/// A string constant, in both readings of its backslashes.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    raw: String,
    unescaped: String,
    /// The object paths that the readings are, if they are any; for comparisons with paths.
    paths: Vec<ObjectPath>,
}

impl Literal {
    /// The constant as a value: text without its escapes, integers as `sint64` or else `uint64`.
    pub fn to_value(&self) -> Value {
        match self {
            Literal::Text(text) => Value::from(text.unescaped()),
            Literal::Boolean(value) => Value::Boolean(*value),
            Literal::Real(real) => Value::Real64(*real),
            // The parser lets no other integers through.
            Literal::Integer(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => Value::Sint64(n),
                (_, Ok(n)) => Value::Uint64(n),
                _ => Value::Null,
            },
        }
    }
}

impl Text {
    pub(crate) fn new(raw: String, unescaped: String) -> Self {
        let mut paths = Vec::new();
        if raw.contains(['=', ':']) {
            paths.extend(ObjectPath::parse(&raw));
            if raw != unescaped {
                paths.extend(ObjectPath::parse(&unescaped));
            }
        }
        Text {
            raw,
            unescaped,
            paths,
        }
    }

    /// With escapes resolved: what the standard says it means.
    pub fn unescaped(&self) -> &str {
        &self.unescaped
    }

    /// As it was written, but for doubled quotes.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Both readings, or one when they are the same. An index must be asked for each.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        let raw = (self.raw != self.unescaped).then_some(self.raw.as_str());
        std::iter::once(self.unescaped.as_str()).chain(raw)
    }

    /// The object paths that the readings are.
    pub fn paths(&self) -> &[ObjectPath] {
        &self.paths
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::new(text.to_owned(), text.to_owned())
    }
}

/// `text` in the form under which texts that compare equal are equal strings: for indexes.
pub fn fold_case(text: &str) -> String {
    compare::fold_case(text)
}

/// A conjunct `property = literal` that every selected instance must fulfil.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equality<'a> {
    /// The property.
    pub property: &'a Name,
    /// What it must be equal to, as [`Select::matches`] compares.
    pub literal: &'a Literal,
}

impl Query {
    /// Parses a WQL query.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse(text)
    }

    /// Parses a query in the named language: `WQL`, or one of the DMTF's names for the subset that
    /// is the same.
    pub fn parse_in(language: &str, text: &str) -> Result<Self, QueryError> {
        check_language(language)?;
        Query::parse(text)
    }
}

/// Refuses languages other than WQL and its like.
fn check_language(language: &str) -> Result<(), QueryError> {
    const KNOWN: [&str; 5] = ["WQL", "WMI:WQL", "CIM:WQL", "DMTF:CQL", "CIM:CQL"];
    let language = language.trim();
    if KNOWN
        .iter()
        .any(|known| known.eq_ignore_ascii_case(language))
    {
        Ok(())
    } else {
        Err(QueryError::Language(crate::convert::excerpt(language)))
    }
}

impl Condition {
    /// Parses a condition by itself: what would follow WHERE (the DMTF's filter query language).
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse_condition(text)
    }

    /// Whether `row` fulfils it: `None` is unknown.
    pub fn evaluate(&self, row: &dyn Row) -> Option<bool> {
        compare::evaluate(self, row)
    }

    fn for_each_property(&self, visit: &mut dyn FnMut(&PropertyPath)) {
        let mut operand = |operand: &Operand| {
            if let Operand::Property(path) = operand {
                visit(path);
            }
        };
        match self {
            Condition::And(parts) | Condition::Or(parts) => {
                for part in parts {
                    part.for_each_property(visit);
                }
            }
            Condition::Not(inner) => inner.for_each_property(visit),
            Condition::Compare { left, right, .. } => {
                operand(left);
                operand(right);
            }
            Condition::Like { operand: side, .. } | Condition::IsNull { operand: side, .. } => {
                operand(side);
            }
            Condition::IsA { operand, .. } => visit(operand),
        }
    }
}

impl PropertyPath {
    /// The outermost name.
    pub fn name(&self) -> &str {
        self.segments.first().map_or("", Name::as_str)
    }

    /// The name, when it is a plain property.
    pub fn plain(&self) -> Option<&Name> {
        match (self.segments.as_slice(), self.index) {
            ([name], None) => Some(name),
            _ => None,
        }
    }
}

impl Projection {
    /// The outermost property names, in the order asked for; `None` for all.
    pub fn names(&self) -> Option<Vec<&str>> {
        match self {
            Projection::All => None,
            Projection::Properties(paths) => Some(paths.iter().map(PropertyPath::name).collect()),
        }
    }
}

impl Select {
    /// Whether the condition is true for `row`. The class is not looked at.
    pub fn matches(&self, row: &dyn Row) -> bool {
        match &self.filter {
            None => true,
            Some(condition) => condition.evaluate(row) == Some(true),
        }
    }

    /// Refuses properties that `class` does not have, as WMI does. System properties always pass.
    pub fn check(&self, class: &Class) -> Result<(), QueryError> {
        let mut unknown = None;
        let mut visit = |path: &PropertyPath| {
            let name = path.name();
            if !name.starts_with("__") && class.property(name).is_none() && unknown.is_none() {
                unknown = Some(Name::new(name));
            }
        };
        if let Projection::Properties(paths) = &self.projection {
            paths.iter().for_each(&mut visit);
        }
        if let Some(condition) = &self.filter {
            condition.for_each_property(&mut visit);
        }
        match unknown {
            None => Ok(()),
            Some(property) => Err(QueryError::UnknownProperty {
                class: class.name.clone(),
                property,
            }),
        }
    }

    /// The AND-ed conjuncts `property = literal`, for picking from an index. Instances that are
    /// picked must still pass [`Select::matches`].
    ///
    /// An index of a string property may be asked when the literal is [`Literal::Text`], for each of
    /// [`Text::readings`], folded with [`fold_case`]. Where values are object paths, it must be asked
    /// for [`Text::paths`] by [`ObjectPath::index_key`] instead.
    pub fn equalities(&self) -> Vec<Equality<'_>> {
        let mut found = Vec::new();
        if let Some(condition) = &self.filter {
            collect_equalities(condition, &mut found);
        }
        found
    }
}

fn collect_equalities<'a>(condition: &'a Condition, found: &mut Vec<Equality<'a>>) {
    match condition {
        Condition::And(parts) => {
            for part in parts {
                collect_equalities(part, found);
            }
        }
        Condition::Compare {
            left,
            operator: Operator::Equal,
            right,
        } => {
            let ((Operand::Property(path), Operand::Literal(literal))
            | (Operand::Literal(literal), Operand::Property(path))) = (left, right)
            else {
                return;
            };
            if let Some(property) = path.plain() {
                found.push(Equality { property, literal });
            }
        }
        _ => {}
    }
}
