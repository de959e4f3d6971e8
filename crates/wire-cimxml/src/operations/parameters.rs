//! The parameters of an operation: taken out one by one by name and type, and nothing left over.

use super::place;
use cim::{CimError, CimStatus, Name, ObjectPath};
use cim_broker::Broker;
use cim_xml::request::ParameterValue;

/// Parameters that have not been taken yet.
pub(super) struct Parameters {
    left: Vec<(Name, ParameterValue)>,
}

impl Parameters {
    /// Refuses a parameter that is there twice.
    pub(super) fn new(
        mut given: Vec<(Name, ParameterValue)>,
        broker: &Broker,
    ) -> Result<Self, CimError> {
        for (at, (name, _)) in given.iter().enumerate() {
            if given.iter().skip(at + 1).any(|(other, _)| other == name) {
                return Err(invalid(format!("The parameter {name} is given twice.")));
            }
            // Few operations have more than ten parameters; a request with hundreds is no mistake.
            if at >= 32 {
                return Err(invalid("There are too many parameters.".to_owned()));
            }
        }
        for (_, value) in &mut given {
            if let ParameterValue::Path(path) = value {
                place::localize(broker, path);
            }
        }
        Ok(Parameters { left: given })
    }

    /// Refuses what no one took. To be called before the operation does anything.
    pub(super) fn finish(&self) -> Result<(), CimError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(format!(
                "The operation has no parameter called {name}."
            ))),
        }
    }

    /// A parameter that is not NULL.
    fn take(&mut self, name: &str) -> Option<ParameterValue> {
        let at = self.left.iter().position(|(given, _)| given.is(name))?;
        match self.left.swap_remove(at).1 {
            ParameterValue::Null => None,
            value => Some(value),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, CimError> {
        match self.take(name) {
            None => Ok(None),
            Some(ParameterValue::Text(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("The parameter {name} must be a VALUE."))),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&mut self, name: &str) -> Result<String, CimError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// TRUE or FALSE, in any case.
    pub(super) fn boolean(&mut self, name: &str, default: bool) -> Result<bool, CimError> {
        let Some(text) = self.text(name)? else {
            return Ok(default);
        };
        cim::convert::parse_boolean(text.trim())
            .ok_or_else(|| invalid(format!("The parameter {name} must be TRUE or FALSE.")))
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u32>, CimError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let number = cim::convert::parse_integer(text.trim());
        match number.and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(format!(
                "The parameter {name} must be a whole number from 0 to {}.",
                u32::MAX
            ))),
        }
    }

    /// The name of a class or of something else that has a name; empty text is none.
    pub(super) fn name(&mut self, name: &str) -> Result<Option<Name>, CimError> {
        match self.take(name) {
            None => Ok(None),
            Some(ParameterValue::Path(path)) if path.is_class() => Ok(Some(path.class)),
            Some(ParameterValue::Text(text)) => {
                let text = text.trim();
                Ok((!text.is_empty()).then(|| Name::from(text)))
            }
            Some(_) => Err(invalid(format!(
                "The parameter {name} must be a CLASSNAME or a VALUE."
            ))),
        }
    }

    /// A name that must be there.
    pub(super) fn required_name(&mut self, name: &str) -> Result<Name, CimError> {
        self.name(name)?.ok_or_else(|| missing(name))
    }

    /// The name of an object that must be there: an instance or a class.
    pub(super) fn object(&mut self, name: &str) -> Result<ObjectPath, CimError> {
        match self.take(name) {
            None => Err(missing(name)),
            Some(ParameterValue::Path(path)) => Ok(path),
            Some(_) => Err(invalid(format!(
                "The parameter {name} must be an INSTANCENAME or a CLASSNAME."
            ))),
        }
    }

    /// The name of an instance that must be there.
    pub(super) fn instance(&mut self, name: &str) -> Result<ObjectPath, CimError> {
        let path = self.object(name)?;
        if path.is_class() {
            return Err(invalid(format!(
                "The parameter {name} must name an instance, not the class {}.",
                path.class
            )));
        }
        Ok(path)
    }

    /// A list of names. Absent means all; an empty list means none.
    pub(super) fn names(&mut self, name: &str) -> Result<Option<Vec<Name>>, CimError> {
        match self.take(name) {
            None => Ok(None),
            Some(ParameterValue::Texts(texts)) => Ok(Some(
                texts.iter().map(|text| Name::from(text.trim())).collect(),
            )),
            Some(_) => Err(invalid(format!(
                "The parameter {name} must be a VALUE.ARRAY."
            ))),
        }
    }
}

pub(super) fn invalid(message: String) -> CimError {
    CimError::new(CimStatus::InvalidParameter, message)
}

fn missing(name: &str) -> CimError {
    invalid(format!("The parameter {name} is missing."))
}
