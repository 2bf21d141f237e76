use super::fuzzed::{replay, turns};
use super::*;
use crate::session::Side::{self, Client, Server};

mod bodies;
mod conversed;
mod differential;
mod model;
mod recorded;

/// A step in words.
fn word(side: Side, step: &Step<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let say = |exchange: u32, what: String| format!("{}{exchange} {what}", if side == Client { "C" } else { "S" });
    match step {
        Step::Request { exchange, request, .. } => say(
            *exchange,
            match request {
                Request::Query(query) => format!("Query {}", text(query.text)),
                Request::Parse(parse) => format!("Parse {:?} {}", text(parse.name), text(parse.sql)),
                Request::Bind { bind, statement } => {
                    let sql = statement.as_ref().map(|statement| statement.text().map(text));
                    let values = bind.values.iter().map(|value| value.map_or("NULL".into(), text));
                    let values = values.collect::<Vec<_>>().join(",");
                    format!("Bind {:?} {:?} [{values}] {sql:?}", text(bind.portal), text(bind.statement))
                }
                Request::Describe(named) => format!("Describe {:?} {:?}", named.object, text(named.name)),
                Request::Close(named) => format!("Close {:?} {:?}", named.object, text(named.name)),
                Request::Execute { execute, known } => {
                    format!("Execute {:?}{}", text(execute.portal), if *known { "" } else { " unknown" })
                }
                other => format!("{other:?}"),
            },
        ),
        Step::Answer { exchange, answer, .. } => say(
            *exchange,
            match answer {
                Answer::Complete(complete) => format!("Complete {}", text(complete.tag)),
                Answer::Error { report, refused, late } => {
                    let how = [(*refused, " refused"), (*late, " late"), (report.is_fatal(), " fatal")];
                    let how: String = how.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
                    format!("Error {}{how}", text(report.get(b'C').unwrap()))
                }
                Answer::Columns(columns) => {
                    let columns = columns.fields().map(|field| text(field.name)).collect::<Vec<_>>();
                    format!("Columns {}", columns.join(","))
                }
                Answer::Parameters(parameters) => {
                    format!("Parameters {:?}", parameters.types.iter().collect::<Vec<_>>())
                }
                Answer::Ready(status) => format!("Ready {}", status.as_str()),
                Answer::CopyIn(_) => "CopyIn".into(),
                Answer::CopyOut(_) => "CopyOut".into(),
                Answer::CopyBoth(_) => "CopyBoth".into(),
                Answer::Notice(report) => format!("Notice {}", text(report.get(b'M').unwrap())),
                Answer::Parameter(setting) => format!("Setting {}", text(setting.name)),
                Answer::Notification(it) => format!("Notification {} {}", text(it.channel), text(it.payload)),
                Answer::Key(_) => "Key".into(),
                Answer::FunctionResult(value) => format!("FunctionResult {value:?}"),
                other => format!("{other:?}"),
            },
        ),
        Step::Skipped { exchange } => format!("{exchange} skipped"),
        Step::TooLarge { exchange, tag, bytes, .. } => {
            say(*exchange, format!("{} too large {bytes}", char::from(*tag)))
        }
        other => panic!("{other:?} has no words"),
    }
}
