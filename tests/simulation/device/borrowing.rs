//! The bootstrap's two ends: a sub asks for pages, a main answers, some of them with nonsense.

use std::time::Duration;

use keepstep::domain::id::ChatId;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Asked, Device, End, Session,
    frames::{Frame, Item, Page, hash},
};
use crate::{
    history::{Seen, What},
    world::{Stage, text},
};

impl Device {
    // A sub borrows its past, page by page, each chat down to its beginning; then it is ready.
    pub(super) async fn asks(&self, session: &mut Session, calm: bool) -> Result<(), End> {
        if session.main_device {
            return Ok(());
        }
        let due: Vec<(ChatId, u64)> = session.boot.iter().map(|(chat, before)| (*chat, *before)).collect();
        for (chat, before) in due {
            let under_way = session
                .asked
                .values()
                .any(|asked| matches!(asked, Asked::History(other, _) if *other == chat));
            if under_way || !(calm || self.dice(300)) {
                continue;
            }
            let limit = if calm { 100 } else { self.habits.page };
            let id = session.asks(Asked::History(chat, before));
            let (device, socket) = (self.name(), session.socket);
            self.world.saw(What::Asking { device, socket, chat: text(chat), before, limit });
            let frame =
                json!({ "type": "history", "id": id, "chat": chat, "before": before, "limit": limit });
            self.says(session, frame).await?;
        }
        if session.boot.is_empty() && !self.status.lock().unwrap().ready {
            self.status.lock().unwrap().ready = true;
            self.says(session, json!({ "type": "ready" })).await?;
        }
        Ok(())
    }

    pub(super) fn gets_page(&self, session: &mut Session, chat: ChatId, before: u64, page: &str) {
        let Page { messages, more } = serde_json::from_str(page).expect("a page");
        let mut seen = Vec::new();
        for raw in messages {
            // The server looks at type, chat and seq alone; the rest is the main's word.
            let Ok(Item { seq, key }) = serde_json::from_str(raw.get()) else { continue };
            seen.push(Seen { seq, key: key.clone(), frame: hash(raw.get()) });
            self.memory.lock().unwrap().entry(chat).or_default().insert(seq, (key, raw.get().to_owned()));
        }
        match seen.first() {
            Some(first) if more => session.boot.insert(chat, first.seq),
            _ => session.boot.remove(&chat),
        };
        let (device, socket) = (self.name(), session.socket);
        self.world.saw(What::Page { device, socket, chat: text(chat), before, messages: seen, more });
    }

    pub(super) async fn answers_history(
        &self,
        session: &mut Session,
        chat: ChatId,
        frame: &Frame<'_>,
    ) -> Result<(), End> {
        let (before, limit) = (frame.before.unwrap_or(0), frame.limit.unwrap_or(1) as usize);
        let request = frame.request.clone().unwrap_or_default();
        let mut found = self.remembers(chat, before);
        let more = found.len() > limit;
        let mut page = found.split_off(found.len().saturating_sub(limit));
        // Ten in a row, and it is sent away for good (4400).
        let may_lie = self.world.stage() == Stage::Life && session.lies < 8;
        let lies = may_lie && self.dice(self.habits.lies);
        session.lies = if lies { session.lies + 1 } else { 0 };
        if lies {
            page.reverse();
            page.extend(page.first().cloned());
        }
        let items = page.join(",");
        let text =
            format!(r#"{{"type":"history_page","request":"{request}","messages":[{items}],"more":{more}}}"#);
        match timeout(Duration::from_secs(4), session.line.send(text)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Closed(None)),
        }
    }

    fn remembers(&self, chat: ChatId, before: u64) -> Vec<String> {
        let memory = self.memory.lock().unwrap();
        let below = memory.get(&chat).into_iter().flat_map(|of| of.range(..before));
        below.map(|(_, (_, raw))| raw.clone()).collect()
    }
}
