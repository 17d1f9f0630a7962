//! A phone: it keeps the history of its chats, serves it to web sessions, and lets them be linked.
//!
//! ```sh
//! KEEPSTEP_TOKEN=$TOKEN cargo run -p keepstep-client --example phone -- bob "hello Bob"
//! ```
//!
//! The token is a user's: the server prints one, and `keepstep token --user alice` makes one. A user has one main device: after a
//! restart pass the id that this prints as `KEEPSTEP_DEVICE`.

use std::error::Error;

use keepstep_client::{Api, Client, DeviceKind, Draft, Event, MemoryStorage, Registration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("KEEPSTEP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let mut words = std::env::args().skip(1);
    let (with, text) = words.next().zip(words.next()).ok_or("whom to write to, and what?")?;
    run(&url, &std::env::var("KEEPSTEP_TOKEN")?, &with, &text).await
}

/// Registers the phone of a user, says something to another one, and stays.
pub async fn run(url: &str, user_token: &str, with: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let api = Api::new(url)?;
    let user = api.with_token(user_token);
    // A real phone keeps its id, its token and its history on its disk. (`replace` would terminate the user's other main.)
    let mut registration = Registration::new(DeviceKind::Main, "Alice's phone", "rust");
    registration.id = std::env::var("KEEPSTEP_DEVICE").ok().map(|id| id.parse()).transpose()?;
    let phone = user.register(&registration).await?;
    println!("phone: export KEEPSTEP_DEVICE={}", phone.device.id);
    let chat = user.direct_chat(with).await?.id;

    let storage = MemoryStorage::new(64 << 20);
    let (client, mut events) = Client::builder(url, &phone.token)?.storage(storage).start();
    let sent = client.send(chat, Draft::text(text)).await?;
    println!("phone: #{} is durable", sent.seq);
    while let Some(event) = events.next().await {
        match event {
            // It is stored and acknowledged already, and web sessions get it from here.
            Event::Message(message) => {
                println!("phone: #{} {}: {}", message.seq, message.from, message.text().unwrap_or_default());
            }
            // An app shows the code and asks the person whether it is the one on the screen.
            Event::LinkRequest(request) => {
                println!("phone: {} asks to be linked, with the code {}", request.name, request.code);
                api.with_token(&phone.token).approve_link(&request.code, Some(1_000)).await?;
            }
            Event::Disconnected { ended, retry_in } => println!("phone: {ended}; again in {retry_in:?}"),
            Event::Stopped(ended) => return Err(ended.into()),
            _ => {}
        }
    }
    Ok(())
}
