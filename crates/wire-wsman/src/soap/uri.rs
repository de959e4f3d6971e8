//! The namespaces and addresses of WS-Management (DSP0226, DSP0227, MS-WSMV), and the prefixes that
//! answers bind them to. Clients look for elements by literal prefixes, so these are fixed.

/// SOAP 1.2.
pub const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// SOAP 1.1, which is not spoken.
pub const SOAP_11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// WS-Addressing.
pub const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
/// The address of whoever holds the connection.
pub const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
/// WS-Enumeration.
pub const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
/// WS-Transfer.
pub const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
/// WS-Eventing.
pub const EVENTING: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing";
/// WS-Management.
pub const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
/// The CIM binding.
pub const BINDING: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd";
/// Identify.
pub const IDENTITY: &str = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd";
/// CIM's common types.
pub const CIM_COMMON: &str = "http://schemas.dmtf.org/wbem/wscim/1/common";
/// Microsoft's headers.
pub const MICROSOFT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd";
/// Microsoft's fault details.
pub const WSMAN_FAULT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";
/// The class of errors that WMI reports.
pub const WMI_ERROR: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/MSFT_WmiError";
/// `xsi:nil`, `xsi:type`.
pub const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// What some clients bind to the prefix of [`INSTANCE`].
pub const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";

/// What resource addresses of the WMI form begin with.
pub const WMI: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/";
/// The service's own settings.
pub const CONFIG: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";
/// What resource addresses of DMTF's classes begin with.
pub const CIM_SCHEMA: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
/// Where definitions of classes are, as CIM-XML.
pub const CIM_XML_SCHEMA: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/";
/// All classes of a namespace.
pub const ALL_CLASSES: &str = "http://schemas.dmtf.org/wbem/wscim/1/*";
/// What fault details of WS-Management begin with.
pub const FAULT_DETAIL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/";
/// What fault details of the CIM binding begin with.
pub const BINDING_DETAIL: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/faultDetail/";

/// Declarations on every envelope: both spellings that clients know.
pub const PREFIXES: [(&str, &str); 16] = [
    ("s", SOAP),
    ("a", ADDRESSING),
    ("wsa", ADDRESSING),
    ("w", WSMAN),
    ("wsman", WSMAN),
    ("n", ENUMERATION),
    ("wsen", ENUMERATION),
    ("e", EVENTING),
    ("wse", EVENTING),
    ("x", TRANSFER),
    ("wxf", TRANSFER),
    ("b", BINDING),
    ("wsmb", BINDING),
    ("wsmid", IDENTITY),
    ("cim", CIM_COMMON),
    ("xsi", INSTANCE),
];
