//! Logons in every dialect, and what is refused, delayed and audited.

#![allow(clippy::unwrap_used)]

use ntlm::initiator::Initiator;
use ntlm::{Security, ServerNames};
use spnego::token::{Init, KERBEROS, NTLM, Response, State};
use spnego::{
    Account, Accounts, Attempt, Audit, Dialect, Logon, Logons, Lookup, Negotiation, Refusal,
    Refused, Step,
};
use std::sync::{Arc, Mutex};

struct OneAccount;

impl Accounts for OneAccount {
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a> {
        let found = attempt.user.eq_ignore_ascii_case("alice").then(|| Account {
            name: "alice".to_owned(),
            hash: ntlm::NtHash::of_password("secret"),
        });
        Box::pin(async { found })
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Audit for Log {
    fn accepted(&self, attempt: &Attempt, account: &str) {
        let line = format!("{} {} is {account}", attempt.peer, attempt.user);
        self.0.lock().unwrap().push(line);
    }

    fn refused(&self, peer: &str, attempt: Option<&Attempt>, refusal: &Refusal) {
        let user = attempt.map_or("nobody", |attempt| &attempt.user);
        self.0
            .lock()
            .unwrap()
            .push(format!("{peer} {user}: {refusal}"));
    }
}

fn door() -> (Arc<Logons>, Arc<Log>) {
    let log = Arc::new(Log::default());
    let names = ServerNames::of_host("host");
    let logons = Logons::new(names, Arc::new(OneAccount), log.clone());
    (Arc::new(logons), log)
}

async fn reply(negotiation: &mut Negotiation, token: &[u8]) -> Vec<u8> {
    match negotiation.step(token).await {
        Ok(Step::Continue(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn done(step: Result<Step, Refused>) -> (Option<Response>, Logon) {
    match step {
        Ok(Step::Done(reply, logon)) => {
            (reply.map(|reply| Response::decode(&reply).unwrap()), *logon)
        }
        other => panic!("{other:?}"),
    }
}

fn refused(step: Result<Step, Refused>) -> Refusal {
    match step {
        Err(refused) => refused.refusal,
        other => panic!("{other:?}"),
    }
}

fn understand_each_other(client: &mut Security, server: &mut Security) {
    for _ in 0..2 {
        let mut message = b"over there".to_vec();
        let signature = client.seal(&mut message, 0..10);
        server.unseal(&mut message, 0..10, &signature).unwrap();
        assert_eq!(message, b"over there");
        let signature = server.sign(b"back");
        client.verify(b"back", &signature).unwrap();
    }
}

#[tokio::test]
async fn bare_ntlm_is_welcome_in_both_dialects() {
    for dialect in [Dialect::Ntlm, Dialect::Negotiate] {
        let (logons, log) = door();
        let mut negotiation = logons.begin("peer", dialect);
        let initiator = Initiator::new("Alice", "secret");
        let first = initiator.negotiate();
        let challenge = reply(&mut negotiation, &first).await;
        let (last, mut client) = initiator.authenticate(&first, &challenge).unwrap();
        let (token, mut logon) = done(negotiation.step(&last).await);
        assert_eq!(token, None);
        assert_eq!(logon.account, "alice");
        understand_each_other(&mut client, &mut logon.security);
        assert_eq!(*log.0.lock().unwrap(), ["peer Alice is alice"]);
        assert_eq!(refused(negotiation.step(&last).await), Refusal::Ended);
    }
}

/// A logon by SPNEGO: what the client offers, and what it does with the list's signature.
async fn negotiate(
    mechanisms: &[&[u8]],
    optimistic: bool,
    sign: impl Fn(&mut Security, &[u8]) -> Option<Vec<u8>>,
) -> (Result<Step, Refused>, Security, Init) {
    let (logons, _) = door();
    let mut negotiation = logons.begin("peer", Dialect::Negotiate);
    let initiator = Initiator::new("alice", "secret");
    let first = initiator.negotiate();
    let token = optimistic.then(|| match mechanisms.first() {
        Some(&NTLM) => first.clone(),
        _ => b"a ticket".to_vec(),
    });
    let init = Init::new(mechanisms, token);
    let answer = reply(&mut negotiation, &init.encode()).await;
    let mut answer = Response::decode(&answer).unwrap();
    assert_eq!(answer.mechanism.as_deref(), Some(NTLM));
    if answer.token.is_none() {
        let response = Response {
            token: Some(first.clone()),
            ..Response::default()
        };
        let again = reply(&mut negotiation, &response.encode()).await;
        answer = Response::decode(&again).unwrap();
    }
    assert_eq!(answer.state, Some(State::Incomplete));
    let (last, mut client) = initiator
        .authenticate(&first, &answer.token.unwrap())
        .unwrap();
    let response = Response {
        token: Some(last),
        signature: sign(&mut client, &init.mechanism_list),
        ..Response::default()
    };
    let step = negotiation.step(&response.encode()).await;
    (step, client, init)
}

#[tokio::test]
async fn a_signed_list_is_answered_with_a_signature() {
    for (mechanisms, optimistic) in [
        (&[NTLM][..], true),
        (&[NTLM][..], false),
        (&[NTLM, KERBEROS][..], true),
        (&[KERBEROS, NTLM][..], true),
        (&[KERBEROS, NTLM][..], false),
    ] {
        let sign = |client: &mut Security, list: &[u8]| Some(client.sign(list).to_vec());
        let (step, mut client, init) = negotiate(mechanisms, optimistic, sign).await;
        let (token, mut logon) = done(step);
        let token = token.unwrap();
        assert_eq!(token.state, Some(State::Completed));
        client
            .verify(&init.mechanism_list, &token.signature.unwrap())
            .unwrap();
        client.restart_ciphers();
        understand_each_other(&mut client, &mut logon.security);
    }
}

#[tokio::test]
async fn a_list_need_not_be_signed_when_the_first_choice_was_taken() {
    let (step, mut client, _) = negotiate(&[NTLM], true, |_, _| None).await;
    let (token, mut logon) = done(step);
    assert_eq!(token.unwrap().signature, None);
    understand_each_other(&mut client, &mut logon.security);
    let (step, ..) = negotiate(&[KERBEROS, NTLM], true, |_, _| None).await;
    assert_eq!(refused(step), Refusal::ListSignature);
}

#[tokio::test]
async fn a_list_that_was_changed_on_its_way_is_noticed() {
    let wrong = |client: &mut Security, list: &[u8]| {
        let mut list = list.to_vec();
        *list.last_mut().unwrap() ^= 1;
        Some(client.sign(&list).to_vec())
    };
    let (step, ..) = negotiate(&[NTLM, KERBEROS], true, wrong).await;
    assert_eq!(refused(step), Refusal::ListSignature);
}

#[tokio::test]
async fn refusals_are_audited_and_slowed_down() {
    let (logons, log) = door();
    let mut delays = Vec::new();
    for (user, password) in [("alice", "wrong"), ("mallory", "secret"), ("alice", "")] {
        let mut negotiation = logons.begin("peer", Dialect::Ntlm);
        let initiator = Initiator::new(user, password);
        let first = initiator.negotiate();
        let challenge = reply(&mut negotiation, &first).await;
        let (last, _) = initiator.authenticate(&first, &challenge).unwrap();
        let refused = negotiation.step(&last).await.unwrap_err();
        assert_eq!(refused.refusal, Refusal::Ntlm(ntlm::Refusal::Credentials));
        delays.push(refused.delay);
    }
    assert!(delays.is_sorted_by(|a, b| a < b), "{delays:?}");
    let mut negotiation = logons.begin("other", Dialect::Negotiate);
    assert_eq!(
        refused(
            negotiation
                .step(&Init::new(&[KERBEROS], None).encode())
                .await
        ),
        Refusal::Mechanism
    );
    let mut negotiation = logons.begin("other", Dialect::Ntlm);
    assert!(matches!(
        refused(negotiation.step(&Init::new(&[NTLM], None).encode()).await),
        Refusal::Ntlm(ntlm::Refusal::Malformed(_))
    ));
    let log = log.0.lock().unwrap();
    assert_eq!(log.len(), 5);
    assert!(log[0].starts_with("peer alice: no account"), "{}", log[0]);
    assert!(log[1].starts_with("peer mallory: "), "{}", log[1]);
    assert!(log[3].starts_with("other nobody: "), "{}", log[3]);
}

#[test]
fn no_bytes_make_the_parsers_panic_or_disagree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/spnego_token");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        seen += 1;
        for end in 0..=data.len() {
            if let Ok(token) = Init::decode(&data[..end]) {
                assert_eq!(Init::decode(&token.encode()), Ok(token));
            }
            if let Ok(token) = Response::decode(&data[..end]) {
                assert_eq!(Response::decode(&token.encode()), Ok(token));
            }
        }
    }
    assert!(seen > 2);
}
