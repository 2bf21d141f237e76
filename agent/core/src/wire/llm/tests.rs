use proptest::prelude::*;

use super::{Asked, fuzz_llm, is_call};

const CHAT: &str = "/v1/chat/completions";

fn asked(path: &str, body: &str) -> (String, String) {
    let Asked { model, tools } = Asked::read(path, body.as_bytes());
    (model, tools.into_iter().collect::<Vec<_>>().join(" "))
}

fn is(body: &str, model: &str, tools: &str) {
    assert_eq!(asked(CHAT, body), (model.to_owned(), tools.to_owned()), "{body}");
}

#[test]
fn the_well_known_shapes_are_calls_however_they_are_spelled() {
    for path in [
        CHAT,
        "/openai/deployments/gpt4/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1beta/models/gemini-2.0-flash:generateContent",
        "/v1beta/models/gemini-2.0-flash:streamGenerateContent",
        "/api/chat",
        "/v1/embeddings",
        "/model/anthropic.claude-3/converse",
        "/v1/chat/completions/",
        "/v1//chat/./completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/%63ompletions",
        "/v1/chat/x/../completions",
        "/V1/Chat/Completions",
        "/v1/chat/completions;a=b",
        "/v1/chat/%2563ompletions",
        "/v1\\chat\\completions",
    ] {
        assert!(is_call("POST", path.as_bytes()), "{path}");
    }
    for path in ["/", "/v1/models", "/chat", "/v1/chat/completions/x", "/converse/x"] {
        assert!(!is_call("POST", path.as_bytes()), "{path}");
    }
    assert!(!is_call("GET", CHAT.as_bytes()));
    assert!(is_call("post", CHAT.as_bytes()));
}

#[test]
fn model_and_tools_are_told_in_each_dialect() {
    is(r#"{"model":"gpt-4o","messages":[]}"#, "gpt-4o", "");
    is(
        r#"{"model":"m","tools":[{"type":"function","function":{"name":"search","parameters":{"name":1}}}]}"#,
        "m",
        "search",
    );
    is(
        r#"{"model":"m","tools":[{"type":"function","name":"search"},{"type":"web_search"}]}"#,
        "m",
        "search web_search",
    );
    is(
        r#"{"model":"m","tools":[{"name":"a","input_schema":{}},{"type":"bash_20250124","name":"bash"}]}"#,
        "m",
        "a bash",
    );
    is(r#"{"model":"m","functions":[{"name":"old"}],"tools":null}"#, "m", "old");
    let google = r#"{"tools":[{"functionDeclarations":[{"name":"a"},{"name":"b"}]},{"googleSearch":{}}]}"#;
    let path = "/v1beta/models/gemini-2.0-flash:generateContent";
    assert_eq!(asked(path, google), ("gemini-2.0-flash".into(), "a b googleSearch".into()));
    let bedrock = r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"a"}}]}}"#;
    assert_eq!(asked("/model/anthropic.claude/converse", bedrock), ("anthropic.claude".into(), "a".into()));
    let azure = "/openai/deployments/ours/chat/completions";
    assert_eq!(asked(azure, r#"{"messages":[]}"#), ("ours".into(), String::new()));
    assert_eq!(asked(azure, r#"{"model":"theirs"}"#).0, "UNPARSED", "which of them counts?");
}

#[test]
fn what_two_readers_could_take_for_two_is_unparsed() {
    for body in [
        "",
        "not json",
        "[]",
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","Model":"b"}"#,
        r#"{"mod\u0065l":"a","model":"b"}"#,
        r#"{"model":"a","tool\u017f":[]}"#,
        r#"{"model":"a"} {"model":"b"}"#,
        "\u{feff}{\"model\":\"a\"}",
        r#"{"model":"a","tools":[{"name":"a","Name":"b"}]}"#,
    ] {
        is(body, "UNPARSED", "*");
    }
    is(r#"{"messages":[]}"#, "UNPARSED", "");
    is(r#"{"model":7}"#, "UNPARSED", "");
    is(r#"{"model":""}"#, "UNPARSED", "");
    for tools in [r#""x""#, r#"{"a":1}"#, "[1]", "[{}]", r#"[{"type":"function"}]"#, r#"[{"function":{"name":5}}]"#] {
        is(&format!(r#"{{"model":"a","tools":{tools}}}"#), "a", "*");
    }
    let deep = "[".repeat(100_000);
    is(&format!(r#"{{"model":"a","tools":{deep}"#), "UNPARSED", "*");
    let many = format!(r#"{{"model":"a","tools":[{}]}}"#, vec![r#"{"name":"x"}"#; 300_000].join(","));
    is(&many, "UNPARSED", "*");
}

proptest! {
    #[test]
    fn any_body_is_read_or_not(data in proptest::collection::vec(any::<u8>(), 0..200), json in r#"[{}\[\]":,a-z0-9 ]{0,60}"#) {
        fuzz_llm(&data);
        fuzz_llm(json.as_bytes());
    }
}
