//! CIM-XML (DSP0200, DSP0201) over HTTP.

use super::{Connection, Enumerated, InstanceName, between};
use crate::{Failure, Outcome};
use std::time::Instant;

const NAMESPACE: &str = "<LOCALNAMESPACEPATH><NAMESPACE NAME=\"root\"/>\
                         <NAMESPACE NAME=\"virtualization\"/></LOCALNAMESPACEPATH>";

/// CIM-XML over a connection.
pub struct CimXml(pub Connection);

impl CimXml {
    fn message(&mut self, method: &str, object: &str, content: &str) -> Result<String, Failure> {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\">\
             <MESSAGE ID=\"1\" PROTOCOLVERSION=\"1.0\"><SIMPLEREQ>{content}</SIMPLEREQ></MESSAGE></CIM>"
        );
        let headers = format!(
            "Content-Type: application/xml; charset=\"utf-8\"\r\nCIMOperation: MethodCall\r\n\
             CIMMethod: {method}\r\nCIMObject: root/virtualization{object}\r\n"
        );
        self.0.post("/cimom", &headers, &body)
    }

    fn intrinsic(&mut self, name: &str, parameters: &str) -> Result<String, Failure> {
        let call = format!("<IMETHODCALL NAME=\"{name}\">{NAMESPACE}{parameters}</IMETHODCALL>");
        self.message(name, "", &call)
    }

    /// Calls a method; fails unless it returns 0. `parameters` are PARAMVALUE elements.
    pub fn call(
        &mut self,
        target: &InstanceName,
        method: &str,
        parameters: &str,
    ) -> Result<String, Failure> {
        let object = format!(":{}", target.class);
        let call = format!(
            "<METHODCALL NAME=\"{method}\"><LOCALINSTANCEPATH>{NAMESPACE}{}</LOCALINSTANCEPATH>\
             {parameters}</METHODCALL>",
            target.to_xml()
        );
        let answer = self.message(method, &object, &call)?;
        let code = between(&answer, "<RETURNVALUE", "</RETURNVALUE>");
        match code.is_some_and(|code| code.contains("<VALUE>0</VALUE>")) {
            true => Ok(answer),
            false => Err(answer.into()),
        }
    }

    /// ExecQuery in WQL.
    pub fn query(&mut self, wql: &str) -> Result<String, Failure> {
        let parameters = format!(
            "<IPARAMVALUE NAME=\"QueryLanguage\"><VALUE>WQL</VALUE></IPARAMVALUE>\
             <IPARAMVALUE NAME=\"Query\"><VALUE>{wql}</VALUE></IPARAMVALUE>"
        );
        self.intrinsic("ExecQuery", &parameters)
    }

    /// The name of the first instance that a query finds.
    pub fn find(&mut self, wql: &str) -> Result<InstanceName, Failure> {
        let answer = self.query(wql)?;
        let name = InstanceName::of_xml(&answer);
        name.ok_or_else(|| format!("nothing is found by {wql}").into())
    }

    /// GetInstance, with all properties.
    pub fn get(&mut self, name: &InstanceName) -> Result<String, Failure> {
        let parameters = format!(
            "<IPARAMVALUE NAME=\"InstanceName\">{}</IPARAMVALUE>\
             <IPARAMVALUE NAME=\"LocalOnly\"><VALUE>FALSE</VALUE></IPARAMVALUE>",
            name.to_xml()
        );
        self.intrinsic("GetInstance", &parameters)
    }

    /// Defines a machine.
    pub fn define(&mut self, service: &InstanceName, name: &str) -> Outcome {
        let settings = format!(
            "<PARAMVALUE NAME=\"SystemSettingData\" PARAMTYPE=\"string\" \
             EmbeddedObject=\"instance\"><VALUE><![CDATA[<INSTANCE \
             CLASSNAME=\"Msvm_VirtualSystemGlobalSettingData\"><PROPERTY NAME=\"ElementName\" \
             TYPE=\"string\"><VALUE>{name}</VALUE></PROPERTY></INSTANCE>]]></VALUE></PARAMVALUE>"
        );
        self.call(service, "DefineVirtualSystem", &settings)
            .map(drop)
    }

    pub fn enumerate(&mut self, size: usize) -> Result<Enumerated, Failure> {
        let began = Instant::now();
        let mut answer = self.intrinsic(
            "OpenEnumerateInstances",
            "<IPARAMVALUE NAME=\"ClassName\"><CLASSNAME NAME=\"Msvm_ComputerSystem\"/></IPARAMVALUE>\
             <IPARAMVALUE NAME=\"MaxObjectCount\"><VALUE>1</VALUE></IPARAMVALUE>",
        )?;
        let first = began.elapsed();
        let mut objects = 0;
        loop {
            objects += answer.matches("<INSTANCE ").count();
            let end = between(&answer, "NAME=\"EndOfSequence\"", "</VALUE>");
            if end.is_some_and(|end| end.to_ascii_lowercase().ends_with("true")) {
                return Ok(Enumerated { objects, first });
            }
            let context = between(&answer, "NAME=\"EnumerationContext\"", "</VALUE>");
            let context = context.and_then(|it| it.rsplit_once("<VALUE>"));
            let context = context.ok_or("an answer without a context")?.1.to_owned();
            answer = self.intrinsic(
                "PullInstancesWithPath",
                &format!(
                    "<IPARAMVALUE NAME=\"EnumerationContext\"><VALUE>{context}</VALUE></IPARAMVALUE>\
                     <IPARAMVALUE NAME=\"MaxObjectCount\"><VALUE>{size}</VALUE></IPARAMVALUE>"
                ),
            )?;
        }
    }
}
