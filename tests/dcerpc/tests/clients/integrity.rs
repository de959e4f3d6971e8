//! A client at packet integrity, which `dcerpc`'s own transport lacks: its PDUs, `ntlmssp`'s logon,
//! signatures and checks.

use dcerpc::{RpcError, Syntax, pdu};
use ntlmssp::{Ntlm, SealState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PACKET_INTEGRITY: u8 = 5;
const SIGNATURE: usize = 16;
/// Before a response's stub: the common header, the hint, the context and two counters.
const RESPONSE_HEADER: usize = 24;

pub struct Signed {
    stream: TcpStream,
    security: Option<SealState>,
    call: u32,
}

impl Signed {
    pub async fn connect(address: &str) -> Signed {
        Signed {
            stream: TcpStream::connect(address).await.expect("a connection"),
            security: None,
            call: 1,
        }
    }

    /// Binds; whether the password is right shows in the first call.
    pub async fn bind(&mut self, syntax: Syntax, account: &str, password: &str) {
        let ntlm = Ntlm::new_sealed();
        let bind =
            pdu::try_build_bind_auth_level(self.call, syntax, ntlm.negotiate(), PACKET_INTEGRITY);
        self.send(&bind.expect("a bind")).await;
        let answer = self.receive().await.expect("an answer");
        pdu::parse_bind_ack(&answer, Some(self.call)).expect("bound");
        let challenge = pdu::extract_auth_value(&answer).expect("a challenge");
        let (token, key) = ntlm
            .authenticate(&challenge, "", account, password, "CLIENT")
            .expect("a challenge that is understood");
        let last = pdu::try_build_auth3_level(self.call, &token, PACKET_INTEGRITY);
        self.send(&last.expect("a last leg")).await;
        self.security = Some(SealState::new(&key));
    }

    /// Calls, and checks the signature of every fragment of the answer, which `edit` may change first.
    pub async fn call(
        &mut self,
        opnum: u16,
        object: Option<&[u8; 16]>,
        stub: &[u8],
        edit: impl Fn(&mut [u8]),
    ) -> Result<Vec<u8>, RpcError> {
        self.call += 1;
        let request = self.signed_request(opnum, object, stub)?;
        self.send(&request).await;
        let mut whole = Vec::new();
        loop {
            let mut answer = self.receive().await?;
            let header = pdu::parse_header(&answer)?;
            if header.ptype == pdu::ptype::FAULT {
                let status = answer[24..28].try_into().expect("four bytes");
                return Err(RpcError::Fault(u32::from_le_bytes(status)));
            }
            edit(&mut answer);
            let is_last = answer[3] & pdu::PFC_LAST_FRAG != 0;
            whole.extend(self.checked(&answer)?);
            if is_last {
                return Ok(whole);
            }
        }
    }

    fn signed_request(
        &mut self,
        opnum: u16,
        object: Option<&[u8; 16]>,
        stub: &[u8],
    ) -> Result<Vec<u8>, RpcError> {
        let mut padded = stub.to_vec();
        padded.resize(stub.len().next_multiple_of(4), 0);
        let pad = u8::try_from(padded.len() - stub.len()).expect("at most 3");
        let hint = u32::try_from(stub.len()).expect("a short stub");
        let none = [0; SIGNATURE];
        let mut request = match object {
            Some(object) => pdu::try_build_request_sealed_object(
                self.call, 0, opnum, object, &padded, pad, &none, hint,
            ),
            None => pdu::try_build_request_sealed(self.call, 0, opnum, &padded, pad, &none, hint),
        }?;
        let end = request.len() - SIGNATURE;
        // The trailer's second byte: these builders know one level only.
        request[end - 7] = PACKET_INTEGRITY;
        let security = self.security.as_mut().expect("bound");
        // Signed as if sealed, with nothing to encrypt.
        let (_, signature) = security.seal_pdu(&request[..end], &[]);
        request[end..].copy_from_slice(&signature);
        Ok(request)
    }

    /// The stub of a fragment with a right signature.
    fn checked(&mut self, answer: &[u8]) -> Result<Vec<u8>, RpcError> {
        let signature = pdu::extract_auth_value(answer)?;
        let end = answer.len() - signature.len();
        let trailer = &answer[end - 8..end];
        assert_eq!(trailer[..2], [pdu::RPC_C_AUTHN_WINNT, PACKET_INTEGRITY]);
        let security = self.security.as_mut().expect("bound");
        security
            .unseal_pdu(&answer[..end], RESPONSE_HEADER, 0, &signature)
            .map_err(|error| RpcError::Protocol(error.to_string()))?;
        Ok(answer[RESPONSE_HEADER..end - 8 - usize::from(trailer[2])].to_vec())
    }

    async fn send(&mut self, pdu: &[u8]) {
        self.stream.write_all(pdu).await.expect("sent");
    }

    async fn receive(&mut self) -> Result<Vec<u8>, RpcError> {
        let mut pdu = vec![0; 16];
        self.stream.read_exact(&mut pdu).await?;
        let length = usize::from(u16::from_le_bytes([pdu[8], pdu[9]]));
        pdu.resize(length, 0);
        self.stream.read_exact(&mut pdu[16..]).await?;
        Ok(pdu)
    }
}
