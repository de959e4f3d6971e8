//! `IWbemLevel1Login` and `IWbemLoginClientID` (MS-WMI 3.1.4.1, 3.1.4.2): from an account that has
//! logged on to a namespace.

use crate::services::Services;
use crate::session::Service;
use crate::{ids, status, stub};
use async_trait::async_trait;
use cim::Namespace;
use dce_rpc::{Caller, Fault};
use dcom::{Class, HResult, Object, ObjectCall};
use std::sync::Arc;
use uuid::Uuid;

/// The class that clients activate.
pub(crate) struct LoginClass(pub(crate) Arc<Service>);

#[async_trait]
impl Class for LoginClass {
    async fn create(&self, _caller: &Caller) -> Result<Arc<dyn Object>, HResult> {
        Ok(Arc::new(Login(Arc::clone(&self.0))))
    }
}

/// The way in.
struct Login(Arc<Service>);

#[async_trait]
impl Object for Login {
    fn interfaces(&self) -> &[Uuid] {
        &[ids::LEVEL1_LOGIN, ids::LOGIN_CLIENT_ID]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match (call.interface, call.opnum) {
            // EstablishPosition([in, unique, string] wchar_t *, [in] DWORD, [out] DWORD *)
            (ids::LEVEL1_LOGIN, 3) => {
                call.results.u32(0);
                Ok(HResult::OK)
            }
            // RequestChallenge(.., [out, size_is(16), length_is(16)] unsigned char *): of old
            (ids::LEVEL1_LOGIN, 4) => {
                call.results.u32(16).u32(0).u32(16).bytes(&[0; 16]);
                Ok(HResult::NOT_IMPLEMENTED)
            }
            // WBEMLogin(.., [out] IWbemServices **): of old
            (ids::LEVEL1_LOGIN, 5) => {
                call.results.null();
                Ok(HResult::NOT_IMPLEMENTED)
            }
            (ids::LEVEL1_LOGIN, 6) => self.ntlm_login(call).await,
            // SetClientInfo([in, unique, string] LPWSTR, [in] LONG, [in] LONG)
            (ids::LOGIN_CLIENT_ID, 3) => {
                let machine = stub::read_string(&mut call.arguments)?;
                let process = call.arguments.u32()?;
                tracing::debug!(
                    peer = %call.caller.connection.peer,
                    machine = machine.as_deref().unwrap_or_default(),
                    process,
                    "client"
                );
                Ok(HResult::OK)
            }
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}

impl Login {
    /// `NTLMLogin([in, unique, string] LPWSTR wszNetworkResource, [in, unique, string] LPWSTR
    /// wszPreferredLocale, [in] long lFlags, [in] IWbemContext *pCtx, [out] IWbemServices
    /// **ppNamespace)`. There is one language, whatever the client prefers.
    async fn ntlm_login(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let resource = stub::read_string(&mut call.arguments)?;
        let locale = stub::read_string(&mut call.arguments)?;
        let _flags = call.arguments.i32()?;
        stub::skip_context(&mut call.arguments)?;
        let resource = resource.unwrap_or_default();
        let session = self.0.session(&namespace(&resource));
        let result = match session {
            None => Err(status::INVALID_NAMESPACE),
            // Accounts that have logged on and are gone since.
            Some(session) => session.context(call.caller).await.map(|_| session),
        };
        tracing::debug!(
            peer = %call.caller.connection.peer,
            resource,
            locale = locale.as_deref().unwrap_or_default(),
            refused = ?result.as_ref().err(),
            "login"
        );
        let services =
            result.and_then(|session| call.export(Arc::new(Services::new(session)), ids::SERVICES));
        Ok(call.put_interface(services))
    }
}

/// The namespace that a network resource names: `//./root/x`, `\\host\root\x` or `root\x`. Which
/// host it is does not matter: the client is here.
fn namespace(resource: &str) -> Namespace {
    let is_separator = |c: char| c == '/' || c == '\\';
    let mut rest = resource.trim();
    let local = rest
        .strip_prefix(is_separator)
        .and_then(|rest| rest.strip_prefix(is_separator));
    if let Some(local) = local {
        rest = local.split_once(is_separator).map_or("", |(_, rest)| rest);
    }
    Namespace::new(rest)
}

#[cfg(test)]
mod tests {
    use super::namespace;
    use cim::Namespace;

    #[test]
    fn namespaces_are_found_in_every_spelling() {
        for resource in [
            "//./root/virtualization",
            r"\\.\root\virtualization",
            r"\\10.0.0.1\ROOT\virtualization\",
            "//host/root\\virtualization",
            r"root\virtualization",
            " root/virtualization ",
        ] {
            assert_eq!(namespace(resource), Namespace::new("root\\virtualization"));
        }
        assert_eq!(namespace("//host"), Namespace::new(""));
        assert_eq!(namespace(""), Namespace::new(""));
    }
}
