//! What other people's parsers make of the same bytes: `postgres-protocol` (of tokio-postgres) and `pgwire`.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend, frontend};
use proptest::prelude::*;

use super::recorded::files;
use super::*;
use crate::wire::postgres::frame::{Frame, Frames};
use crate::wire::postgres::message::{
    Authentication, BackendKey, Bind, CommandComplete, CopyFail, DataRow, Execute, Named, Notification, Object,
    ParameterDescription, ParameterStatus, Parse, Query, Report, RowDescription, SaslInitial, Status, password,
};
use crate::wire::postgres::reply;
use crate::wire::postgres::startup::{First, SSL_REQUEST, VERSION_3_0};

/// All that one side of each recording said, up to where both sides went over to COPY.
fn said(side: Side) -> Vec<(String, Vec<u8>)> {
    let of = |(name, bytes): (String, Vec<u8>)| {
        let said = turns(&bytes).into_iter().filter(|(from, _)| *from == side).flat_map(|(_, bytes)| bytes.to_vec());
        (name, said.collect())
    };
    files().into_iter().map(of).collect()
}

fn rebuilt(frame: Frame<'_>) -> Vec<u8> {
    reply::frame(frame.tag, |body| body.extend_from_slice(frame.body))
}

#[test]
fn servers_are_read_as_postgres_protocol_reads_them() {
    let mut kinds = std::collections::BTreeSet::new();
    for (name, bytes) in said(Server) {
        let mut buffer = BytesMut::from(&bytes[..]);
        for frame in Frames::new(&bytes) {
            // It knows neither function calls nor COPY of both sides.
            if matches!(frame.tag, b'V' | b'W') {
                let _ = buffer.split_to(5 + frame.body.len());
                continue;
            }
            let theirs = backend::Message::parse(&mut buffer).unwrap().unwrap_or_else(|| panic!("{name}"));
            compare(frame, &theirs);
            kinds.insert(char::from(frame.tag));
        }
        assert!(buffer.is_empty(), "{name}: {} bytes differ", buffer.len());
    }
    assert_eq!(kinds.iter().collect::<String>(), "123ACDEGHIKNSTZcdnst");
}

fn compare(frame: Frame<'_>, theirs: &backend::Message) {
    let Frame { tag, body } = frame;
    match theirs {
        backend::Message::RowDescription(theirs) => {
            let ours = RowDescription::read(body).unwrap();
            let ours = ours.fields().map(|field| {
                let name = String::from_utf8(field.name.into()).unwrap();
                (
                    name,
                    field.table,
                    field.column.cast_signed(),
                    field.type_oid,
                    field.size,
                    field.modifier,
                    field.binary,
                )
            });
            let theirs = theirs.fields().map(|field| {
                let name = field.name().to_owned();
                let kind = (field.type_oid(), field.type_size(), field.type_modifier(), field.format() == 1);
                Ok((name, field.table_oid(), field.column_id(), kind.0, kind.1, kind.2, kind.3))
            });
            assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>().unwrap());
        }
        backend::Message::DataRow(theirs) => {
            let ours: Vec<Option<&[u8]>> = DataRow::read(body).unwrap().cells.iter().collect();
            let ranges: Vec<_> = theirs.ranges().collect().unwrap();
            let theirs: Vec<_> = ranges.into_iter().map(|range| range.map(|range| &theirs.buffer()[range])).collect();
            assert_eq!(ours, theirs);
        }
        backend::Message::CommandComplete(theirs) => {
            assert_eq!(CommandComplete::read(body).unwrap().tag, theirs.tag().unwrap().as_bytes());
        }
        backend::Message::ErrorResponse(theirs) => fields(Report::read(tag, body).unwrap(), theirs.fields()),
        backend::Message::NoticeResponse(theirs) => fields(Report::read(tag, body).unwrap(), theirs.fields()),
        backend::Message::ParameterDescription(theirs) => {
            let ours: Vec<u32> = ParameterDescription::read(body).unwrap().types.iter().collect();
            assert_eq!(ours, theirs.parameters().collect::<Vec<_>>().unwrap());
        }
        backend::Message::ParameterStatus(theirs) => {
            let ours = ParameterStatus::read(body).unwrap();
            assert_eq!(
                (ours.name, ours.value),
                (theirs.name().unwrap().as_bytes(), theirs.value().unwrap().as_bytes())
            );
        }
        backend::Message::NotificationResponse(theirs) => {
            let ours = Notification::read(body).unwrap();
            assert_eq!(ours.process, theirs.process_id().cast_unsigned());
            assert_eq!(ours.channel, theirs.channel().unwrap().as_bytes());
            assert_eq!(ours.payload, theirs.message().unwrap().as_bytes());
        }
        backend::Message::BackendKeyData(theirs) => {
            let ours = BackendKey::read(body).unwrap();
            assert_eq!(ours.process, theirs.process_id().cast_unsigned());
            assert_eq!(ours.key, theirs.secret_key().to_be_bytes());
        }
        backend::Message::ReadyForQuery(theirs) => {
            let expected = match theirs.status() {
                b'I' => Status::Idle,
                b'T' => Status::Open,
                _ => Status::Failed,
            };
            assert_eq!(Status::read(body).unwrap(), expected);
        }
        _ => {}
    }
}

fn fields(ours: Report<'_>, theirs: backend::ErrorFields<'_>) {
    let theirs: Vec<(u8, Vec<u8>)> =
        theirs.map(|field| Ok((field.type_(), field.value_bytes().to_vec()))).collect().unwrap();
    assert_eq!(ours.fields().map(|(kind, text)| (kind, text.to_vec())).collect::<Vec<_>>(), theirs);
}

#[test]
fn both_sides_are_read_as_pgwire_reads_them() {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    let mut count = 0;
    for (name, bytes) in said(Client) {
        // It knows neither function calls nor the type that nobody knows.
        for frame in Frames::new(&bytes).filter(|frame| !matches!(frame.tag, b'F' | b'y')) {
            let mut buffer = BytesMut::from(&rebuilt(frame)[..]);
            let theirs = PgWireFrontendMessage::decode(&mut buffer, &context).unwrap().unwrap();
            let text = |name: &Option<String>| name.clone().unwrap_or_default().into_bytes();
            match &theirs {
                PgWireFrontendMessage::Parse(theirs) => {
                    let ours = Parse::read(frame.body).unwrap();
                    assert_eq!((ours.name, ours.sql), (&text(&theirs.name)[..], theirs.query.as_bytes()), "{name}");
                    assert_eq!(ours.types.iter().collect::<Vec<_>>(), theirs.type_oids, "{name}");
                }
                PgWireFrontendMessage::Bind(theirs) => {
                    let ours = Bind::read(frame.body).unwrap();
                    assert_eq!(ours.portal, text(&theirs.portal_name), "{name}");
                    assert_eq!(ours.statement, text(&theirs.statement_name), "{name}");
                    let values: Vec<Option<&[u8]>> = theirs.parameters.iter().map(Option::as_deref).collect();
                    assert_eq!(ours.values.iter().collect::<Vec<_>>(), values, "{name}");
                    let codes = |codes: &[i16]| codes.iter().map(|code| code.cast_unsigned()).collect::<Vec<_>>();
                    assert_eq!(ours.formats.codes().collect::<Vec<_>>(), codes(&theirs.parameter_format_codes));
                    let results = codes(&theirs.result_column_format_codes);
                    assert_eq!(ours.result_formats.codes().collect::<Vec<_>>(), results, "{name}");
                }
                PgWireFrontendMessage::Execute(theirs) => {
                    let ours = Execute::read(frame.body).unwrap();
                    let expected = (&text(&theirs.name)[..], theirs.max_rows.cast_unsigned());
                    assert_eq!((ours.portal, ours.max_rows), expected);
                }
                PgWireFrontendMessage::Describe(theirs) => {
                    let ours = Named::read(frame.tag, frame.body).unwrap();
                    assert_eq!(
                        (ours.object == Object::Portal, ours.name),
                        (theirs.target_type == b'P', &text(&theirs.name)[..])
                    );
                }
                _ => {}
            }
            let mut encoded = BytesMut::new();
            theirs.encode(&mut encoded).unwrap();
            assert_eq!(&encoded[..], rebuilt(frame), "{name} {}", char::from(frame.tag));
            count += 1;
        }
    }
    for (name, bytes) in said(Server) {
        for frame in Frames::new(&bytes).filter(|frame| frame.tag != b'V') {
            let mut buffer = BytesMut::from(&rebuilt(frame)[..]);
            let theirs = PgWireBackendMessage::decode(&mut buffer, &context).unwrap().unwrap();
            let mut encoded = BytesMut::new();
            theirs.encode(&mut encoded).unwrap();
            assert_eq!(&encoded[..], rebuilt(frame), "{name} {}", char::from(frame.tag));
            count += 1;
        }
    }
    assert!(count > 3000, "{count}");
}

fn one(buffer: &BytesMut) -> Frame<'_> {
    let mut frames = Frames::new(buffer);
    let frame = frames.next().unwrap();
    assert!(frames.rest().is_empty());
    frame
}

proptest! {
    #[test]
    fn clients_of_postgres_protocol_are_read(
        names in ("[^\0]{0,70}", "[^\0]{0,70}", "[^\0]{0,300}"),
        types in proptest::collection::vec(any::<u32>(), 0..20),
        codes in (proptest::collection::vec(0..2_i16, 0..9), proptest::collection::vec(0..2_i16, 0..9)),
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), 0..9),
        rows in any::<i32>(),
    ) {
        let (portal, name, sql) = names;
        let mut buffer = BytesMut::new();
        let write = |value: &Option<Vec<u8>>, buffer: &mut BytesMut| {
            buffer.extend_from_slice(value.as_deref().unwrap_or_default());
            Ok(if value.is_none() { IsNull::Yes } else { IsNull::No })
        };
        prop_assert!(frontend::bind(&portal, &name, codes.0.clone(), &values, write, codes.1.clone(), &mut buffer).is_ok());
        let bind = Bind::read(one(&buffer).body).unwrap();
        prop_assert_eq!((bind.portal, bind.statement), (portal.as_bytes(), name.as_bytes()));
        prop_assert_eq!(bind.values.iter().map(|value| value.map(<[u8]>::to_vec)).collect::<Vec<_>>(), values);
        let binary = |codes: &[i16], index: usize| match codes {
            [one] => *one == 1,
            codes => codes.get(index) == Some(&1),
        };
        for index in 0..12 {
            prop_assert_eq!(bind.formats.is_binary(index), binary(&codes.0, index));
            prop_assert_eq!(bind.result_formats.is_binary(index), binary(&codes.1, index));
        }
        let mut buffer = BytesMut::new();
        frontend::parse(&name, &sql, types.clone(), &mut buffer).unwrap();
        let parse = Parse::read(one(&buffer).body).unwrap();
        prop_assert_eq!((parse.name, parse.sql), (name.as_bytes(), sql.as_bytes()));
        prop_assert_eq!(parse.types.iter().collect::<Vec<_>>(), types);
        let mut buffer = BytesMut::new();
        frontend::execute(&portal, rows, &mut buffer).unwrap();
        let execute = Execute::read(one(&buffer).body).unwrap();
        prop_assert_eq!((execute.portal, execute.max_rows), (portal.as_bytes(), u32::try_from(rows).unwrap_or(0)));
        let mut buffer = BytesMut::new();
        frontend::startup_message([("user", &name[..]), ("options", &sql)], &mut buffer).unwrap();
        let (first, len) = First::read(&buffer).unwrap().unwrap();
        let First::Startup(startup) = first else { panic!("{first:?}") };
        prop_assert_eq!((len, startup.version), (buffer.len(), VERSION_3_0));
        prop_assert_eq!((startup.get("user"), startup.get("options")), (Some(name.as_bytes()), Some(sql.as_bytes())));
        prop_assert_eq!(startup.build().unwrap(), &buffer[..]);
    }
}

#[test]
fn what_we_build_is_what_they_build() {
    let built = |write: &dyn Fn(&mut BytesMut)| {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        buffer.to_vec()
    };
    assert_eq!(reply::query(b"select"), built(&|to| frontend::query("select", to).unwrap()));
    assert_eq!(reply::sync(), built(&|to| frontend::sync(to)));
    assert_eq!(reply::terminate(), built(&|to| frontend::terminate(to)));
    assert_eq!(reply::cancel_request(7, &9_i32.to_be_bytes()), built(&|to| frontend::cancel_request(7, 9, to)));
    assert_eq!(reply::password(b"made up").expose(), built(&|to| frontend::password_message(b"made up", to).unwrap()));
    let initial = built(&|to| frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,", to).unwrap());
    assert_eq!(reply::sasl_initial("SCRAM-SHA-256", b"n,,").expose(), initial);
    assert_eq!(reply::sasl_response(b"c=biws").expose(), built(&|to| frontend::sasl_response(b"c=biws", to).unwrap()));
    assert_eq!(&SSL_REQUEST[..], built(&|to| frontend::ssl_request(to)));
    let parse = built(&|to| frontend::parse(reply::REFUSED_NAME, reply::REFUSED_SQL, [], to).unwrap());
    assert_eq!(reply::refused_parse(), parse);

    let initial = SaslInitial::read(&initial[5..]).unwrap();
    assert_eq!((initial.mechanism, initial.response), (&b"SCRAM-SHA-256"[..], Some(&b"n,,"[..])));
    assert_eq!(password(&reply::password(b"made up").expose()[5..]).unwrap(), b"made up");
    assert_eq!(Query::read(&reply::refused_query()[5..]).unwrap().text, reply::REFUSED_SQL.as_bytes());
    let fail = built(&|to| frontend::copy_fail("why", to).unwrap());
    assert_eq!(CopyFail::read(&fail[5..]).unwrap().reason, b"why");

    let complaint =
        reply::Complaint { severity: "ERROR", code: "42501", message: "no\0t", detail: "session 1", hint: "" };
    let mut buffer = BytesMut::from(&complaint.error()[..]);
    let Some(backend::Message::ErrorResponse(theirs)) = backend::Message::parse(&mut buffer).unwrap() else { panic!() };
    let theirs: Vec<(u8, Vec<u8>)> =
        theirs.fields().map(|field| Ok((field.type_(), field.value_bytes().to_vec()))).collect().unwrap();
    let expected = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "42501"), (b'M', "no?t"), (b'D', "session 1")];
    assert_eq!(theirs, expected.map(|(kind, text)| (kind, text.as_bytes().to_vec())));

    let ours = [
        reply::authentication_ok(),
        reply::authentication_cleartext_password(),
        reply::parameter_status(b"TimeZone", b"UTC"),
        reply::backend_key(7, &9_i32.to_be_bytes()),
        complaint.notice(),
    ];
    let mut buffer = BytesMut::from(&ours.concat()[..]);
    let theirs: Vec<_> = std::iter::from_fn(|| backend::Message::parse(&mut buffer).unwrap()).collect();
    assert!(
        matches!(
            &theirs[..],
            [
                backend::Message::AuthenticationOk,
                backend::Message::AuthenticationCleartextPassword,
                backend::Message::ParameterStatus(status),
                backend::Message::BackendKeyData(key),
                backend::Message::NoticeResponse(_),
            ] if status.value().unwrap() == "UTC" && (key.process_id(), key.secret_key()) == (7, 9)
        ),
        "five messages are read"
    );
    assert_eq!(Authentication::read(&ours[0][5..]), Ok(Authentication::Ok));
}
