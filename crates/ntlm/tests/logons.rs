//! Logons and their messages: the published examples, and what must be refused.

#![allow(clippy::unwrap_used)]

use ntlm::initiator::Initiator;
use ntlm::message::{Authenticate, Challenge, ClientChallenge, Flags, Malformed, Negotiate};
use ntlm::target::{self, Pairs};
use ntlm::{Acceptor, NtHash, Refusal, Security, ServerNames, Session};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// MS-NLMP 4.2.4.3.
const PUBLISHED_CHALLENGE: &str = "
    4e544c4d53535000 02000000 0c000c00 38000000 33828ae2 0123456789abcdef 0000000000000000
    24002400 44000000 060070170000000f 530065007200760065007200
    02000c00 44006f006d00610069006e00 01000c00 530065007200760065007200 00000000";
const PUBLISHED_AUTHENTICATE: &str = "
    4e544c4d53535000 03000000 18001800 6c000000 54005400 84000000 0c000c00 48000000
    08000800 54000000 10001000 5c000000 10001000 d8000000 358288e2 0501280a0000000f
    44006f006d00610069006e00 5500730065007200 43004f004d0050005500540045005200
    86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa
    68cd0ab851e51c96aabc927bebef6a1c 0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa
    00000000 02000c00 44006f006d00610069006e00 01000c00 530065007200760065007200
    00000000 00000000 c5dad2544fc9799094ce1ce90bc9d03e";

fn acceptor() -> Acceptor {
    Acceptor::new(ServerNames::of_host("server.example.org"))
}

fn published_session() -> Session {
    let negotiate = Negotiate {
        flags: Flags(0xe288_8235),
    };
    let challenged = acceptor()
        .challenge_with(
            &negotiate.encode(),
            [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
            0,
        )
        .unwrap();
    let claim = challenged
        .authenticate(&bytes(PUBLISHED_AUTHENTICATE))
        .unwrap();
    assert_eq!((claim.user(), claim.domain()), ("User", "Domain"));
    assert_eq!(claim.workstation(), "COMPUTER");
    claim
        .verify(Some(&NtHash::of_password("Password")))
        .unwrap()
}

#[test]
fn the_published_logon_is_accepted() {
    let session = published_session();
    assert_eq!(session.security.session_key(), &[0x55; 16]);
}

#[test]
fn the_published_messages_decode() {
    let challenge = Challenge::decode(&bytes(PUBLISHED_CHALLENGE)).unwrap();
    assert_eq!(challenge.target, "Server");
    assert_eq!(challenge.flags, Flags(0xe28a_8233));
    assert_eq!(challenge.challenge[0], 0x01);
    assert_eq!(
        challenge.pairs.get(target::COMPUTER),
        Some(&bytes("530065007200760065007200")[..])
    );
    let message = Authenticate::decode(&bytes(PUBLISHED_AUTHENTICATE)).unwrap();
    assert_eq!(message.integrity_code, None);
    let client = ClientChallenge::decode(&message.nt_response[16..]).unwrap();
    assert_eq!((client.time, client.challenge), (0, [0xaa; 8]));
}

/// To the byte, but for the version of the program that sends them.
#[test]
fn the_published_messages_are_encoded_again() {
    let same_but = |version: std::ops::Range<usize>, ours: Vec<u8>, theirs: Vec<u8>| {
        assert_eq!(ours[..version.start], theirs[..version.start]);
        assert_eq!(ours[version.end..], theirs[version.end..]);
    };
    let published = bytes(PUBLISHED_CHALLENGE);
    let challenge = Challenge::decode(&published).unwrap();
    same_but(48..56, challenge.encode(), published);
    let published = bytes(PUBLISHED_AUTHENTICATE);
    let message = Authenticate::decode(&published).unwrap();
    same_but(64..72, message.encode(), published);
    let client = ClientChallenge::decode(&message.nt_response[16..]).unwrap();
    assert_eq!(client.encode(), message.nt_response[16..]);
}

/// MS-NLMP 4.2.4.4: the message that the client seals first.
#[test]
fn the_published_sealed_message_is_read() {
    let mut session = published_session();
    let mut message = bytes("54e50165bf1936dc996020c1811b0f06fb5f");
    let signature = bytes("01000000 7fb38ec5c55d4976 00000000");
    session
        .security
        .unseal(&mut message, 0..18, &signature)
        .unwrap();
    let plain: Vec<u8> = "Plaintext"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(message, plain);
}

/// One logon; the messages may be changed by `edit` before the server sees them.
fn log_on(
    initiator: &Initiator,
    account: Option<&NtHash>,
    edit: impl Fn(&mut Vec<u8>, &mut Vec<u8>),
) -> Result<(Session, Security), Refusal> {
    let negotiate = initiator.negotiate();
    let mut seen = negotiate.clone();
    edit(&mut seen, &mut Vec::new());
    let challenged = acceptor().challenge(&seen)?;
    let (mut authenticate, client) = initiator
        .authenticate(&negotiate, challenged.message())
        .unwrap();
    edit(&mut Vec::new(), &mut authenticate);
    let session = challenged.authenticate(&authenticate)?.verify(account)?;
    Ok((session, client))
}

fn every_kind() -> Vec<Initiator> {
    let mut kinds = Vec::new();
    for key_exchange in [false, true] {
        for integrity_code in [false, true] {
            kinds.push(Initiator {
                domain: "Réseau".to_owned(),
                key_exchange,
                integrity_code,
                ..Initiator::new("jörg", "pässwörd 🔑")
            });
        }
    }
    kinds
}

#[test]
fn both_sides_understand_each_other_with_every_kind_of_key() {
    for initiator in every_kind() {
        let (mut server, mut client) =
            log_on(&initiator, Some(&initiator.hash), |_, _| {}).unwrap();
        assert_eq!((&*server.user, &*server.domain), ("jörg", "Réseau"));
        for round in 0..3_u8 {
            let plain = vec![round; 100];
            let mut message = plain.clone();
            let signature = client.seal(&mut message, 24..90);
            assert_eq!(message[..24], plain[..24]);
            assert_ne!(message[24..90], plain[24..90]);
            server
                .security
                .unseal(&mut message, 24..90, &signature)
                .unwrap();
            assert_eq!(message, plain);
            let signature = server.security.sign(&plain);
            client.verify(&plain, &signature).unwrap();
        }
    }
}

#[test]
fn wrong_and_missing_accounts_are_refused_alike() {
    for initiator in every_kind() {
        let other = NtHash::of_password("other");
        for account in [Some(&other), None] {
            let refused = log_on(&initiator, account, |_, _| {}).unwrap_err();
            assert_eq!(refused, Refusal::Credentials);
        }
    }
    // An account without a hash is not one with a hash of zeroes.
    let mut initiator = Initiator::new("u", "");
    initiator.hash = NtHash::from_bytes([0; 16]);
    let refused = log_on(&initiator, None, |_, _| {}).unwrap_err();
    assert_eq!(refused, Refusal::Credentials);
}

#[test]
fn with_an_integrity_code_no_bit_of_any_message_may_change() {
    let initiator = Initiator::new("user", "password");
    let length = initiator.negotiate().len();
    for at in 0..length {
        let refused = log_on(&initiator, Some(&initiator.hash), |negotiate, _| {
            if let Some(byte) = negotiate.get_mut(at) {
                *byte ^= 1;
            }
        });
        assert!(refused.is_err(), "NEGOTIATE, byte {at}");
    }
    let mut at = 0;
    loop {
        let mut inside = false;
        let outcome = log_on(&initiator, Some(&initiator.hash), |_, authenticate| {
            if let Some(byte) = authenticate.get_mut(at) {
                *byte ^= 1;
            }
        });
        let negotiate = initiator.negotiate();
        let challenged = acceptor().challenge(&negotiate).unwrap();
        if let Ok((message, _)) = initiator.authenticate(&negotiate, challenged.message()) {
            inside = at < message.len();
        }
        if !inside {
            break;
        }
        assert!(outcome.is_err(), "AUTHENTICATE, byte {at}");
        at += 1;
    }
    assert!(at > 200);
}

#[test]
fn a_code_that_is_promised_must_be_there() {
    let initiator = Initiator::new("user", "password");
    let refused = log_on(&initiator, Some(&initiator.hash), |_, authenticate| {
        if let Ok(mut message) = Authenticate::decode(authenticate) {
            message.integrity_code = None;
            *authenticate = message.encode();
        }
    });
    assert_eq!(refused.unwrap_err(), Refusal::IntegrityCode);
}

#[test]
fn what_is_too_weak_is_refused() {
    let initiator = Initiator {
        integrity_code: false,
        ..Initiator::new("user", "password")
    };
    let without = |flag: Flags| {
        let flags = Negotiate::decode(&initiator.negotiate()).unwrap().flags;
        let message = Negotiate {
            flags: Flags(flags.0 & !flag.0),
        };
        acceptor().challenge(&message.encode()).map(drop)
    };
    for flag in [
        Flags::UNICODE,
        Flags::EXTENDED_SESSION_SECURITY,
        Flags::BITS_128,
    ] {
        assert_eq!(without(flag), Err(Refusal::Weak));
    }
    assert_eq!(without(Flags::KEY_EXCHANGE), Ok(()));

    let change = |change: &dyn Fn(&mut Authenticate)| {
        log_on(&initiator, Some(&initiator.hash), |_, authenticate| {
            if let Ok(mut message) = Authenticate::decode(authenticate) {
                change(&mut message);
                *authenticate = message.encode();
            }
        })
        .unwrap_err()
    };
    assert_eq!(change(&|m| m.user.clear()), Refusal::Anonymous);
    assert_eq!(
        change(&|m| m.flags = Flags(m.flags.0 & !Flags::BITS_128.0)),
        Refusal::Weak
    );
    assert_eq!(change(&|m| m.nt_response.clear()), Refusal::OldResponse);
    assert_eq!(
        change(&|m| m.nt_response = vec![7; 24]),
        Refusal::OldResponse
    );
    assert_eq!(
        change(&|m| m.session_key = None),
        Refusal::Malformed(Malformed::Field)
    );
    assert_eq!(
        change(&|m| m.user = "USER2".to_owned()),
        Refusal::Credentials
    );
    assert_eq!(
        change(&|m| m.domain = "Elsewhere".to_owned()),
        Refusal::Credentials
    );
}

#[test]
fn a_clock_may_be_a_day_wrong_but_not_two() {
    const HOUR: u64 = 3600 * 10_000_000;
    let initiator = Initiator::new("user", "password");
    let start = 1000 * HOUR;
    for (hours, accepted) in [(24, true), (48, false)] {
        let negotiate = initiator.negotiate();
        let shown = acceptor()
            .challenge_with(&negotiate, [1; 8], start)
            .unwrap();
        let (message, _) = initiator.authenticate(&negotiate, shown.message()).unwrap();
        let later = acceptor()
            .challenge_with(&negotiate, [1; 8], start + hours * HOUR)
            .unwrap();
        assert_eq!(
            later.authenticate(&message).map(drop),
            if accepted {
                Ok(())
            } else {
                Err(Refusal::Clock)
            }
        );
    }
}

#[test]
fn a_logon_bound_to_another_channel_is_refused() {
    let with_binding = |ours: Option<[u8; 16]>, theirs: Option<[u8; 16]>| {
        let mut initiator = Initiator::new("user", "password");
        initiator.integrity_code = false;
        let negotiate = initiator.negotiate();
        let mut challenged = acceptor().challenge(&negotiate).unwrap();
        if let Some(ours) = ours {
            challenged.bind_to_channel(ours);
        }
        let mut shown = Challenge::decode(challenged.message()).unwrap();
        if let Some(theirs) = theirs {
            shown.pairs.push(target::CHANNEL_BINDINGS, &theirs);
        }
        let (message, _) = initiator.authenticate(&negotiate, &shown.encode()).unwrap();
        challenged
            .authenticate(&message)?
            .verify(Some(&initiator.hash))
            .map(drop)
    };
    assert_eq!(with_binding(Some([1; 16]), Some([1; 16])), Ok(()));
    assert_eq!(with_binding(Some([1; 16]), Some([0; 16])), Ok(()));
    assert_eq!(with_binding(Some([1; 16]), None), Ok(()));
    assert_eq!(with_binding(None, Some([1; 16])), Ok(()));
    assert_eq!(
        with_binding(Some([1; 16]), Some([2; 16])),
        Err(Refusal::ChannelBindings)
    );
}

#[test]
fn one_changed_byte_ends_a_session() {
    for initiator in every_kind() {
        let plain: Vec<u8> = (0..60).collect();
        let (session, client) = log_on(&initiator, Some(&initiator.hash), |_, _| {}).unwrap();
        for sealed in [false, true] {
            for at in 0..plain.len() + 16 {
                let (mut server, mut client) = (session.security.clone(), client.clone());
                let mut send = |edit: bool| {
                    let mut message = plain.clone();
                    let mut signature = match sealed {
                        true => client.seal(&mut message, 16..60),
                        false => client.sign(&message),
                    };
                    if edit {
                        let byte = message.iter_mut().chain(&mut signature).nth(at);
                        *byte.unwrap() ^= 0x10;
                    }
                    match sealed {
                        true => server.unseal(&mut message, 16..60, &signature),
                        false => server.verify(&message, &signature),
                    }
                };
                assert!(send(false).is_ok());
                assert!(send(true).is_err(), "byte {at}, sealed: {sealed}");
                assert!(send(false).is_err(), "after byte {at}, sealed: {sealed}");
            }
        }
    }
}

#[test]
fn messages_out_of_order_are_refused() {
    let initiator = Initiator::new("user", "password");
    let (session, mut client) = log_on(&initiator, Some(&initiator.hash), |_, _| {}).unwrap();
    let first = client.sign(b"a");
    let second = client.sign(b"b");
    assert!(session.security.clone().verify(b"b", &second).is_err());
    let mut server = session.security;
    assert!(server.verify(b"a", &first).is_ok());
    assert!(server.clone().verify(b"a", &first).is_err());
    assert!(server.verify(b"b", &second).is_ok());
}

#[test]
fn no_bytes_make_the_parsers_panic_or_disagree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/ntlm_message");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        seen += 1;
        for end in 0..=data.len() {
            round_trip(&data[..end]);
        }
    }
    assert!(seen > 4);
}

fn round_trip(data: &[u8]) {
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
}
