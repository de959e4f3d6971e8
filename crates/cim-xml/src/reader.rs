//! The XML layer of reading: bytes to tags and text, within [`Limits`].
//!
//! A reader goes through the document once, from front to back, and holds no more of it than the
//! element at hand. [`Reader::child`] gives the next child of the open element; each child must be
//! read to its end (with `child`, [`Reader::text`], [`Reader::end`] or [`Reader::skip`]) before the
//! next is asked for. Refused here: what is not XML 1.0 in UTF-8, entities other than the five
//! predefined ones, a DTD's internal subset, and documents beyond the limits. Comments, processing
//! instructions and a DOCTYPE are passed over.

use crate::element::{Attribute, Element};
use crate::{ErrorKind, Limits, XmlError};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// The start of an element.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Which element; `None` for one that the DTD does not know.
    pub element: Option<Element>,
    attributes: Vec<(Attribute, String)>,
    position: usize,
}

impl Tag {
    /// The value of an attribute.
    pub fn attribute(&self, attribute: Attribute) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(name, _)| *name == attribute)
            .map(|(_, value)| value.as_str())
    }

    /// The value of an attribute that the DTD requires.
    pub fn required(&self, attribute: Attribute) -> Result<&str, XmlError> {
        self.attribute(attribute)
            .ok_or_else(|| self.invalid(format!("{} needs {}", self.name(), attribute.name())))
    }

    /// A boolean attribute; absent means `default`.
    pub fn flag(&self, attribute: Attribute, default: bool) -> Result<bool, XmlError> {
        match self.attribute(attribute) {
            None => Ok(default),
            Some(text) => cim::convert::parse_boolean(text.trim())
                .ok_or_else(|| self.invalid(format!("{} must be true or false", attribute.name()))),
        }
    }

    /// The element's name, for messages.
    pub fn name(&self) -> &'static str {
        self.element.map_or("an unknown element", Element::name)
    }

    /// An error at this element: the document is not CIM-XML.
    pub fn invalid(&self, message: impl Into<String>) -> XmlError {
        XmlError::new(ErrorKind::NotLooselyValid, self.position, message)
    }
}

/// Goes through one document.
pub struct Reader<'a> {
    xml: quick_xml::Reader<&'a [u8]>,
    limits: Limits,
    depth: usize,
    elements: usize,
    root_seen: bool,
    anything_seen: bool,
}

impl<'a> Reader<'a> {
    /// A reader of `document`, which must be UTF-8 text of XML's characters.
    pub fn new(document: &'a [u8], limits: Limits) -> Result<Self, XmlError> {
        if document.len() > limits.bytes {
            let message = format!("the document is longer than {} bytes", limits.bytes);
            return Err(XmlError::new(ErrorKind::TooLarge, limits.bytes, message));
        }
        let text = std::str::from_utf8(document).map_err(|error| {
            XmlError::new(ErrorKind::NotWellFormed, error.valid_up_to(), "not UTF-8")
        })?;
        Self::from_text(text, limits)
    }

    /// A reader of `text`.
    pub fn from_text(text: &'a str, limits: Limits) -> Result<Self, XmlError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some((position, found)) = text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
            let message = format!("U+{:04X} is not a character of XML 1.0", u32::from(found));
            return Err(XmlError::new(ErrorKind::NotWellFormed, position, message));
        }
        let mut xml = quick_xml::Reader::from_str(text);
        xml.config_mut().expand_empty_elements = true;
        xml.config_mut().check_comments = true;
        Ok(Reader {
            xml,
            limits,
            depth: 0,
            elements: 0,
            root_seen: false,
            anything_seen: false,
        })
    }

    /// The limits this reader keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The root element.
    pub fn root(&mut self) -> Result<Tag, XmlError> {
        match self.next()? {
            Node::Start(tag) => Ok(tag),
            _ => Err(self.malformed("there is no element")),
        }
    }

    /// Checks that nothing follows the root element.
    pub fn finish(&mut self) -> Result<(), XmlError> {
        match self.next()? {
            Node::Eof => Ok(()),
            _ => Err(self.malformed("something follows the root element")),
        }
    }

    /// The next child that the DTD knows, or `None` at the end of the open element. Text other than
    /// blanks is refused.
    pub fn child(&mut self) -> Result<Option<Tag>, XmlError> {
        loop {
            match self.next()? {
                Node::Start(tag) if tag.element.is_none() => self.skip()?,
                Node::Start(tag) => return Ok(Some(tag)),
                Node::End => return Ok(None),
                Node::Text(text) if is_blank(&text) => {}
                Node::Text(_) => return Err(self.invalid("text stands where elements should")),
                Node::Eof => return Err(self.malformed("the document ends too early")),
            }
        }
    }

    /// The text of the open element, to its end. Elements inside it are refused.
    pub fn text(&mut self) -> Result<String, XmlError> {
        let mut all = String::new();
        loop {
            match self.next()? {
                Node::Text(text) => {
                    if all.len() + text.len() > self.limits.text {
                        return Err(self.too_large("a text is too long"));
                    }
                    if all.is_empty() {
                        all = text.into_owned();
                    } else {
                        all.push_str(&text);
                    }
                }
                Node::End => return Ok(all),
                Node::Start(tag) if tag.element.is_none() => self.skip()?,
                Node::Start(tag) => {
                    return Err(tag.invalid(format!("{} stands where text should", tag.name())));
                }
                Node::Eof => return Err(self.malformed("the document ends too early")),
            }
        }
    }

    /// Reads to the end of the open element, which must have no children.
    pub fn end(&mut self) -> Result<(), XmlError> {
        match self.child()? {
            None => Ok(()),
            Some(tag) => Err(misplaced(&tag)),
        }
    }

    /// Passes over the rest of the open element, whatever it holds.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            if let Node::Eof = self.next()? {
                return Err(self.malformed("the document ends too early"));
            }
        }
        Ok(())
    }

    /// Reads the rest of a document in which `error` was found: one that is not CIM-XML may turn
    /// out not to be XML either, and that is then what is wrong with it.
    pub fn judge(&mut self, error: XmlError) -> XmlError {
        if error.kind != ErrorKind::NotLooselyValid {
            return error;
        }
        loop {
            match self.next() {
                Ok(Node::Eof) => return error,
                Ok(_) => {}
                Err(worse) => return worse,
            }
        }
    }

    /// An error here: the document is not CIM-XML.
    pub fn invalid(&self, message: impl Into<String>) -> XmlError {
        XmlError::new(ErrorKind::NotLooselyValid, self.position(), message)
    }

    fn malformed(&self, message: impl Into<String>) -> XmlError {
        XmlError::new(ErrorKind::NotWellFormed, self.position(), message)
    }

    fn too_large(&self, message: impl Into<String>) -> XmlError {
        XmlError::new(ErrorKind::TooLarge, self.position(), message)
    }

    fn position(&self) -> usize {
        usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX)
    }

    fn next(&mut self) -> Result<Node<'a>, XmlError> {
        loop {
            let event = self.xml.read_event().map_err(|error| {
                let position = usize::try_from(self.xml.error_position()).unwrap_or(usize::MAX);
                XmlError::new(ErrorKind::NotWellFormed, position, error.to_string())
            })?;
            let first = !std::mem::replace(&mut self.anything_seen, true);
            match event {
                Event::Start(start) | Event::Empty(start) => return self.start(&start),
                Event::End(_) => {
                    // The parser has checked that this end belongs to the last start.
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Node::End);
                }
                Event::Text(text) => {
                    if text.contains("]]>") {
                        return Err(self.malformed("`]]>` stands in text"));
                    }
                    let text = text.xml10_content();
                    if self.depth > 0 {
                        return Ok(Node::Text(text));
                    }
                    if !is_blank(&text) {
                        return Err(self.malformed("text stands outside the root element"));
                    }
                }
                Event::CData(_) | Event::GeneralRef(_) if self.depth == 0 => {
                    return Err(self.malformed("text stands outside the root element"));
                }
                Event::CData(text) => return Ok(Node::Text(text.xml10_content())),
                Event::GeneralRef(reference) => return self.reference(&reference),
                Event::Decl(declaration) => {
                    if !first {
                        return Err(self.malformed("an XML declaration stands inside"));
                    }
                    if let Some(Ok(encoding)) = declaration.encoding()
                        && !["utf-8", "utf8", "us-ascii"]
                            .iter()
                            .any(|known| encoding.eq_ignore_ascii_case(known))
                    {
                        return Err(self.malformed("the encoding must be UTF-8"));
                    }
                }
                Event::DocType(text) => {
                    if self.root_seen {
                        return Err(self.malformed("a DOCTYPE follows the root element"));
                    }
                    if text.contains('[') {
                        return Err(self.malformed("a DTD inside the document is not accepted"));
                    }
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.depth > 0 => {
                    return Err(self.malformed("the document ends too early"));
                }
                Event::Eof => return Ok(Node::Eof),
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<Node<'a>, XmlError> {
        if self.depth == 0 && std::mem::replace(&mut self.root_seen, true) {
            return Err(self.malformed("there is a second root element"));
        }
        if self.depth >= self.limits.depth {
            let message = format!("elements are nested deeper than {}", self.limits.depth);
            return Err(self.too_large(message));
        }
        if self.elements >= self.limits.elements {
            let message = format!("there are more than {} elements", self.limits.elements);
            return Err(self.too_large(message));
        }
        self.depth += 1;
        self.elements += 1;
        let element = Element::from_name(start.name().as_ref());
        if element.is_none() && !is_xml_name(start.name().as_ref()) {
            return Err(self.malformed("an element has no name"));
        }
        let attributes = self.attributes(start)?;
        Ok(Node::Start(Tag {
            element,
            attributes,
            position: self.position(),
        }))
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Vec<(Attribute, String)>, XmlError> {
        if start.attributes_raw().contains('<') {
            return Err(self.malformed("`<` stands inside a tag"));
        }
        let mut known = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            if count >= self.limits.attributes {
                return Err(self.too_large("an element has too many attributes"));
            }
            let attribute = attribute.map_err(|error| self.malformed(error.to_string()))?;
            if attribute.value.len() > self.limits.text {
                return Err(self.too_large("an attribute is too long"));
            }
            let name = attribute.key.as_ref();
            if !is_xml_name(name) {
                return Err(self.malformed("an attribute has no name"));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.malformed(error.to_string()))?;
            if !value.chars().all(is_xml_char) {
                return Err(self.malformed("a reference to a character outside XML 1.0"));
            }
            if let Some(name) = Attribute::from_document(name) {
                known.push((name, value.into_owned()));
            }
        }
        Ok(known)
    }

    fn reference(&self, reference: &BytesRef<'_>) -> Result<Node<'a>, XmlError> {
        let predefined = match reference.as_ref() {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "apos" => "'",
            _ => "",
        };
        if !predefined.is_empty() {
            return Ok(Node::Text(predefined.into()));
        }
        match reference.resolve_char_ref() {
            Ok(Some(found)) if is_xml_char(found) => Ok(Node::Text(found.to_string().into())),
            Ok(None) => Err(self.malformed("entities are not accepted")),
            _ => Err(self.malformed("a reference to a character outside XML 1.0")),
        }
    }
}

enum Node<'a> {
    Start(Tag),
    End,
    Text(std::borrow::Cow<'a, str>),
    Eof,
}

/// An error for an element of the DTD that may not stand where it was found.
pub fn misplaced(tag: &Tag) -> XmlError {
    tag.invalid(format!("{} may not stand here", tag.name()))
}

pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn is_xml_name(name: &str) -> bool {
    let mut characters = name.chars();
    let starts = |c: char| c.is_alphabetic() || c == '_' || c == ':';
    characters.next().is_some_and(starts)
        && characters.all(|c| starts(c) || c.is_numeric() || matches!(c, '-' | '.' | '\u{b7}'))
}
