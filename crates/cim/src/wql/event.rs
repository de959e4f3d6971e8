//! Event queries: `SELECT * FROM __InstanceModificationEvent WITHIN 2 WHERE TargetInstance ISA 'C'
//! AND TargetInstance.P = 'v' AND PreviousInstance.P <> 'v'`.
//!
//! The condition is one on the event, whose embedded instances are looked into by dotted names.
//! GROUP and HAVING are recognised and refused.

use super::{Condition, Literal, Operand, Operator, PropertyPath, QueryError, Row, Select, parser};
use crate::Name;

/// The property of an event that holds the object it is about.
pub const TARGET: &str = "TargetInstance";
/// The property of a modification event that holds the object as it was.
pub const PREVIOUS: &str = "PreviousInstance";

/// A query for events to come.
#[derive(Clone, Debug, PartialEq)]
pub struct EventQuery {
    /// What is asked for, the class of the events, and the condition on an event.
    pub select: Select,
    /// `WITHIN`: how many seconds may pass before an event is told.
    pub within: Option<f64>,
}

impl EventQuery {
    /// Parses an event query in the named language; see [`super::Query::parse_in`].
    pub fn parse_in(language: &str, text: &str) -> Result<Self, QueryError> {
        super::check_language(language)?;
        parser::parse_event(text)
    }

    /// Whether an event is asked for.
    pub fn matches(&self, event: &dyn Row) -> bool {
        self.select.matches(event)
    }

    /// The classes that the condition restricts the object of an event to: it is an instance of one
    /// of them or of a subclass. `None` when the condition admits objects of any class.
    pub fn target_classes(&self) -> Option<Vec<Name>> {
        classes_of(self.select.filter.as_ref()?)
    }

    /// The names that the condition looks up in the object of an event, as it is or as it was.
    pub fn target_properties(&self) -> Vec<Name> {
        let mut found: Vec<Name> = Vec::new();
        let mut visit = |path: &PropertyPath| {
            if let [object, property, ..] = path.segments.as_slice()
                && (object.is(TARGET) || object.is(PREVIOUS))
                && !found.contains(property)
            {
                found.push(property.clone());
            }
        };
        if let Some(condition) = &self.select.filter {
            condition.for_each_property(&mut visit);
        }
        found
    }
}

/// The classes that the object must be of for the condition to be true.
fn classes_of(condition: &Condition) -> Option<Vec<Name>> {
    match condition {
        // Any of the restrictions will do; the condition itself is put to each event.
        Condition::And(parts) => parts.iter().find_map(classes_of),
        Condition::Or(parts) => {
            let mut classes = Vec::new();
            for part in parts {
                classes.extend(classes_of(part)?);
            }
            Some(classes)
        }
        Condition::IsA { operand, class } => is_target(operand, None).then(|| vec![class.clone()]),
        Condition::Compare {
            left,
            operator: Operator::Equal,
            right,
        } => match (left, right) {
            (Operand::Property(path), Operand::Literal(Literal::Text(text)))
            | (Operand::Literal(Literal::Text(text)), Operand::Property(path)) => {
                is_target(path, Some("__CLASS")).then(|| vec![Name::new(text.unescaped())])
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether `path` is the object of the event, or its property `property`.
fn is_target(path: &PropertyPath, property: Option<&str>) -> bool {
    match (path.segments.as_slice(), property) {
        ([object], None) => object.is(TARGET),
        ([object, name], Some(property)) => object.is(TARGET) && name.is(property),
        _ => false,
    }
}
