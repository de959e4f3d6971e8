//! NTLM: no bytes make a parser or the acceptor panic, and what decodes encodes to the same message.
#![no_main]

use ntlm::message::{Authenticate, Challenge, ClientChallenge, Negotiate};
use ntlm::target::Pairs;
use ntlm::{Acceptor, NtHash, ServerNames};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Negotiate::decode(data) {
        assert_eq!(Negotiate::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = Challenge::decode(data) {
        assert_eq!(Challenge::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = Authenticate::decode(data) {
        assert_eq!(Authenticate::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = ClientChallenge::decode(data) {
        assert_eq!(ClientChallenge::decode(&message.encode()), Ok(message));
    }
    if let Ok((pairs, _)) = Pairs::decode(data) {
        assert_eq!(Pairs::decode(&pairs.encode()).map(|it| it.0), Ok(pairs));
    }
    // As the server meets them: any first message, any last message. No hash is right by chance.
    let acceptor = Acceptor::new(ServerNames::of_host("host"));
    let _ = acceptor.challenge_with(data, [1; 8], 0);
    let negotiate = ntlm::initiator::Initiator::new("user", "password").negotiate();
    if let Ok(challenged) = acceptor.challenge_with(&negotiate, [1; 8], 0)
        && let Ok(claim) = challenged.authenticate(data)
    {
        assert!(claim.verify(Some(&NtHash::from_bytes([9; 16]))).is_err());
    }
});
