//! How a condition is decided. The rules on NULL and on backslashes are in the module comment of
//! [`super`]; text compares without case, numbers by value whether quoted or not.

use super::{Condition, Literal, Operand, Operator, PropertyPath, Row, Text};
use crate::convert::{parse_boolean, parse_integer, parse_real};
use crate::{DateTime, Name, ObjectPath, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

pub(super) fn evaluate(condition: &Condition, row: &dyn Row) -> Option<bool> {
    match condition {
        Condition::And(parts) => all(parts.iter().map(|part| evaluate(part, row))),
        Condition::Or(parts) => {
            let none = all(parts.iter().map(|part| evaluate(part, row).map(|it| !it)));
            none.map(|it| !it)
        }
        Condition::Not(inner) => evaluate(inner, row).map(|it| !it),
        Condition::Compare {
            left,
            operator,
            right,
        } => compare(left, *operator, right, row),
        Condition::Like {
            operand,
            pattern,
            negated,
        } => {
            let value = operand_value(operand, row)?;
            let text = value.to_text()?;
            Some(pattern.matches(&text) != *negated)
        }
        Condition::IsNull { operand, negated } => {
            let null = operand_value(operand, row).is_none_or(|value| value.is_null());
            Some(null != *negated)
        }
        Condition::IsA { operand, class } => is_a(operand, class, row),
    }
}

/// AND over three values: false wins over unknown, unknown over true.
fn all(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(true);
    for part in parts {
        match part {
            Some(false) => return Some(false),
            None => result = None,
            Some(true) => {}
        }
    }
    result
}

fn is_a(operand: &PropertyPath, class: &Name, row: &dyn Row) -> Option<bool> {
    let itself = operand
        .plain()
        .is_some_and(|name| name.is("__this") || name.is("__class"));
    if itself {
        return Some(row.derives(row.class(), class));
    }
    let value = property_value(operand, row)?;
    match value.as_ref() {
        Value::Instance(instance) => Some(row.derives(&instance.class, class)),
        Value::Class(embedded) => Some(row.derives(&embedded.name, class)),
        _ => None,
    }
}

fn operand_value<'a>(operand: &'a Operand, row: &'a dyn Row) -> Option<Cow<'a, Value>> {
    match operand {
        Operand::Property(path) => property_value(path, row),
        Operand::Literal(literal) => Some(Cow::Owned(literal.to_value())),
    }
}

fn property_value<'a>(path: &PropertyPath, row: &'a dyn Row) -> Option<Cow<'a, Value>> {
    let (first, inner) = path.segments.split_first()?;
    let mut value = row.value(first.as_str())?;
    for segment in inner {
        let Value::Instance(instance) = value.as_ref() else {
            return None;
        };
        let next = match instance.get(segment.as_str()) {
            Some(next) => next.clone(),
            None if segment.is("__CLASS") => Value::from(instance.class.as_str()),
            None if segment.is("__PATH") => instance.path.as_ref()?.to_string().into(),
            None if segment.is("__RELPATH") => instance.path.as_ref()?.relpath().into(),
            None => return None,
        };
        value = Cow::Owned(next);
    }
    match path.index {
        None => Some(value),
        Some(index) => value.as_array()?.get(index).cloned().map(Cow::Owned),
    }
}

/// A value of a property as the other side of a comparison.
fn as_literal(value: &Value) -> Option<Literal> {
    Some(match value {
        Value::Boolean(value) => Literal::Boolean(*value),
        Value::Real32(_) | Value::Real64(_) => Literal::Real(value.as_f64()?),
        other => match other.as_integer() {
            Some(n) => Literal::Integer(n),
            None => Literal::Text(Text::from(other.to_text()?.as_str())),
        },
    })
}

fn compare(left: &Operand, operator: Operator, right: &Operand, row: &dyn Row) -> Option<bool> {
    let (property, operator, other) = match (left, right) {
        (Operand::Literal(_), Operand::Property(_)) => (right, mirrored(operator), left),
        _ => (left, operator, right),
    };
    let value = operand_value(property, row)?;
    let literal = match other {
        Operand::Literal(literal) => Cow::Borrowed(literal),
        Operand::Property(path) => {
            let value = property_value(path, row)?;
            Cow::Owned(as_literal(&value)?)
        }
    };
    let is_path = matches!(property, Operand::Property(path)
        if path.plain().is_some_and(|name| name.is("__PATH") || name.is("__RELPATH")));
    match operator {
        Operator::Equal => equal(&value, &literal, is_path),
        Operator::NotEqual => equal(&value, &literal, is_path).map(|it| !it),
        Operator::Less => order(&value, &literal).map(Ordering::is_lt),
        Operator::LessOrEqual => order(&value, &literal).map(Ordering::is_le),
        Operator::Greater => order(&value, &literal).map(Ordering::is_gt),
        Operator::GreaterOrEqual => order(&value, &literal).map(Ordering::is_ge),
    }
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        same => same,
    }
}

fn equal(value: &Value, literal: &Literal, is_path: bool) -> Option<bool> {
    match (value, literal) {
        (Value::Reference(path), Literal::Text(text)) => Some(names(text, path)),
        (Value::String(value), Literal::Text(text)) => Some(
            text.readings().any(|reading| same_text(value, reading))
                || ((is_path || looks_like_path(value))
                    && !text.paths().is_empty()
                    && ObjectPath::parse(value).is_ok_and(|path| names(text, &path))),
        ),
        _ => order(value, literal).map(Ordering::is_eq),
    }
}

fn names(text: &Text, path: &ObjectPath) -> bool {
    text.paths()
        .iter()
        .any(|literal| literal.names_same_object(path))
}

/// A string property that holds a full object path, such as a RASD's `Parent`.
fn looks_like_path(text: &str) -> bool {
    (text.starts_with("\\\\") || text.starts_with("//")) && text.contains(':')
}

fn order(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Null | Value::Array(_) | Value::Instance(_) | Value::Class(_), _) => None,
        (Value::Boolean(value), literal) => Some(value.cmp(&truth(literal)?)),
        (Value::DateTime(value), Literal::Text(text)) => match text.unescaped().trim().parse() {
            Ok(other) => value.compare(&other),
            Err(_) => Some(order_text(&DateTime::to_string(value), text.unescaped())),
        },
        (Value::String(value), Literal::Text(text)) => Some(order_text(value, text.unescaped())),
        (Value::String(value), Literal::Boolean(other)) => Some(parse_boolean(value)?.cmp(other)),
        (Value::String(value), number) => order_numbers(read_number(value)?, as_number(number)?),
        (Value::Char16(_) | Value::Reference(_), Literal::Text(text)) => {
            Some(order_text(&value.to_text()?, text.unescaped()))
        }
        (value, literal) => {
            let number = match value.as_integer() {
                Some(n) => Number::Integer(n),
                None => Number::Real(value.as_f64()?),
            };
            order_numbers(number, as_number(literal)?)
        }
    }
}

/// A constant where a boolean is compared: WMI takes words and numbers, quoted or not.
fn truth(literal: &Literal) -> Option<bool> {
    match literal {
        Literal::Boolean(value) => Some(*value),
        Literal::Integer(n) => Some(*n != 0),
        Literal::Real(_) => None,
        Literal::Text(text) => {
            let text = text.unescaped().trim();
            parse_boolean(text).or_else(|| parse_integer(text).map(|n| n != 0))
        }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Real(f64),
}

fn read_number(text: &str) -> Option<Number> {
    let text = text.trim();
    match parse_integer(text) {
        Some(n) => Some(Number::Integer(n)),
        None => parse_real(text).map(Number::Real),
    }
}

fn as_number(literal: &Literal) -> Option<Number> {
    match literal {
        Literal::Integer(n) => Some(Number::Integer(*n)),
        Literal::Real(real) => Some(Number::Real(*real)),
        Literal::Boolean(value) => Some(Number::Integer(i128::from(*value))),
        Literal::Text(text) => read_number(text.unescaped()),
    }
}

fn order_numbers(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => Some(a.cmp(&b)),
        (Number::Integer(a), Number::Real(b)) => (a as f64).partial_cmp(&b),
        (Number::Real(a), Number::Integer(b)) => a.partial_cmp(&(b as f64)),
        (Number::Real(a), Number::Real(b)) => a.partial_cmp(&b),
    }
}

fn same_text(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && order_text(a, b).is_eq())
}

fn order_text(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        let lower = |byte: u8| byte.to_ascii_lowercase();
        return a.bytes().map(lower).cmp(b.bytes().map(lower));
    }
    let lower = |c: char| c.to_lowercase();
    a.chars().flat_map(lower).cmp(b.chars().flat_map(lower))
}

pub(super) fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}
