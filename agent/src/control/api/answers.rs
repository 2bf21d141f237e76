//! What each request of the API is answered with.
//!
//! `GET /approvals`, `GET /approvals/ID`, `POST /approvals/ID/approve` and `/deny` with `{"reason": "…"}`.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, BODY_BYTES_MAX, bearer};
use crate::approvals::{Approver, NotCounted, Page, Waiting};

/// What an answer has in its body.
type Answer = Response<Full<Bytes>>;

/// Why an approver decides so.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    reason: Option<String>,
}

/// A question with the first piece of what would be sent.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    waiting: Waiting,
    content: Page,
}

/// Answers; never fails.
pub(super) async fn answer(
    api: Rc<Api>,
    ours: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, std::convert::Infallible> {
    Ok(answered(&api, ours, request).await.unwrap_or_else(|refused| refused))
}

async fn answered(api: &Api, ours: SocketAddr, request: Request<Incoming>) -> Result<Answer, Answer> {
    // A page of a web site whose name was made to mean loopback asks for that name.
    let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
    let host = match *hosts {
        [host] => host.to_str().ok().filter(|host| is_ours(host, ours)),
        _ => None,
    };
    if host.is_none() || request.uri().authority().is_some_and(|asked| !is_ours(asked.as_str(), ours)) {
        return Err(problem(StatusCode::MISDIRECTED_REQUEST, "the host must be this one's loopback address"));
    }
    if request.headers().contains_key(ORIGIN) {
        return Err(problem(StatusCode::FORBIDDEN, "pages of web sites are not served"));
    }
    let token = bearer::token(request.headers());
    let approver = match token {
        None => None,
        Some(token) => {
            let api = api.clone();
            tokio::task::spawn_blocking(move || bearer::of(&api, &token)).await.ok().flatten()
        }
    };
    let Some(approver) = approver else {
        let mut refused = problem(StatusCode::UNAUTHORIZED, "show an approver's token: Authorization: Bearer …");
        refused.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
        return Err(refused);
    };
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), words.as_slice()) {
        (&Method::GET, ["approvals"]) => Ok(with(StatusCode::OK, &json!({ "approvals": api.approvals.waiting() }))),
        (&Method::GET, ["approvals", id]) => show(api, id),
        (&Method::POST, ["approvals", id, word @ ("approve" | "deny")]) => {
            let (id, approve) = ((*id).to_owned(), *word == "approve");
            decide(api, &approver, &id, approve, request).await
        }
        (_, ["approvals"] | ["approvals", _]) => Err(not_allowed("GET")),
        (_, ["approvals", _, "approve" | "deny"]) => Err(not_allowed("POST")),
        _ => {
            Err(problem(StatusCode::NOT_FOUND, "there are /approvals, /approvals/ID, /approvals/ID/approve and …/deny"))
        }
    }
}

#[allow(clippy::result_large_err, reason = "both are the answer, and one is made for each connection")]
fn show(api: &Api, id: &str) -> Result<Answer, Answer> {
    let gone = |NotCounted(why)| problem(StatusCode::NOT_FOUND, &why);
    let waiting = api.approvals.find(id).map_err(gone)?;
    let content = api.approvals.shown(&waiting.id, 0).map_err(gone)?;
    Ok(with(StatusCode::OK, &Shown { waiting, content }))
}

async fn decide(
    api: &Api,
    approver: &Approver,
    id: &str,
    approve: bool,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body =
        body.map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is cut off, or too large"))?.to_bytes();
    let given: Given = if body.is_empty() {
        Given::default()
    } else {
        let wrong = |_| problem(StatusCode::BAD_REQUEST, "the body must be {\"reason\": \"…\"}, or nothing");
        serde_json::from_slice(&body).map_err(wrong)?
    };
    let gone = |NotCounted(why)| problem(StatusCode::NOT_FOUND, &why);
    let id = api.approvals.find(id).map_err(gone)?.id;
    match api.approvals.answer(&id, approver, approve, given.reason) {
        Ok(outcome) => {
            let told = json!({ "id": id, "settled": outcome.settled, "missing": outcome.missing });
            Ok(with(StatusCode::OK, &told))
        }
        Err(NotCounted(why)) => Err(problem(StatusCode::FORBIDDEN, &why)),
    }
}

/// Whether a host is what the listener is on, or a name of loopback, with its port.
fn is_ours(host: &str, ours: SocketAddr) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let loopback = name.eq_ignore_ascii_case("localhost") || address.is_some_and(|ip| ip.is_loopback());
    loopback && port.parse() == Ok(ours.port())
}

fn not_allowed(method: &'static str) -> Answer {
    let mut refused = problem(StatusCode::METHOD_NOT_ALLOWED, "another method is asked for here");
    refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(method));
    refused
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let mut answer = with(status, &json!({ "status": status.as_u16(), "title": title, "detail": detail }));
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/problem+json"));
    answer
}

fn with(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")]
    {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    answer
}
