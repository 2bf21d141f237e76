//! Names under which credentials travel.
//!
//! Owns the lists; the files beside it only know places. Never a list of values.

/// How much of a header's value is hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeaderRule {
    /// Everything behind the scheme's word (RFC 9110 section 11.4).
    AfterScheme,
    /// Everything.
    Whole,
}

/// Header fields whose values are credentials, lower case.
const SECRET_HEADERS: &[(&str, HeaderRule)] = &[
    ("authorization", HeaderRule::AfterScheme),
    ("proxy-authorization", HeaderRule::AfterScheme),
    ("cookie", HeaderRule::Whole),
    ("cookie2", HeaderRule::Whole),
    ("set-cookie", HeaderRule::Whole),
    ("set-cookie2", HeaderRule::Whole),
    ("x-api-key", HeaderRule::Whole),
    ("api-key", HeaderRule::Whole),
    ("apikey", HeaderRule::Whole),
    ("x-goog-api-key", HeaderRule::Whole),
    ("x-auth-token", HeaderRule::Whole),
    ("x-access-token", HeaderRule::Whole),
    ("x-vault-token", HeaderRule::Whole),
    ("x-amz-security-token", HeaderRule::Whole),
    ("private-token", HeaderRule::Whole),
    ("x-gitlab-token", HeaderRule::Whole),
];

/// Longest header name in the list, in bytes.
pub(super) const HEADER_NAME_MAX: usize = 24;

/// Words that may stand before a credential in `Authorization` (IANA registry of authentication schemes, and what
/// services use beside it), lower case. Only these are shown.
pub(super) const SCHEMES: &[&str] = &[
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "ntlm",
    "token",
    "apikey",
    "api-key",
    "aws4-hmac-sha256",
    "dpop",
    "gnap",
    "hoba",
    "mutual",
    "oauth",
    "scram-sha-1",
    "scram-sha-256",
    "vapid",
    "privatetoken",
    "sharedkey",
    "key",
    "hawk",
];

/// Query parameters whose values are credentials, lower case.
const SECRET_PARAMETERS: &[&str] = &[
    "key",
    "api_key",
    "apikey",
    "api-key",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "client_secret",
    "password",
    "passwd",
    "pwd",
    "secret",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-security-token",
    "x-goog-signature",
];

/// Longest parameter name in the list, in bytes.
pub(super) const PARAMETER_NAME_MAX: usize = 24;

/// The rule of a header, if its value is a credential.
pub(super) fn header(name: &[u8]) -> Option<(&'static str, HeaderRule)> {
    SECRET_HEADERS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).copied()
}

/// The list's own spelling of a query parameter, if its value is a credential.
pub(super) fn parameter(name: &[u8]) -> Option<&'static str> {
    SECRET_PARAMETERS.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)).copied()
}

/// The list's own spelling of an authentication scheme.
pub(super) fn scheme(word: &[u8]) -> Option<&'static str> {
    SCHEMES.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(word)).copied()
}

/// Whether `word` could still become a scheme.
pub(super) fn begins_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|known| known.as_bytes().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
}
