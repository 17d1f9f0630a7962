//! The demo's day on Redis and nsqd, with two edges: the phones on one, the web sessions on the other.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Nsqd, Stack};

#[tokio::test]
async fn the_day_on_two_edges_ends_with_all_devices_in_step() {
    let stack = Stack::start().await;
    let nsqd: Vec<String> = stack.nsqd.iter().map(Nsqd::http).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstep"));
    command
        .args(["demo", "--fast", "--json", "--redis", &stack.redis.url(), "--nsqd", &nsqd.join(",")])
        .args(["--nsqlookupd", &stack.lookupd.http()])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{err}\n{out}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let edges: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "connected").map(|event| &event["edge"]).collect();
    assert!(edges.len() >= 3 && edges[0] == edges[1] && edges[0] != edges[2], "{edges:?}");
    let summary = events.iter().find(|event| event["event"] == "summary").unwrap();
    assert_eq!(summary["agree"], true, "{summary}");
    assert_eq!(summary["termination"]["channels_left"], 0);
    assert!(summary["deliveries"]["queue"].as_u64() >= Some(300), "{summary}");
    assert!(!events.iter().any(|event| event["event"] == "left"), "devices are left on the stack");
}
