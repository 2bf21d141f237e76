//! A request's path in one spelling (RFC 3986 section 6.2.2), for rules that compare it.
//!
//! Normalised once: what servers are known to understand in different ways has no normal form, and a rule must then treat
//! it as the most dangerous path that it could be.

/// The normal form of a raw path; none where two readers could take it for two paths (encoded slashes or dots, backslashes,
/// empty segments, segments that climb, control characters, broken or doubled encoding).
#[must_use]
pub fn normal(raw: &[u8]) -> Option<String> {
    if raw.first() != Some(&b'/') {
        return None;
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                let byte = u8::try_from(value).ok()?;
                if byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'.' | b'%' | b'?' | b'#' | b';') {
                    return None;
                }
                decoded.push(byte);
            }
            b'\\' | b'#' | b'?' | b';' => return None,
            byte if byte.is_ascii_control() || *byte == b' ' => return None,
            byte => decoded.push(*byte),
        }
    }
    let path = String::from_utf8(decoded).ok()?;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == "." || segment == ".." || segment.is_empty() && !last {
            return None;
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn one_path_has_one_spelling() {
        assert_eq!(normal(b"/v1/chat").unwrap(), "/v1/chat");
        assert_eq!(normal(b"/v1/%63hat/").unwrap(), "/v1/chat/");
        assert_eq!(normal("/gr%C3%BC%C3%9Fe".as_bytes()).unwrap(), "/grüße");
        assert_eq!(normal(b"/").unwrap(), "/");
    }

    #[test]
    fn what_could_be_two_paths_has_none() {
        for raw in [
            "",
            "v1",
            "/a/../b",
            "/a/./b",
            "/a//b",
            "/a/..",
            "/a%2fb",
            "/a%2Fb",
            "/a/%2e%2e/b",
            "/a\\b",
            "/a%5cb",
            "/a%252e",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%00",
            "/a;b",
            "/a%ff",
            "/a b",
            "//a",
        ] {
            assert_eq!(normal(raw.as_bytes()), None, "{raw}");
        }
    }
}
