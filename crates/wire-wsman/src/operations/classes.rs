//! GetClass: Get at the address of CIM-XML's classes ([MS-WSMV] 3.1.4.1.34), which is how CIM cmdlets
//! learn of types. The answer is a class as CIM-XML writes it (DSP0201), in no namespace.
//!
//! Not here: lists of classes; who wants those asks over CIM-XML.

use super::Call;
use crate::reference::SelectorValue;
use crate::resource::split_namespace;
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::uri;
use cim::{Name, Namespace};
use cim_broker::ClassOptions;

/// The selector that names the class where the address does not.
const CLASS_SELECTOR: &str = "ClassName";

/// Whether a request is about classes and not about instances.
pub(super) fn is_meant(call: &Call) -> bool {
    let address = call.request.resource_uri.as_deref().unwrap_or_default();
    class_in(address).is_some()
}

/// What follows the start that all these addresses have: `*` or the name of a class.
fn class_in(address: &str) -> Option<&str> {
    let address = address.trim();
    let start = address.get(..uri::CIM_XML_SCHEMA.len())?;
    start
        .eq_ignore_ascii_case(uri::CIM_XML_SCHEMA)
        .then_some(&address[start.len()..])
}

pub(super) fn get(call: &Call) -> Result<Reply, Fault> {
    let target = call.request.target()?;
    let (namespace, selectors) = split_namespace(&target.selectors)?;
    let mut class = class_in(&target.uri).filter(|name| *name != "*");
    for selector in &selectors {
        match &selector.value {
            SelectorValue::Text(name) if selector.name.eq_ignore_ascii_case(CLASS_SELECTOR) => {
                class = Some(name.trim());
            }
            _ => {
                let reason = format!("Classes have no selector {}.", selector.name);
                return Err(Fault::selectors("UnexpectedSelectors", reason));
            }
        }
    }
    let Some(class) = class.filter(|name| !name.is_empty()) else {
        let reason = format!("The selector {CLASS_SELECTOR}, which names the class, is missing.");
        return Err(Fault::selectors("InsufficientSelectors", reason));
    };
    let namespace = namespace.unwrap_or_else(|| Namespace::new("root/cimv2"));
    let (name, broker) = (Name::new(class), call.broker());
    let class_origin = call.chosen("IncludeClassOrigin", false);
    let options = ClassOptions {
        local_only: !call.chosen("IncludeInheritedElements", true),
        include_qualifiers: call.chosen("IncludeQualifiers", true),
        include_class_origin: class_origin,
        property_list: None,
    };
    let class = broker.get_class(&call.context, &namespace, &name, &options)?;
    let derivation = call.chosen("IncludeInheritanceHierarchy", false).then(|| {
        let mut above = Vec::new();
        let mut next = class.superclass.clone();
        let schema = broker.schema(&namespace).ok();
        while let (Some(name), Some(schema)) = (next, schema) {
            next = schema.class(&name).and_then(|it| it.superclass.clone());
            above.push(name);
        }
        above
    });
    let text = cim_xml::embedded::write_class(&class, derivation.as_deref(), class_origin);
    Ok(Reply::with_body(text))
}

impl Call {
    /// What an option says that is true or false.
    fn chosen(&self, name: &str, usual: bool) -> bool {
        let mut options = self.request.options.iter();
        let given = options.find(|it| it.name.eq_ignore_ascii_case(name));
        given.map_or(usual, |it| !it.value.trim().eq_ignore_ascii_case("false"))
    }
}
