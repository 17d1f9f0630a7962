//! Handles client frames. Frames that need the store are answered one after the other: while one is in progress the others
//! wait ([`super::ahead`]), except acknowledgements.

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Boxed, End, Session, pending::Done};
use crate::{
    domain::{Seq, device::DeviceKind, id::ChatId, rate::Verdict},
    protocol::{
        Ack, ClientFrame, CloseCode, ErrorCode, FrameId, Problem, Read, Rejected, Send, ServerFrame, Watch,
    },
    sync::{presence, read, send, typing},
};

/// Larger frames cost more.
const LARGE: usize = 128 << 10;

/// The result of a frame in progress.
#[derive(Debug)]
pub(super) struct Answer {
    pub id: Option<FrameId>,
    pub frame: &'static str,
    pub result: Result<serde_json::Value, Problem>,
    pub effect: Effect,
}

/// What an answer changes in the session.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    /// This history request failed.
    HistoryFailed(String),
    /// The user's new read offset.
    ReadMoved(ChatId, Seq),
    /// This round of watching starts, if the answer is no error.
    Watching(u64),
}

impl Session {
    /// Handles one text frame. An error ends the session.
    pub(super) fn on_text(&mut self, text: &Utf8Bytes) -> Result<(), End> {
        let (most, main) = (self.core.limits.frame_bytes, self.handle.kind == DeviceKind::Main);
        let parsed = match ClientFrame::parse(text) {
            // Only a main's page may be larger.
            Ok(frame) if text.len() > most && !(main && matches!(frame, ClientFrame::HistoryPage(_))) => {
                Err(Rejected {
                    frame: Some(frame.name().to_owned()),
                    id: frame.id().cloned(),
                    problem: Problem::new(ErrorCode::TooLarge, format!("a frame has at most {most} bytes")),
                })
            }
            parsed => parsed,
        };
        match &parsed {
            // Unrequested pages are counted later.
            Ok(ClientFrame::HistoryPage(_)) => {}
            Ok(ClientFrame::Ping(_) | ClientFrame::Ready(_)) | Err(_) => self.slow_down(text.len() as u64),
            Ok(_) if text.len() > LARGE => self.slow_down(text.len() as u64),
            Ok(_) => {}
        }
        let waits = self.is_occupied() || !self.requests.ahead.is_empty();
        if waits && !matches!(parsed, Ok(ClientFrame::Ack(_))) {
            self.requests.ahead.push(parsed, text.len());
            return Ok(());
        }
        self.on_parsed(parsed)
    }

    /// Returns whether only acknowledgements may be taken.
    fn is_occupied(&self) -> bool {
        self.requests.busy.is_some() || self.requests.read_again.is_some()
    }

    /// Handles waiting frames, up to one that is in progress.
    pub(super) fn take_waiting(&mut self) -> Result<(), End> {
        while !self.is_occupied()
            && let Some(parsed) = self.requests.ahead.pop()
        {
            self.on_parsed(parsed)?;
        }
        Ok(())
    }

    fn on_parsed(&mut self, parsed: Result<ClientFrame, Rejected>) -> Result<(), End> {
        match parsed {
            Ok(frame) => self.on_frame(frame),
            Err(Rejected { frame, id, problem }) => self.refuse(id.as_ref(), frame.as_deref(), &problem),
        }
    }

    fn on_frame(&mut self, frame: ClientFrame) -> Result<(), End> {
        let counted = matches!(
            frame,
            ClientFrame::Send(_)
                | ClientFrame::Read(_)
                | ClientFrame::History(_)
                | ClientFrame::Typing(..)
                | ClientFrame::Watch(_)
        );
        if counted {
            let bytes = if let ClientFrame::Send(send) = &frame { send.bytes() } else { 0 };
            let now = Instant::now();
            match self.requests.limiter.frame(bytes, now, self.core.timing.rate_patience) {
                Verdict::Take => {}
                Verdict::Delay(wait) => {
                    self.requests.read_again = self.requests.read_again.max(Some(now + wait))
                }
                Verdict::Refuse => {
                    let problem =
                        Problem::new(ErrorCode::TooManyRequests, "too many frames for too long: slow down");
                    self.slow_down(0);
                    // Not a bad frame: it doesn't count towards closing.
                    self.answer(frame.id(), frame.name(), Err(problem));
                    return Ok(());
                }
            }
        }
        match frame {
            ClientFrame::Send(frame) => self.on_send(frame),
            ClientFrame::Ack(frame) => self.on_ack_frame(&frame),
            ClientFrame::Read(frame) => self.on_read(&frame),
            ClientFrame::History(frame) => self.on_history(&frame),
            ClientFrame::Ready(id) => {
                if self.handle.kind == DeviceKind::Main {
                    return self.refuse(id.as_ref(), Some("ready"), &not_for_main());
                }
                self.history.ready = true;
                self.accept(id.as_ref())
            }
            ClientFrame::HistoryPage(page) => self.on_history_page(&page),
            ClientFrame::HistoryError(error) => self.on_history_error(&error),
            ClientFrame::Typing(id, chat) if !self.chats.contains_key(&chat) => {
                self.refuse(id.as_ref(), Some("typing"), &Problem::no_such_chat())
            }
            ClientFrame::Typing(id, chat) => {
                if typing::may_publish(&self.core, &self.handle.user, chat) {
                    let (core, user) = (self.core.clone(), self.handle.user.clone());
                    self.work.pending.push(Boxed::new(async move {
                        typing::tell(&core, &user, chat).await;
                        Done::Nothing
                    }));
                }
                self.accept(id.as_ref())
            }
            ClientFrame::Watch(watch) => self.on_watch(watch),
            ClientFrame::Ping(id) => {
                self.accept(id.as_ref())?;
                self.connection.send(ServerFrame::Pong.text().into());
                Ok(())
            }
        }
    }

    fn on_send(&mut self, frame: Box<Send>) -> Result<(), End> {
        let Some(chat) = frame.chat else {
            let problem = Problem::new(ErrorCode::BadField, "missing field `chat`");
            return self.refuse(frame.id.as_ref(), Some("send"), &problem);
        };
        let (core, handle) = (self.core.clone(), self.handle.clone());
        let received = Instant::now();
        self.requests.busy = Some(Boxed::new(async move {
            let sender = send::Sender { user: &handle.user, device: Some(handle.device) };
            let sent = send::send(&core, sender, chat, &frame).await;
            if sent.is_ok() {
                core.metrics.send_reply.observe(handle.kind, received.elapsed());
            }
            let result = sent.map(|(seq, at)| serde_json::json!({ "seq": seq, "at": at }));
            Answer { id: frame.id, frame: "send", result, effect: Effect::None }
        }));
        Ok(())
    }

    fn on_ack_frame(&mut self, frame: &Ack) -> Result<(), End> {
        let (chat, seq) = (frame.chat, frame.seq.0);
        if self.chats.get(&chat).is_none_or(|state| state.feed.acked() >= seq) {
            self.slow_down(0);
        }
        match self.on_ack(chat, seq) {
            None => self.refuse(frame.id.as_ref(), Some("ack"), &Problem::no_such_chat()),
            Some(false) => {
                let problem = Problem::new(ErrorCode::BadRange, "this seq wasn't sent to this device yet");
                self.refuse(frame.id.as_ref(), Some("ack"), &problem)
            }
            Some(true) => {
                self.requests.bad_frames = 0;
                if let Some(id) = &frame.id {
                    self.requests.acks.push((chat, seq, id.clone()));
                    let cursor = self.chats.get(&chat).map_or(0, |state| state.feed.cursor());
                    self.answer_acks(chat, cursor);
                }
                if !self.history.questions.is_empty() {
                    self.notify_questions();
                }
                // Bounds a client that never waits for its replies.
                if self.requests.acks.len() > 1024 {
                    return Err(End::Close(CloseCode::TooManyRequests));
                }
                Ok(())
            }
        }
    }

    /// Answers the acknowledgements of a chat that are durable now.
    pub(super) fn answer_acks(&mut self, chat: ChatId, cursor: u64) {
        let (done, rest) = std::mem::take(&mut self.requests.acks)
            .into_iter()
            .partition(|(asked, seq, _)| *asked == chat && *seq <= cursor);
        self.requests.acks = rest;
        let done: Vec<(ChatId, u64, FrameId)> = done;
        for (_, seq, id) in done {
            self.answer(Some(&id), "ack", Ok(serde_json::json!({ "seq": seq })));
        }
    }

    fn on_read(&mut self, frame: &Read) -> Result<(), End> {
        let (core, handle, chat, seq, id) =
            (self.core.clone(), self.handle.clone(), frame.chat, frame.seq.0, frame.id.clone());
        self.requests.busy = Some(Boxed::new(async move {
            let marked = read::mark(&core, &handle.user, Some(handle.device), chat, seq).await;
            let effect = marked.as_ref().map_or(Effect::None, |seq| Effect::ReadMoved(chat, *seq));
            let result = marked.map(|seq| serde_json::json!({ "seq": seq }));
            Answer { id, frame: "read", result, effect }
        }));
        Ok(())
    }

    fn on_watch(&mut self, Watch { id, users, .. }: Watch) -> Result<(), End> {
        let (core, handle, round) = (self.core.clone(), self.handle.clone(), self.requests.watch_round + 1);
        self.requests.busy = Some(Boxed::new(async move {
            let found = presence::watch(&core, &handle, round, users).await;
            let result = found.map(|presence| serde_json::json!({ "presence": presence }));
            Answer { id, frame: "watch", result, effect: Effect::Watching(round) }
        }));
        Ok(())
    }

    /// A frame in progress has completed.
    pub(super) fn on_answer(&mut self, answer: Answer) -> Result<(), End> {
        match answer.effect {
            Effect::HistoryFailed(request) => drop(self.history.asked.remove(&request)),
            // A push of an older offset may wait in the mailbox; after this reply it would be a step back.
            Effect::ReadMoved(chat, seq) => {
                if let Some(state) = self.chats.get_mut(&chat) {
                    state.position.read = state.position.read.max(seq);
                }
            }
            // Pending events of the previous `watch` aren't sent after this answer.
            Effect::Watching(round) if answer.result.is_ok() => self.requests.watch_round = round,
            Effect::Watching(_) | Effect::None => {}
        }
        match answer.result {
            Ok(ok) => {
                self.requests.bad_frames = 0;
                self.answer(answer.id.as_ref(), answer.frame, Ok(ok));
                Ok(())
            }
            Err(problem) => self.refuse(answer.id.as_ref(), Some(answer.frame), &problem),
        }
    }

    /// Accepts a frame whose answer is empty.
    pub(super) fn accept(&mut self, id: Option<&FrameId>) -> Result<(), End> {
        self.requests.bad_frames = 0;
        self.answer(id, "", Ok(serde_json::json!({})));
        Ok(())
    }

    /// Refuses a frame. Ten invalid ones in a row close the socket; retryable refusals don't count.
    pub(super) fn refuse(
        &mut self,
        id: Option<&FrameId>,
        frame: Option<&str>,
        problem: &Problem,
    ) -> Result<(), End> {
        if let Some(error) = &problem.cause {
            let (user, device, code) = (&self.handle.user, self.handle.device, problem.code.as_str());
            tracing::warn!(%user, %device, frame, code, error = &**error, "a frame failed");
        }
        match id {
            Some(id) => {
                let reply = ServerFrame::Reply { id, ok: None, error: Some(problem) };
                self.connection.send(reply.text().into());
            }
            None => self.connection.send(ServerFrame::Error { frame, error: problem }.text().into()),
        }
        let bad = matches!(
            problem.code,
            ErrorCode::BadJson | ErrorCode::BadFrame | ErrorCode::BadField | ErrorCode::BadRange
        );
        if bad {
            self.requests.bad_frames += 1;
            if self.requests.bad_frames >= self.core.limits.bad_frames_in_a_row {
                return Err(End::Close(CloseCode::BadFrame));
            }
        }
        Ok(())
    }

    /// Sends the one reply to a frame with an id; a frame without one gets errors only.
    pub(super) fn answer(
        &mut self,
        id: Option<&FrameId>,
        frame: &str,
        result: Result<serde_json::Value, Problem>,
    ) {
        let text = match (id, result) {
            (Some(id), Ok(ok)) => ServerFrame::Reply { id, ok: Some(ok), error: None }.text(),
            (Some(id), Err(problem)) => ServerFrame::Reply { id, ok: None, error: Some(&problem) }.text(),
            (None, Ok(_)) => return,
            (None, Err(problem)) => ServerFrame::Error { frame: Some(frame), error: &problem }.text(),
        };
        self.connection.send(text.into());
    }
}

fn not_for_main() -> Problem {
    Problem::new(ErrorCode::BadFrame, "only a sub has a bootstrap to complete")
}
