//! `keepstep demo` as a person runs it, and as a script does.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstep"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEEPSTEP_") {
            command.env_remove(name);
        }
    }
    command.arg("demo").args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_day_ends_with_all_devices_in_step() {
    let output = demo(&["--fast", "--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", err(&output), out(&output));
    let events: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();

    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["agree"], true, "{summary}");
    assert_eq!(summary["faults"], Value::Array(Vec::new()));
    let messages = summary["messages"].as_u64().unwrap();
    assert!(messages > 150, "{messages}");
    let devices = summary["devices"].as_array().unwrap();
    assert_eq!(devices.iter().filter(|device| device["state"] == "live").count(), 4);
    for device in devices.iter().filter(|device| device["state"] == "live") {
        let held = |chat: &str| device["chats"][chat]["messages"].as_u64().unwrap();
        assert_eq!(held("direct") + held("studio"), messages, "{device}");
    }

    let backlogs = of("backlog");
    assert!(
        backlogs.len() == 2 && backlogs.iter().all(|event| event["depth"].as_u64() >= Some(6)),
        "{backlogs:?}"
    );
    for bootstrap in summary["bootstraps"].as_array().unwrap() {
        assert!(bootstrap["pages"].as_u64() >= Some(2), "{bootstrap}");
    }
    assert!(of("history_page").len() >= 6);
    assert_eq!(of("read").len(), 4);
    assert_eq!(
        of("refused").iter().map(|event| event["code"].as_u64()).collect::<Vec<_>>(),
        [Some(4303), Some(4403)]
    );
    assert!(of("refused")[0]["last_seen"].is_u64());
    assert_eq!(of("replaced")[0]["code"], 4409);
    assert_eq!((&of("resumed")[0]["messages"], &of("resumed")[0]["again"]), (&5.into(), &1.into()));
    assert_eq!(of("terminated")[0]["code"], 4403);
    let ending = &summary["termination"];
    assert_eq!((&ending["state"], &ending["channels_left"]), (&"done".into(), &0.into()), "{ending}");
    assert_eq!(ending["channels_deleted"], 2);
}

#[test]
fn into_a_pipe_it_is_plain_text() {
    let output = demo(&["--fast"], &[("COLUMNS", "80")]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", err(&output), out(&output));
    let text = out(&output);
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "escape codes in a pipe");
    assert!(text.contains("all 4 devices agree"), "{text}");
    assert_eq!(err(&output), "");
}

#[test]
fn what_can_not_be_played_is_refused() {
    for (arguments, said) in [
        (&["--redis", "redis://127.0.0.1:1"][..], "--nsqd"),
        (&["--nsqd", "127.0.0.1:4151"], "--redis"),
        (&["--url", "https://127.0.0.1:1"], "http://host:port"),
        (&["--url", "http://127.0.0.1:1"], "KEEPSTEP_JWT_SECRET"),
        (&["--pace=-1"], "from 0 to 100"),
        (&["--url", "http://127.0.0.1:1", "--nsqd", "a:1"], "cannot be used with"),
    ] {
        let output = demo(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {}", err(&output));
        assert!(err(&output).contains(said), "{arguments:?} {}", err(&output));
    }
    let secret = ("KEEPSTEP_JWT_SECRET", "a secret of the demo, 32 bytes or more");
    let output = demo(&["--url", "http://127.0.0.1:1"], &[secret]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
}
