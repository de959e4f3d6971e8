//! WS-Management (DSP0226, DSP0227) over HTTP.

use super::{Connection, Enumerated, InstanceName, between};
use crate::Failure;
use std::time::Instant;

const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const NAMESPACE: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization";
const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";

/// WS-Management over a connection.
pub struct WsMan(pub Connection);

/// What a request is about: a class, and selectors where it is about one instance.
struct Resource {
    class: String,
    selectors: String,
}

impl Resource {
    fn all_of(class: &str) -> Self {
        Resource {
            class: class.to_owned(),
            selectors: String::new(),
        }
    }

    fn of(name: &InstanceName) -> Self {
        Resource {
            class: name.class.clone(),
            selectors: name.to_selectors(),
        }
    }
}

impl WsMan {
    fn envelope(&mut self, action: &str, at: &Resource, content: &str) -> Result<String, Failure> {
        let Resource { class, selectors } = at;
        let body = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"{ADDRESSING}\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:n=\"{ENUMERATION}\">\
             <s:Header><a:To>http://localhost/wsman</a:To><w:ResourceURI s:mustUnderstand=\"true\">\
             {NAMESPACE}/{class}</w:ResourceURI>{selectors}<a:ReplyTo><a:Address \
             s:mustUnderstand=\"true\">{ADDRESSING}/role/anonymous</a:Address></a:ReplyTo>\
             <a:Action s:mustUnderstand=\"true\">{action}</a:Action>\
             <w:MaxEnvelopeSize s:mustUnderstand=\"true\">1048576</w:MaxEnvelopeSize>\
             <a:MessageID>uuid:8B2C1E5A-3D46-4F0E-9C55-6A1D7C0F3B21</a:MessageID></s:Header>\
             <s:Body>{content}</s:Body></s:Envelope>"
        );
        let headers = "Content-Type: application/soap+xml;charset=UTF-8\r\n";
        self.0.post("/wsman", headers, &body)
    }

    /// Enumerate with a filter in WQL, optimized: what it finds comes with the answer.
    pub fn query(&mut self, wql: &str) -> Result<String, Failure> {
        let enumerate = format!(
            "<n:Enumerate><w:Filter Dialect=\"{WQL}\">{wql}</w:Filter><w:OptimizeEnumeration/>\
             <w:MaxElements>10</w:MaxElements></n:Enumerate>"
        );
        let action = format!("{ENUMERATION}/Enumerate");
        self.envelope(&action, &Resource::all_of("*"), &enumerate)
    }

    pub fn get(&mut self, name: &InstanceName) -> Result<String, Failure> {
        self.envelope(&format!("{TRANSFER}/Get"), &Resource::of(name), "")
    }

    /// Calls a method; fails unless it returns 0. `parameters` are elements with the prefix `p`.
    pub fn call(
        &mut self,
        target: &InstanceName,
        method: &str,
        parameters: &str,
    ) -> Result<String, Failure> {
        let address = format!("{NAMESPACE}/{}", target.class);
        let input =
            format!("<p:{method}_INPUT xmlns:p=\"{address}\">{parameters}</p:{method}_INPUT>");
        let action = format!("{address}/{method}");
        let answer = self.envelope(&action, &Resource::of(target), &input)?;
        match answer.contains("<p:ReturnValue>0</p:ReturnValue>") {
            true => Ok(answer),
            false => Err(answer.into()),
        }
    }

    /// A reference as the value of a parameter.
    pub fn reference(name: &InstanceName) -> String {
        let Resource { class, selectors } = Resource::of(name);
        format!(
            "<a:Address>{ADDRESSING}/role/anonymous</a:Address><a:ReferenceParameters>\
             <w:ResourceURI>{NAMESPACE}/{class}</w:ResourceURI>{selectors}</a:ReferenceParameters>"
        )
    }

    pub fn enumerate(&mut self, size: usize) -> Result<Enumerated, Failure> {
        let machines = Resource::all_of("Msvm_ComputerSystem");
        let began = Instant::now();
        let mut answer = self.envelope(
            &format!("{ENUMERATION}/Enumerate"),
            &machines,
            "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>1</w:MaxElements></n:Enumerate>",
        )?;
        let first = began.elapsed();
        let mut objects = 0;
        loop {
            objects += answer.matches("</p:Msvm_ComputerSystem>").count();
            if answer.contains("EndOfSequence") {
                return Ok(Enumerated { objects, first });
            }
            let context = between(&answer, "EnumerationContext>", "<");
            let context = context.ok_or("an answer without a context")?.to_owned();
            answer = self.envelope(
                &format!("{ENUMERATION}/Pull"),
                &machines,
                &format!(
                    "<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>\
                     <n:MaxElements>{size}</n:MaxElements></n:Pull>"
                ),
            )?;
        }
    }
}
