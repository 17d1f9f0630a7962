//! A web session: it is linked by the phone, fetches its history from there, and says something.
//!
//! ```sh
//! KEEPSTEP_TOKEN=$TOKEN cargo run -p keepstep-client --example web -- "and from the web"
//! ```

use std::error::Error;

use keepstep_client::{Api, Client, Draft, Event, MemoryStorage, http::LinkState};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("KEEPSTEP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let text = std::env::args().nth(1).ok_or("what is to be said?")?;
    let lines = run(&url, &std::env::var("KEEPSTEP_TOKEN")?, &text).await?;
    lines.iter().for_each(|line| println!("web: {line}"));
    Ok(())
}

/// Is linked, boots, says something in the first chat, and returns that chat as it is on its screen.
pub async fn run(url: &str, user_token: &str, text: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let api = Api::new(url)?.with_token(user_token);
    let offer = api.request_link("Firefox", "rust").await?;
    println!("web: the phone is asked; the code is {}", offer.code);
    let linked = loop {
        match api.link_state(&offer).await? {
            LinkState::Pending => {}
            LinkState::Approved(linked) => break linked,
            LinkState::Refused | LinkState::Expired => return Err("the phone said no".into()),
        }
    };

    // What is on the screen: history and live messages, stored as they come.
    let screen = MemoryStorage::new(16 << 20);
    let (client, mut events) = Client::builder(url, &linked.token)?.storage(screen.clone()).start();
    let Some(Event::Connected(welcome)) = events.next().await else {
        return Err("the phone is offline: open it".into());
    };
    let on_page = |chat, page: &keepstep_client::Page| {
        println!("web: {} messages of {chat}", page.messages.len());
        screen.insert(&page.messages);
    };
    client.bootstrap(&welcome.chats, 1_000, on_page).await?;

    let chat = welcome.chats.first().ok_or("there is no chat")?.id;
    let sent = client.send(chat, Draft::text(text)).await?;
    client.read(chat, sent.seq).await?;
    while screen.get(chat, sent.seq).is_none() {
        events.next().await.ok_or("the connection is over")?;
    }
    client.close().await;
    let shown = (1..=sent.seq).filter_map(|seq| screen.get(chat, seq));
    Ok(shown.map(|it| format!("#{} {}: {}", it.seq, it.from, it.text().unwrap_or_default())).collect())
}
