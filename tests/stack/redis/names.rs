//! Groups that older builds stored under their literal names.

use keepstep::domain::label;
use sha2::{Digest, Sha256};

use super::*;

fn entry(under: &str, kind: &str) -> String {
    let digest = Sha256::digest(under.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("ks:{{n.{digest}}}:{kind}")
}

/// Moves a group's entry to where an older build had it.
async fn made_by_an_older_build(redis: &Redis, name: &str, kind: &str) {
    redis.command(&["RENAME", &entry(&label::key(name), kind), &entry(name, kind)]).await.unwrap();
}

#[tokio::test]
async fn groups_of_an_older_build_are_found_and_brought_up_to_date() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let guarded = |name: &str| NewChat {
        name: Some(name.into()),
        password_hash: Some("hash".into()),
        ..new_chat(&alice, None)
    };
    let club = create(&store, &alice, Some("Book Club")).await;
    made_by_an_older_build(&redis, "Book Club", "public").await;
    // Two that look alike were two to that build.
    let other = create(&store, &alice, Some("book club")).await;
    let salon = guarded("Salon");
    store.create_chat(&salon).await.unwrap();
    made_by_an_older_build(&redis, "Salon", "groups").await;
    let plaza = create(&store, &alice, Some("Plaza")).await;
    made_by_an_older_build(&redis, "Plaza", "public").await;

    // At once each is found by its very name, and keeps it.
    assert_eq!(store.chats_named("Book Club").await.unwrap(), [club, other]);
    assert_eq!(store.chats_named("Salon").await.unwrap(), [salon.id]);
    assert_eq!(store.chats_named("Plaza").await.unwrap(), [plaza]);
    for taken in [
        new_chat(&bob, Some("Book Club")),
        new_chat(&bob, Some("Plaza")),
        new_chat(&bob, Some("Salon")),
        guarded("Plaza"),
    ] {
        assert_eq!(store.create_chat(&taken).await.unwrap(), Created::NameTaken, "{taken:?}");
    }
    // Soon by what looks like it, too.
    let mut page = Some(0);
    while let Some(next) = page {
        page = store.move_names(next).await.unwrap();
    }
    assert_eq!(store.chats_named("SALON").await.unwrap(), [salon.id]);
    assert_eq!(store.chats_named("p1aza").await.unwrap(), [plaza]);
    assert_eq!(store.chats_named("BOOK CLUB").await.unwrap(), [other], "one of two that look alike");
    assert_eq!(store.chats_named("Book Club").await.unwrap(), [club, other]);
    for name in ["plaza", "SALON", "book c1ub"] {
        assert_eq!(store.create_chat(&new_chat(&bob, Some(name))).await.unwrap(), Created::NameTaken);
    }
    // Once is enough, for as long as the rules are the same.
    assert_eq!(store.move_names(0).await.unwrap(), None);
    redis.command(&["SET", "ks:{names}", "older rules"]).await.unwrap();
    assert_eq!(store.move_names(0).await.unwrap(), Some(1));
    // Both entries go with the group.
    for (chat, name, kind) in
        [(club, "Book Club", "public"), (plaza, "Plaza", "public"), (salon.id, "Salon", "groups")]
    {
        leave(&store, chat, &alice, Departure::Left).await;
        assert!(store.delete_chat(chat).await.unwrap());
        assert_eq!(redis.command(&["EXISTS", &entry(name, kind)]).await.unwrap(), "0", "{name}");
    }
    assert_eq!(redis.command(&["EXISTS", &entry(&label::key("Plaza"), "public")]).await.unwrap(), "0");
    create(&store, &bob, Some("Plaza")).await;
}
