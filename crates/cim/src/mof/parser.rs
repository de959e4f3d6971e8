//! The grammar of MOF.

use super::ast::{
    Class, Element, Flavors, Instance, Item, Literal, LiteralKind, Method, Property, Qualifier,
    QualifierDecl, Text,
};
use super::lexer::{self, Kind, Token};
use super::{Fault, MAX_NESTING, MofErrorKind};
use crate::convert::excerpt;
use crate::{CimType, Name, Type};
use std::collections::HashSet;

pub(super) fn parse(text: &str) -> Result<Text, Fault> {
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text)?,
        next: 0,
        namespace: None,
    };
    let mut items = Vec::new();
    while parser.next < parser.tokens.len() {
        if parser.symbol('#') {
            parser.pragma()?;
        } else {
            items.push(parser.item()?);
        }
    }
    Ok(Text {
        namespace: parser.namespace,
        items,
    })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    namespace: Option<String>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Kind<'a>> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    /// Byte offset of the next token.
    fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.text.len(), |token| token.at)
    }

    fn word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self
            .word()
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Kind::Symbol(symbol));
        self.next += usize::from(found);
        found
    }

    fn require(&mut self, symbol: char, expected: &'static str) -> Result<(), Fault> {
        if self.symbol(symbol) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expected(&self, expected: &'static str) -> Fault {
        let at = self.at();
        let rest = self.text.get(at..).unwrap_or("");
        let found = match rest.lines().next() {
            Some(line) if self.next < self.tokens.len() => format!("{:?}", excerpt(line)),
            _ => "the end".to_owned(),
        };
        Fault::new(at, MofErrorKind::Expected { expected, found })
    }

    fn name(&mut self, expected: &'static str) -> Result<Name, Fault> {
        match self.word() {
            Some(word) => {
                self.next += 1;
                Ok(Name::new(word))
            }
            None => Err(self.expected(expected)),
        }
    }

    fn alias(&mut self) -> Result<Option<Name>, Fault> {
        if !self.keyword("as") {
            return Ok(None);
        }
        match self.peek() {
            Some(Kind::Alias(name)) => {
                let name = Name::new(name);
                self.next += 1;
                Ok(Some(name))
            }
            _ => Err(self.expected("an alias such as $Name")),
        }
    }

    /// `pragma name("value")`, the `#` being read. Unknown ones are no business of ours.
    fn pragma(&mut self) -> Result<(), Fault> {
        if !self.keyword("pragma") {
            return Err(self.expected("pragma after #"));
        }
        let at = self.at();
        let name = self.name("the name of a pragma")?;
        let refused = ["include", "deleteclass", "deleteinstance"];
        if refused.iter().any(|pragma| name.is(pragma)) {
            return Err(Fault::new(at, MofErrorKind::Pragma(name.to_string())));
        }
        self.require('(', "(")?;
        let value = match self.peek() {
            Some(Kind::Text(value)) => Some(value.clone()),
            Some(Kind::Integer(_) | Kind::Word(_)) => None,
            _ => return Err(self.expected("the value of a pragma")),
        };
        self.next += 1;
        while self.symbol(',') {
            self.next += 1;
        }
        self.require(')', ")")?;
        self.symbol(';');
        let (true, Some(value)) = (name.is("namespace"), value) else {
            return Ok(());
        };
        match &self.namespace {
            Some(first) if !first.eq_ignore_ascii_case(&value) => Err(Fault::new(
                at,
                MofErrorKind::Namespace {
                    first: first.clone(),
                    second: value,
                },
            )),
            _ => {
                self.namespace = Some(value);
                Ok(())
            }
        }
    }

    fn item(&mut self) -> Result<Item, Fault> {
        let qualifiers = self.qualifiers()?;
        let at = self.at();
        if self.keyword("class") {
            return self.class(at, qualifiers).map(Item::Class);
        }
        if self.keyword("instance") {
            let instance = self.instance(at, 0)?;
            // Clients leave out the last semicolon of a text.
            if !self.symbol(';') && self.next < self.tokens.len() {
                return Err(self.expected("; after an instance"));
            }
            return Ok(Item::Instance(instance));
        }
        if qualifiers.is_empty() && self.keyword("qualifier") {
            return self.qualifier_declaration(at).map(Item::Qualifier);
        }
        Err(self.expected("class, instance, qualifier or #pragma"))
    }

    fn qualifier_declaration(&mut self, at: usize) -> Result<QualifierDecl, Fault> {
        let name = self.name("the name of a qualifier")?;
        self.require(':', ": and the type of the qualifier")?;
        let kind = self
            .word()
            .and_then(CimType::from_name)
            .filter(|kind| !matches!(kind, CimType::Reference | CimType::Object))
            .ok_or_else(|| self.expected("the type of the qualifier"))?;
        self.next += 1;
        let array = self.brackets()?.is_some();
        let default = if self.symbol('=') {
            Some(self.literal(0)?)
        } else {
            None
        };
        let mut decl = QualifierDecl {
            at,
            name,
            ty: Type { kind, array },
            default,
            scopes: Vec::new(),
            flavors: Flavors::default(),
        };
        while self.symbol(',') {
            let scope = self.keyword("scope");
            if !scope && !self.keyword("flavor") {
                return Err(self.expected("Scope(...) or Flavor(...)"));
            }
            self.require('(', "(")?;
            loop {
                if scope {
                    decl.scopes.push(self.name("an element such as property")?);
                } else {
                    self.flavor(&mut decl.flavors)?;
                }
                if !self.symbol(',') {
                    break;
                }
            }
            self.require(')', ") or a comma")?;
        }
        self.require(';', "; after a qualifier declaration")?;
        Ok(decl)
    }

    fn flavor(&mut self, flavors: &mut Flavors) -> Result<(), Fault> {
        let expected = "a flavor such as ToSubclass";
        let Some(word) = self.word() else {
            return Err(self.expected(expected));
        };
        match word.to_ascii_lowercase().as_str() {
            "enableoverride" => flavors.overridable = Some(true),
            "disableoverride" => flavors.overridable = Some(false),
            "tosubclass" => flavors.to_subclass = Some(true),
            "restricted" | "nottosubclass" => flavors.to_subclass = Some(false),
            "translatable" => flavors.translatable = Some(true),
            // WMI's own, without meaning here.
            "toinstance" | "amended" => {}
            _ => return Err(self.expected(expected)),
        }
        self.next += 1;
        Ok(())
    }

    /// `[Name(value) : Flavor Flavor, Name{value, value}, Name]`, or nothing.
    fn qualifiers(&mut self) -> Result<Vec<Qualifier>, Fault> {
        let mut list = Vec::new();
        if !self.symbol('[') {
            return Ok(list);
        }
        loop {
            let at = self.at();
            let name = self.name("a qualifier")?;
            let value = if self.symbol('(') {
                let value = self.literal(0)?;
                self.require(')', ") after the value of a qualifier")?;
                Some(value)
            } else if self.peek() == Some(&Kind::Symbol('{')) {
                Some(self.literal(0)?)
            } else {
                None
            };
            let mut flavors = Flavors::default();
            if self.symbol(':') {
                self.flavor(&mut flavors)?;
                while self.word().is_some() {
                    self.flavor(&mut flavors)?;
                }
            }
            list.push(Qualifier {
                at,
                name,
                value,
                flavors,
            });
            if !self.symbol(',') {
                break;
            }
        }
        self.require(']', "] or a comma after a qualifier")?;
        Ok(list)
    }

    fn class(&mut self, at: usize, qualifiers: Vec<Qualifier>) -> Result<Class, Fault> {
        let name = self.name("the name of a class")?;
        self.alias()?;
        let superclass = if self.symbol(':') {
            Some(self.name("the name of the superclass")?)
        } else {
            None
        };
        let mut class = Class {
            at,
            name,
            superclass,
            qualifiers,
            properties: Vec::new(),
            methods: Vec::new(),
        };
        self.require('{', "{ or a superclass")?;
        while !self.symbol('}') {
            let element = self.element()?;
            if self.symbol('(') {
                class.methods.push(self.method(element)?);
            } else {
                let default = if self.symbol('=') {
                    Some(self.literal(0)?)
                } else {
                    None
                };
                class.properties.push(Property { element, default });
            }
            self.require(';', "; after a member of a class")?;
        }
        self.require(';', "; after a class")?;
        Ok(class)
    }

    /// Qualifiers, type, name and brackets.
    fn element(&mut self) -> Result<Element, Fault> {
        let qualifiers = self.qualifiers()?;
        let (kind, class_ref) = self.element_type()?;
        let at = self.at();
        let name = self.name("a name after the type")?;
        let brackets = self.brackets()?;
        Ok(Element {
            at,
            name,
            ty: Type {
                kind,
                array: brackets.is_some(),
            },
            class_ref,
            array_size: brackets.flatten(),
            qualifiers,
        })
    }

    /// An intrinsic type, `Class REF`, or a class: WMI's way to say that instances are embedded.
    fn element_type(&mut self) -> Result<(CimType, Option<Name>), Fault> {
        let name = self.name("a type")?;
        let intrinsic = CimType::from_name(name.as_str());
        if self.keyword("ref") {
            let class = intrinsic.is_none().then_some(name);
            return Ok((CimType::Reference, class));
        }
        match intrinsic {
            Some(CimType::Reference) => {
                self.next -= 1;
                Err(self.expected("the class that is referred to, before REF"))
            }
            Some(kind) => Ok((kind, None)),
            None if name.is("void") => {
                self.next -= 1;
                Err(self.expected("a type: methods have a return value"))
            }
            None => Ok((CimType::Object, Some(name))),
        }
    }

    /// `[]` or `[n]`: `Some` for an array, with its size inside when it has one.
    fn brackets(&mut self) -> Result<Option<Option<u32>>, Fault> {
        if !self.symbol('[') {
            return Ok(None);
        }
        let size = match self.peek() {
            Some(Kind::Integer(n)) => {
                let size = u32::try_from(*n).ok().filter(|size| *size > 0);
                let size = size.ok_or_else(|| self.expected("the size of an array"))?;
                self.next += 1;
                Some(size)
            }
            _ => None,
        };
        self.require(']', "]")?;
        Ok(Some(size))
    }

    /// Parameters and the closing bracket; the opening one is read.
    fn method(&mut self, element: Element) -> Result<Method, Fault> {
        if element.ty.array || matches!(element.ty.kind, CimType::Reference | CimType::Object) {
            return Err(Fault::new(
                element.at,
                MofErrorKind::Expected {
                    expected: "a method that returns a plain value",
                    found: format!("one that returns {}", element.ty),
                },
            ));
        }
        let mut parameters = Vec::new();
        if !self.symbol(')') {
            loop {
                parameters.push(self.element()?);
                if !self.symbol(',') {
                    break;
                }
            }
            self.require(')', ") or a comma after a parameter")?;
        }
        Ok(Method {
            at: element.at,
            name: element.name,
            return_type: element.ty,
            qualifiers: element.qualifiers,
            parameters,
        })
    }

    /// `of Class as $Alias { Name = value; ... }`; `instance` is read.
    fn instance(&mut self, at: usize, depth: usize) -> Result<Instance, Fault> {
        if depth > MAX_NESTING {
            return Err(Fault::new(at, MofErrorKind::TooDeep));
        }
        if !self.keyword("of") {
            return Err(self.expected("of after instance"));
        }
        let class = self.name("the name of a class")?;
        let alias = self.alias()?;
        self.require('{', "{")?;
        let mut properties: Vec<(Name, Literal)> = Vec::new();
        let mut seen = HashSet::new();
        while !self.symbol('}') {
            // WMI allows qualifiers here; instances have none.
            self.qualifiers()?;
            let at = self.at();
            let name = self.name("a property or }")?;
            if !seen.insert(name.clone()) {
                let member = format!("{class}.{name}");
                return Err(Fault::new(at, MofErrorKind::DuplicateMember(member)));
            }
            self.require('=', "=")?;
            properties.push((name, self.literal(depth)?));
            self.require(';', "; after a value")?;
        }
        Ok(Instance {
            at,
            class,
            alias,
            properties,
        })
    }

    /// A value, or an array of values.
    fn literal(&mut self, depth: usize) -> Result<Literal, Fault> {
        let at = self.at();
        if !self.symbol('{') {
            return self.scalar(depth);
        }
        let mut items = Vec::new();
        if !self.symbol('}') {
            loop {
                items.push(self.scalar(depth)?);
                if !self.symbol(',') {
                    break;
                }
            }
            self.require('}', "} or a comma after a value")?;
        }
        Ok(Literal {
            at,
            kind: LiteralKind::Array(items),
        })
    }

    fn scalar(&mut self, depth: usize) -> Result<Literal, Fault> {
        let at = self.at();
        let kind = match self.peek() {
            Some(Kind::Text(_)) => LiteralKind::Text(self.text_parts()),
            Some(Kind::Integer(n)) => LiteralKind::Integer(*n),
            Some(Kind::Real(real)) => LiteralKind::Real(*real),
            Some(Kind::Character(unit)) => LiteralKind::Character(*unit),
            Some(Kind::Alias(name)) => LiteralKind::Alias(Name::new(name)),
            Some(Kind::Word(word)) => match word.to_ascii_lowercase().as_str() {
                "null" => LiteralKind::Null,
                "true" => LiteralKind::Boolean(true),
                "false" => LiteralKind::Boolean(false),
                "instance" => {
                    self.next += 1;
                    let instance = self.instance(at, depth + 1)?;
                    let kind = LiteralKind::Instance(Box::new(instance));
                    return Ok(Literal { at, kind });
                }
                _ => return Err(self.expected("a value")),
            },
            _ => return Err(self.expected("a value")),
        };
        if !matches!(kind, LiteralKind::Text(_)) {
            self.next += 1;
        }
        Ok(Literal { at, kind })
    }

    /// Texts that follow each other are one.
    fn text_parts(&mut self) -> String {
        let mut joined = String::new();
        while let Some(Kind::Text(part)) = self.peek() {
            joined.push_str(part);
            self.next += 1;
        }
        joined
    }
}
