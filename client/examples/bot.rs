//! A bot that only sends: it needs no device, only a user's token. One that receives is a user of its own with a main device, as in
//! `phone.rs`.
//!
//! ```sh
//! KEEPSTEP_TOKEN=$(keepstep token --user weather) cargo run -p keepstep-client --example bot -- bob "rain at noon"
//! ```

use std::error::Error;

use keepstep_client::{Api, Draft, MessageKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("KEEPSTEP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let mut words = std::env::args().skip(1);
    let (with, text) = words.next().zip(words.next()).ok_or("whom to write to, and what?")?;
    let seq = run(&url, &std::env::var("KEEPSTEP_TOKEN")?, &with, &text).await?;
    println!("bot: #{seq} is durable");
    Ok(())
}

/// Sends one message to a user and returns its seq.
pub async fn run(url: &str, user_token: &str, with: &str, text: &str) -> Result<u64, Box<dyn Error>> {
    let api = Api::new(url)?.with_token(user_token);
    let chat = api.direct_chat(with).await?.id;
    // Made once: a retry with the same key creates no second message.
    let key = MessageKey::new_v4();
    let mut tries = 0;
    loop {
        match api.send(chat, key, &Draft::text(text)).await {
            Ok(sent) => return Ok(sent.seq),
            Err(error) if error.is_retryable() && tries < 5 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_secs(tries)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
