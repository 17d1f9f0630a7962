//! `keepstep admin` against a server that runs: what an operator sees of everything, and what they change.

use std::process::Output;

use serde_json::{Value, json};

use crate::cli::{admin_of, err, out};
use crate::stories::client::PATIENCE;
use crate::stories::{Deployment, World};
use crate::support::wait_until;

/// What the command says; it must have gone well.
async fn says(world: &World, arguments: &[&str]) -> String {
    let output = runs(world, arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{}", out(&output), err(&output));
    out(&output)
}

async fn runs(world: &World, arguments: &[&str]) -> Output {
    let url = format!("http://{}", world.edges[0].listen());
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        admin_of(&url, crate::support::JWT_SECRET, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await
    .unwrap()
}

async fn json_of(world: &World, arguments: &[&str]) -> Value {
    let said = says(world, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
}

#[tokio::test]
async fn an_operator_sees_everything_and_what_was_done() {
    let world = Deployment::Embedded.with("KEEPSTEP_CONSOLE_REFRESH", "100ms").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.leaves().await;
    phone.says_many(&chat, "waiting", 4).await;

    let overview = says(&world, &["overview"]).await;
    for word in ["EDGE", "MAINS", "STORE", "SERVER", "embedded", "terminations unfinished: 0"] {
        assert!(overview.contains(word), "{word}: {overview}");
    }
    assert_eq!(json_of(&world, &["overview"]).await["cluster"]["edges"], 1);
    let list = wait_until("the list to be up to date", PATIENCE, || async {
        let list = json_of(&world, &["devices", "--sort", "undelivered", "--limit", "1"]).await;
        (list["items"][0]["undelivered"] == 4).then_some(list)
    })
    .await;
    assert_eq!((&list["items"][0]["device"], &list["total"]), (&json!(bobs.id), &json!(2)));
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let shown = says(&world, &["devices", "--search", &bob.name]).await;
    assert!(
        shown.contains(&bobs.id) && !shown.contains(&phone.id) && shown.contains("1 of 1 as of "),
        "{shown}"
    );
    // Of one user without an order: as they are in this moment.
    let of_bob = json_of(&world, &["devices", &bob.name]).await;
    assert_eq!(of_bob["items"][0]["id"], bobs.id);
    let users = says(&world, &["users", "--sort", "undelivered"]).await;
    assert!(users.find(&bob.name) < users.find(&alice.name), "{users}");
    let channels = json_of(&world, &["channels", &bobs.id, "--sort", "undelivered", "--limit", "5"]).await;
    assert_eq!(channels["items"][0]["depth"], 4);

    assert!(says(&world, &["orphans"]).await.contains("0 of 0"));
    let dry = says(&world, &["sweep", "--dry-run"]).await;
    assert!(dry.contains("would delete 0, 0 more are left"), "{dry}");
    // Nobody is there to be asked.
    let output = runs(&world, &["sweep"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains("--yes") && err(&output).contains("--dry-run"));
    assert_eq!(json_of(&world, &["sweep", "--yes"]).await["removed"], 0);
    let mut phone = phone;
    let kicked = says(&world, &["kick", &alice.name]).await;
    assert!(kicked.contains("the one connected device of alice"), "{kicked}");
    assert_eq!(phone.closed().await.0, 4410);
    let dry = says(&world, &["remove", &bobs.id, "--dry-run"]).await;
    assert!(dry.contains("would delete 1 channels in 1 chats; 4 messages are undelivered"), "{dry}");
    says(&world, &["remove", &bobs.id, "--yes", "--wait"]).await;
    // Nobody is there any more; and what is removed already stays so.
    let kicked = says(&world, &["kick", &bob.name]).await;
    assert!(kicked.contains("no device of bob") && kicked.contains("nothing to close"), "{kicked}");
    let again = says(&world, &["remove", &bobs.id, "--yes", "--wait"]).await;
    assert!(again.contains(": done"), "{again}");

    let log = json_of(&world, &["audit"]).await;
    let log = log["items"].as_array().unwrap();
    let done: Vec<_> =
        log.iter().map(|item| (item["action"].as_str().unwrap(), item["dry_run"] == true)).collect();
    let wanted = [
        ("device.end", false),
        ("user.kick", false),
        ("device.end", false),
        ("device.end", true),
        ("user.kick", false),
        ("channels.sweep", false),
        ("channels.sweep", true),
    ];
    assert_eq!(done, wanted);
    assert!(log.iter().all(|item| item["who"] == "keepstep-cli"), "{log:?}");
    let kicks =
        says(&world, &["audit", "--action", "user.kick", "--since", "1h", "--who", "keepstep-cli"]).await;
    assert!(kicks.contains(&alice.name) && !kicks.contains("channels.sweep"), "{kicks}");

    // What the server refuses is said in its words, and changes nothing; what can't be meant isn't sent.
    let output = runs(&world, &["devices", "--sort", "colour"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("sort is one of: undelivered"), "{}", err(&output));
    for arguments in [
        &["devices", "--limit", "0"][..],
        &["devices", "--order", "up"],
        &["sweep", "--dry-run", "--yes"],
        &["sweep", "--limit", "1001"],
        &["audit", "--since", "yesterday"],
        &["kick"],
        &["kick", "a b"],
    ] {
        assert_eq!(runs(&world, arguments).await.status.code(), Some(2), "{arguments:?}");
    }
    for command in ["overview", "users", "devices", "channels", "remove", "kick", "orphans", "sweep", "audit"]
    {
        let help = says(&world, &[command, "--help"]).await;
        assert!(help.contains("Usage: keepstep admin") && help.contains("Example"), "{help}");
    }
}
