//! The grammar of queries.

use super::lexer::{self, Kind, Token};
use super::{
    AssociatorsOf, Condition, EventQuery, Literal, MAX_NESTING, Operand, Operator, Output, Pattern,
    Projection, PropertyPath, Query, QueryError, ReferencesOf, Select,
};
use crate::convert::{excerpt, parse_integer, parse_real};
use crate::{Name, ObjectPath};

pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    let mut parser = Parser::new(text)?;
    let query = if parser.keyword("SELECT") {
        Query::Select(parser.select()?)
    } else if parser.keyword("ASSOCIATORS") {
        Query::Associators(parser.associators()?)
    } else if parser.keyword("REFERENCES") {
        Query::References(parser.references()?)
    } else {
        return Err(parser.expected("SELECT, ASSOCIATORS OF or REFERENCES OF"));
    };
    parser.end()?;
    Ok(query)
}

pub(super) fn parse_event(text: &str) -> Result<EventQuery, QueryError> {
    let mut parser = Parser::new(text)?;
    if !parser.keyword("SELECT") {
        return Err(parser.expected("SELECT"));
    }
    let (projection, class) = parser.select_from()?;
    let within = if parser.keyword("WITHIN") {
        Some(parser.seconds()?)
    } else {
        None
    };
    let select = parser.select_where(projection, class)?;
    if parser.is_keyword(0, "GROUP") || parser.is_keyword(0, "HAVING") {
        return Err(QueryError::Group);
    }
    parser.end()?;
    Ok(EventQuery { select, within })
}

pub(super) fn parse_condition(text: &str) -> Result<Condition, QueryError> {
    let mut parser = Parser::new(text)?;
    let condition = parser.condition(0)?;
    parser.end()?;
    Ok(condition)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, QueryError> {
        Ok(Parser {
            text,
            tokens: lexer::tokens(text)?,
            next: 0,
        })
    }

    fn peek(&self) -> Option<&Kind<'a>> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        matches!(
            self.tokens.get(self.next + ahead),
            Some(Token { kind: Kind::Word(word), .. }) if word.eq_ignore_ascii_case(keyword)
        )
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(0, keyword);
        self.next += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Symbol(found)) if *found == symbol);
        self.next += usize::from(found);
        found
    }

    fn expected(&self, expected: &'static str) -> QueryError {
        let (at, found) = match self.tokens.get(self.next) {
            Some(token) => (
                token.at,
                format!("{:?}", excerpt(self.text.get(token.at..).unwrap_or(""))),
            ),
            None => (self.text.len(), "the end".to_owned()),
        };
        QueryError::Expected {
            expected,
            at: lexer::character(self.text, at),
            found,
        }
    }

    fn end(&self) -> Result<(), QueryError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end of the query")),
        }
    }

    fn name(&mut self, expected: &'static str) -> Result<Name, QueryError> {
        match self.peek() {
            Some(Kind::Word(word)) if !word.starts_with(|c: char| c.is_ascii_digit()) => {
                let name = Name::new(word);
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn select(&mut self) -> Result<Select, QueryError> {
        let (projection, class) = self.select_from()?;
        let event = class.as_str().to_ascii_lowercase();
        let event = event.starts_with("__") && event.ends_with("event");
        if event || self.is_keyword(0, "WITHIN") || self.is_keyword(0, "GROUP") {
            return Err(QueryError::Event(class));
        }
        self.select_where(projection, class)
    }

    fn select_from(&mut self) -> Result<(Projection, Name), QueryError> {
        let projection = self.projection()?;
        if !self.keyword("FROM") {
            return Err(self.expected("FROM"));
        }
        Ok((projection, self.name("a class name")?))
    }

    /// The number after WITHIN.
    fn seconds(&mut self) -> Result<f64, QueryError> {
        let expected = "a number of seconds above 0";
        let Some(Kind::Number(number)) = self.peek() else {
            return Err(self.expected(expected));
        };
        let seconds = parse_real(number).filter(|seconds| *seconds > 0.0 && seconds.is_finite());
        let seconds = seconds.ok_or_else(|| self.expected(expected))?;
        self.next += 1;
        Ok(seconds)
    }

    fn select_where(
        &mut self,
        mut projection: Projection,
        class: Name,
    ) -> Result<Select, QueryError> {
        let mut filter = if self.keyword("WHERE") {
            Some(self.condition(0)?)
        } else {
            None
        };
        if let Projection::Properties(paths) = &mut projection {
            for path in paths {
                drop_qualifier(path, &class);
            }
        }
        if let Some(condition) = &mut filter {
            drop_qualifiers(condition, &class);
        }
        Ok(Select {
            projection,
            class,
            filter,
        })
    }

    fn projection(&mut self) -> Result<Projection, QueryError> {
        if self.symbol("*") {
            return Ok(Projection::All);
        }
        let mut paths = vec![self.property_path("* or a property name")?];
        while self.symbol(",") {
            paths.push(self.property_path("a property name")?);
        }
        Ok(Projection::Properties(paths))
    }

    fn property_path(&mut self, expected: &'static str) -> Result<PropertyPath, QueryError> {
        let mut segments = vec![self.name(expected)?];
        while self.symbol(".") {
            segments.push(self.name("a property name after the dot")?);
        }
        let index = if self.symbol("[") {
            let expected = "an array index";
            let Some(Kind::Number(number)) = self.peek() else {
                return Err(self.expected(expected));
            };
            let index = parse_integer(number).and_then(|n| usize::try_from(n).ok());
            let index = index.ok_or_else(|| self.expected(expected))?;
            self.next += 1;
            if !self.symbol("]") {
                return Err(self.expected("]"));
            }
            Some(index)
        } else {
            None
        };
        Ok(PropertyPath { segments, index })
    }

    fn condition(&mut self, depth: usize) -> Result<Condition, QueryError> {
        let mut parts = vec![self.conjunction(depth)?];
        while self.keyword("OR") {
            parts.push(self.conjunction(depth)?);
        }
        Ok(only_or(parts, Condition::Or))
    }

    fn conjunction(&mut self, depth: usize) -> Result<Condition, QueryError> {
        let mut parts = vec![self.negation(depth)?];
        while self.keyword("AND") {
            parts.push(self.negation(depth)?);
        }
        Ok(only_or(parts, Condition::And))
    }

    fn negation(&mut self, depth: usize) -> Result<Condition, QueryError> {
        if depth > MAX_NESTING {
            return Err(QueryError::TooDeep);
        }
        if self.keyword("NOT") {
            return Ok(Condition::Not(Box::new(self.negation(depth + 1)?)));
        }
        if self.symbol("(") {
            let inner = self.condition(depth + 1)?;
            if !self.symbol(")") {
                return Err(self.expected(") or another condition"));
            }
            return Ok(inner);
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Condition, QueryError> {
        let Some(left) = self.operand()? else {
            // NULL on the left: only the mirror image of IS NULL makes sense.
            let negated = self.null_operator()?;
            return match self.operand()? {
                Some(operand) => Ok(Condition::IsNull { operand, negated }),
                None => Err(self.expected("a property to compare with NULL")),
            };
        };
        if self.keyword("LIKE") {
            return self.like(left, false);
        }
        if self.is_keyword(0, "NOT") && self.is_keyword(1, "LIKE") {
            self.next += 2;
            return self.like(left, true);
        }
        if self.keyword("IS") {
            let negated = self.keyword("NOT");
            return if self.keyword("NULL") {
                Ok(Condition::IsNull {
                    operand: left,
                    negated,
                })
            } else {
                Err(self.expected("NULL after IS"))
            };
        }
        if self.is_keyword(0, "ISA") {
            let Operand::Property(operand) = left else {
                return Err(self.expected("a comparison operator"));
            };
            self.next += 1;
            let class = self.quotable_name("a class name")?;
            return Ok(Condition::IsA { operand, class });
        }
        let before = self.next;
        let operator = self.operator()?;
        match self.operand()? {
            Some(right) => Ok(Condition::Compare {
                left,
                operator,
                right,
            }),
            None => {
                self.next = before;
                let negated = self.null_operator()?;
                self.next += 1;
                Ok(Condition::IsNull {
                    operand: left,
                    negated,
                })
            }
        }
    }

    fn like(&mut self, operand: Operand, negated: bool) -> Result<Condition, QueryError> {
        let Some(Kind::Text(text)) = self.peek() else {
            return Err(self.expected("a pattern in quotes"));
        };
        let pattern = Pattern::new(text);
        self.next += 1;
        Ok(Condition::Like {
            operand,
            pattern,
            negated,
        })
    }

    fn operator(&mut self) -> Result<Operator, QueryError> {
        let operator = match self.peek() {
            Some(Kind::Symbol("=")) => Operator::Equal,
            Some(Kind::Symbol("<>" | "!=")) => Operator::NotEqual,
            Some(Kind::Symbol("<")) => Operator::Less,
            Some(Kind::Symbol("<=")) => Operator::LessOrEqual,
            Some(Kind::Symbol(">")) => Operator::Greater,
            Some(Kind::Symbol(">=")) => Operator::GreaterOrEqual,
            _ => return Err(self.expected("a comparison operator")),
        };
        self.next += 1;
        Ok(operator)
    }

    /// The operator of a comparison with NULL: whether it is `<>` rather than `=`.
    fn null_operator(&mut self) -> Result<bool, QueryError> {
        let start = self.next;
        match self.operator()? {
            Operator::Equal => Ok(false),
            Operator::NotEqual => Ok(true),
            _ => {
                self.next = start;
                Err(self.expected("= or <> with NULL"))
            }
        }
    }

    /// `None` for NULL, which is consumed only on the left side of a comparison.
    fn operand(&mut self) -> Result<Option<Operand>, QueryError> {
        let literal = match self.peek() {
            Some(Kind::Text(text)) => Literal::Text(text.clone()),
            Some(Kind::Number(number)) => match number_literal(number) {
                Some(literal) => literal,
                None => return Err(self.expected("a number")),
            },
            Some(Kind::Word(word)) if word.eq_ignore_ascii_case("NULL") => {
                self.next += 1;
                return Ok(None);
            }
            Some(Kind::Word(word)) if word.eq_ignore_ascii_case("TRUE") => Literal::Boolean(true),
            Some(Kind::Word(word)) if word.eq_ignore_ascii_case("FALSE") => Literal::Boolean(false),
            _ => {
                let path = self.property_path("a property name or a constant")?;
                return Ok(Some(Operand::Property(path)));
            }
        };
        self.next += 1;
        Ok(Some(Operand::Literal(literal)))
    }

    /// A name that some clients put into quotes, perhaps with blanks around it.
    fn quotable_name(&mut self, expected: &'static str) -> Result<Name, QueryError> {
        if let Some(Kind::Text(text)) = self.peek() {
            let name = text.unescaped().trim();
            let plausible =
                !name.is_empty() && name.chars().all(|c| c == '_' || c.is_alphanumeric());
            if !plausible {
                return Err(self.expected(expected));
            }
            let name = Name::new(name);
            self.next += 1;
            return Ok(name);
        }
        self.name(expected)
    }

    fn object(&mut self) -> Result<ObjectPath, QueryError> {
        if !self.keyword("OF") {
            return Err(self.expected("OF"));
        }
        let Some(Kind::Braced(text)) = self.peek() else {
            return Err(self.expected("an object path in braces"));
        };
        let object = ObjectPath::parse(text)?;
        self.next += 1;
        Ok(object)
    }

    fn associators(&mut self) -> Result<AssociatorsOf, QueryError> {
        let mut query = AssociatorsOf {
            object: self.object()?,
            assoc_class: None,
            result_class: None,
            role: None,
            result_role: None,
            required_qualifier: None,
            required_assoc_qualifier: None,
            output: Output::default(),
        };
        query.output = self.clauses(&mut [
            ("AssocClass", &mut query.assoc_class),
            ("ResultClass", &mut query.result_class),
            ("Role", &mut query.role),
            ("ResultRole", &mut query.result_role),
            ("RequiredQualifier", &mut query.required_qualifier),
            (
                "RequiredAssocQualifier",
                &mut query.required_assoc_qualifier,
            ),
        ])?;
        Ok(query)
    }

    fn references(&mut self) -> Result<ReferencesOf, QueryError> {
        let mut query = ReferencesOf {
            object: self.object()?,
            result_class: None,
            role: None,
            required_qualifier: None,
            output: Output::default(),
        };
        query.output = self.clauses(&mut [
            ("ResultClass", &mut query.result_class),
            ("Role", &mut query.role),
            ("RequiredQualifier", &mut query.required_qualifier),
        ])?;
        Ok(query)
    }

    /// `WHERE Keyword = Name Keyword = Name Flag ...`, without separators, each at most once.
    fn clauses(&mut self, fields: &mut [(&str, &mut Option<Name>)]) -> Result<Output, QueryError> {
        let mut output = Output::default();
        if !self.keyword("WHERE") {
            return Ok(output);
        }
        if self.peek().is_none() {
            return Err(self.expected("a restriction such as ResultClass = Name"));
        }
        while let Some(kind) = self.peek() {
            let Kind::Word(word) = kind else {
                return Err(self.expected("a restriction such as ResultClass = Name"));
            };
            let keyword = word.to_ascii_lowercase();
            let flag = match keyword.as_str() {
                "classdefsonly" => Some(&mut output.class_definitions_only),
                "keysonly" => Some(&mut output.keys_only),
                "schemaonly" => Some(&mut output.schema_only),
                _ => None,
            };
            if let Some(flag) = flag {
                *flag = true;
                self.next += 1;
                continue;
            }
            let field = fields
                .iter_mut()
                .find(|(name, _)| name.eq_ignore_ascii_case(&keyword));
            let Some((_, place)) = field else {
                return Err(self.expected("a restriction such as ResultClass = Name"));
            };
            if place.is_some() {
                return Err(self.expected("each restriction once"));
            }
            self.next += 1;
            if !self.symbol("=") {
                return Err(self.expected("="));
            }
            **place = Some(self.quotable_name("a name")?);
        }
        Ok(output)
    }
}

fn only_or(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn number_literal(text: &str) -> Option<Literal> {
    match parse_integer(text) {
        Some(n) if i64::try_from(n).is_ok() || u64::try_from(n).is_ok() => {
            Some(Literal::Integer(n))
        }
        Some(_) => None,
        None => parse_real(text)
            .filter(|real| real.is_finite())
            .map(Literal::Real),
    }
}

/// `Class.Property` means `Property` when `Class` is what is queried.
fn drop_qualifier(path: &mut PropertyPath, class: &Name) {
    if path.segments.len() > 1 && path.segments.first() == Some(class) {
        path.segments.remove(0);
    }
}

fn drop_qualifiers(condition: &mut Condition, class: &Name) {
    let operand = |operand: &mut Operand| {
        if let Operand::Property(path) = operand {
            drop_qualifier(path, class);
        }
    };
    match condition {
        Condition::And(parts) | Condition::Or(parts) => {
            for part in parts {
                drop_qualifiers(part, class);
            }
        }
        Condition::Not(inner) => drop_qualifiers(inner, class),
        Condition::Compare { left, right, .. } => {
            operand(left);
            operand(right);
        }
        Condition::Like { operand: side, .. } | Condition::IsNull { operand: side, .. } => {
            operand(side);
        }
        Condition::IsA { operand: path, .. } => drop_qualifier(path, class),
    }
}
