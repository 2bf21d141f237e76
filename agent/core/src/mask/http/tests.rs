use super::*;

fn shown(head: &str) -> (String, Vec<String>) {
    let shown = shown_head(head.as_bytes(), &DigestKey::new(&[1; 32]));
    let schemes = shown.values.iter().map(|value| format!("{} {}", value.scheme, value.len)).collect();
    (String::from_utf8(shown.bytes).unwrap(), schemes)
}

/// The form of a hidden value.
fn hidden(value: &str) -> String {
    format!("[hidden:{}:{}]", value.len(), DigestKey::new(&[1; 32]).digest(value.as_bytes()))
}

#[test]
fn credentials_of_a_request_are_shown_by_length_and_digest() {
    let head = "POST http://me:s3cret@api.example.com:8080/v1?key=abc&x=1 HTTP/1.1\r\nHost: api.example.com:8080\r\n\
                AUTHORIZATION:  bearer sk-made-up\r\nCookie: a=b; c=d\r\nx-Api-Key: k1\r\nReferer: \
                https://you:pw@example.org/?access_token=t1#token=t2\r\nX-Other: plain\r\n\r\n";
    let (text, schemes) = shown(head);
    let [password, key, bearer, cookie, api, other, token, fragment] =
        ["s3cret", "abc", "sk-made-up", "a=b; c=d", "k1", "pw", "t1", "t2"].map(hidden);
    let expected = format!(
        "POST http://me:{password}@api.example.com:8080/v1?key={key}&x=1 HTTP/1.1\r\nHost: api.example.com:8080\r\n\
         AUTHORIZATION:  bearer {bearer}\r\nCookie: {cookie}\r\nx-Api-Key: {api}\r\nReferer: \
         https://you:{other}@example.org/?access_token={token}#token={fragment}\r\nX-Other: plain\r\n\r\n"
    );
    assert_eq!(text, expected);
    let expected = [
        "url-password 6",
        "query:key 3",
        "authorization:bearer 10",
        "cookie 8",
        "x-api-key 2",
        "url-password 2",
        "query:access_token 2",
        "query:token 2",
    ];
    assert_eq!(schemes, expected);
}

#[test]
fn credentials_of_a_response_and_of_trailers_are_hidden_too() {
    let head =
        "HTTP/1.1 302 Found\r\nSet-Cookie: sid=1; Path=/\r\nLocation: https://a/cb?code=1&access_token=t\r\n\r\n";
    let (text, schemes) = shown(head);
    assert!(!text.contains("sid=1") && !text.contains("token=t"), "{text}");
    assert!(text.contains("https://a/cb?code=1&access_token=["), "{text}");
    assert_eq!(schemes, ["set-cookie 13", "query:access_token 1"]);
    assert_eq!(shown("x-amz-security-token: abc\r\nx-sum: 1\r\n\r\n").1, ["x-amz-security-token 3"]);
}

#[test]
fn a_shown_head_is_a_head() {
    use crate::wire::http::RequestHead;
    let head = "GET http://me:pw@h.example/?token=1,2 HTTP/1.1\r\nHost: h.example\r\nProxy-Authorization: Basic eA==\r\n\
                Content-Length: 5\r\n\r\n";
    let (text, _) = shown(head);
    let (before, after) = (RequestHead::parse(head.as_bytes()).unwrap(), RequestHead::parse(text.as_bytes()));
    let after = after.unwrap_or_else(|fault| panic!("{fault}: {text}"));
    assert_eq!((before.method, before.length, before.host()), (after.method, after.length, after.host()));
    assert_eq!(before.fields.count(), after.fields.count());
}

#[test]
fn a_refused_head_hides_no_less() {
    // Folded: both lines of the value are hidden.
    let (text, _) = shown("GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n def\r\n\r\n");
    assert!(!text.contains("abc") && !text.contains("def"), "{text}");
    let (text, _) = shown("GET / HTTP/1.1\nCookie : abc\n\n");
    assert!(!text.contains("abc"), "{text}");
}

#[test]
fn more_values_than_are_listed_are_counted_and_hidden() {
    let query = "&key=s3cret".repeat(limits::REDACTED_VALUES_MAX + 10);
    let shown =
        shown_head(format!("GET /?a{query} HTTP/1.1\r\nCookie: s3cret\r\n\r\n").as_bytes(), &DigestKey::new(&[1; 32]));
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("s3cret"));
    assert_eq!(shown.values.len(), limits::REDACTED_VALUES_MAX);
    assert_eq!(shown.count, limits::REDACTED_VALUES_MAX as u64 + 11);
    assert_eq!(shown.masked().unwrap().count, shown.count);
}
