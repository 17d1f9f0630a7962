//! The bootstrap: a web session has no past of its own and borrows it from the phone.

use std::time::Duration;

use keepstep_client::frame::Welcome;
use serde_json::json;

use super::{BEAT, Bootstrap, Day, PAGE, millis};
use crate::cli::{
    Failure,
    demo::cast::{Role, Room},
};

impl Day<'_> {
    /// A web session borrows the past of all chats from its phone, page by page, and says that it is ready.
    pub(super) async fn bootstrap(&mut self, role: Role, at: &str, welcome: &Welcome) -> Result<(), Failure> {
        let device = self.device(role)?;
        let due: u64 = welcome.chats.iter().map(|entry| entry.from).sum();
        let (mut messages, mut pages, mut asking) = (0, 0, Duration::ZERO);
        for chat in welcome.chats.iter().map(|entry| entry.id) {
            let mut before = None;
            loop {
                let borrowing = device.borrow(chat, before, PAGE);
                let (page, took) =
                    self.screen.during("the phone looks for a page of history", borrowing).await?;
                let count = page.messages.len() as u64;
                messages += count;
                pages += 1;
                asking += took;
                let name = if chat == self.chat(Room::Direct) { Room::Direct } else { Room::Studio };
                let data = json!({"at": at, "device": role.key(), "page": pages, "chat": name.key(),
                    "messages": count, "done": messages, "of": due, "ms": millis(took)});
                self.screen.event("history_page", data)?;
                let last = messages >= due;
                self.screen.progress(
                    at,
                    role,
                    messages,
                    due,
                    &format!("page {pages}, {}", name.name()),
                    last,
                )?;
                self.screen.pause(BEAT * 3).await;
                before = page.messages.first().map(|first| first.seq);
                if !page.more || before.is_none() {
                    break;
                }
            }
        }
        device.ready().await?;
        if messages != due {
            let fault =
                format!("{} borrowed {messages} messages; below its boundaries there are {due}", role.name());
            self.faults.push(fault);
        }
        let said = format!(
            "ready: {messages} messages borrowed in {pages} pages; question to answer {} ms in all",
            millis(asking)
        );
        let data = json!({"messages": messages, "pages": pages, "ms": millis(asking)});
        self.screen.seen("bootstrap", at, role, &said, data)?;
        self.bootstraps.push(Bootstrap { role, messages, pages, took: asking });
        Ok(())
    }
}
