//! The XML layer of writing: elements and escaped text, appended to one string.

use crate::element::{Attribute, Element};
use crate::reader::is_xml_char;

/// Writes one document, front to back.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: String,
}

/// Attributes of an element; those that are `None` are left out.
pub(crate) type Attributes<'a> = [(Attribute, Option<&'a str>)];

impl Writer {
    pub(crate) fn document() -> Self {
        Writer {
            out: String::from("<?xml version=\"1.0\" encoding=\"utf-8\" ?>"),
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// `<ELEMENT ...>`.
    pub(crate) fn open(&mut self, element: Element, attributes: &Attributes<'_>) {
        self.tag(element, attributes);
        self.out.push('>');
    }

    /// `<ELEMENT .../>`.
    pub(crate) fn empty(&mut self, element: Element, attributes: &Attributes<'_>) {
        self.tag(element, attributes);
        self.out.push_str("/>");
    }

    /// `</ELEMENT>`.
    pub(crate) fn close(&mut self, element: Element) {
        self.out.push_str("</");
        self.out.push_str(element.name());
        self.out.push('>');
    }

    /// `<ELEMENT>text</ELEMENT>`.
    pub(crate) fn leaf(&mut self, element: Element, text: &str) {
        self.open(element, &[]);
        self.text(text);
        self.close(element);
    }

    /// Escaped text. Characters that XML cannot hold become U+FFFD.
    pub(crate) fn text(&mut self, text: &str) {
        escape(&mut self.out, text, false);
    }

    fn tag(&mut self, element: Element, attributes: &Attributes<'_>) {
        self.out.push('<');
        self.out.push_str(element.name());
        for (attribute, value) in attributes {
            let Some(value) = value else { continue };
            self.out.push(' ');
            self.out.push_str(attribute.name());
            self.out.push_str("=\"");
            escape(&mut self.out, value, true);
            self.out.push('"');
        }
    }
}

/// Appends `text`, unchanged runs at a time. Inside an attribute, white space must be written as
/// references, or the reader of the document would see blanks.
fn escape(out: &mut String, text: &str, in_attribute: bool) {
    let mut run_start = 0;
    for (at, c) in text.char_indices() {
        let replacement = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' if in_attribute => "&quot;",
            '\r' => "&#13;",
            '\n' if in_attribute => "&#10;",
            '\t' if in_attribute => "&#9;",
            c if is_xml_char(c) => continue,
            _ => "\u{fffd}",
        };
        out.push_str(&text[run_start..at]);
        out.push_str(replacement);
        run_start = at + c.len_utf8();
    }
    out.push_str(&text[run_start..]);
}
