//! The bootstrap: a web session has no past of its own and borrows it from the phone.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BEAT, Bootstrap, Day, PAGE, millis};
use crate::cli::{
    Failure,
    demo::{
        cast::{Role, Room},
        memory::{number, text},
    },
};

impl Day<'_> {
    /// A web session borrows the past of all chats from its phone, page by page, and says that it is ready.
    pub(super) async fn bootstrap(&mut self, role: Role, at: &str, welcome: &Value) -> Result<(), Failure> {
        let device = self.device(role)?;
        let entries = welcome.get("chats").and_then(Value::as_array).cloned().unwrap_or_default();
        let due: u64 = entries.iter().filter_map(|entry| number(entry, "from")).sum();
        let (mut messages, mut pages, mut asking) = (0, 0, Duration::ZERO);
        for chat in entries.iter().filter_map(|entry| text(entry, "id")) {
            let mut before = None;
            loop {
                let borrowing = device.borrow(&chat, before, PAGE);
                let page = self.screen.during("the phone looks for a page of history", borrowing).await?;
                messages += page.count;
                pages += 1;
                asking += page.took;
                let name = if chat == self.chat(Room::Direct) { Room::Direct } else { Room::Studio };
                let data = json!({"at": at, "device": role.key(), "page": pages, "chat": name.key(),
                    "messages": page.count, "done": messages, "of": due, "ms": millis(page.took)});
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
                before = page.lowest;
                if !page.more || before.is_none() {
                    break;
                }
            }
        }
        device.request(json!({"type": "ready"})).await?;
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
