//! The two ends of a bootstrap: a sub requests pages, the main answers. Each end keeps open requests, with a deadline.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Boxed, End, Session,
    frames::{Answer, Effect},
    pending::Done,
};
use crate::{
    domain::{device::DeviceKind, id::ChatId},
    hub::{HistoryAnswer, HistoryAsk},
    protocol::{self, ErrorCode, FrameId, HistoryError, HistoryPage, Problem, ServerFrame, raw_reply},
    sync::bootstrap::{self, Page},
};

/// Requests that may wait for a main.
const QUESTIONS: usize = 64;

/// A sub's open request.
#[derive(Debug)]
pub(super) struct Asked {
    pub id: FrameId,
    pub chat: ChatId,
    pub until: Instant,
}

/// A request to this main.
#[derive(Debug)]
pub(super) struct Question {
    pub ask: Arc<HistoryAsk>,
    pub until: Instant,
    // Sent to the client; before that it waits until the main itself has the requested messages.
    pub told: bool,
}

/// An unrequested page counts as this many of its size: it took as long to read, and a phone sends one only when it was too
/// late with it.
const UNASKED: u64 = 8;

impl Session {
    /// A sub requests a page.
    pub(super) fn on_history(&mut self, frame: &protocol::HistoryAsk) -> Result<(), End> {
        let Some(id) = frame.id.clone() else { return Ok(()) };
        let page = match self.page_asked(frame) {
            Ok(page) => page,
            Err(problem) => return self.bootstrap_failed(&id, problem),
        };
        if page.before <= page.floor + 1 {
            self.core.metrics.bootstraps.with_label_values(&["ok"]).inc();
            self.connection.send(raw_reply(&id, "{\"messages\":[],\"more\":false}").into());
            return Ok(());
        }
        let (core, handle, chat) = (self.core.clone(), self.handle.clone(), frame.chat);
        let request = crate::rng::uuid().simple().to_string();
        // Stored before it is sent: the answer may be faster than the sending.
        let until = Instant::now() + core.timing.history_timeout;
        self.history.asked.insert(request.clone(), Asked { id: id.clone(), chat, until });
        self.requests.busy = Some(Boxed::new(async move {
            let asked = bootstrap::ask(&core, &handle.user, handle.device, &request, page).await;
            match asked {
                // No reply yet: the main's page will be it.
                Ok(()) => Answer {
                    id: None,
                    frame: "history",
                    result: Ok(serde_json::Value::Null),
                    effect: Effect::None,
                },
                Err(problem) => {
                    core.metrics.bootstraps.with_label_values(&[problem.code.as_str()]).inc();
                    Answer {
                        id: Some(id),
                        frame: "history",
                        result: Err(problem),
                        effect: Effect::HistoryFailed(request),
                    }
                }
            }
        }));
        Ok(())
    }

    fn page_asked(&self, frame: &protocol::HistoryAsk) -> Result<Page, Problem> {
        if self.handle.kind == DeviceKind::Main {
            return Err(Problem::new(
                ErrorCode::BadFrame,
                "a main keeps its own history: only a sub asks for it",
            ));
        }
        let Some(state) = self.chats.get(&frame.chat) else { return Err(Problem::no_such_chat()) };
        if self.history.asked.values().any(|asked| asked.chat == frame.chat) {
            let detail = "one page per chat at a time: wait for the one you asked for";
            return Err(Problem::new(ErrorCode::MainBusy, detail));
        }
        let most = self.core.limits.history_page_messages as u64;
        let limit = frame.limit.map_or(most, |limit| limit.0);
        if limit == 0 || limit > most {
            return Err(Problem::new(ErrorCode::BadRange, format!("limit is from 1 to {most}")));
        }
        // Above the live messages there is nothing to request from the main.
        let highest = state.feed.next().max(state.position.from + 1);
        let before = frame.before.map_or(state.position.from + 1, |before| before.0);
        if before == 0 || before > highest {
            return Err(Problem::new(ErrorCode::BadRange, format!("before is from 1 to {highest}")));
        }
        let floor = self.history.below.map_or(0, |most| state.position.from.saturating_sub(most));
        // The main isn't asked for messages that wouldn't be passed on.
        let limit = limit.min(before.saturating_sub(floor + 1));
        Ok(Page { chat: frame.chat, before, limit, floor })
    }

    /// The main has answered this sub, or can't.
    pub(super) fn on_history_answer(&mut self, answer: &HistoryAnswer) -> Result<(), End> {
        // An answer after its deadline has been replied to already.
        let Some(asked) = self.history.asked.remove(&answer.request) else { return Ok(()) };
        match &answer.result {
            Ok(page) => {
                self.requests.bad_frames = 0;
                self.core.metrics.bootstraps.with_label_values(&["ok"]).inc();
                self.connection.send(raw_reply(&asked.id, page).into());
                Ok(())
            }
            Err(code) => self.bootstrap_failed(&asked.id, Problem::new(*code, sentence(*code))),
        }
    }

    /// The main is offline: every open request fails.
    pub(super) fn main_went(&mut self, last_seen: Option<u64>) -> Result<(), End> {
        for (_, asked) in std::mem::take(&mut self.history.asked) {
            self.bootstrap_failed(&asked.id, bootstrap::offline(last_seen))?;
        }
        Ok(())
    }

    fn bootstrap_failed(&mut self, id: &FrameId, problem: Problem) -> Result<(), End> {
        self.core.metrics.bootstraps.with_label_values(&[problem.code.as_str()]).inc();
        self.refuse(Some(id), Some("history"), &problem)
    }

    /// A sub asks this main.
    pub(super) fn on_question(&mut self, ask: Arc<HistoryAsk>) {
        if !self.chats.contains_key(&ask.chat) {
            return self.answer_question(&ask, Err(ErrorCode::NotFound));
        }
        if self.history.questions.len() >= QUESTIONS {
            return self.answer_question(&ask, Err(ErrorCode::MainBusy));
        }
        let until = Instant::now() + self.core.timing.history_timeout;
        self.history.questions.insert(ask.request.clone(), Question { ask, until, told: false });
        self.notify_questions();
    }

    /// Sends the requests that this main can answer: it has stored everything below `before`.
    pub(super) fn notify_questions(&mut self) {
        for question in self.history.questions.values_mut().filter(|question| !question.told) {
            let ask = &question.ask;
            if self.chats.get(&ask.chat).is_some_and(|state| state.feed.acked() + 1 >= ask.before) {
                question.told = true;
                let frame = ServerFrame::HistoryRequest {
                    request: &ask.request,
                    chat: ask.chat,
                    before: ask.before,
                    limit: ask.limit,
                    device: ask.device,
                };
                self.connection.send(frame.text().into());
            }
        }
    }

    fn answer_question(&mut self, ask: &Arc<HistoryAsk>, result: Result<String, ErrorCode>) {
        let (core, user, ask) = (self.core.clone(), self.handle.user.clone(), ask.clone());
        // Not in the session's loop: the main may have other frames.
        self.work.pending.push(Boxed::new(async move {
            bootstrap::answer(&core, &user, &ask, result).await;
            Done::Nothing
        }));
    }

    /// The main's page.
    pub(super) fn on_history_page(&mut self, page: &HistoryPage) -> Result<(), End> {
        let Some(question) = self.question(&page.request) else {
            let bytes: u64 = page.messages.iter().map(|message| message.get().len() as u64).sum();
            self.slow_down(UNASKED * bytes);
            return self.refuse(page.id.as_ref(), Some("history_page"), &no_question());
        };
        match bootstrap::check(&question.ask, &page.messages, page.more, self.core.limits.history_page_bytes)
        {
            Ok(json) => {
                self.answer_question(&question.ask, Ok(json));
                self.accept(page.id.as_ref())
            }
            Err(problem) => {
                self.answer_question(&question.ask, Err(ErrorCode::BadMain));
                self.refuse(page.id.as_ref(), Some("history_page"), &problem)
            }
        }
    }

    /// The main has no page.
    pub(super) fn on_history_error(&mut self, error: &HistoryError) -> Result<(), End> {
        let Some(question) = self.question(&error.request) else {
            self.slow_down(0);
            return self.refuse(error.id.as_ref(), Some("history_error"), &no_question());
        };
        let code = match error.code.as_str() {
            "main_busy" => ErrorCode::MainBusy,
            "not_found" => ErrorCode::NotFound,
            "unavailable" => ErrorCode::Unavailable,
            _ => ErrorCode::BadMain,
        };
        self.answer_question(&question.ask, Err(code));
        self.accept(error.id.as_ref())
    }

    // Only a request that was sent can be answered, and only once.
    fn question(&mut self, request: &str) -> Option<Question> {
        if !self.history.questions.get(request).is_some_and(|question| question.told) {
            return None;
        }
        self.history.questions.remove(request)
    }

    /// Expires requests on either end.
    pub(super) fn expire_history(&mut self, now: Instant) -> Result<(), End> {
        let timeout = self.core.timing.history_timeout;
        let unheard = |question: &Question| question.told && self.liveness.heard + timeout <= question.until;
        let silent =
            self.history.questions.values().any(|question| question.until <= now && unheard(question));
        self.history.questions.retain(|_, question| question.until > now);
        if silent && self.liveness.probe.is_none() {
            // Its connection may be dead, which the heartbeat detects much later; subs see it online meanwhile.
            self.connection.ping();
            self.liveness.probe = Some(now + timeout / 2);
        }
        let late: Vec<String> = self
            .history
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= now)
            .map(|(request, _)| request.clone())
            .collect();
        for request in late {
            if let Some(asked) = self.history.asked.remove(&request) {
                let problem = Problem::new(ErrorCode::MainTimeout, sentence(ErrorCode::MainTimeout));
                self.bootstrap_failed(&asked.id, problem)?;
            }
        }
        Ok(())
    }

    /// Returns the next deadline of these.
    pub(super) fn history_deadline(&self) -> Option<Instant> {
        let asked = self.history.asked.values().map(|asked| asked.until);
        asked.chain(self.history.questions.values().map(|question| question.until)).min()
    }
}

fn no_question() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such request, or it was answered, or its time is over")
}

fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MainTimeout => "the phone didn't answer in time: try again",
        ErrorCode::MainBusy => "the phone is busy: try again",
        ErrorCode::BadMain => "the phone answered something that can't be right: try again",
        ErrorCode::NotFound => "the phone doesn't have this chat",
        _ => "the phone can't answer now: try again",
    }
}
