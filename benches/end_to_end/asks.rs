//! What one user waits for: a page of history, a read offset on the other device, a refusal.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{self, Socket, next_of, next_text, say},
    keepstep::World,
    support::Aof,
    tally::{Figures, content, put_times},
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(format!("{what}: nothing within {PATIENCE:?}")))
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Reads so many messages of a chat, and acknowledges them durably.
async fn collect(socket: &mut Socket, chat: &str, count: usize) -> Result<Vec<Value>, String> {
    let mut items = Vec::with_capacity(count);
    while items.len() < count {
        let text = in_time("a message", next_of(socket, "message")).await?;
        items.push(serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?);
        // The window must not close.
        if items.len() % 50 == 0 || items.len() == count {
            let ack = json!({ "type": "ack", "id": items.len(), "chat": chat, "seq": items.len() });
            say(socket, ack.to_string()).await?;
        }
    }
    in_time("the last ack's reply", async {
        let last = format!("\"id\":{count},");
        while !next_of(socket, "reply").await?.contains(&last) {}
        Ok(())
    })
    .await?;
    Ok(items)
}

/// A main that has everything in its memory, for ever.
async fn answer(phone: &mut Socket, items: &[Value]) -> Result<Infallible, String> {
    loop {
        let text = next_of(phone, "history_request").await?;
        let asked: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let page =
            json!({ "type": "history_page", "request": asked["request"], "messages": items, "more": false });
        say(phone, page.to_string()).await?;
    }
}

/// The first page of 100: the sub connects and asks, the server asks the main, the main answers from its memory.
pub async fn history(rounds: usize) -> Result<Figures, String> {
    const PAGE: usize = 100;
    let world = World::start(Aof::Always).await?;
    let (api, addr) = (&world.api, world.addr());
    let main = api.register("alice", true).await?;
    let chat = api.direct_chat("alice", "bob").await?;
    let mut phone = client::open(&addr, &main.token).await?;
    in_time("the main's welcome", next_of(&mut phone, "welcome")).await?;
    for _ in 0..PAGE {
        api.send("bob", &chat, &content()).await?;
    }
    let items = collect(&mut phone, &chat, PAGE).await?;
    let answering = answer(&mut phone, &items);
    // What it is owed begins here: the 100 before are the main's to give.
    let sub = api.register("alice", false).await?;
    let asking = async {
        let (mut pages, mut connects) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let began = Instant::now();
            let mut web = client::open(&addr, &sub.token).await?;
            in_time("a sub's welcome", next_of(&mut web, "welcome")).await?;
            let asked = Instant::now();
            say(&mut web, json!({ "type": "history", "id": 1, "chat": chat, "limit": PAGE }).to_string())
                .await?;
            let text = in_time("a page", next_of(&mut web, "reply")).await?;
            pages.push(millis(asked));
            connects.push(millis(began));
            let reply: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let got = reply["ok"]["messages"].as_array().map_or(0, Vec::len);
            if got != PAGE {
                return Err(format!("a page of {got} messages: {text}"));
            }
            say(&mut web, json!({ "type": "ready" }).to_string()).await?;
            // The answer to the close is its end.
            web.close().await;
        }
        Ok((pages, connects))
    };
    let (pages, connects) = tokio::select! {
        Err(why) = answering => return Err(why),
        asked = asking => asked?,
    };
    let mut figures = Figures::new();
    put_times(&mut figures, "page", pages);
    put_times(&mut figures, "connect_to_page", connects);
    Ok(figures)
}

/// The phone reads; the web is told.
pub async fn offsets(rounds: usize) -> Result<Figures, String> {
    let world = World::start(Aof::Always).await?;
    let (api, addr) = (&world.api, world.addr());
    let main = api.register("alice", true).await?;
    let sub = api.register("alice", false).await?;
    let chat = api.direct_chat("alice", "bob").await?;
    for _ in 0..rounds {
        api.send("bob", &chat, &content()).await?;
    }
    let mut phone = client::open(&addr, &main.token).await?;
    in_time("the main's welcome", next_of(&mut phone, "welcome")).await?;
    let mut web = client::open(&addr, &sub.token).await?;
    in_time("the sub's welcome", next_of(&mut web, "welcome")).await?;
    say(&mut web, json!({ "type": "ready" }).to_string()).await?;
    collect(&mut phone, &chat, rounds).await?;
    collect(&mut web, &chat, rounds).await?;
    let (mut times, mut replies) = (Vec::new(), Vec::new());
    for seq in 1..=rounds {
        let began = Instant::now();
        say(
            &mut phone,
            json!({ "type": "read", "id": format!("r{seq}"), "chat": chat, "seq": seq }).to_string(),
        )
        .await?;
        let reply = async {
            in_time("the phone's reply", next_of(&mut phone, "reply")).await?;
            Ok::<_, String>(millis(began))
        };
        let told = async {
            let text = in_time("the web's event", next_of(&mut web, "read")).await?;
            if !text.contains(&format!("\"seq\":{seq},")) {
                return Err(format!("not the offset {seq}: {text}"));
            }
            Ok(millis(began))
        };
        let (reply, told) = tokio::try_join!(reply, told)?;
        replies.push(reply);
        times.push(told);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut figures = Figures::new();
    put_times(&mut figures, "phone_to_web", times);
    put_times(&mut figures, "reply", replies);
    Ok(figures)
}

/// A sub whose main is offline connects; it is refused with 4303.
pub async fn refusal(rounds: usize) -> Result<Figures, String> {
    let world = World::start(Aof::Always).await?;
    let (api, addr) = (&world.api, world.addr());
    api.register("alice", true).await?;
    let sub = api.register("alice", false).await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let mut web = client::open(&addr, &sub.token).await?;
        let end = in_time("the refusal", async { Ok(next_text(&mut web).await) }).await?;
        times.push(millis(began));
        match end {
            Err(why) if why.contains("4303") => {}
            other => return Err(format!("not refused with 4303 but {other:?}")),
        }
    }
    let mut figures = Figures::new();
    put_times(&mut figures, "refused", times);
    Ok(figures)
}
