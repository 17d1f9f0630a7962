//! `docs/openapi.yaml` and `docs/asyncapi.yaml`: valid as what they are, the same contract as `docs/protocol.md` and the
//! server's own tables, and examples that are as they say. (That the server keeps to them, every story checks.)

use std::collections::BTreeSet;

use keepstep::protocol::{ClientFrame, CloseCode, ErrorCode};
use serde_json::Value;

use crate::support::repository;
use crate::support::schemas::{check, document, schemas, sent_by_clients, sent_by_server};

fn protocol() -> String {
    std::fs::read_to_string(repository("docs").join("protocol.md")).expect("docs/protocol.md")
}

/// The text from one heading to the next of its kind or above.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let begin = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}")) + 1;
    let level = heading.split(' ').next().expect("a heading").len();
    let rest = &text[begin + heading.len()..];
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

fn texts(values: &Value) -> BTreeSet<String> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What stands between backticks in the first column of the tables of a text.
fn first_column(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn they_are_valid_documents() {
    for (name, specification) in
        [("openapi.yaml", "openapi-3.1.json"), ("asyncapi.yaml", "asyncapi-3.0.0.json")]
    {
        let path = repository("tests/data/specifications").join(specification);
        let text = std::fs::read_to_string(path).expect("a specification");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let validator = jsonschema::options().offline().build(&schema).expect("a schema");
        check(&validator, &document(name)).unwrap_or_else(|why| panic!("docs/{name}: {why}"));
        let broken = serde_json::json!({ "openapi": "3.1.0", "asyncapi": "3.0.0" });
        assert!(check(&validator, &broken).is_err(), "{specification} finds nothing");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_one() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(map) => {
                if map.get("$ref").is_some_and(Value::is_string) {
                    found.push(value);
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let schemas = schemas();
    let mut used = BTreeSet::new();
    for document in [&schemas.openapi, &schemas.asyncapi] {
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            schemas.resolve(reference);
            used.insert(reference["$ref"].as_str().unwrap_or_default().to_owned());
        }
    }
    for (file, document) in [("openapi.yaml", &schemas.openapi), ("asyncapi.yaml", &schemas.asyncapi)] {
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            assert!(jsonschema::draft202012::meta::is_valid(schema), "{name} of {file} is no schema");
            schemas.validator(schema);
            let own = format!("{file}#/components/schemas/{name}");
            let spoken =
                used.iter().any(|reference| reference.ends_with(&own)) || name == "MainOfflineReason";
            assert!(spoken, "nothing uses {own}");
        }
    }
}

#[test]
fn calls_are_those_of_the_protocol() {
    // `{id}` or `{u}`: a parameter is a parameter. `{code}` and `{link}` of /v1/links are told apart by their form.
    let plain = |path: &str| {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let text = protocol();
    let mut described = BTreeSet::new();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        for (at, _) in text.match_indices(&format!("{method} /")) {
            let path = &text[at + method.len() + 1..];
            let end = path.find(|c: char| !(c.is_ascii_alphanumeric() || "/{}_-".contains(c)));
            let path = &path[..end.unwrap_or(path.len())];
            // In an example the brace of the object may follow it.
            let path = if path.contains('{') { path } else { path.trim_end_matches('}') };
            described.insert(format!("{method} {}", plain(path)));
        }
    }
    let mut documented = BTreeSet::new();
    for (path, item) in schemas().openapi["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "delete"] {
            if item.get(method).is_some() {
                documented.insert(format!("{} {}", method.to_uppercase(), plain(path)));
            }
        }
    }
    assert!(documented.len() > 30, "{documented:?}");
    assert_eq!(documented, described, "docs/openapi.yaml and docs/protocol.md name different calls");
}

#[test]
fn frames_are_those_of_the_protocol() {
    let text = protocol();
    let names = |messages: Vec<&Value>| -> BTreeSet<String> {
        messages.iter().map(|message| message["name"].as_str().expect("a name").to_owned()).collect()
    };
    let asyncapi = &schemas().asyncapi;
    let headings =
        section(&text, "### Client to server").lines().filter_map(|line| line.strip_prefix("#### "));
    let clients: BTreeSet<String> =
        headings.flat_map(|heading| heading.split(", ")).map(str::to_owned).collect();
    assert_eq!(names(sent_by_clients(asyncapi)), clients);

    // Each paragraph of the section begins with the frames that it is about; replies and errors have a section of their own.
    let mut server: BTreeSet<String> = ["reply", "error"].map(str::to_owned).into();
    for kind in ["reply", "error"] {
        let example = format!(r#"{{"type":"{kind}""#);
        assert!(section(&text, "### Requests and replies").contains(&example), "{kind}");
    }
    for line in section(&text, "### Server to client").lines() {
        let bold = line.split("**`").skip(1).filter_map(|rest| rest.split_once("`**"));
        server.extend(bold.map(|(name, _)| name.to_owned()));
    }
    assert_eq!(names(sent_by_server(asyncapi)), server);
}

#[test]
fn codes_are_those_of_the_protocol_and_of_the_server() {
    let schemas = schemas();
    let text = protocol();
    let documented = texts(&schemas.openapi["components"]["schemas"]["ErrorCode"]["enum"]);
    assert_eq!(documented, first_column(section(&text, "## Error codes")));
    // Known to the server, with the status and the answer to `retry` that the documents give.
    let problem = schemas.validator(&schemas.openapi["components"]["schemas"]["Problem"]);
    let error = schemas.validator(&schemas.asyncapi["components"]["schemas"]["Problem"]);
    for name in &documented {
        let code: ErrorCode = serde_json::from_value(name.as_str().into()).expect("a code of the server");
        let (status, retry) = (code.status(), code.retry());
        let asked = serde_json::json!({
            "type": "about:blank", "title": code.title(), "status": status, "code": name, "detail": "…",
            "request_id": "r",
        });
        check(&problem, &asked).unwrap_or_else(|why| panic!("{name}: {why}"));
        let told = serde_json::json!({ "code": name, "message": "…", "retry": retry });
        check(&error, &told).unwrap_or_else(|why| panic!("{name}: {why}"));
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` | {status} |")));
        let said = if retry { " yes " } else { " no " };
        assert_eq!(row.and_then(|row| row.split('|').nth(3)), Some(said), "{name}");
    }
    // And the server has no other: its table is the source.
    let source = std::fs::read_to_string(repository("src").join("protocol/code.rs")).expect("the source");
    let table = source.split("error_codes! {\n").nth(1).and_then(|rest| rest.split("\n}").next());
    let own = table.expect("the table of codes").lines().filter(|line| !line.contains("///"));
    let own: BTreeSet<String> = own.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
    assert_eq!(documented, own);
}

#[test]
fn close_codes_are_those_of_the_protocol_and_of_the_server() {
    let text = protocol();
    let told = section(&text, "## Close codes");
    let digits = |word: &&str| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit());
    let described: BTreeSet<&str> = told.split(|c: char| !c.is_ascii_alphanumeric()).filter(digits).collect();
    let closes = schemas().asyncapi["channels"]["socket"]["x-close-codes"].as_array().expect("close codes");
    let documented: BTreeSet<String> = closes.iter().map(|close| close["code"].to_string()).collect();
    assert_eq!(documented.iter().map(String::as_str).collect::<BTreeSet<_>>(), described);
    for close in CloseCode::ALL {
        let (code, name) = (close.number(), close.name());
        let found = closes.iter().find(|each| each["code"] == code).unwrap_or_else(|| panic!("no {code}"));
        assert_eq!(found["name"], name);
        assert_eq!(found["reconnect"], code < 4400, "{code}");
        assert!(told.contains(&format!("| {code} | `{name}` |")), "{code} {name}");
    }
    let own = documented.iter().filter(|code| code.starts_with('4')).count();
    assert_eq!(own, CloseCode::ALL.len());
}

#[test]
fn examples_are_as_their_schemas_say() {
    let schemas = schemas();
    let mut looked = 0;
    for (path, item) in schemas.openapi["paths"].as_object().expect("paths") {
        for operation in item.as_object().expect("an item").values().filter(|value| value.is_object()) {
            let responses = operation["responses"].as_object().into_iter().flat_map(|all| all.values());
            let bodies = responses.map(|response| schemas.resolve(response));
            for media in bodies
                .chain([&operation["requestBody"]])
                .filter_map(|body| body["content"].as_object())
                .flat_map(|content| content.values())
            {
                for (name, example) in media["examples"].as_object().into_iter().flatten() {
                    let schema = schemas.validator(&media["schema"]);
                    check(&schema, &example["value"]).unwrap_or_else(|why| panic!("{path}, {name}: {why}"));
                    looked += 1;
                }
            }
        }
    }
    let clients: Vec<&Value> = sent_by_clients(&schemas.asyncapi);
    for message in sent_by_server(&schemas.asyncapi).into_iter().chain(clients.iter().copied()) {
        let schema = schemas.validator(&message["payload"]);
        let examples = message["examples"].as_array().expect("a message has examples");
        assert!(!examples.is_empty(), "{}", message["name"]);
        for example in examples {
            check(&schema, &example["payload"]).unwrap_or_else(|why| panic!("{}: {why}", message["name"]));
            looked += 1;
        }
    }
    assert!(looked > 50, "{looked}");
    // What the documents let clients say, the server can read; a field that nobody knows, neither takes.
    for message in clients {
        let schema = schemas.validator(&message["payload"]);
        for example in message["examples"].as_array().expect("examples") {
            let mut frame = example["payload"].clone();
            ClientFrame::parse(&frame.to_string()).unwrap_or_else(|why| panic!("{frame}: {why:?}"));
            frame["typo"] = 1.into();
            assert!(ClientFrame::parse(&frame.to_string()).is_err(), "{frame}");
            assert!(check(&schema, &frame).is_err(), "{frame}");
        }
    }
}

#[test]
fn what_is_not_in_the_documents_is_found() {
    use crate::support::schemas::{closed, frame};
    for (good, text) in [
        (true, r#"{"type":"pong"}"#),
        (false, r#"{"type":"pong","new":1}"#),
        (false, r#"{"type":"news"}"#),
        (false, r#"{"type":"reply","id":1,"ok":{"seq":1,"new":2}}"#),
        (false, r#"{"type":"reply","id":1,"error":{"code":"not_found","message":"no","retry":true}}"#),
        (false, r#"{"type":"reply","id":1}"#),
        (false, r#"{"type":"typing","chat":"3f396dde-0000-4000-8000-000000000001"}"#),
    ] {
        assert_eq!(frame(text).is_ok(), good, "{text}: {:?}", frame(text));
    }
    for (good, code, reason) in [
        (true, 4401, "unauthorized"),
        (false, 4401, "kicked"),
        (false, 4444, "odd"),
        (true, 4303, r#"{"code":"main_offline","last_seen":null}"#),
        (false, 4303, "main_offline"),
    ] {
        assert_eq!(closed(code, reason).is_ok(), good, "{code} {reason}");
    }
    let answer = |line: &'static str, status, head: &'static str, text: &'static str| {
        std::panic::catch_unwind(move || crate::support::schemas::answer(line, status, head, text)).is_ok()
    };
    let json = "content-type: application/json\r\nx-request-id: r\r\n";
    assert!(answer("GET /v1/offsets HTTP/1.1", 200, json, "{}"));
    assert!(!answer("GET /v1/offsets HTTP/1.1", 200, json, r#"{"x":1}"#));
    assert!(!answer("GET /v1/offsets HTTP/1.1", 201, json, "{}"));
    assert!(
        !answer("GET /v1/offsets HTTP/1.1", 200, "content-type: application/json\r\n", "{}"),
        "of no request"
    );
    assert!(!answer("GET /v1/news HTTP/1.1", 200, json, "{}"));
    let problem = "content-type: application/problem+json\r\nx-request-id: r\r\n";
    let odd = r#"{"type":"about:blank","title":"Conflict","status":409,"code":"conflict","detail":"no","request_id":"r"}"#;
    assert!(answer("POST /v1/chats HTTP/1.1", 409, problem, odd));
    assert!(!answer("GET /v1/offsets HTTP/1.1", 409, problem, odd), "not among its x-codes");
    assert!(!answer("POST /v1/chats HTTP/1.1", 404, problem, odd), "another status");
    let other = "content-type: application/problem+json\r\nx-request-id: s\r\n";
    assert!(!answer("POST /v1/chats HTTP/1.1", 409, other, odd), "another request");
}
