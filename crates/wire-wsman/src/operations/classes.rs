//! Classes: Get and Enumerate at the address of CIM-XML's classes ([MS-WSMV] 3.1.4.1.34), which is how
//! CIM cmdlets learn of types and list them. Classes are as CIM-XML writes them (DSP0201), in no
//! namespace.
//!
//! Not here: how enumerations go on; see `enumeration`.

use super::Call;
use crate::reference::SelectorValue;
use crate::resource::split_namespace;
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::uri;
use cim::{Name, Namespace, ObjectPath};
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
    let (namespace, class) = named(call)?;
    let Some(class) = class else {
        let reason = format!("The selector {CLASS_SELECTOR}, which names the class, is missing.");
        return Err(Fault::selectors("InsufficientSelectors", reason));
    };
    let text = ClassForm::of(call).text(call, &namespace, &class)?;
    Ok(Reply::with_body(text))
}

/// The namespace that a request is about, and the class that it names, if any.
fn named(call: &Call) -> Result<(Namespace, Option<Name>), Fault> {
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
    let namespace = namespace.unwrap_or_else(|| Namespace::new("root/cimv2"));
    let class = class.filter(|name| !name.is_empty());
    Ok((namespace, class.map(Name::new)))
}

/// The classes that an enumeration is about, parents first: those that derive from the one that is
/// named, directly or, with `deep`, through others; without one, those that derive from none, or all.
pub(super) fn find(call: &Call, deep: bool) -> Result<(Namespace, Vec<ObjectPath>), Fault> {
    let (namespace, above) = named(call)?;
    let names_alone = ClassOptions {
        local_only: true,
        include_qualifiers: false,
        include_class_origin: false,
        property_list: Some(Vec::new()),
    };
    let found = call.broker().enumerate_classes(
        &call.context,
        &namespace,
        above.as_ref(),
        deep,
        &names_alone,
    )?;
    let paths = found.into_iter().map(|it| ObjectPath::of_class(it.name));
    Ok((namespace, paths.collect()))
}

/// What is told of a class.
#[derive(Clone, Copy, Debug)]
pub struct ClassForm {
    inherited: bool,
    qualifiers: bool,
    origin: bool,
    hierarchy: bool,
}

impl ClassForm {
    /// What a request's options ask for.
    pub(super) fn of(call: &Call) -> Self {
        ClassForm {
            inherited: call.chosen("IncludeInheritedElements", true),
            qualifiers: call.chosen("IncludeQualifiers", true),
            origin: call.chosen("IncludeClassOrigin", false),
            hierarchy: call.chosen("IncludeInheritanceHierarchy", false),
        }
    }

    /// A class, as CIM-XML.
    pub(super) fn text(
        self,
        call: &Call,
        namespace: &Namespace,
        name: &Name,
    ) -> Result<String, Fault> {
        let broker = call.broker();
        let options = ClassOptions {
            local_only: !self.inherited,
            include_qualifiers: self.qualifiers,
            include_class_origin: self.origin,
            property_list: None,
        };
        let class = broker.get_class(&call.context, namespace, name, &options)?;
        let derivation = self.hierarchy.then(|| {
            let mut above = Vec::new();
            let mut next = class.superclass.clone();
            let schema = broker.schema(namespace).ok();
            while let (Some(name), Some(schema)) = (next, schema) {
                next = schema.class(&name).and_then(|it| it.superclass.clone());
                above.push(name);
            }
            above
        });
        Ok(cim_xml::embedded::write_class(
            &class,
            derivation.as_deref(),
            self.origin,
        ))
    }
}

impl Call {
    /// What an option says that is true or false.
    fn chosen(&self, name: &str, usual: bool) -> bool {
        let mut options = self.request.options.iter();
        let given = options.find(|it| it.name.eq_ignore_ascii_case(name));
        given.map_or(usual, |it| !it.value.trim().eq_ignore_ascii_case("false"))
    }
}
