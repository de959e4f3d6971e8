//! What is wrong with a request: SOAP code, subcode, details (DSP0226 section 14, DSP0227 section
//! 16), and Microsoft's numbers for the same (WSManFault, MSFT_WmiError), which clients show first.

use super::uri;
use super::writer::Writer;
use cim::{CimError, CimStatus};

/// The SOAP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is at fault.
    Sender,
    /// The service is.
    Receiver,
    /// Another SOAP.
    VersionMismatch,
    /// A header that must be understood is not.
    MustUnderstand,
}

/// What a request is told that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The SOAP code.
    pub code: Code,
    /// Namespace and name of the subcode.
    pub subcode: Option<(&'static str, &'static str)>,
    /// The detail's address.
    pub detail: Option<String>,
    /// WSManFault's number.
    pub number: u32,
    /// What happened, why, and what to do.
    pub reason: String,
    /// The object manager's error behind it.
    pub error: Option<CimStatus>,
    /// Headers that are not understood, as namespace and name.
    pub not_understood: Vec<(String, String)>,
}

/// The conditions that have a subcode.
impl Fault {
    fn new(
        subcode: (&'static str, &'static str),
        detail: Option<&str>,
        number: u32,
        reason: impl Into<String>,
    ) -> Self {
        Fault {
            code: Code::Sender,
            subcode: Some(subcode),
            detail: detail.map(|name| format!("{}{name}", uri::FAULT_DETAIL)),
            number,
            reason: reason.into(),
            error: None,
            not_understood: Vec::new(),
        }
    }

    /// Not SOAP 1.2.
    pub fn version_mismatch() -> Self {
        Fault {
            code: Code::VersionMismatch,
            subcode: None,
            ..Self::new(
                (uri::SOAP, ""),
                None,
                2_150_858_752,
                "The envelope is not SOAP 1.2.",
            )
        }
    }

    /// Headers that must be understood and are not.
    pub fn not_understood(headers: Vec<(String, String)>) -> Self {
        let names: Vec<&str> = headers.iter().map(|(_, name)| name.as_str()).collect();
        let reason = format!(
            "The request has headers that must be understood and are not: {}.",
            names.join(", ")
        );
        Fault {
            code: Code::MustUnderstand,
            subcode: None,
            not_understood: headers,
            ..Self::new((uri::SOAP, ""), None, 2_150_858_806, reason)
        }
    }

    /// The body or a header is not what the operation needs.
    pub fn schema(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::WSMAN, "SchemaValidationError"),
            None,
            2_150_858_817,
            reason,
        )
    }

    /// A header that every request has is missing.
    pub fn header_required(name: &str) -> Self {
        Self::new(
            (uri::ADDRESSING, "MessageInformationHeaderRequired"),
            None,
            2_150_858_769,
            format!("The request has no header {name}."),
        )
    }

    /// A header that makes no sense.
    pub fn header_invalid(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::ADDRESSING, "InvalidMessageInformationHeader"),
            None,
            2_150_858_767,
            reason,
        )
    }

    /// Answers go back on the connection only.
    pub fn addressing_mode() -> Self {
        Self::new(
            (uri::ADDRESSING, "InvalidMessageInformationHeader"),
            Some("AddressingMode"),
            2_150_858_767,
            "ReplyTo must be the anonymous address: answers come back on the connection.",
        )
    }

    /// An operation that there is not, or not on this resource.
    pub fn action_not_supported(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::ADDRESSING, "ActionNotSupported"),
            None,
            2_150_858_771,
            reason,
        )
    }

    /// No such resource.
    pub fn resource_not_found(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::ADDRESSING, "DestinationUnreachable"),
            Some("InvalidResourceURI"),
            2_150_858_752,
            reason,
        )
    }

    /// A resource address that is none.
    pub fn resource_malformed(reason: impl Into<String>) -> Self {
        Fault {
            number: 2_150_858_811,
            ..Self::resource_not_found(reason)
        }
    }

    /// Selectors that do not name one instance; `detail` is one of DSP0226's.
    pub fn selectors(detail: &'static str, reason: impl Into<String>) -> Self {
        let number = match detail {
            "InsufficientSelectors" => 2_150_858_842,
            "UnexpectedSelectors" => 2_150_858_843,
            "TypeMismatch" => 2_150_858_844,
            "InvalidValue" => 2_150_858_845,
            "AmbiguousSelectors" => 2_150_858_846,
            "DuplicateSelectors" => 2_150_858_847,
            _ => 2_150_858_813,
        };
        Self::new(
            (uri::WSMAN, "InvalidSelectors"),
            Some(detail),
            number,
            reason,
        )
    }

    /// A parameter of a method.
    pub fn parameter(detail: &'static str, reason: impl Into<String>) -> Self {
        let number = match detail {
            "TypeMismatch" => 2_150_858_836,
            "InvalidName" => 2_150_858_837,
            "InvalidValue" => 2_150_858_838,
            "MissingValues" => 2_150_858_839,
            _ => 2_150_858_810,
        };
        Self::new(
            (uri::WSMAN, "InvalidParameter"),
            Some(detail),
            number,
            reason,
        )
    }

    /// An option that must be complied with and cannot be.
    pub fn option(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::WSMAN, "InvalidOptions"),
            Some("NotSupported"),
            2_150_858_833,
            reason,
        )
    }

    /// Something that the protocol has and this service has not; `detail` is one of DSP0226's.
    pub fn unsupported(detail: &'static str, reason: impl Into<String>) -> Self {
        let number = match detail {
            "EnumerationMode" => 2_150_858_886,
            _ => 2_150_858_801,
        };
        Self::new(
            (uri::WSMAN, "UnsupportedFeature"),
            Some(detail),
            number,
            reason,
        )
    }

    /// A polymorphism mode that is not offered.
    pub fn polymorphism(mode: &str) -> Self {
        Fault {
            detail: Some(format!("{}PolymorphismMode", uri::BINDING_DETAIL)),
            ..Self::new(
                (uri::BINDING, "PolymorphismModeNotSupported"),
                None,
                2_150_859_063,
                format!("There is no polymorphism mode {mode:?}."),
            )
        }
    }

    /// A filter that cannot be worked on.
    pub fn filter(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::ENUMERATION, "CannotProcessFilter"),
            None,
            2_150_858_778,
            reason,
        )
    }

    /// A filter in a language that is not spoken.
    pub fn dialect(dialect: &str) -> Self {
        Self::new(
            (uri::ENUMERATION, "FilterDialectRequestedUnavailable"),
            None,
            2_150_858_777,
            format!(
                "There are no filters of dialect {dialect:?}. Those that there are: WQL, CQL, \
                 SelectorFilter and associationFilter."
            ),
        )
    }

    /// No such enumeration.
    pub fn enumeration_context() -> Self {
        Self::new(
            (uri::ENUMERATION, "InvalidEnumerationContext"),
            None,
            2_150_858_779,
            "There is no such enumeration: it was finished, released, timed out, or begun by \
             another account. Enumerate again.",
        )
    }

    /// An expiry that is not granted; `namespace` is the operation's.
    pub fn expiry(namespace: &'static str, reason: impl Into<String>) -> Self {
        Self::new(
            (namespace, "InvalidExpirationTime"),
            None,
            2_150_858_774,
            reason,
        )
    }

    /// Sizes; `detail` is one of DSP0226's.
    pub fn encoding_limit(detail: &'static str, reason: impl Into<String>) -> Self {
        let number = match detail {
            "MinimumEnvelopeLimit" => 2_150_858_878,
            "MaxEnvelopeSizeExceeded" => 2_150_858_824,
            _ => 2_150_858_823,
        };
        let detail = match detail {
            "MaxEnvelopeSizeExceeded" => "MaxEnvelopeSize",
            other => other,
        };
        Self::new((uri::WSMAN, "EncodingLimit"), Some(detail), number, reason)
    }

    /// The operation took longer than the client wants to wait.
    pub fn timed_out(reason: impl Into<String>) -> Self {
        Fault {
            code: Code::Receiver,
            ..Self::new((uri::WSMAN, "TimedOut"), None, 2_150_858_793, reason)
        }
    }

    /// As many as there may be.
    pub fn quota(reason: impl Into<String>) -> Self {
        Self::new((uri::WSMAN, "QuotaLimit"), None, 2_150_858_815, reason)
    }

    /// A representation that does not fit its resource.
    pub fn representation(reason: impl Into<String>) -> Self {
        Self::new(
            (uri::TRANSFER, "InvalidRepresentation"),
            Some("InvalidValues"),
            2_150_858_773,
            reason,
        )
    }

    /// Not for this account.
    pub fn access_denied(reason: impl Into<String>) -> Self {
        Self::new((uri::WSMAN, "AccessDenied"), None, 5, reason)
    }

    /// A way of delivery that there is not.
    pub fn delivery_mode(mode: &str) -> Self {
        Self::new(
            (uri::EVENTING, "DeliveryModeRequestedUnavailable"),
            None,
            2_150_858_775,
            format!("Events are not delivered in mode {mode:?}."),
        )
    }

    /// No such subscription.
    pub fn subscription() -> Self {
        Self::new(
            (uri::EVENTING, "InvalidMessage"),
            None,
            2_150_858_781,
            "There is no such subscription: it was ended, has expired, or belongs to another account.",
        )
    }

    /// The service's own mistake.
    pub fn internal(reason: impl Into<String>) -> Self {
        Fault {
            code: Code::Receiver,
            ..Self::new((uri::WSMAN, "InternalError"), None, 2_150_858_755, reason)
        }
    }
}

/// The object manager's errors, the same cause in the protocol's words.
impl From<CimError> for Fault {
    fn from(error: CimError) -> Self {
        let reason = error.message;
        let fault = match error.status {
            CimStatus::AccessDenied => Fault::access_denied(reason),
            CimStatus::InvalidNamespace | CimStatus::InvalidClass | CimStatus::NotFound => {
                Fault::resource_not_found(reason)
            }
            CimStatus::MethodNotAvailable | CimStatus::MethodNotFound => {
                Fault::action_not_supported(reason)
            }
            CimStatus::InvalidParameter => Fault::parameter("InvalidValue", reason),
            CimStatus::NoSuchProperty => Fault::parameter("InvalidName", reason),
            CimStatus::TypeMismatch => Fault::parameter("TypeMismatch", reason),
            CimStatus::AlreadyExists => {
                Fault::new((uri::WSMAN, "AlreadyExists"), None, 2_150_858_802, reason)
            }
            CimStatus::NotSupported => Fault::unsupported("OperationNotSupported", reason),
            CimStatus::InvalidQuery => Fault::filter(reason),
            CimStatus::QueryLanguageNotSupported => Fault {
                reason,
                ..Fault::dialect("")
            },
            CimStatus::InvalidEnumerationContext => Fault {
                reason,
                ..Fault::enumeration_context()
            },
            CimStatus::ServerLimitsExceeded => Fault::quota(reason),
            _ => Fault::internal(reason),
        };
        Fault {
            error: Some(error.status),
            ..fault
        }
    }
}

impl Fault {
    /// The action of the answer that carries it.
    pub fn action(&self) -> &'static str {
        match self.subcode.map(|(namespace, _)| namespace) {
            Some(uri::ENUMERATION) => "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
            Some(uri::EVENTING) => "http://schemas.xmlsoap.org/ws/2004/08/eventing/fault",
            Some(uri::TRANSFER) => "http://schemas.xmlsoap.org/ws/2004/09/transfer/fault",
            Some(uri::WSMAN) => "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
            Some(uri::BINDING) => "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/fault",
            _ => "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
        }
    }

    /// The fault's element. `prefixes` are those of the request: the subcode is written under the
    /// one that the client has for its namespace, since clients compare its text.
    pub fn write(&self, w: &mut Writer, machine: &str, prefixes: &[(String, std::sync::Arc<str>)]) {
        w.open("s:Fault").open("s:Code");
        w.leaf(
            "s:Value",
            match self.code {
                Code::Sender => "s:Sender",
                Code::Receiver => "s:Receiver",
                Code::VersionMismatch => "s:VersionMismatch",
                Code::MustUnderstand => "s:MustUnderstand",
            },
        );
        if let Some((namespace, name)) = self.subcode {
            let known = uri::PREFIXES;
            let known = known.iter().filter(|(_, it)| *it == namespace);
            let mirrored = known.clone().find(|(prefix, _)| {
                let mut given = prefixes.iter();
                given.any(|(it, bound)| it == prefix && **bound == *namespace)
            });
            let prefix = mirrored.or(known.clone().next()).map_or("w", |it| it.0);
            w.open("s:Subcode");
            w.leaf("s:Value", &format!("{prefix}:{name}")).close();
        }
        w.close();
        w.open("s:Reason");
        w.leaf_with("s:Text", &[("xml:lang", "en-US")], &self.reason);
        w.close();
        w.open("s:Detail");
        if let Some(detail) = &self.detail {
            w.leaf("w:FaultDetail", detail);
        }
        w.open_with(
            "f:WSManFault",
            &[
                ("xmlns:f", uri::WSMAN_FAULT),
                ("Code", &self.number.to_string()),
                ("Machine", machine),
            ],
        );
        w.leaf("f:Message", &self.reason).close();
        if let Some(status) = self.error {
            self.write_wmi_error(w, status);
        }
        w.close().close();
    }

    fn write_wmi_error(&self, w: &mut Writer, status: CimStatus) {
        let hresult = wbem_status(status);
        w.open_with("p:MSFT_WmiError", &[("xmlns:p", uri::WMI_ERROR)]);
        w.leaf("p:CIMStatusCode", &(status as u16).to_string());
        w.leaf("p:error_Category", "0");
        w.leaf("p:error_Code", &hresult.to_string());
        w.leaf("p:error_Type", "HRESULT");
        w.leaf("p:error_WindowsErrorMessage", &self.reason);
        w.leaf("p:Message", &self.reason);
        w.leaf("p:MessageID", &format!("HRESULT 0x{hresult:08x}"));
        w.leaf("p:OwningEntity", "rootvirt").close();
    }
}

/// WMI's number for a CIM status (MS-WMI 2.2.11).
fn wbem_status(status: CimStatus) -> u32 {
    match status {
        CimStatus::AccessDenied => 0x8004_1003, // WBEM_E_ACCESS_DENIED
        CimStatus::InvalidNamespace => 0x8004_100e, // WBEM_E_INVALID_NAMESPACE
        CimStatus::InvalidParameter => 0x8004_1008, // WBEM_E_INVALID_PARAMETER
        CimStatus::InvalidClass => 0x8004_1010, // WBEM_E_INVALID_CLASS
        CimStatus::NotFound => 0x8004_1002,     // WBEM_E_NOT_FOUND
        CimStatus::NotSupported => 0x8004_100c, // WBEM_E_NOT_SUPPORTED
        CimStatus::AlreadyExists => 0x8004_1019, // WBEM_E_ALREADY_EXISTS
        CimStatus::NoSuchProperty => 0x8004_1031, // WBEM_E_INVALID_PROPERTY
        CimStatus::TypeMismatch => 0x8004_1005, // WBEM_E_TYPE_MISMATCH
        CimStatus::QueryLanguageNotSupported => 0x8004_1018, // WBEM_E_INVALID_QUERY_TYPE
        CimStatus::InvalidQuery => 0x8004_1017, // WBEM_E_INVALID_QUERY
        CimStatus::MethodNotAvailable => 0x8004_1055, // WBEM_E_METHOD_NOT_IMPLEMENTED
        CimStatus::MethodNotFound => 0x8004_102e, // WBEM_E_INVALID_METHOD
        CimStatus::ServerLimitsExceeded => 0x8004_106c, // WBEM_E_QUOTA_VIOLATION
        CimStatus::ServerIsShuttingDown => 0x8004_1033, // WBEM_E_SHUTTING_DOWN
        _ => 0x8004_1001,                       // WBEM_E_FAILED
    }
}
