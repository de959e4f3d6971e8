//! As little client as it takes: requests as text over one connection, answers searched for the few
//! elements that matter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Enumerated;
use crate::{Failure, Outcome};

/// No answer takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is kept.
pub struct Connection {
    stream: BufReader<TcpStream>,
    credentials: String,
}

impl Connection {
    pub fn open(address: &str, user: &str, password: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream: BufReader::new(stream),
            credentials: BASE64_STANDARD.encode(format!("{user}:{password}")),
        })
    }

    fn post(&mut self, path: &str, headers: &str, body: &str) -> Result<String, Failure> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            self.credentials,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let body = match length {
            Some(length) => self.bytes(length)?,
            None => self.chunks()?,
        };
        let body = String::from_utf8(body)?;
        if !status.contains(" 200 ") || body.contains("<ERROR ") {
            return Err(format!("{status}\n{body}").into());
        }
        Ok(body)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the service has closed the connection".into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16)?;
            body.extend(self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

/// What stands between two texts.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

const NAMESPACE: &str = "<LOCALNAMESPACEPATH><NAMESPACE NAME=\"root\"/>\
                         <NAMESPACE NAME=\"virtualization\"/></LOCALNAMESPACEPATH>";

/// CIM-XML over a connection.
pub struct CimXml<'a>(pub &'a mut Connection);

impl CimXml<'_> {
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

    /// The name of the only instance of a class, as XML.
    pub fn name_of(&mut self, class: &str) -> Result<String, Failure> {
        let class =
            format!("<IPARAMVALUE NAME=\"ClassName\"><CLASSNAME NAME=\"{class}\"/></IPARAMVALUE>");
        let answer = self.intrinsic("EnumerateInstanceNames", &class)?;
        let name = between(&answer, "<INSTANCENAME ", "</INSTANCENAME>");
        let name = name.ok_or("there is no instance of the class")?;
        Ok(format!("<INSTANCENAME {name}</INSTANCENAME>"))
    }

    pub fn define(&mut self, service: &str, name: &str) -> Outcome {
        let call = format!(
            "<METHODCALL NAME=\"DefineVirtualSystem\"><LOCALINSTANCEPATH>{NAMESPACE}{service}\
             </LOCALINSTANCEPATH><PARAMVALUE NAME=\"SystemSettingData\" PARAMTYPE=\"string\" \
             EmbeddedObject=\"instance\"><VALUE><![CDATA[<INSTANCE \
             CLASSNAME=\"Msvm_VirtualSystemGlobalSettingData\"><PROPERTY NAME=\"ElementName\" \
             TYPE=\"string\"><VALUE>{name}</VALUE></PROPERTY></INSTANCE>]]></VALUE></PARAMVALUE>\
             </METHODCALL>"
        );
        let object = ":Msvm_VirtualSystemManagementService";
        let answer = self.message("DefineVirtualSystem", object, &call)?;
        let code = between(&answer, "<RETURNVALUE", "</RETURNVALUE>");
        match code.is_some_and(|code| code.contains("<VALUE>0</VALUE>")) {
            true => Ok(()),
            false => Err(answer.into()),
        }
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

/// WS-Management over a connection.
pub struct WsMan<'a>(pub &'a mut Connection);

impl WsMan<'_> {
    fn envelope(&mut self, action: &str, content: &str) -> Result<String, Failure> {
        const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
        const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
        let body = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"{ADDRESSING}\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:n=\"{ENUMERATION}\">\
             <s:Header><a:To>http://localhost/wsman</a:To><w:ResourceURI s:mustUnderstand=\"true\">\
             http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/Msvm_ComputerSystem\
             </w:ResourceURI><a:ReplyTo><a:Address s:mustUnderstand=\"true\">{ADDRESSING}/role/anonymous\
             </a:Address></a:ReplyTo><a:Action s:mustUnderstand=\"true\">{ENUMERATION}/{action}</a:Action>\
             <w:MaxEnvelopeSize s:mustUnderstand=\"true\">1048576</w:MaxEnvelopeSize>\
             <a:MessageID>uuid:8B2C1E5A-3D46-4F0E-9C55-6A1D7C0F3B21</a:MessageID></s:Header>\
             <s:Body>{content}</s:Body></s:Envelope>"
        );
        let headers = "Content-Type: application/soap+xml;charset=UTF-8\r\n";
        self.0.post("/wsman", headers, &body)
    }

    pub fn enumerate(&mut self, size: usize) -> Result<Enumerated, Failure> {
        let began = Instant::now();
        let mut answer = self.envelope(
            "Enumerate",
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
                "Pull",
                &format!(
                    "<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>\
                     <n:MaxElements>{size}</n:MaxElements></n:Pull>"
                ),
            )?;
        }
    }
}
