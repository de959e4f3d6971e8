//! Identifiers of WMI's interfaces and of the class that clients activate (MS-WMI 1.9).

use uuid::{Uuid, uuid};

/// The class that clients activate: `WbemLevel1Login`.
pub const CLSID_LEVEL1_LOGIN: Uuid = uuid!("8bc3f05e-d86b-11d0-a075-00c04fb68820");

/// `IWbemLevel1Login`: from an account to a namespace.
pub const LEVEL1_LOGIN: Uuid = uuid!("f309ad18-d86a-11d0-a075-00c04fb68820");
/// `IWbemLoginClientID`: what the client calls itself.
pub const LOGIN_CLIENT_ID: Uuid = uuid!("d4781cd6-e5d3-44df-ad94-930efe48a887");
/// `IWbemServices`: a namespace.
pub const SERVICES: Uuid = uuid!("9556dc99-828c-11cf-a37e-00aa003240c7");
/// `IEnumWbemClassObject`: results, taken one after another.
pub const ENUMERATOR: Uuid = uuid!("027947e1-d731-11ce-a357-000000000001");
/// `IWbemFetchSmartEnum`: from an enumerator to its smart form.
pub const FETCH_SMART: Uuid = uuid!("1c1c45ee-4395-11d2-b60b-00104b703efd");
/// `IWbemWCOSmartEnum`: results in packets that name each class once.
pub const SMART: Uuid = uuid!("423ec01e-2e35-11d2-b604-00104b703efd");
/// `IWbemCallResult`: a call that was answered before it was done.
pub const CALL_RESULT: Uuid = uuid!("44aca675-e8fc-11d0-a07c-00c04fb68820");

/// All interfaces that objects of this crate have.
pub const ALL: [Uuid; 7] = [
    LEVEL1_LOGIN,
    LOGIN_CLIENT_ID,
    SERVICES,
    ENUMERATOR,
    FETCH_SMART,
    SMART,
    CALL_RESULT,
];
