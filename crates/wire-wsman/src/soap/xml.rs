//! A document as a tree of elements whose names carry their namespaces, within [`Limits`].
//!
//! Refused: what is not XML 1.0, entities other than the five predefined ones, a DOCTYPE (SOAP 1.2
//! part 1, section 5), prefixes that are not bound, and documents beyond the limits. Comments and
//! processing instructions are passed over. UTF-16 with a byte order mark is taken (MS-WSMV 2.2.1).

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use std::borrow::Cow;
use std::sync::Arc;

/// How much a document may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the document.
    pub bytes: usize,
    /// Elements inside elements.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Namespace declarations that are in force at one place.
    pub declarations: usize,
    /// Elements of the document.
    pub elements: usize,
    /// Bytes of one attribute.
    pub attribute: usize,
}

impl Limits {
    /// For requests of clients.
    pub const REQUEST: Limits = Limits {
        bytes: 8 << 20,
        depth: 64,
        attributes: 64,
        declarations: 256,
        elements: 100_000,
        attribute: 64 << 10,
    };
}

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not XML, or XML with something that is not taken.
    #[error("at byte {position}: {message}")]
    Malformed {
        /// How many bytes into the document.
        position: usize,
        /// What is wrong there.
        message: String,
    },
    /// Beyond the limits.
    #[error("{0}")]
    TooLarge(String),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its namespace; empty without a prefix.
    pub namespace: Arc<str>,
    /// Its name without a prefix.
    pub local: String,
    /// Its value.
    pub value: String,
}

/// An element with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its namespace; empty when it is in none.
    pub namespace: Arc<str>,
    /// Its name without a prefix.
    pub local: String,
    /// Its attributes, declarations of namespaces left out.
    pub attributes: Vec<Attribute>,
    /// The elements in it.
    pub children: Vec<Element>,
    /// The text directly in it, put together.
    pub text: String,
}

impl Element {
    /// Whether it is called so.
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        &*self.namespace == namespace && self.local == local
    }

    /// The first child of this name.
    pub fn child(&self, namespace: &str, local: &str) -> Option<&Element> {
        self.children.iter().find(|it| it.is(namespace, local))
    }

    /// The first child of this name in any namespace.
    pub fn child_local(&self, local: &str) -> Option<&Element> {
        self.children.iter().find(|it| it.local == local)
    }

    /// The attribute of this name in any namespace: some clients bind well-known prefixes wrongly.
    pub fn attribute(&self, local: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|it| it.local == local)?;
        Some(&found.value)
    }

    /// The text, without blanks around it.
    pub fn trimmed(&self) -> &str {
        self.text.trim_matches([' ', '\t', '\r', '\n'])
    }

    /// Whether it says to be null.
    pub fn is_nil(&self) -> bool {
        let nil = |it: &Attribute| {
            it.local == "nil"
                && (&*it.namespace == super::uri::INSTANCE || &*it.namespace == super::uri::SCHEMA)
        };
        self.attributes
            .iter()
            .any(|it| nil(it) && matches!(it.value.trim(), "true" | "1"))
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The root element.
    pub root: Element,
    /// Prefixes that the root element binds.
    pub prefixes: Vec<(String, Arc<str>)>,
}

/// Reads a document.
pub fn parse(bytes: &[u8], limits: Limits) -> Result<Document, XmlError> {
    if bytes.len() > limits.bytes {
        let message = format!("The document is longer than {} bytes.", limits.bytes);
        return Err(XmlError::TooLarge(message));
    }
    let text = text_of(bytes)?;
    if let Some((position, found)) = text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
        let message = format!("U+{:04X} is not a character of XML 1.0", u32::from(found));
        return Err(XmlError::Malformed { position, message });
    }
    Reader::new(&text, limits).document()
}

/// The document as text: UTF-8, or UTF-16 with a byte order mark.
fn text_of(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let units = |order: fn([u8; 2]) -> u16, rest: &[u8]| {
        let pairs = rest.chunks_exact(2);
        let whole = pairs.remainder().is_empty();
        let units: Vec<u16> = pairs
            .filter_map(|pair| Some(order(pair.try_into().ok()?)))
            .collect();
        let text = String::from_utf16(&units).ok().filter(|_| whole);
        text.map(Cow::Owned).ok_or_else(|| XmlError::Malformed {
            position: 0,
            message: "not UTF-16".to_owned(),
        })
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => units(u16::from_be_bytes, rest),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|error| XmlError::Malformed {
                position: error.valid_up_to(),
                message: "not UTF-8".to_owned(),
            })?;
            Ok(Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)))
        }
    }
}

fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

struct Reader<'a> {
    xml: quick_xml::Reader<&'a [u8]>,
    limits: Limits,
    elements: usize,
    /// Prefixes in force, innermost last; how many each open element added is in `open`.
    declarations: Vec<(String, Arc<str>)>,
    open: Vec<(Element, usize)>,
    prefixes: Vec<(String, Arc<str>)>,
    root: Option<Element>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, limits: Limits) -> Self {
        let mut xml = quick_xml::Reader::from_str(text);
        xml.config_mut().expand_empty_elements = true;
        xml.config_mut().check_comments = true;
        Reader {
            xml,
            limits,
            elements: 0,
            declarations: Vec::new(),
            open: Vec::new(),
            prefixes: Vec::new(),
            root: None,
        }
    }

    fn document(mut self) -> Result<Document, XmlError> {
        let mut first = true;
        loop {
            let event = self.xml.read_event().map_err(|error| XmlError::Malformed {
                position: usize::try_from(self.xml.error_position()).unwrap_or(usize::MAX),
                message: error.to_string(),
            })?;
            match event {
                Event::Start(start) | Event::Empty(start) => self.start(&start)?,
                Event::End(_) => self.end(),
                Event::Text(text) => {
                    if text.contains("]]>") {
                        return Err(self.malformed("`]]>` stands in text"));
                    }
                    self.text(&text.xml10_content())?;
                }
                Event::CData(text) => self.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let text = self.reference(&reference)?;
                    self.text(&text)?;
                }
                Event::Decl(_) if !first => {
                    return Err(self.malformed("an XML declaration stands inside"));
                }
                Event::DocType(_) => return Err(self.malformed("a DOCTYPE is not accepted")),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
            first = false;
        }
        match (self.root.take(), self.open.is_empty()) {
            (Some(root), true) => Ok(Document {
                root,
                prefixes: self.prefixes,
            }),
            _ => Err(self.malformed("the document ends too early")),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.malformed("there is a second root element"));
        }
        if self.open.len() >= self.limits.depth {
            let message = format!("Elements are nested deeper than {}.", self.limits.depth);
            return Err(XmlError::TooLarge(message));
        }
        self.elements += 1;
        if self.elements > self.limits.elements {
            let message = format!("There are more than {} elements.", self.limits.elements);
            return Err(XmlError::TooLarge(message));
        }
        let before = self.declarations.len();
        let given = self.attributes(start)?;
        let added = self.declarations.len() - before;
        if self.open.is_empty() {
            self.prefixes = self.declarations.clone();
        }
        let name = start.name();
        let (namespace, local) = self.resolve(name.as_ref(), true)?;
        let mut attributes: Vec<Attribute> = Vec::with_capacity(given.len());
        for (name, value) in given {
            let (namespace, local) = self.resolve(&name, false)?;
            let twice = |it: &Attribute| it.local == local && it.namespace == namespace;
            if attributes.iter().any(twice) {
                return Err(self.malformed("an attribute is given twice"));
            }
            attributes.push(Attribute {
                namespace,
                local,
                value,
            });
        }
        let element = Element {
            namespace,
            local,
            attributes,
            children: Vec::new(),
            text: String::new(),
        };
        self.open.push((element, added));
        Ok(())
    }

    /// The attributes of an element; declarations among them come into force.
    fn attributes(&mut self, start: &BytesStart<'_>) -> Result<Vec<(String, String)>, XmlError> {
        if start.attributes_raw().contains('<') {
            return Err(self.malformed("`<` stands inside a tag"));
        }
        let mut given = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            if count >= self.limits.attributes {
                let message = "An element has too many attributes.".to_owned();
                return Err(XmlError::TooLarge(message));
            }
            let attribute = attribute.map_err(|error| self.malformed(error.to_string()))?;
            if attribute.value.len() > self.limits.attribute {
                return Err(XmlError::TooLarge("An attribute is too long.".to_owned()));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.malformed(error.to_string()))?;
            if !value.chars().all(is_xml_char) {
                return Err(self.malformed("a reference to a character outside XML 1.0"));
            }
            let name: &str = attribute.key.as_ref();
            let declared = match name.strip_prefix("xmlns") {
                Some("") => Some(""),
                Some(rest) => rest.strip_prefix(':'),
                None => None,
            };
            let Some(prefix) = declared else {
                given.push((name.to_owned(), value.into_owned()));
                continue;
            };
            if self.declarations.len() >= self.limits.declarations {
                let message = "There are too many namespace declarations.".to_owned();
                return Err(XmlError::TooLarge(message));
            }
            self.declarations
                .push((prefix.to_owned(), Arc::from(value.as_ref())));
        }
        Ok(given)
    }

    /// A name's namespace and local part.
    fn resolve(&self, name: &str, is_element: bool) -> Result<(Arc<str>, String), XmlError> {
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let plausible = |part: &str| {
            let mut characters = part.chars();
            characters
                .next()
                .is_some_and(|c| c.is_alphabetic() || c == '_')
                && characters
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{b7}'))
        };
        if !plausible(local) || !(prefix.is_empty() || plausible(prefix)) {
            return Err(self.malformed("a name is not one"));
        }
        if prefix == "xml" {
            let xml = "http://www.w3.org/XML/1998/namespace";
            return Ok((Arc::from(xml), local.to_owned()));
        }
        let found = self.declarations.iter().rev().find(|(it, _)| it == prefix);
        match found {
            Some((_, namespace)) if is_element || !prefix.is_empty() => {
                Ok((Arc::clone(namespace), local.to_owned()))
            }
            None if !prefix.is_empty() => {
                Err(self.malformed(format!("the prefix {prefix} is not bound")))
            }
            _ => Ok((Arc::from(""), local.to_owned())),
        }
    }

    fn end(&mut self) {
        // The parser has checked that this end belongs to the last start.
        let Some((element, added)) = self.open.pop() else {
            return;
        };
        let left = self.declarations.len().saturating_sub(added);
        self.declarations.truncate(left);
        match self.open.last_mut() {
            Some((parent, _)) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some((element, _)) => {
                element.text.push_str(text);
                Ok(())
            }
            None if text.trim().is_empty() => Ok(()),
            None => Err(self.malformed("text stands outside the root element")),
        }
    }

    fn reference(&self, reference: &BytesRef<'_>) -> Result<String, XmlError> {
        let predefined = match reference.as_ref() {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "apos" => "'",
            _ => "",
        };
        if !predefined.is_empty() {
            return Ok(predefined.to_owned());
        }
        match reference.resolve_char_ref() {
            Ok(Some(found)) if is_xml_char(found) => Ok(found.to_string()),
            Ok(None) => Err(self.malformed("entities are not accepted")),
            _ => Err(self.malformed("a reference to a character outside XML 1.0")),
        }
    }

    fn malformed(&self, message: impl Into<String>) -> XmlError {
        XmlError::Malformed {
            position: usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX),
            message: message.into(),
        }
    }
}
