//! `keepstep load` against a real deployment.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::stories::client::PATIENCE;
use crate::stories::{Deployment, World};
use crate::support::{JWT_SECRET, wait_until};

async fn load(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstep"));
    command.args(["load", "--json", "--url", &format!("http://{}", world.addresses()[0])]).args(arguments);
    command.env("KEEPSTEP_JWT_SECRET", JWT_SECRET).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("the program can be run")
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test]
async fn a_load_finds_every_message_once_and_leaves_nothing() {
    let world = Deployment::Stack.start().await;
    let arguments = ["--users", "6", "--chats", "3", "--size", "3", "--think", "100ms", "--seconds", "3"];
    let output = load(&world, &arguments).await;
    let report = report(&output);
    assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
    let sends = report["sends"].as_u64().unwrap();
    assert!(sends > 50, "six users for three seconds: {report}");
    // Three members with two devices each.
    assert_eq!(report["deliveries"].as_u64().unwrap(), sends * 6, "{report}");
    assert_eq!((&report["lost"], &report["repeated"], &report["gaps"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(report["receive_ms"]["count"], report["deliveries"]);
    assert!(report["receive_ms"]["p50"].as_f64().unwrap() > 0.0);
    wait_until("its queues to be gone", PATIENCE, || async {
        world.queues("c.", "").await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_load_on_nobody_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstep"));
    command.args(["load", "--url", "http://127.0.0.1:1"]).env("KEEPSTEP_JWT_SECRET", JWT_SECRET);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
