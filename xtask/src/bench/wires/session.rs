//! The three operations over each wire, by a connection that is logged on. Every answer must be right:
//! the machine asked for, and nothing else.

use cim::{CimType, Instance, Value};

use crate::bench::client::{self, CimXml, Dcom, InstanceName, WsMan};
use crate::{Failure, Outcome};

use super::{Operation, Wire};
use crate::bench::service::Service;

const SUMMARY: &str = "GetSummaryInformation";
/// Name, ElementName, NumberOfProcessors, EnabledState, MemoryUsage, UpTime.
const REQUESTED: [u32; 6] = [0, 1, 4, 100, 103, 105];

/// What is asked about.
pub struct Subject {
    element_name: String,
    machine: InstanceName,
    settings: InstanceName,
    management: InstanceName,
}

impl Subject {
    /// The machine of a name.
    pub fn find(service: &Service, element_name: &str) -> Result<Self, Failure> {
        let mut client = CimXml(service.connect("cimxml")?);
        let mut find = |class: &str| client.find(&by_name(class, element_name));
        let (machine, settings) = (
            find("Msvm_ComputerSystem")?,
            find("Msvm_VirtualSystemSettingData")?,
        );
        Ok(Subject {
            element_name: element_name.to_owned(),
            machine,
            settings,
            management: client.find("SELECT * FROM Msvm_VirtualSystemManagementService")?,
        })
    }

    fn wql(&self) -> String {
        by_name("Msvm_ComputerSystem", &self.element_name)
    }

    fn check_xml(&self, answer: String, item: &str, items: usize) -> Outcome {
        match answer.matches(item).count() == items && answer.contains(&self.element_name) {
            true => Ok(()),
            false => Err(answer.into()),
        }
    }
}

fn by_name(class: &str, element_name: &str) -> String {
    format!("SELECT * FROM {class} WHERE ElementName = '{element_name}'")
}

/// A connection.
pub trait Session: Send {
    /// Does an operation; fails unless the answer is right.
    fn run(&mut self, operation: Operation, subject: &Subject) -> Outcome;
}

/// Opens a connection of a wire.
pub fn open(service: &Service, wire: Wire, subject: &Subject) -> Result<Box<dyn Session>, Failure> {
    Ok(match wire {
        Wire::CimXml => Box::new(CimXml(service.connect("cimxml")?)),
        Wire::WsMan => Box::new(WsMan(service.connect("wsman")?)),
        Wire::Dcom(level) => Box::new(DcomSession {
            client: service.log_in(level)?,
            parameters: parameters(subject)?,
            right: Vec::new(),
        }),
    })
}

impl Session for CimXml {
    fn run(&mut self, operation: Operation, subject: &Subject) -> Outcome {
        let instance = "<INSTANCE CLASSNAME=\"Msvm_ComputerSystem\"";
        match operation {
            Operation::Query => subject.check_xml(self.query(&subject.wql())?, instance, 1),
            Operation::Get => subject.check_xml(self.get(&subject.machine)?, instance, 1),
            Operation::Invoke => {
                let numbers = REQUESTED.map(|number| format!("<VALUE>{number}</VALUE>"));
                let parameters = format!(
                    "<PARAMVALUE NAME=\"SettingData\" PARAMTYPE=\"reference\"><VALUE.REFARRAY>\
                     <VALUE.REFERENCE>{}</VALUE.REFERENCE></VALUE.REFARRAY></PARAMVALUE>\
                     <PARAMVALUE NAME=\"RequestedInformation\" PARAMTYPE=\"uint32\"><VALUE.ARRAY>{}\
                     </VALUE.ARRAY></PARAMVALUE>",
                    subject.settings.to_xml(),
                    numbers.concat()
                );
                let answer = self.call(&subject.management, SUMMARY, &parameters)?;
                subject.check_xml(answer, "</RETURNVALUE>", 1)
            }
        }
    }
}

impl Session for WsMan {
    fn run(&mut self, operation: Operation, subject: &Subject) -> Outcome {
        let instance = "</p:Msvm_ComputerSystem>";
        match operation {
            Operation::Query => {
                let answer = self.query(&subject.wql())?;
                if !answer.contains("EndOfSequence") {
                    return Err(answer.into());
                }
                subject.check_xml(answer, instance, 1)
            }
            Operation::Get => subject.check_xml(self.get(&subject.machine)?, instance, 1),
            Operation::Invoke => {
                let numbers = REQUESTED.map(|number| {
                    format!("<p:RequestedInformation>{number}</p:RequestedInformation>")
                });
                let parameters = format!(
                    "<p:SettingData>{}</p:SettingData>{}",
                    WsMan::reference(&subject.settings),
                    numbers.concat()
                );
                let answer = self.call(&subject.management, SUMMARY, &parameters)?;
                subject.check_xml(answer, "</p:SummaryInformation>", 1)
            }
        }
    }
}

struct DcomSession {
    client: Dcom,
    /// Of the method, made once.
    parameters: Vec<u8>,
    /// The last answer that was read and found right. The next ones are mostly the same.
    right: Vec<u8>,
}

impl Session for DcomSession {
    fn run(&mut self, operation: Operation, subject: &Subject) -> Outcome {
        let answer = match operation {
            Operation::Query => self.client.query(&subject.wql(), 1)?,
            Operation::Get => self.client.get(&subject.machine.to_path())?,
            Operation::Invoke => {
                let path = subject.management.to_path();
                self.client.exec_method(&path, SUMMARY, &self.parameters)?
            }
        };
        if answer != self.right {
            let objects = client::objects(&answer)?;
            if !is_right(operation, &objects, subject) {
                return Err(format!("{operation:?}: {objects:?}").into());
            }
            self.right = answer;
        }
        Ok(())
    }
}

fn is_right(operation: Operation, objects: &[Instance], subject: &Subject) -> bool {
    let is_subject = |instance: &Instance| {
        instance.value("ElementName").as_str() == Some(subject.element_name.as_str())
    };
    let [object] = objects else { return false };
    match operation {
        Operation::Query | Operation::Get => is_subject(object),
        Operation::Invoke => {
            let returned = object.value("ReturnValue").as_u32();
            match (returned, object.value("SummaryInformation").as_array()) {
                (Some(0), Some([one])) => one.as_instance().is_some_and(is_subject),
                _ => false,
            }
        }
    }
}

fn parameters(subject: &Subject) -> Result<Vec<u8>, Failure> {
    let settings = client::reference(&subject.settings.to_path())?;
    let requested = REQUESTED.map(Value::Uint32).to_vec();
    client::parameters(vec![
        ("SettingData", CimType::Reference, vec![settings]),
        ("RequestedInformation", CimType::Uint32, requested),
    ])
}
