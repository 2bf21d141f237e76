//! Targets that behave in ways that a real one would not. Real ones are in `tests/it/postgres/login.rs`.

use crewtap_core::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PASSWORD: &str = "correct horse 7!";

async fn connected() -> (Leg, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leg = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Leg::new(leg), listener.accept().await.unwrap().0)
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], len.as_slice(), body].concat()
}

fn asked(kind: u32, rest: &[u8]) -> Vec<u8> {
    framed(b'R', &[kind.to_be_bytes().as_slice(), rest].concat())
}

async fn answered(target: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 5];
    target.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], b'p');
    let len = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    let mut body = vec![0; len - 4];
    target.read_exact(&mut body).await.unwrap();
    body
}

fn login(password: Option<&Secret>) -> Login<'_> {
    Login { user: "crew", password, certificate: None, readable: false }
}

/// What comes of a target that says all this without waiting for an answer.
async fn told(readable: bool, said: &[Vec<u8>]) -> Result<Answer, LoginError> {
    let (leg, mut target) = connected().await;
    target.write_all(&said.concat()).await.unwrap();
    target.shutdown().await.unwrap();
    let secret = Secret::new(PASSWORD.into());
    authenticate(&leg, &Login { readable, ..login(Some(&secret)) }, None).await
}

#[tokio::test]
async fn nothing_behind_the_log_in_is_read() {
    let (leg, mut target) = connected().await;
    let notice = framed(b'N', b"SWARNING\0\0");
    let behind = framed(b'S', b"a\0b\0");
    target.write_all(&[notice.clone(), asked(0, b""), behind.clone()].concat()).await.unwrap();
    let answer = authenticate(&leg, &login(None), None).await.unwrap();
    assert_eq!(answer, Answer::Admitted { before: vec![notice], method: "trust" });
    let mut rest = vec![0; behind.len()];
    fill(&leg, &mut rest).await.unwrap();
    assert_eq!(rest, behind);
}

#[tokio::test]
async fn a_password_goes_in_clear_only_where_it_may() {
    assert!(matches!(told(false, &[asked(3, b"")]).await, Err(LoginError::Readable(_))));
    let (leg, mut target) = connected().await;
    let secret = Secret::new(PASSWORD.into());
    target.write_all(&asked(3, b"")).await.unwrap();
    let login = Login { readable: true, ..login(Some(&secret)) };
    let (answer, sent) = tokio::join!(authenticate(&leg, &login, None), async {
        let sent = answered(&mut target).await;
        target.write_all(&asked(0, b"")).await.unwrap();
        sent
    });
    assert_eq!(answer.unwrap(), Answer::Admitted { before: vec![], method: "password" });
    assert_eq!(sent, [PASSWORD.as_bytes(), b"\0"].concat());
}

#[tokio::test]
async fn a_refusal_is_kept_whole() {
    let error = framed(b'E', b"SFATAL\0C28P01\0Mno\0\0");
    assert_eq!(told(false, std::slice::from_ref(&error)).await.unwrap(), Answer::Refused(error));
}

#[tokio::test]
async fn who_begins_scram_must_prove_itself() {
    let sasl = asked(10, b"SCRAM-SHA-256\0\0");
    let ok = asked(0, b"");
    assert!(matches!(told(false, &[sasl.clone(), ok]).await, Err(LoginError::Unproven { .. })));
    // Nor may it fall back to what anybody could read.
    assert!(matches!(told(true, &[sasl.clone(), asked(3, b"")]).await, Err(LoginError::Unexpected(_))));
    assert!(matches!(told(true, &[sasl.clone(), asked(5, b"salt")]).await, Err(LoginError::Unexpected(_))));
    assert!(matches!(told(true, &[asked(5, b"salt"), asked(3, b"")]).await, Err(LoginError::Unexpected(_))));
    assert!(matches!(told(true, &[sasl.clone(), sasl.clone()]).await, Err(LoginError::Unexpected(_))));
    assert!(matches!(told(true, &[asked(12, b"v=x")]).await, Err(LoginError::Unexpected(_))));
    assert!(matches!(told(true, &[asked(11, b"r=x")]).await, Err(LoginError::Unexpected(_))));
    // A challenge for somebody else, and one that would cost minutes.
    let stranger = asked(11, b"r=stranger,s=c2FsdA==,i=4096");
    assert!(matches!(told(false, &[sasl.clone(), stranger]).await, Err(LoginError::Unproven { .. })));
    let (leg, mut target) = connected().await;
    let secret = Secret::new(PASSWORD.into());
    target.write_all(&sasl).await.unwrap();
    let login = login(Some(&secret));
    let (answer, ()) = tokio::join!(authenticate(&leg, &login, None), async {
        let first = String::from_utf8_lossy(&answered(&mut target).await).into_owned();
        assert!(first.starts_with("SCRAM-SHA-256\0") && first.contains("n,,n="), "{first:?}");
        let nonce = first.split_once("r=").unwrap().1;
        let challenge = format!("r={nonce}abc,s=c2FsdA==,i=2147483647");
        target.write_all(&asked(11, challenge.as_bytes())).await.unwrap();
    });
    assert!(matches!(answer, Err(LoginError::Unproven { .. })), "{answer:?}");
}

#[tokio::test]
async fn what_no_target_sends_ends_the_log_in() {
    let unexpected = |answer| matches!(answer, Err(LoginError::Unexpected(_)));
    assert!(unexpected(told(false, &[framed(b'T', b"")]).await));
    assert!(unexpected(told(false, &[framed(b'R', b"\0\0")]).await));
    assert!(unexpected(told(false, &[b"R\0\0\0\x03".to_vec()]).await));
    assert!(unexpected(told(false, &[b"R\x3f\0\0\0".to_vec()]).await), "the length is believed");
    assert!(unexpected(told(false, &[asked(5, b"long salt")]).await));
    assert!(unexpected(told(false, &vec![framed(b'N', b"\0"); LOGIN_MESSAGES_MAX + 1]).await));
    assert!(matches!(told(false, &[b"R\0\0\0\x08\0\0".to_vec()]).await, Err(LoginError::Ended)));
    assert!(matches!(told(false, &[]).await, Err(LoginError::Ended)));
    for kind in [2, 6, 7, 9, 99] {
        assert!(matches!(told(true, &[asked(kind, b"")]).await, Err(LoginError::Method(..))), "{kind}");
    }
    assert!(matches!(told(true, &[asked(10, b"OAUTHBEARER\0\0")]).await, Err(LoginError::Method(..))));
}

#[tokio::test]
async fn without_a_password_nothing_is_answered() {
    for request in [asked(3, b""), asked(5, b"salt"), asked(10, b"SCRAM-SHA-256\0\0")] {
        let (leg, mut target) = connected().await;
        target.write_all(&request).await.unwrap();
        let answer = authenticate(&leg, &Login { readable: true, ..login(None) }, None).await;
        assert!(matches!(answer, Err(LoginError::NoPassword(_))), "{answer:?}");
        drop(leg);
        let mut said = Vec::new();
        target.read_to_end(&mut said).await.unwrap();
        assert!(said.is_empty());
    }
}
