//! A user with very many of something: it costs time, and nobody's connection.

use std::time::Duration;

use keepstep::domain::id::ChatId;
use serde_json::json;

use crate::stories::{Deployment, World};
use crate::support::stays;

/// Two sweeps, and some.
const SWEEPS: Duration = Duration::from_secs(12);

async fn command(world: &World, args: &[&str]) -> String {
    world.stack.as_ref().unwrap().redis.command(args).await.expect("Redis is there")
}

#[tokio::test]
async fn offsets_of_1100_chats_that_were_left_close_nobody() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    // As earlier builds left them.
    let mut seeds = vec!["HSET".to_owned(), format!("ks:{{u.{}}}:read", alice.name)];
    for _ in 0..1100 {
        seeds.extend([ChatId::random().hex(), "7 -".to_owned()]);
    }
    command(&world, &seeds.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let mut said = 0;
    stays(SWEEPS, async || {
        said += 1;
        bobs.says(&chat, "hello").await;
        phone.hears(&chat, said).await;
        phone.reads(&chat, said).await;
        web.gets(json!({ "type": "read", "chat": chat, "seq": said })).await;
        assert_eq!((phone.memory().closed.clone(), web.memory().closed.clone()), (None, None));
    })
    .await;
}
