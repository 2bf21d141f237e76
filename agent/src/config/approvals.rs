//! What `crewtap.toml` says of approvals and overrides.
//!
//! Never reads a secret: it names the place.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crewtap_core::policy::catalog::Source;
use crewtap_core::policy::keys::{self, Fault, Value, text, texts};

/// How long a question waits for its answer, and an approval for its retry, unless the file says otherwise.
const EXPIRES: Duration = Duration::from_mins(15);

/// Largest body that is held, unless the file says otherwise.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest body that may be allowed to be held: a record of the journal holds twice as much.
const BODY_BYTES_LIMIT: u32 = 8 * 1024 * 1024;

/// How long an override lasts at most, unless the file says otherwise.
const OVERRIDE_MAX: Duration = Duration::from_hours(4);

/// Longest time that any of these may be.
const DURATION_LIMIT: Duration = Duration::from_hours(24);

/// Keys of `[approvals]`.
pub(super) const KEYS: [&str; 8] = ["groups", "four_eyes", "expires", "wait", "body_max", "reveal", "webhook", "api"];

/// Who is asked, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalsConfig {
    /// Who may answer where the policy names no group: members of one of these. Empty: whoever is root.
    pub groups: Vec<String>,
    /// Nobody approves what runs on their own behalf.
    pub four_eyes: bool,
    /// A question that is not answered by then is denied; an approval that is not used by then is void.
    pub expires: Duration,
    /// How long a held HTTP request keeps its client waiting before it is told to come again; none: as long as it waits.
    pub wait: Option<Duration>,
    /// Largest body of a request that can be held, in bytes.
    pub body_max: usize,
    /// Approvers may see what is masked, on the control socket only.
    pub reveal: bool,
    /// Who is told of every question.
    pub webhook: Option<WebhookConfig>,
    /// The HTTP API for other front ends; none: off.
    pub api: Option<ApiConfig>,
}

/// Who is told of every question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookConfig {
    /// Where it is posted to.
    pub url: hyper::Uri,
    /// What it is signed with.
    pub secret: Source,
    /// Where a human answers: `{id}` stands for the approval's id.
    pub link: Option<String>,
}

/// The HTTP API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiConfig {
    /// A loopback address.
    pub listen: SocketAddr,
    /// Who may use it.
    pub approvers: Vec<ApiApprover>,
}

/// Somebody who answers by way of the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiApprover {
    /// What the record calls them.
    pub name: String,
    /// The user of this host that they are, as `os:NAME` or `os:UID`, or the person, as `oidc:NAME:SUBJECT`; where none is
    /// given, nobody that runs could belong to.
    pub identity: Option<String>,
    /// Groups that they are in.
    pub groups: Vec<String>,
    /// What they show.
    pub token: Source,
}

/// Who may break the glass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverrideConfig {
    /// Members of one of these may. Empty: nobody.
    pub groups: Vec<String>,
    /// Longest time that one may last.
    pub max: Duration,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            four_eyes: true,
            expires: EXPIRES,
            wait: None,
            body_max: BODY_BYTES_MAX,
            reveal: false,
            webhook: None,
            api: None,
        }
    }
}

impl Default for OverrideConfig {
    fn default() -> Self {
        Self { groups: Vec::new(), max: OVERRIDE_MAX }
    }
}

impl ApprovalsConfig {
    /// Variables of the agent's environment that are named as places of secrets.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let webhook = self.webhook.iter().map(|webhook| &webhook.secret);
        let tokens = self.api.iter().flat_map(|api| api.approvers.iter().map(|approver| &approver.token));
        webhook.chain(tokens).filter_map(Source::variable)
    }
}

/// Reads `[approvals]`; paths are relative to `beside`.
///
/// # Errors
/// When it has an unknown key or an impossible value.
pub fn approvals(value: &Value<'_>, beside: &Path) -> Result<ApprovalsConfig, Fault> {
    let mut config = ApprovalsConfig::default();
    for (key, value) in keys::in_order(keys::table("approvals", value)?) {
        match key.get_ref().as_ref() {
            "groups" => config.groups = texts("groups", value, group)?,
            "four_eyes" => config.four_eyes = flag("four_eyes", value)?,
            "expires" => config.expires = duration_of("expires", value)?,
            "wait" => config.wait = Some(duration_of("wait", value)?),
            "body_max" => config.body_max = keys::bytes("body_max", value, BODY_BYTES_LIMIT)?,
            "reveal" => config.reveal = flag("reveal", value)?,
            "webhook" => config.webhook = Some(webhook(value, beside)?),
            "api" => config.api = Some(api(value, beside)?),
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &KEYS) }),
        }
    }
    Ok(config)
}

/// Reads `[override]`.
///
/// # Errors
/// When it has an unknown key or an impossible value.
pub fn overrides(value: &Value<'_>) -> Result<OverrideConfig, Fault> {
    let mut config = OverrideConfig::default();
    for (key, value) in keys::in_order(keys::table("override", value)?) {
        match key.get_ref().as_ref() {
            "groups" => config.groups = texts("groups", value, group)?,
            "max" => config.max = duration_of("max", value)?,
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &["groups", "max"]) }),
        }
    }
    Ok(config)
}

fn webhook(value: &Value<'_>, beside: &Path) -> Result<WebhookConfig, Fault> {
    let (mut url, mut secret, mut link) = (None, None, None);
    for (key, value) in keys::in_order(keys::table("webhook", value)?) {
        match key.get_ref().as_ref() {
            "url" => url = Some(http_url(value)?),
            "secret" => secret = Some(source("secret", value, beside)?),
            "link" => link = Some(text("link", value)?.to_owned()),
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &["url", "secret", "link"]) }),
        }
    }
    let missing = |key| Fault::of(value, format!("`webhook` needs `{key}`"));
    Ok(WebhookConfig {
        url: url.ok_or_else(|| missing("url"))?,
        secret: secret.ok_or_else(|| missing("secret"))?,
        link,
    })
}

fn http_url(value: &Value<'_>) -> Result<hyper::Uri, Fault> {
    let text = text("url", value)?;
    let url = text.parse::<hyper::Uri>().ok();
    let usable = |url: &hyper::Uri| {
        let spoken = matches!(url.scheme_str(), Some("http" | "https"));
        // Credentials in a URL would be shown wherever the URL is.
        spoken && url.host().is_some_and(|host| !host.is_empty()) && !text.contains('@')
    };
    let wrong = || Fault::of(value, "`url` must be an http:// or https:// URL with a host, and without credentials");
    url.filter(usable).ok_or_else(wrong)
}

fn api(value: &Value<'_>, beside: &Path) -> Result<ApiConfig, Fault> {
    let (mut listen, mut approvers) = (None, Vec::new());
    for (key, value) in keys::in_order(keys::table("api", value)?) {
        match key.get_ref().as_ref() {
            "listen" => {
                let address: Option<SocketAddr> = text("listen", value)?.parse().ok();
                let loopback = address.filter(|address| address.ip().is_loopback() && address.port() != 0);
                let wrong =
                    || Fault::of(value, "`listen` must be a loopback address and a port, as \"127.0.0.1:7099\"");
                listen = Some(loopback.ok_or_else(wrong)?);
            }
            "approver" => {
                let list = value.get_ref().as_array();
                let list = list.ok_or_else(|| Fault::of(value, "write each approver as [[approvals.api.approver]]"))?;
                approvers = list.iter().map(|value| approver(value, beside)).collect::<Result<_, _>>()?;
            }
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &["listen", "approver"]) }),
        }
    }
    let listen = listen.ok_or_else(|| Fault::of(value, "`api` needs `listen`"))?;
    if approvers.is_empty() {
        return Err(Fault::of(value, "`api` has no [[approvals.api.approver]]: nobody could use it"));
    }
    Ok(ApiConfig { listen, approvers })
}

fn approver(value: &Value<'_>, beside: &Path) -> Result<ApiApprover, Fault> {
    let (mut name, mut identity, mut groups, mut token) = (None, None, Vec::new(), None);
    for (key, value) in keys::in_order(keys::table("approver", value)?) {
        match key.get_ref().as_ref() {
            "name" => name = Some(text("name", value)?.to_owned()),
            "identity" => {
                let text = text("identity", value)?;
                let subject = text.strip_prefix("oidc:").and_then(|rest| rest.split_once(':'));
                let is_person = subject.is_some_and(|(name, subject)| !name.is_empty() && !subject.is_empty());
                if !is_person && text.strip_prefix("os:").is_none_or(str::is_empty) {
                    let what = "`identity` must be \"os:NAME\", \"os:UID\" or \"oidc:NAME:SUBJECT\"";
                    return Err(Fault::of(value, what));
                }
                identity = Some(text.to_owned());
            }
            "groups" => groups = texts("groups", value, group)?,
            "token" => token = Some(source("token", value, beside)?),
            other => {
                let known = ["name", "identity", "groups", "token"];
                return Err(Fault { at: key.span(), what: keys::unknown(other, &known) });
            }
        }
    }
    let missing = |key| Fault::of(value, format!("`approver` needs `{key}`"));
    Ok(ApiApprover {
        name: name.ok_or_else(|| missing("name"))?,
        identity,
        groups,
        token: token.ok_or_else(|| missing("token"))?,
    })
}

fn group(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("os", name)) if !name.is_empty() => Ok(text.to_owned()),
        Some(("oidc", rest))
            if rest.split_once(':').is_some_and(|(name, group)| !name.is_empty() && !group.is_empty()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("\"{text}\" is no group: write \"os:GROUP\" or \"oidc:NAME:GROUP\"")),
    }
}

fn source(key: &str, value: &Value<'_>, beside: &Path) -> Result<Source, Fault> {
    match text(key, value)?.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(beside.join(path))),
        Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => Ok(Source::Env(name.to_owned())),
        _ => Err(Fault::of(value, format!("`{key}` must be \"file:PATH\" or \"env:NAME\""))),
    }
}

fn flag(key: &str, value: &Value<'_>) -> Result<bool, Fault> {
    value.get_ref().as_bool().ok_or_else(|| Fault::of(value, format!("`{key}` must be true or false")))
}

fn duration_of(key: &str, value: &Value<'_>) -> Result<Duration, Fault> {
    duration(text(key, value)?).map_err(|why| Fault::of(value, format!("`{key}`: {why}")))
}

/// A time as `90s`, `15m` or `4h`, from a second to a day.
///
/// # Errors
/// A sentence, where it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no time: write 90s, 15m or 4h, at most 24h");
    let unit = text.chars().next_back().filter(char::is_ascii_alphabetic).ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = number.and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => Some(number),
        'm' => number.checked_mul(60),
        'h' => number.checked_mul(3600),
        _ => None,
    };
    let duration = seconds.map(Duration::from_secs);
    duration.filter(|time| !time.is_zero() && *time <= DURATION_LIMIT).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/crewtap/crewtap.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_can_be_said() {
        let config = parse(
            "[approvals]\ngroups = ['os:dba']\nfour_eyes = false\nexpires = '5m'\nwait = '10s'\nbody_max = 1000\nreveal = true
[approvals.webhook]\nurl = 'https://hooks.example/crewtap'\nsecret = 'file:hook.key'\nlink = 'https://desk.example/{id}'
[approvals.api]\nlisten = '127.0.0.1:7099'
[[approvals.api.approver]]\nname = 'alice'\nidentity = 'os:alice'\ngroups = ['os:dba']\ntoken = 'env:ALICE'
[override]\ngroups = ['os:oncall']\nmax = '1h'",
        )
        .unwrap();
        let approvals = &config.approvals;
        assert_eq!((approvals.expires, approvals.wait), (Duration::from_mins(5), Some(Duration::from_secs(10))));
        assert!(!approvals.four_eyes && approvals.reveal);
        let webhook = approvals.webhook.as_ref().unwrap();
        assert_eq!(webhook.secret, Source::File("/etc/crewtap/hook.key".into()));
        assert_eq!(approvals.api.as_ref().unwrap().approvers[0].identity.as_deref(), Some("os:alice"));
        assert_eq!(approvals.variables().collect::<Vec<_>>(), ["ALICE"]);
        assert_eq!(config.overrides, OverrideConfig { groups: vec!["os:oncall".into()], max: Duration::from_hours(1) });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let fault = |text: &str| parse(text).unwrap_err();
        assert!(
            fault("[approvals]\nfoureyes = true").contains(":2: unknown key `foureyes`: did you mean `four_eyes`?")
        );
        assert!(fault("[approvals]\nexpires = '2d'").contains(":2: `expires`: \"2d\" is no time"));
        assert!(fault("[approvals]\ngroups = ['dba']").contains("is no group"));
        assert!(fault("[approvals]\nbody_max = 9000000").contains("up to 8388608"));
        assert!(fault("[approvals.api]\nlisten = '0.0.0.0:7099'").contains("must be a loopback address"));
        assert!(fault("[approvals.api]\nlisten = '127.0.0.1:7099'").contains("nobody could use it"));
        assert!(fault("[approvals.webhook]\nurl = 'https://a:b@c/'\nsecret = 'env:A'").contains("without credentials"));
        assert!(fault("[approvals.webhook]\nurl = 'https://c/'").contains("needs `secret`"));
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "0s", "25h", "-1s", "1.5h", "15 m", "99999999999999999999h", "15µ"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
