//! The name of an instance, and how each wire writes it.

use super::between;

/// Its class and its keys. What stands in them needs no escapes in XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName {
    pub class: String,
    keys: Vec<(String, String)>,
}

impl InstanceName {
    /// The first INSTANCENAME in an answer of CIM-XML; its keys must be texts.
    pub fn of_xml(answer: &str) -> Option<Self> {
        let name = between(answer, "<INSTANCENAME ", "</INSTANCENAME>")?;
        let keys = name.split("<KEYBINDING ").skip(1).map(|binding| {
            let key = between(binding, "NAME=\"", "\"")?;
            let (_, value) = between(binding, "<KEYVALUE", "</KEYVALUE>")?.split_once('>')?;
            Some((key.to_owned(), value.to_owned()))
        });
        Some(InstanceName {
            class: between(name, "CLASSNAME=\"", "\"")?.to_owned(),
            keys: keys.collect::<Option<_>>()?,
        })
    }

    fn keys(&self, one: impl Fn(&str, &str) -> String) -> Vec<String> {
        self.keys
            .iter()
            .map(|(key, value)| one(key, value))
            .collect()
    }

    /// An INSTANCENAME of CIM-XML.
    pub fn to_xml(&self) -> String {
        let keys = self.keys(|key, value| {
            format!(
                "<KEYBINDING NAME=\"{key}\"><KEYVALUE VALUETYPE=\"string\">{value}</KEYVALUE>\
                 </KEYBINDING>"
            )
        });
        format!(
            "<INSTANCENAME CLASSNAME=\"{}\">{}</INSTANCENAME>",
            self.class,
            keys.concat()
        )
    }

    /// A SelectorSet of WS-Management.
    pub fn to_selectors(&self) -> String {
        let keys =
            self.keys(|key, value| format!("<w:Selector Name=\"{key}\">{value}</w:Selector>"));
        format!("<w:SelectorSet>{}</w:SelectorSet>", keys.concat())
    }

    /// A path of WMI, relative to the namespace.
    pub fn to_path(&self) -> String {
        let keys = self.keys(|key, value| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{key}=\"{value}\"")
        });
        format!("{}.{}", self.class, keys.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceName;

    #[test]
    fn a_name_is_read_and_written_for_each_wire() {
        let xml = "<INSTANCENAME CLASSNAME=\"C\"><KEYBINDING NAME=\"A\">\
                   <KEYVALUE VALUETYPE=\"string\">x:\\1</KEYVALUE></KEYBINDING>\
                   <KEYBINDING NAME=\"B\"><KEYVALUE VALUETYPE=\"string\">y</KEYVALUE>\
                   </KEYBINDING></INSTANCENAME>";
        let name = InstanceName::of_xml(&format!("<X>{xml}</X>{xml}")).expect("a name");
        assert_eq!(name.to_xml(), xml);
        assert_eq!(name.to_path(), "C.A=\"x:\\\\1\",B=\"y\"");
        assert_eq!(
            name.to_selectors(),
            "<w:SelectorSet><w:Selector Name=\"A\">x:\\1</w:Selector>\
             <w:Selector Name=\"B\">y</w:Selector></w:SelectorSet>"
        );
    }
}
