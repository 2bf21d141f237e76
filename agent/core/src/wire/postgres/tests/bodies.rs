//! Bodies and first packets, whole and broken.

use crate::limits;
use crate::wire::postgres::message::{
    Authentication, BackendKey, Bind, CommandComplete, Execute, FunctionCall, Named, Negotiation, Parse, Query, Report,
    Status,
};
use crate::wire::postgres::reply;
use crate::wire::postgres::startup::{BadStartup, First, SSL_REQUEST, Startup, VERSION_3_2, cancel};

#[test]
fn bodies_that_end_early_or_late_are_malformed() {
    let bind = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0";
    assert_eq!(Bind::read(bind).unwrap().values.iter().collect::<Vec<_>>(), [Some(&b"x"[..]), None]);
    for len in 0..bind.len() {
        assert!(Bind::read(&bind[..len]).is_err(), "{len}");
    }
    assert!(Bind::read(&[&bind[..], b"\0"].concat()).is_err());
    // A value that says that it has -2 bytes.
    assert!(Bind::read(b"p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0").is_err());
    assert!(Query::read(b"select 1\0; drop table t\0").is_err());
    assert!(Query::read(b"select 1").is_err());
    assert!(Parse::read(b"\0select\0\0\x02\0\0\0\x17").is_err());
    assert!(Named::read(b'D', b"Xa\0").is_err());
    assert!(FunctionCall::read(b"\0\0\0\x01\0\0\0\0\0").is_err());
    assert!(Report::read(b'E', b"SERROR\0").is_err());
    assert!(Status::read(b"X").is_err());
    assert_eq!(Execute::read(b"\0\xff\xff\xff\xff").unwrap().max_rows, 0);
}

#[test]
fn rows_are_counted_by_the_tag() {
    let rows = |tag: &[u8]| CommandComplete { tag }.rows();
    assert_eq!(rows(b"INSERT 0 3"), Some(3));
    assert_eq!(rows(b"SELECT 18446744073709551615"), Some(u64::MAX));
    assert_eq!(rows(b"COPY 7"), Some(7));
    assert_eq!((rows(b"CREATE TABLE"), rows(b"7"), rows(b""), rows(b"MERGE x")), (None, None, None, None));
}

#[test]
fn errors_tell_their_severity_in_english() {
    let report = Report::read(b'E', b"SFATAL\xc3\xa9\0VFATAL\0C57P01\0Mno\0\0").unwrap();
    assert!(report.is_fatal());
    assert_eq!((report.get(b'C'), report.get(b'H')), (Some(&b"57P01"[..]), None));
    assert!(!Report::read(b'E', b"SERROR\0C42P01\0\0").unwrap().is_fatal());
}

#[test]
fn log_ins_are_read() {
    let sasl = Authentication::read(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").unwrap();
    let Authentication::Sasl(mechanisms) = sasl else { panic!("{sasl:?}") };
    assert_eq!(mechanisms.iter().collect::<Vec<_>>(), [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
    assert!(mechanisms.has("SCRAM-SHA-256") && !mechanisms.has("OAUTHBEARER"));
    assert_eq!(Authentication::read(b"\0\0\0\x05abcd"), Ok(Authentication::Md5Password { salt: *b"abcd" }));
    assert_eq!(Authentication::read(b"\0\0\0\x0bx"), Ok(Authentication::SaslContinue(b"x")));
    assert_eq!(Authentication::read(b"\0\0\0\x63x"), Ok(Authentication::Other(99)));
    assert!(Authentication::read(b"\0\0\0\x0aSCRAM-SHA-256\0").is_err(), "the list has no end");
    assert!(Authentication::read(b"\0\0\0\0x").is_err());
    let built = reply::negotiate_version(0x0003_0000, [&b"_pq_.a"[..], b"_pq_.b"].into_iter());
    let negotiation = Negotiation::read(&built[5..]).unwrap();
    assert_eq!(negotiation.version, 0x0003_0000);
    assert_eq!(negotiation.unknown_options().collect::<Vec<_>>(), [&b"_pq_.a"[..], b"_pq_.b"]);
}

#[test]
fn keys_have_up_to_256_bytes() {
    for len in [4, 32, 256] {
        let key = vec![7; len];
        assert_eq!(BackendKey::read(&reply::backend_key(9, &key)[5..]), Ok(BackendKey { process: 9, key: &key }));
        let request = cancel(9, &key);
        assert_eq!(First::read(&request), Ok(Some((First::Cancel { process: 9, key: &key }, request.len()))));
    }
    for len in [0, 3, 257] {
        assert!(BackendKey::read(&reply::backend_key(9, &vec![7; len])[5..]).is_err());
        assert_eq!(First::read(&cancel(9, &vec![7; len])), Err(BadStartup::Malformed));
    }
}

#[test]
fn first_packets_are_read_to_the_limits_of_the_server() {
    assert_eq!(First::read(&SSL_REQUEST), Ok(Some((First::SslRequest, 8))));
    assert_eq!(First::read(b"\0\0\0\x08\x04\xd2\x16\x30"), Ok(Some((First::GssRequest, 8))));
    assert_eq!(First::read(b"\0\0\0\x08\0\x02\0\0"), Ok(Some((First::OtherVersion(0x0002_0000), 8))));
    for len in 0..8 {
        assert_eq!(First::read(&SSL_REQUEST[..len]), Ok(None), "{len}");
    }
    assert_eq!(First::read(b"\0\0\0\x07\0\x03\0"), Err(BadStartup::Length(7)));
    assert_eq!(First::read(b"\0\0\0\x09\0\x03\0\0\x01"), Err(BadStartup::Malformed));
    assert_eq!(First::read(b"\0\0\0\x0e\0\x03\0\0user\0\0"), Err(BadStartup::Malformed));
    let largest = u32::try_from(limits::POSTGRES_STARTUP_BYTES_MAX + 4).unwrap();
    assert_eq!(First::read(&largest.to_be_bytes()), Ok(None));
    assert_eq!(First::read(&(largest + 1).to_be_bytes()), Err(BadStartup::Length(largest + 1)));
}

#[test]
fn settings_keep_their_order_when_some_are_changed() {
    let packet = |settings: &[(&'static str, &'static str)]| {
        let settings = settings.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect();
        Startup { version: VERSION_3_2, settings }.build().unwrap()
    };
    let bytes = packet(&[("user", "me"), ("application_name", "a"), ("options", ""), ("application_name", "b")]);
    let Ok(Some((First::Startup(mut startup), _))) = First::read(&bytes) else { panic!("it is one") };
    assert_eq!(startup.get("application_name"), Some(&b"b"[..]), "the last one counts");
    startup.set("application_name", &b"a/crewtap"[..]);
    startup.set("user", b"other".to_vec());
    startup.set("database", b"db".to_vec());
    startup.remove("options");
    let expected = packet(&[("user", "other"), ("application_name", "a/crewtap"), ("database", "db")]);
    assert_eq!(startup.build().unwrap(), expected);
    startup.set("user", &b"a\0b"[..]);
    assert_eq!(startup.build(), Err(BadStartup::Malformed));
    startup.set("user", vec![b'x'; limits::POSTGRES_STARTUP_BYTES_MAX]);
    assert!(matches!(startup.build(), Err(BadStartup::Length(_))));
}
