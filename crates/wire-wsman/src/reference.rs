//! Endpoint references as XML: what resource, and the selectors that name one instance of it.

use crate::soap::fault::Fault;
use crate::soap::uri;
use crate::soap::writer::Writer;
use crate::soap::xml::Element;

/// How many selectors a set may have.
const MOST_SELECTORS: usize = 64;

/// One selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SelectorValue,
}

/// A selector's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorValue {
    /// Text.
    Text(String),
    /// A key that is a reference.
    Reference(Box<EndpointReference>),
}

/// An endpoint reference. Its address means nothing: everything is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReference {
    /// `w:ResourceURI`.
    pub uri: String,
    /// `w:SelectorSet`.
    pub selectors: Vec<Selector>,
}

/// Reads a `w:SelectorSet`.
pub fn read_selectors(set: &Element) -> Result<Vec<Selector>, Fault> {
    let mut selectors: Vec<Selector> = Vec::new();
    for child in set.children.iter().filter(|it| it.local == "Selector") {
        let Some(name) = child.attribute("Name").map(str::trim) else {
            let reason = "A selector has no Name.";
            return Err(Fault::selectors("InvalidValue", reason));
        };
        if selectors
            .iter()
            .any(|it| it.name.eq_ignore_ascii_case(name))
        {
            let reason = format!("The selector {name} is given twice.");
            return Err(Fault::selectors("DuplicateSelectors", reason));
        }
        if selectors.len() >= MOST_SELECTORS {
            let reason = "There are too many selectors.";
            return Err(Fault::selectors("InvalidValue", reason));
        }
        let value = match child.child(uri::ADDRESSING, "EndpointReference") {
            Some(reference) => {
                let reference = read_reference(reference);
                let reference = reference.ok_or_else(|| {
                    let reason = format!("The selector {name} is not an endpoint reference.");
                    Fault::selectors("InvalidValue", reason)
                })?;
                SelectorValue::Reference(Box::new(reference?))
            }
            None => SelectorValue::Text(child.text.clone()),
        };
        selectors.push(Selector {
            name: name.to_owned(),
            value,
        });
    }
    Ok(selectors)
}

/// Reads the content of an endpoint reference: in `element` itself, or in one around it. `None` when
/// there is none.
pub fn read_reference(element: &Element) -> Option<Result<EndpointReference, Fault>> {
    let element = element
        .child(uri::ADDRESSING, "EndpointReference")
        .unwrap_or(element);
    let parameters = element.child(uri::ADDRESSING, "ReferenceParameters");
    let parameters = parameters.or(element.child(uri::ADDRESSING, "ReferenceProperties"))?;
    let resource = parameters.child(uri::WSMAN, "ResourceURI")?;
    let set = parameters.child(uri::WSMAN, "SelectorSet");
    let selectors = set.map_or(Ok(Vec::new()), read_selectors);
    Some(selectors.map(|selectors| EndpointReference {
        uri: resource.trimmed().to_owned(),
        selectors,
    }))
}

impl EndpointReference {
    /// Writes its content: address and reference parameters.
    pub fn write(&self, w: &mut Writer) {
        w.leaf("a:Address", uri::ANONYMOUS);
        w.open("a:ReferenceParameters");
        w.leaf("w:ResourceURI", &self.uri);
        w.open("w:SelectorSet");
        for selector in &self.selectors {
            w.open_with("w:Selector", &[("Name", &selector.name)]);
            match &selector.value {
                SelectorValue::Text(text) => {
                    w.text(text);
                }
                SelectorValue::Reference(reference) => {
                    w.open("a:EndpointReference");
                    reference.write(w);
                    w.close();
                }
            }
            w.close();
        }
        w.close().close();
    }
}
