//! Requests to language models: which model is asked, and which tools it is offered.
//!
//! Owns the shapes of the APIs that crews use, told by their paths. Never trusts a body that two readers could take for two:
//! what is not understood has the model `UNPARSED` and the tools `{"*"}`.

mod json;

use std::collections::BTreeSet;

use json::Tree;

/// What stands for a model that is not known.
pub const UNPARSED: &str = "UNPARSED";

/// What stands for tools that are not known.
pub const ANY: &str = "*";

/// Tools of one request that are told apart; more are any.
const TOOLS_MAX: usize = 512;

/// Longest name of a model or a tool, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// How the paths end whose requests ask a model: `OpenAI` and what imitates it, Anthropic, Ollama, Cohere, Bedrock, Azure.
const PATHS: &[&str] = &[
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/v1/messages",
    "/v1/complete",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/v1/chat",
    "/v2/chat",
    "/v1/embed",
    "/v2/embed",
    "/v1/rerank",
    "/v2/rerank",
    "/converse",
    "/converse-stream",
    "/invoke",
    "/invoke-with-response-stream",
];

/// How the last segment ends where it names the model and what is asked of it: Google's APIs.
const METHODS: &[&str] = &[
    ":generateContent",
    ":streamGenerateContent",
    ":embedContent",
    ":batchEmbedContents",
    ":predict",
    ":rawPredict",
    ":streamRawPredict",
];

/// Segments of a path behind which the model stands.
const BEFORE_MODEL: &[&str] = &["models", "model", "deployments"];

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// Names of the tools that it is offered; built-in ones by their type.
    pub tools: BTreeSet<String>,
}

impl Asked {
    /// Nothing is known of it.
    #[must_use]
    pub fn unparsed() -> Self {
        Self { model: UNPARSED.into(), tools: BTreeSet::from([ANY.into()]) }
    }

    /// Reads the body, without its codings, of a request to this path (in its normal form).
    #[must_use]
    pub fn read(path: &str, body: &[u8]) -> Self {
        let Ok(body) = json::Body::read(body) else { return Self::unparsed() };
        let named = model_in(path);
        let model = match (&named, &body.model) {
            // A body that names another one, too: which of them counts is the server's to say.
            (Some(named), Some(Tree::Text(model))) if !same_model(named, model) => None,
            (Some(named), _) => Some(named.clone()),
            (None, Some(Tree::Text(model))) => Some(model.clone()),
            (None, _) => None,
        };
        let model = model.filter(|model| !model.is_empty() && model.len() <= NAME_BYTES_MAX);
        Self { model: model.unwrap_or_else(|| UNPARSED.into()), tools: tools(&body).unwrap_or_else(any) }
    }
}

/// Whether a request with this method and raw path asks a model. A path that is spelled in an unusual way counts as the most
/// it could be.
#[must_use]
pub fn is_call(method: &str, raw_path: &[u8]) -> bool {
    if !method.eq_ignore_ascii_case("POST") {
        return false;
    }
    let path = plain(raw_path);
    let ends = |end: &&str| path.strip_suffix(end.to_ascii_lowercase().as_str()).is_some();
    PATHS.iter().any(ends) || METHODS.iter().any(ends)
}

/// A path as a lenient reader would take it: decoded again and again, in small letters, without what servers leave out.
fn plain(raw: &[u8]) -> String {
    let mut path = raw.to_vec();
    for _ in 0..3 {
        path = decoded(&path);
    }
    let path = String::from_utf8_lossy(&path).to_ascii_lowercase().replace('\\', "/");
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let value = (*byte == b'%').then(|| u8::try_from(digit(0)? * 16 + digit(1)?).ok()).flatten();
        decoded.push(value.unwrap_or(*byte));
        rest = if value.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    decoded
}

/// The model that a path names.
fn model_in(path: &str) -> Option<String> {
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if BEFORE_MODEL.contains(&segment)
            && let Some(model) = segments.peek()
        {
            let method = METHODS.iter().find_map(|method| model.strip_suffix(method));
            return Some(method.unwrap_or(model).to_owned());
        }
    }
    None
}

/// Google's bodies say `models/NAME`; what a deployment of Azure is called says nothing of the model in it.
fn same_model(named: &str, model: &str) -> bool {
    model.strip_prefix("models/").unwrap_or(model) == named
}

fn any() -> BTreeSet<String> {
    BTreeSet::from([ANY.into()])
}

/// The tools of all keys that offer some; none where one of them is not understood.
fn tools(body: &json::Body) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for offered in [&body.tools, &body.functions].into_iter().flatten() {
        offer(offered, &mut names)?;
    }
    // Google's tells how tools are used, Bedrock's which there are.
    if let Some(config) = &body.tool_config {
        offer(config.get("tools").unwrap_or(&Tree::Other), &mut names)?;
    }
    (names.len() <= TOOLS_MAX).then_some(names)
}

fn offer(offered: &Tree, names: &mut BTreeSet<String>) -> Option<()> {
    match offered {
        Tree::Other => Some(()),
        Tree::List(tools) => tools.iter().try_for_each(|tool| name(tool, names)),
        Tree::Text(_) | Tree::Map(_) => None,
    }
}

/// The name of one tool, or the names in a group of them.
fn name(tool: &Tree, names: &mut BTreeSet<String>) -> Option<()> {
    let Tree::Map(fields) = tool else { return None };
    let mut known = false;
    for (key, value) in fields {
        match (key.as_str(), value) {
            // `OpenAI` and Ollama, Bedrock: the name stands one level below.
            ("function" | "custom" | "toolSpec", Tree::Map(_)) => {
                add(value.get("name")?, names)?;
                known = true;
            }
            // `OpenAI`'s later API, Anthropic, and `functions`.
            ("name", name) => {
                add(name, names)?;
                known = true;
            }
            ("functionDeclarations" | "function_declarations", Tree::List(functions)) => {
                functions.iter().try_for_each(|function| add(function.get("name")?, names))?;
                known = true;
            }
            // Google's built-in tools are keys of their own.
            (built_in, Tree::Map(_))
                if built_in.starts_with(|c: char| c.is_ascii_lowercase()) && is_built_in(built_in) =>
            {
                names.insert(built_in.to_owned());
                known = true;
            }
            _ => {}
        }
    }
    match tool.get("type") {
        Some(Tree::Text(kind)) if !known && kind != "function" && kind != "custom" => {
            add(&Tree::Text(kind.clone()), names)
        }
        _ => known.then_some(()),
    }
}

fn is_built_in(key: &str) -> bool {
    let key: String = key.chars().filter(|letter| *letter != '_').collect::<String>().to_ascii_lowercase();
    ["googlesearch", "googlesearchretrieval", "codeexecution", "urlcontext", "googlemaps", "computeruse", "filesearch"]
        .contains(&key.as_str())
}

fn add(name: &Tree, names: &mut BTreeSet<String>) -> Option<()> {
    match name {
        Tree::Text(name) if !name.is_empty() && name.len() <= NAME_BYTES_MAX => {
            names.insert(name.clone());
            Some(())
        }
        _ => None,
    }
}

/// Fuzz entry: any body is read or is not, and the sets are never empty where the model is not known for want of a reading.
///
/// # Panics
/// Where that does not hold; the fuzzer and the tests look for it.
pub fn fuzz_llm(data: &[u8]) {
    let asked = Asked::read("/v1/chat/completions", data);
    assert!(asked.tools.len() <= TOOLS_MAX.max(1), "{} tools", asked.tools.len());
    assert!(!asked.model.is_empty(), "a model without a name");
    let _ = is_call("POST", data);
}

#[cfg(test)]
mod tests;
