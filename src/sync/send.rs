//! Sends a message: checks it, appends it (the durable point), hands it to the relay, answers.

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Core, quota,
    relay::{AppendGuard, Job, check_size},
    sender_registry,
};
use crate::{
    domain::{
        Millis, Seq,
        id::{ChatId, DeviceId, MessageKey, UserId},
        label,
        message::{FrameTemplate, body_with_epoch},
        now_millis,
    },
    protocol::{ErrorCode, Problem, Send, WIDEST_ESCAPE, compact},
    store::{Append, Appended},
};

/// The deepest nesting of an application's own JSON: deeper, some client's parser would fail.
const DEPTH: usize = 32;

/// The sender.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The user.
    pub user: &'a UserId,
    /// On which device; none for a bot with a user token.
    pub device: Option<DeviceId>,
}

/// The members after `seq`, in the order of the contract.
#[derive(Serialize)]
struct Fields<'a> {
    key: MessageKey,
    from: &'a UserId,
    device: Option<DeviceId>,
    at: Millis,
    #[serde(flatten)]
    body: &'a Body<'a>,
}

/// The sender's fields, of which the fingerprint is taken.
#[derive(Serialize)]
struct Body<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Box<RawValue>>,
}

/// Sends a message; returns its seq and time (the first ones, if the key is known).
///
/// # Errors
/// `bad_field`, `too_large`, `not_found` (not a member), `conflict` (the key was used for another message),
/// `unavailable` (the outcome may be unknown: send again with the same key).
pub async fn send(
    core: &Core,
    sender: Sender<'_>,
    chat: ChatId,
    message: &Send,
) -> Result<(Seq, Millis), Problem> {
    let body = check(core, message)?;
    let written = json(&body)?;
    let fingerprint = Sha256::digest(written.as_bytes());
    let fingerprint = fingerprint.iter().take(8).fold(0u64, |hash, byte| hash << 8 | u64::from(*byte));
    let at = now_millis();
    let fields =
        json(&Fields { key: message.key, from: sender.user, device: sender.device, at, body: &body })?;
    let fields = fields.trim_start_matches('{').trim_end().strip_suffix('}').unwrap_or_default();
    let frame = FrameTemplate::new(chat, fields);
    // Before it has a number: a numbered message without a queue would have to come from the log.
    check_size(core, &frame)?;
    let size = frame.size() as u64;
    let has_room = quota::admits(core, sender.user, size).await?;
    sender_registry::register(core, sender.user, chat).await?;
    let append =
        Append { chat, user: sender.user.clone(), key: message.key, fingerprint, at, frame, has_room };
    let guard = AppendGuard::arm(&core.sending.relay, chat);
    match core.store.append(&append).await {
        Ok(Appended::New { seq, node, epoch, held, queues }) => {
            guard.disarm();
            core.metrics.sends.inc();
            core.sending.trims.sent(chat, seq);
            quota::charge(core, sender.user, chat, size);
            core.admission.rates.copies(
                sender.user,
                sender.device,
                size.saturating_mul(queues),
                &core.limits,
            );
            // The same bytes as in the log.
            let (frame, since) = (body_with_epoch(append.frame.number(seq), epoch), Instant::now());
            let job = Job { chat, node, seq, frame, since };
            match held {
                true => core.sending.relay.leave(job),
                false => core.sending.relay.hand_over(job),
            }
            Ok((seq, at))
        }
        // The edge that took it first may have died before it published: the outbox is checked.
        Ok(Appended::Again { seq, at }) => Ok((seq, at)),
        Ok(Appended::KeyConflict) => {
            guard.disarm();
            Err(Problem::new(
                ErrorCode::Conflict,
                "this key was used for another message: make a new one per message",
            ))
        }
        Ok(Appended::Full) if !has_room => {
            guard.disarm();
            Err(quota::exceeded(core, sender.user))
        }
        Ok(Appended::Full) => {
            guard.disarm();
            core.sending.trims.due([chat]);
            let detail = "the chat's log is full for a moment: send again, with the same key";
            Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(1))
        }
        Ok(Appended::NotMember) => {
            guard.disarm();
            Err(Problem::no_such_chat())
        }
        Err(error) => Err(error.into()),
    }
}

fn check<'a>(core: &Core, message: &'a Send) -> Result<Body<'a>, Problem> {
    let bad = |detail: &'static str| Err(Problem::new(ErrorCode::BadField, detail));
    let content = message.content.as_deref();
    if content
        .is_some_and(|raw| raw.get().len() > core.limits.content_bytes.saturating_mul(WIDEST_ESCAPE) + 2)
    {
        return Err(too_large(core));
    }
    let content = match message.kind.as_str() {
        "text" | "media" => {
            let Some(text) = content
                .map(|raw| serde_json::from_str::<String>(raw.get()))
                .transpose()
                .map_err(|error| match error.classify() {
                    serde_json::error::Category::Data => {
                        Problem::new(ErrorCode::BadField, "content is a string")
                    }
                    _ => Problem::new(ErrorCode::BadJson, error.to_string()),
                })?
            else {
                if message.kind == "text" {
                    return bad("a text message needs its content");
                }
                return finish(core, message, None);
            };
            if text.len() > core.limits.content_bytes {
                return Err(too_large(core));
            }
            Some(raw(&text)?)
        }
        kind if application_kind(kind) => {
            let content = content.map(|content| own_json("content", content)).transpose()?;
            if content.as_ref().is_some_and(|raw| raw.get().len() > core.limits.content_bytes) {
                return Err(too_large(core));
            }
            content
        }
        _ => return bad("kind is text, media, or x. and 1-32 characters of a-z 0-9 . _ -"),
    };
    finish(core, message, content)
}

fn finish<'a>(core: &Core, message: &'a Send, content: Option<Box<RawValue>>) -> Result<Body<'a>, Problem> {
    let bad = |detail: &'static str| Err(Problem::new(ErrorCode::BadField, detail));
    if (message.kind == "media") != message.media.is_some() {
        return bad("media goes with kind media, and only there");
    }
    let name = message.media.as_ref().and_then(|media| media.name.as_deref());
    if let Some(unfit) = name.and_then(|name| label::check_line(name).err()) {
        return Err(Problem::new(ErrorCode::BadField, format!("media.name {}", unfit.because())));
    }
    if message.memo.as_ref().is_some_and(|memo| memo.len() > core.limits.memo_bytes) {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("memo has at most {} bytes", core.limits.memo_bytes),
        ));
    }
    let most = |field: &str, most: usize| {
        Problem::new(ErrorCode::TooLarge, format!("{field} has at most {most} bytes"))
    };
    let media = message.media.as_ref().map(raw).transpose()?;
    if media.as_ref().is_some_and(|media| media.get().len() > core.limits.media_bytes) {
        return Err(most("media", core.limits.media_bytes));
    }
    let meta = match &message.meta {
        Some(meta) if !meta.get().starts_with('{') => return bad("meta is an object"),
        Some(meta) => Some(own_json("meta", meta)?),
        None => None,
    };
    if meta.as_ref().is_some_and(|meta| meta.get().len() > core.limits.meta_bytes) {
        return Err(most("meta", core.limits.meta_bytes));
    }
    Ok(Body { kind: &message.kind, content, media, memo: message.memo.as_deref(), meta })
}

/// Returns an application's own JSON in its shortest form, for relaying. Every client's parser must be able to read it: not too
/// deep, and no invalid escapes (which parsing the frame doesn't check).
fn own_json(field: &str, json: &RawValue) -> Result<Box<RawValue>, Problem> {
    if depth(json.get()) > DEPTH {
        return Err(Problem::new(ErrorCode::BadField, format!("{field} is nested more than {DEPTH} deep")));
    }
    match serde_json::from_str::<serde_json::Value>(json.get()) {
        Ok(_) => RawValue::from_string(compact(json.get()))
            .map_err(|error| Problem::new(ErrorCode::BadJson, format!("{field}: {error}"))),
        Err(error) => Err(Problem::new(ErrorCode::BadJson, format!("{field}: {error}"))),
    }
}

fn too_large(core: &Core) -> Problem {
    Problem::new(ErrorCode::TooLarge, format!("content has at most {} bytes", core.limits.content_bytes))
}

fn application_kind(kind: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    kind.strip_prefix("x.").is_some_and(|own| (1..=32).contains(&own.len()) && own.bytes().all(good))
}

/// Returns the deepest nesting of a JSON text, without recursion.
fn depth(json: &str) -> usize {
    let (mut deepest, mut level, mut text, mut escaped) = (0usize, 0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !text => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(json(value)?).map_err(|error| Problem::new(ErrorCode::BadField, error.to_string()))
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::new(ErrorCode::BadField, error.to_string()))
}

#[cfg(test)]
#[path = "../../tests/unit/sync/send.rs"]
mod tests;
