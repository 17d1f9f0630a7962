//! The `keepstep` command as an operator meets it: what it prints, and with which code it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread,
};

const SECRET: &str = "a secret of the command, 32 bytes or more";
const DEVICE: &str = "0b1c2d3e-0000-4000-8000-000000000001";

/// The command with these variables and no other of ours.
fn keepstep(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments, variables).output().unwrap()
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstep"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEEPSTEP_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn settings_that_can_not_work_are_refused_with_one_sentence_and_code_2() {
    let redis = ("KEEPSTEP_REDIS_URL", "redis://u:hunter2@127.0.0.1:1");
    let nsqd = ("KEEPSTEP_NSQD", "127.0.0.1:1");
    let secret = ("KEEPSTEP_JWT_SECRET", SECRET);
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&[redis, secret], &["KEEPSTEP_NSQD isn't", "4151"]),
        (&[redis, secret, ("KEEPSTEP_NSQD", "")], &["KEEPSTEP_NSQD isn't"]),
        (&[nsqd, secret], &["KEEPSTEP_REDIS_URL isn't", "redis://"]),
        (&[redis, nsqd], &["KEEPSTEP_JWT_SECRET", "KEEPSTEP_JWKS", "openssl rand -hex 32"]),
        (&[redis, nsqd, ("KEEPSTEP_JWT_SECRET", "")], &["KEEPSTEP_JWT_SECRET", "KEEPSTEP_JWKS"]),
        (&[redis, nsqd, ("KEEPSTEP_TOKEN_SECRET", SECRET)], &["KEEPSTEP_JWT_SECRET", "KEEPSTEP_JWKS"]),
        (&[redis, nsqd, ("KEEPSTEP_JWKS", "keys.json")], &["KEEPSTEP_TOKEN_SECRET"]),
        (&[("KEEPSTEP_JWKS", "keys.json")], &["KEEPSTEP_TOKEN_SECRET"]),
        (
            &[secret, ("KEEPSTEP_JWKS", "http://idp.example/keys?key=hunter2")],
            &["KEEPSTEP_JWKS", "https", "KEEPSTEP_JWKS_INSECURE=true"],
        ),
        (&[("KEEPSTEP_JWT_SECRET_2", SECRET)], &["KEEPSTEP_JWT_SECRET, which signs"]),
        (&[secret, ("KEEPSTEP_TOKEN_SECRET_3", SECRET)], &["KEEPSTEP_TOKEN_SECRET, which signs"]),
        (&[secret, ("KEEPSTEP_JWT_SECRET_2", "hunter2")], &["KEEPSTEP_JWT_SECRET_2", "7 bytes"]),
        (&[("KEEPSTEP_JWT_SECRET", "hunter2")], &["KEEPSTEP_JWT_SECRET", "7 bytes", "openssl rand -hex 32"]),
        (&[secret, ("KEEPSTEP_TOKEN_SECRET", "hunter2")], &["KEEPSTEP_TOKEN_SECRET", "32"]),
        (
            &[("KEEPSTEP_JWT_SECRET", &"hunter2".repeat(9))],
            &["KEEPSTEP_JWT_SECRET", "7 different bytes", "openssl"],
        ),
        (&[("KEEPSTEP_JWT_SECRET", &"x".repeat(64))], &["KEEPSTEP_JWT_SECRET", "1 different bytes"]),
        (
            &[secret, ("KEEPSTEP_TOKEN_SECRET", &"password!12".repeat(4))],
            &["KEEPSTEP_TOKEN_SECRET", "a piece of 11 bytes"],
        ),
        (
            &[("KEEPSTEP_LISTEN", "0.0.0.0:0")],
            &["KEEPSTEP_LISTEN is 0.0.0.0:0", "KEEPSTEP_JWT_SECRET", "127.0.0.1"],
        ),
        (&[("KEEPSTEP_LISTEN", "[::]:0")], &["KEEPSTEP_LISTEN is [::]:0", "KEEPSTEP_JWT_SECRET"]),
        (
            &[("KEEPSTEP_PLAYGROUND_LISTEN", "0.0.0.0:0")],
            &["KEEPSTEP_PLAYGROUND_LISTEN", "KEEPSTEP_JWT_SECRET"],
        ),
        (
            &[("KEEPSTEP_JWT_SECRET", "0123456789abcdef0123456789abcdef")],
            &["KEEPSTEP_JWT_SECRET", "a piece of 16 bytes", "openssl"],
        ),
        (
            &[secret, ("KEEPSTEP_TOKEN_SECRET", "abcdefghijklmnopqrstuvwxyz012345")],
            &["KEEPSTEP_TOKEN_SECRET", "such as abcd", "openssl"],
        ),
        (&[("KEEPSTEP_JWT_SECRT", SECRET)], &["KEEPSTEP_JWT_SECRT", "did you mean KEEPSTEP_JWT_SECRET?"]),
        (&[secret, ("KEEPSTEP_MAX_CONECTIONS", "9")], &["did you mean KEEPSTEP_MAX_CONNECTIONS?"]),
        (&[("KEEPSTEP_LOG_MESSAGES", "500")], &["KEEPSTEP_LOG_KEEP", "KEEPSTEP_LOG_MESSAGES"]),
        (&[("KEEPSTEP_LOG_KEEP", "10001")], &["KEEPSTEP_LOG_KEEP", "KEEPSTEP_LOG_MESSAGES"]),
        (&[("KEEPSTEP_DATA", "data")], &["KEEPSTEP_DATA", "leave it empty"]),
        (&[("KEEPSTEP_REDIS_URL", "hunter2:6379"), nsqd, secret], &["KEEPSTEP_REDIS_URL", "redis://"]),
        (&[redis, ("KEEPSTEP_NSQD", "a:4151,b"), secret], &["KEEPSTEP_NSQD", "`b`"]),
        (&[redis, nsqd, secret, ("KEEPSTEP_NSQLOOKUPD", "b")], &["KEEPSTEP_NSQLOOKUPD", "`b`"]),
        (&[redis, nsqd, secret, ("KEEPSTEP_REDIS_PREFIX", "a{b}")], &["KEEPSTEP_REDIS_PREFIX"]),
        (&[("KEEPSTEP_LISTEN", "8080")], &["KEEPSTEP_LISTEN", "--listen", "127.0.0.1:8080"]),
        (&[("KEEPSTEP_OPS_LISTEN", "nowhere:1")], &["KEEPSTEP_OPS_LISTEN"]),
        (&[("KEEPSTEP_OPS_LISTEN", "127.0.0.1:8080")], &["KEEPSTEP_OPS_LISTEN", "another port"]),
        (&[("KEEPSTEP_ALLOWED_ORIGINS", "example.org")], &["KEEPSTEP_ALLOWED_ORIGINS", "scheme://host"]),
        (&[("KEEPSTEP_HEARTBEAT", "25")], &["KEEPSTEP_HEARTBEAT", "25s"]),
        (&[("KEEPSTEP_HEARTBEAT", "0s")], &["KEEPSTEP_HEARTBEAT", "longer than 0"]),
        (&[("KEEPSTEP_LEASE", "2s")], &["KEEPSTEP_LEASE_RENEWAL", "shorter"]),
        (&[("KEEPSTEP_PAGE", "500")], &["KEEPSTEP_PAGE", "at least that"]),
        (&[("KEEPSTEP_DRAIN_ACKS", "10s")], &["KEEPSTEP_DRAIN_ACKS", "shorter"]),
        (
            &[("KEEPSTEP_ACK_TIMEOUT", "60s")],
            &["KEEPSTEP_NSQ_MESSAGE_TIMEOUT", "longer than KEEPSTEP_ACK_TIMEOUT"],
        ),
        (&[("KEEPSTEP_NSQ_MESSAGE_TIMEOUT", "16m")], &["KEEPSTEP_NSQ_MESSAGE_TIMEOUT", "15m"]),
        (&[("KEEPSTEP_UNACKED_WINDOW", "0")], &["KEEPSTEP_UNACKED_WINDOW", "at least 1"]),
        (&[("KEEPSTEP_SUBS_PER_USER", "-1")], &["KEEPSTEP_SUBS_PER_USER", "digits alone"]),
        (&[("KEEPSTEP_MAX_CONNECTIONS", "many")], &["KEEPSTEP_MAX_CONNECTIONS", "digits alone"]),
        (&[("KEEPSTEP_USER_BYTES", "64MB")], &["KEEPSTEP_USER_BYTES", "67108864 for 64 MiB"]),
        (&[("KEEPSTEP_CONTENT_BYTES", "64KiB")], &["KEEPSTEP_CONTENT_BYTES", "67108864 for 64 MiB"]),
        (&[("KEEPSTEP_MAX_HEADER_BYTES", "16k")], &["KEEPSTEP_MAX_HEADER_BYTES", "67108864 for 64 MiB"]),
        (&[("KEEPSTEP_CONTENT_BYTES", "131072")], &["KEEPSTEP_FRAME_BYTES"]),
        (&[("KEEPSTEP_HISTORY_PAGE_BYTES", "999999999")], &["KEEPSTEP_HISTORY_FRAME_BYTES"]),
        (&[("KEEPSTEP_FRAMES_BURST", "1")], &["KEEPSTEP_FRAMES_BURST"]),
        (&[("KEEPSTEP_MAIN_REQUIRED", "perhaps")], &["KEEPSTEP_MAIN_REQUIRED"]),
        (&[("KEEPSTEP_EDGE", "a b")], &["KEEPSTEP_EDGE"]),
        (&[("KEEPSTEP_MAX_HEADER_BYTES", "10")], &["KEEPSTEP_MAX_HEADER_BYTES"]),
        (&[("KEEPSTEP_LOG", "a=b=c")], &["KEEPSTEP_LOG"]),
        (&[("KEEPSTEP_LOG_FORMAT", "xml")], &["KEEPSTEP_LOG_FORMAT", "json"]),
    ];
    for (variables, words) in cases {
        let output = keepstep(&["serve"], variables);
        let said = err(&output);
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {said}");
        assert!(said.starts_with("error: "), "{variables:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{variables:?}: {word} isn't in: {said}");
        }
        assert!(!said.contains("hunter2"), "{variables:?}: a secret is in: {said}");
        assert!(out(&output).is_empty());
    }
}

#[test]
fn flags_go_before_variables_and_empty_variables_are_not_set() {
    // A good flag over a bad variable: what is refused is the one bad thing that is left.
    let output = keepstep(
        &["--listen=127.0.0.1:1", "--heartbeat=1s"],
        &[
            ("KEEPSTEP_LISTEN", "bad"),
            ("KEEPSTEP_LEASE", ""),
            ("KEEPSTEP_HEARTBEAT", ""),
            ("KEEPSTEP_DATA", "x"),
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("KEEPSTEP_DATA"), "{}", err(&output));
}

#[test]
fn a_refusal_names_what_was_set() {
    // The flag was given, so its variable, which isn't read, isn't spoken of.
    let output = keepstep(&["serve", "--heartbeat", "25"], &[("KEEPSTEP_HEARTBEAT", "1s")]);
    assert_eq!(output.status.code(), Some(2));
    let said = err(&output);
    assert!(said.contains("--heartbeat") && !said.contains("KEEPSTEP_HEARTBEAT"), "{said}");
    // Of several, each has a sentence.
    let output = keepstep(&["serve"], &[("KEEPSTEP_JWT_SECRT", "x"), ("KEEPSTEP_NO_SUCH_THING", "x")]);
    let said = err(&output);
    assert!(
        said.contains("did you mean KEEPSTEP_JWT_SECRET? KEEPSTEP_NO_SUCH_THING isn't a setting. `keep"),
        "{said}"
    );
}

#[test]
fn help_and_version_are_no_failures() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["token", "-h"],
        &["admin", "remove", "--help"],
        &["help", "admin"],
    ] {
        let output = keepstep(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(out(&output).contains("Usage: keepstep"), "{arguments:?}");
    }
    assert!(out(&keepstep(&["--help"], &[])).contains("Exit codes:"));
    let serve = out(&keepstep(&["serve", "--help"], &[("KEEPSTEP_JWT_SECRET", SECRET)]));
    for word in ["KEEPSTEP_LISTEN", "KEEPSTEP_LEASE_RENEWAL", "[default: 25s]", "KEEPSTEP_SUBS_PER_USER"] {
        assert!(serve.contains(word), "{word}");
    }
    assert!(!serve.contains(SECRET));
    assert!(out(&keepstep(&["--version"], &[])).starts_with("keepstep "));
    assert_eq!(keepstep(&["srve"], &[]).status.code(), Some(2));
}

#[tokio::test]
async fn what_the_server_prints_to_try_next_gives_a_token() {
    let ports = ["serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"];
    let mut serve = command(&ports, &[("KEEPSTEP_JWT_SECRET", SECRET)]);
    let mut server = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let printed = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told: Vec<String> = printed.take_while(|line| !line.starts_with("A deployment")).collect();
    server.kill().unwrap();
    server.wait().unwrap();
    let line = told.iter().find(|line| line.trim_start().starts_with("TOKEN=")).expect("a token to be made");
    // As somebody would run it who has the secret there.
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{line}; printf %s \"$TOKEN\"")).env("KEEPSTEP_JWT_SECRET", SECRET);
    let token = out(&shell.output().unwrap());
    let tokens =
        keepstep::tokens::Tokens::new(&keepstep::config::TokenConfig::from_secret(SECRET).unwrap()).unwrap();
    assert_eq!(tokens.verify_user(&token).await.unwrap().user.as_str(), "alice");
}

#[tokio::test]
async fn a_token_of_the_command_is_one_of_the_server() {
    let tokens =
        keepstep::tokens::Tokens::new(&keepstep::config::TokenConfig::from_secret(SECRET).unwrap()).unwrap();
    let output = keepstep(&["token", "--user", "alice"], &[("KEEPSTEP_JWT_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let printed = out(&output);
    let claims = tokens.verify_user(printed.strip_suffix('\n').unwrap()).await.unwrap();
    assert!(claims.user.as_str() == "alice" && !claims.admin);

    let output = keepstep(&["token", "--user=bob", "--admin", "--ttl=1h", "--secret", SECRET, "--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    let claims = tokens.verify_user(json["token"].as_str().unwrap()).await.unwrap();
    assert!(claims.user.as_str() == "bob" && claims.admin);
    assert_eq!((json["user"].as_str(), json["admin"].as_bool()), (Some("bob"), Some(true)));
    assert_eq!(json["expires"].as_u64(), Some(claims.expires));

    for (arguments, secret) in [
        (&["token", "--user", "alice"][..], ""),
        (&["token", "--user", "alice"], "hunter2"),
        (&["token", "--user", "a b"], SECRET),
        (&["token", "--user", ".."], SECRET),
        (&["token"], SECRET),
        (&["token", "--user", "alice", "--ttl", "0s"], SECRET),
    ] {
        let output = keepstep(arguments, &[("KEEPSTEP_JWT_SECRET", secret)]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(out(&output).is_empty() && !err(&output).contains("hunter2"));
    }
}

/// Answers one connection after the other with these answers, in order; gives back the requests' first lines and whether
/// each had an admin's token.
fn server(answers: Vec<(u16, &'static str)>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let one = |(status, body): (u16, &str)| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = socket.read(&mut buffer).unwrap();
                assert!(read > 0, "the request ended early");
                request.extend_from_slice(&buffer[..read]);
            }
            let length = body.len();
            write!(
                socket,
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
            let request = String::from_utf8(request).unwrap();
            assert!(request.to_ascii_lowercase().contains("authorization: bearer "), "{request}");
            request.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned()
        };
        answers.into_iter().map(one).collect()
    });
    (url, asked)
}

fn admin(url: &str, arguments: &[&str]) -> Output {
    admin_of(url, SECRET, arguments)
}

/// The same of a server with another secret.
pub fn admin_of(url: &str, secret: &str, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = ["admin"].iter().chain(arguments).copied().collect();
    keepstep(&arguments, &[("KEEPSTEP_URL", url), ("KEEPSTEP_JWT_SECRET", secret)])
}

#[test]
fn devices_are_listed_over_all_pages() {
    let first = r#"{"items":[{"id":"d1","kind":"main","name":"Alice's phone","platform":"android","created":0,
        "last_seen":951782399999,"online":true,"edge":"e-1","state":"active"}],"next":"d1"}"#;
    let second =
        r#"{"items":[{"id":"d2","kind":"sub","name":"a\u001b[2J","platform":"web","online":false}]}"#;
    let (url, asked) = server(vec![(200, first), (200, second)]);
    let output = admin(&url, &["devices", "alice@example.org"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let shown = out(&output);
    for word in ["DEVICE", "d1", "d2", "Alice's phone", "2000-02-28 23:59:59", "e-1", "yes"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'));
    let asked = asked.join().unwrap();
    assert_eq!(
        asked,
        [
            "GET /admin/v1/users/alice@example.org/devices",
            "GET /admin/v1/users/alice@example.org/devices?after=d1"
        ]
    );

    let (url, asked) = server(vec![(200, second)]);
    let json: serde_json::Value =
        serde_json::from_str(&out(&admin(&url, &["devices", "alice", "--json"]))).unwrap();
    assert_eq!(json["items"][0]["id"], "d2");
    asked.join().unwrap();
}

#[test]
fn channels_say_what_is_out_of_sight() {
    let body = r#"{"items":[{"chat":"c1","topic":"c.1","channel":"d.1","node":"n1:4151","depth":7,"in_flight":1,"requeues":0,
        "oldest_ms":90000,"consumers":1,"consumer":"e-1","cursor":3,"from":0,"head":11}],"unreachable":["n2:4151"]}"#;
    let (url, asked) = server(vec![(200, body)]);
    let shown = out(&admin(&url, &["channels", DEVICE]));
    for word in ["c1", "n1:4151", "90s", "11", "unreachable: n2:4151"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(asked.join().unwrap(), [format!("GET /admin/v1/devices/{DEVICE}/channels")]);
}

#[test]
fn a_device_is_removed_only_on_purpose() {
    let dry = r#"{"dry_run":true,"channels":[{"chat":"c1","node":"n1","depth":7}],"undelivered":7,"chats":1,"unreachable":[]}"#;
    let (url, asked) = server(vec![(200, dry)]);
    let shown = out(&admin(&url, &["remove", DEVICE, "--dry-run"]));
    assert!(shown.contains("would delete 1 channels in 1 chats; 7 messages are undelivered"), "{shown}");
    assert_eq!(asked.join().unwrap(), [format!("DELETE /admin/v1/devices/{DEVICE}?dry_run=true")]);

    // Nobody to ask: refused before anything is sent.
    let output = admin("http://127.0.0.1:1", &["remove", DEVICE]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--yes"));

    let accepted = r#"{"termination":{"id":"t1","state":"accepted"}}"#;
    let (url, asked) = server(vec![(202, accepted)]);
    let output = admin(&url, &["remove", DEVICE, "--yes"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "termination t1: accepted\n"));
    asked.join().unwrap();

    let pending = r#"{"state":"pending","channels_deleted":1,"unreachable":["n2:4151"]}"#;
    let done = r#"{"state":"done","channels_deleted":3,"unreachable":[]}"#;
    let (url, asked) = server(vec![(202, accepted), (200, pending), (200, done)]);
    let output = admin(&url, &["remove", DEVICE, "--yes", "--wait"]);
    assert_eq!(
        (output.status.code(), out(&output).as_str()),
        (Some(0), "termination t1: done, 3 channels deleted\n")
    );
    assert_eq!(asked.join().unwrap()[1..], ["GET /v1/terminations/t1", "GET /v1/terminations/t1"]);

    let (url, asked) = server(vec![(202, accepted), (200, pending)]);
    let output = admin(&url, &["remove", DEVICE, "--yes", "--wait", "--wait-timeout", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("n2:4151") && err(&output).contains("goes on trying"));
    asked.join().unwrap();
}

#[test]
fn refusals_are_shown_in_the_servers_words() {
    let problem = r#"{"type":"about:blank","title":"Not found","status":404,"detail":"there is no such device","code":"not_found"}"#;
    let (url, asked) = server(vec![(404, problem)]);
    let output = admin(&url, &["channels", DEVICE]);
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(said.starts_with("error: there is no such device (404") && said.contains("not_found"), "{said}");
    asked.join().unwrap();

    let (url, asked) = server(vec![(200, "<html>")]);
    assert_eq!(admin(&url, &["devices", "alice"]).status.code(), Some(1));
    asked.join().unwrap();

    let output = admin("http://127.0.0.1:1", &["devices", "alice"]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    for (arguments, url) in [(&["devices", "a b"][..], "http://127.0.0.1:1"), (&["devices", "a"], "ftp://x")]
    {
        assert_eq!(admin(url, arguments).status.code(), Some(2), "{arguments:?} {url}");
    }
    let output = keepstep(&["admin", "devices", "alice"], &[("KEEPSTEP_ADMIN_TOKEN", "")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("KEEPSTEP_ADMIN_TOKEN"));
}
