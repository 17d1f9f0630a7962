//! Validates what the server sends against the published schemas (`docs/openapi.yaml`, `docs/asyncapi.yaml`).
//!
//! In the documents, schemas of server objects are open, because fields may be added within version 1. Here they are
//! closed: a field that isn't in the documents is a fault, so that the documents stay true.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// The base address of `$ref`s. Nothing is ever fetched from there.
const BASE: &str = "https://keepstep.invalid/docs";

/// Both documents, parsed and closed.
#[derive(Debug)]
pub struct Schemas {
    /// `docs/openapi.yaml`, with absolute `$ref`s.
    pub openapi: Value,
    /// `docs/asyncapi.yaml`, with absolute `$ref`s.
    pub asyncapi: Value,
    registry: Registry<'static>,
    routes: Vec<Route>,
    problem: Validator,
    /// By the frame's type.
    frames: BTreeMap<String, Validator>,
    closes: BTreeMap<u16, String>,
    main_offline: Validator,
}

#[derive(Debug)]
struct Route {
    method: String,
    template: Vec<String>,
    codes: BTreeSet<String>,
    /// By status and content type.
    answers: BTreeMap<(u16, String), Validator>,
    request: Option<Validator>,
}

thread_local! {
    /// The error codes and close codes that this test has seen; a test has its own thread and runtime.
    static SEEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// See [`SEEN`].
pub fn seen() -> BTreeSet<String> {
    SEEN.with_borrow(Clone::clone)
}

fn saw(code: &str) {
    SEEN.with_borrow_mut(|seen| seen.insert(code.to_owned()));
}

/// Returns the documents, parsed once.
pub fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(Schemas::read)
}

/// Returns a document of `docs/` unchanged.
pub fn document(name: &str) -> Value {
    let path = super::repository("docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

impl Schemas {
    fn read() -> Schemas {
        let [openapi, asyncapi] = ["openapi.yaml", "asyncapi.yaml"].map(|name| {
            let mut document = document(name);
            prepare(&mut document, name);
            document
        });
        let registry = Registry::new()
            .add(format!("{BASE}/openapi.yaml"), openapi.clone())
            .and_then(|registry| registry.add(format!("{BASE}/asyncapi.yaml"), asyncapi.clone()))
            .and_then(|registry| registry.prepare())
            .expect("documents whose references resolve");
        let component =
            |file: &str, name: &str| json!({ "$ref": format!("{BASE}/{file}#/components/schemas/{name}") });
        let problem = validator(&registry, &component("openapi.yaml", "Problem"));
        let main_offline = validator(&registry, &component("asyncapi.yaml", "MainOfflineReason"));
        let routes = routes(&openapi, &registry);
        let frames = sent_by_server(&asyncapi)
            .into_iter()
            .map(|message| {
                let kind = message["name"].as_str().expect("a message has a name").to_owned();
                (kind, validator(&registry, &message["payload"]))
            })
            .collect();
        let closes = asyncapi["channels"]["socket"]["x-close-codes"].as_array().expect("close codes").iter();
        let closes = closes
            .map(|close| {
                let code = close["code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a code");
                (code, close["name"].as_str().expect("a name").to_owned())
            })
            .collect();
        Schemas { openapi, asyncapi, registry, routes, problem, frames, closes, main_offline }
    }

    /// Returns a validator of a schema that may refer to the documents.
    pub fn validator(&self, schema: &Value) -> Validator {
        validator(&self.registry, schema)
    }

    /// Returns the target of a `$ref` in a document (not in a schema).
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let (file, pointer) = reference.split_once('#').expect("a reference into a document");
        let document = if file.ends_with("openapi.yaml") { &self.openapi } else { &self.asyncapi };
        self.resolve(document.pointer(pointer).unwrap_or_else(|| panic!("{reference} is nowhere")))
    }

    fn answer(&self, line: &str, status: u16, head: &str, text: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next())
        else {
            return Ok(());
        };
        let path = target.split('?').next().unwrap_or_default();
        let ours = path.starts_with("/v1/") || path.starts_with("/admin/v1/");
        // Of pages and their files, of CORS, and of heads that never came to be a request, the documents say nothing.
        let broken = text.is_empty() && matches!(status, 400 | 408 | 431);
        if !ours || !matches!(method, "GET" | "POST" | "DELETE") || broken {
            return Ok(());
        }
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
        let Some(id) = header("x-request-id: ") else {
            return Err("an answer without x-request-id".to_owned());
        };
        let kind = header("content-type: ").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let route = self.route(method, path);
        if let Some(schema) = route.and_then(|route| route.answers.get(&(status, kind.to_owned()))) {
            let lines: Vec<&str> = if kind.ends_with("ndjson") { text.lines().collect() } else { vec![text] };
            return lines.into_iter().try_for_each(|line| check(schema, &parse(line)?));
        }
        if kind != "application/problem+json" {
            return Err(format!("an answer {status} of type {kind:?} that isn't in docs/openapi.yaml"));
        }
        let problem = parse(text)?;
        check(&self.problem, &problem)?;
        let code = problem["code"].as_str().unwrap_or_default();
        // (This client has its heads in lower case.)
        if problem["request_id"].as_str().is_none_or(|own| own.to_ascii_lowercase() != id) {
            return Err(format!("a problem of another request than its answer's, {id}"));
        }
        if problem["status"] != status {
            return Err("a problem with another status than its answer".to_owned());
        }
        saw(code);
        match route {
            Some(route) if route.codes.contains(code) => Ok(()),
            Some(_) => Err(format!("{code} isn't among the x-codes of this call")),
            None if code == "not_found" => Ok(()),
            None => Err(format!("{code} of a call that isn't in docs/openapi.yaml")),
        }
    }

    // What is written out goes before what is a parameter.
    fn route(&self, method: &str, path: &str) -> Option<&Route> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |route: &&Route| {
            let pairs = || route.template.iter().zip(&parts);
            route.method == method
                && route.template.len() == parts.len()
                && pairs().all(|(own, part)| own == part || (own.starts_with('{') && !part.is_empty()))
        };
        self.routes
            .iter()
            .filter(fits)
            .min_by_key(|route| route.template.iter().filter(|part| part.starts_with('{')).count())
    }

    fn frame(&self, text: &str) -> Result<(), String> {
        let frame = parse(text)?;
        let kind = frame["type"].as_str().unwrap_or_default();
        let schema =
            self.frames.get(kind).ok_or_else(|| format!("{kind:?} is no frame of docs/asyncapi.yaml"))?;
        if let Some(code) = frame["error"]["code"].as_str() {
            saw(code);
        }
        check(schema, &frame)
    }

    fn closed(&self, code: u16, reason: &str) -> Result<(), String> {
        // What isn't ours is given back to the client that said it first. Standard codes have no reason.
        let name = self.closes.get(&code);
        saw(&code.to_string());
        match (code, name) {
            (1000 | 1001 | 3000..=4299 | 4500.., None) => Ok(()),
            (4303, Some(_)) => check(&self.main_offline, &parse(reason)?),
            (4000.., Some(name)) if name != reason => {
                Err(format!("the reason of {code} is {reason:?}, not {name:?}"))
            }
            (_, Some(_)) => Ok(()),
            (_, None) => Err(format!("close code {code} isn't in docs/asyncapi.yaml")),
        }
    }
}

/// Validates an HTTP answer against `docs/openapi.yaml`; panics if it isn't described there.
#[track_caller]
pub fn answer(line: &str, status: u16, head: &str, text: &str) {
    if let Err(why) = schemas().answer(line, status, head, text) {
        let text: String = text.chars().take(1000).collect();
        panic!("an answer that isn't as docs/openapi.yaml says: {why}\n{line}\n{status} {text}");
    }
}

/// Validates the body of an accepted call against `docs/openapi.yaml`.
#[track_caller]
pub fn request(method: &str, path: &str, body: &str) {
    let route = schemas().route(method, path.split('?').next().unwrap_or_default());
    let Some(schema) = route.and_then(|route| route.request.as_ref()) else { return };
    if let Err(why) = parse(body).and_then(|body| check(schema, &body)) {
        panic!("the server took a body that isn't as docs/openapi.yaml says: {why}\n{method} {path}\n{body}");
    }
}

/// Validates a frame of the server against `docs/asyncapi.yaml`.
///
/// # Errors
/// A sentence.
pub fn frame(text: &str) -> Result<(), String> {
    schemas().frame(text).map_err(|why| format!("not as docs/asyncapi.yaml says: {why}"))
}

/// Validates a close frame of the server against `docs/asyncapi.yaml`.
///
/// # Errors
/// A sentence.
pub fn closed(code: u16, reason: &str) -> Result<(), String> {
    schemas().closed(code, reason).map_err(|why| format!("not as docs/asyncapi.yaml says: {why}"))
}

/// Returns the messages of `docs/asyncapi.yaml` that the server sends: in `send` operations, and as replies.
pub fn sent_by_server(asyncapi: &Value) -> Vec<&Value> {
    messages(asyncapi, "send", "receive")
}

/// Returns the messages of `docs/asyncapi.yaml` that clients send.
pub fn sent_by_clients(asyncapi: &Value) -> Vec<&Value> {
    messages(asyncapi, "receive", "send")
}

fn messages<'a>(asyncapi: &'a Value, said: &str, replied: &str) -> Vec<&'a Value> {
    let mut names = BTreeSet::new();
    for operation in asyncapi["operations"].as_object().expect("operations").values() {
        let direct = if operation["action"] == said { &operation["messages"] } else { &Value::Null };
        let reply =
            if operation["action"] == replied { &operation["reply"]["messages"] } else { &Value::Null };
        for message in [direct, reply].into_iter().filter_map(Value::as_array).flatten() {
            let reference = message["$ref"].as_str().expect("messages are referred to");
            names.insert(reference.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    names.iter().map(|name| &asyncapi["components"]["messages"][name]).collect()
}

fn routes(openapi: &Value, registry: &Registry<'static>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in openapi["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "delete"] {
            let operation = &item[method];
            if operation.is_null() {
                continue;
            }
            let codes = operation["x-codes"].as_array().unwrap_or_else(|| panic!("no x-codes: {path}"));
            let mut answers = BTreeMap::new();
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let Ok(status) = status.parse::<u16>() else { continue };
                let shared = response["$ref"].as_str().and_then(|reference| reference.split('#').nth(1));
                let response =
                    shared.map_or(response, |pointer| openapi.pointer(pointer).expect("a response"));
                for (kind, media) in response["content"].as_object().into_iter().flatten() {
                    let schema = media.get("schema").cloned().unwrap_or(Value::Bool(true));
                    answers.insert((status, kind.clone()), validator(registry, &schema));
                }
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            routes.push(Route {
                method: method.to_uppercase(),
                template: path.split('/').map(str::to_owned).collect(),
                codes: codes.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                answers,
                request: (!body.is_null()).then(|| validator(registry, body)),
            });
        }
    }
    routes
}

/// Makes references absolute, and closes objects that don't say otherwise.
fn prepare(value: &mut Value, file: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                let (target, pointer) = reference.split_once('#').expect("a reference into a document");
                let target = if target.is_empty() { file } else { target.trim_start_matches("./") };
                *reference = format!("{BASE}/{target}#{pointer}");
            }
            let open = map.get("type").is_some_and(|kind| kind == "object") && map.contains_key("properties");
            if open {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            map.values_mut().for_each(|value| prepare(value, file));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| prepare(value, file)),
        _ => {}
    }
}

fn validator(registry: &Registry<'static>, schema: &Value) -> Validator {
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).with_registry(registry);
    options.build(schema).unwrap_or_else(|why| panic!("{schema}: {why}"))
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|why| format!("not JSON: {why}"))
}

/// Returns where a value violates its schema.
///
/// # Errors
/// A sentence.
pub fn check(schema: &Validator, value: &Value) -> Result<(), String> {
    let faults: Vec<String> = schema
        .iter_errors(value)
        .take(5)
        .map(|fault| {
            let said: String = fault.to_string().chars().take(400).collect();
            format!("at {:?} ({}): {said}", fault.instance_path().to_string(), fault.schema_path())
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}
