//! What a sub borrows from its main: 13 (each page is a piece of the past without holes) and 14 (one answer to each
//! question, and "offline" only of a main that is).

use std::collections::HashMap;

use super::super::{History, Phase, Seen, Seq, Socket, What};
use super::Report;
use super::delivery::spans;
use super::lives::Lives;

/// A question that is open.
struct Question<'h> {
    chat: &'h str,
    before: Seq,
    limit: u64,
    place: usize,
    at: u64,
}

/// A main's connection as its client saw it.
struct Main {
    socket: Socket,
    welcome: usize,
    closed: Option<u64>,
}

/// Somebody was told that the main is offline.
struct Offline<'h> {
    device: &'h str,
    asked: (usize, u64),
    told: u64,
}

pub(super) fn check(history: &History, lives: &Lives<'_>, report: &mut Report) {
    let mut open: HashMap<Socket, Vec<Question<'_>>> = HashMap::new();
    let mut mains: HashMap<&str, Vec<Main>> = HashMap::new();
    let mut begins: HashMap<(&str, &str), Seq> = HashMap::new();
    let mut offline = Vec::new();
    for (place, event) in history.events.iter().enumerate() {
        let at = event.at;
        let is_main = |device: &str| lives.devices.get(device).is_some_and(|life| life.main);
        match &event.what {
            What::Welcome { device, socket, chats, .. } if is_main(device) => {
                mains.entry(lives.user(device)).or_default().push(Main {
                    socket: *socket,
                    welcome: place,
                    closed: None,
                });
                for (chat, entry) in chats {
                    let from = begins.entry((lives.user(device), chat)).or_default();
                    *from = entry.from.max(*from);
                }
            }
            What::Attached { device, chat, entry, .. } if is_main(device) => {
                let from = begins.entry((lives.user(device), chat)).or_default();
                *from = entry.from.max(*from);
            }
            What::Closed { device, socket, .. } => {
                open.remove(socket);
                for main in mains.get_mut(lives.user(device)).into_iter().flatten() {
                    if main.socket == *socket {
                        main.closed = Some(at);
                    }
                }
            }
            What::Asking { socket, chat, before, limit, .. } => {
                let question = Question { chat, before: *before, limit: *limit, place, at };
                open.entry(*socket).or_default().push(question);
            }
            What::Page { device, socket, chat, before, messages, more } => {
                let Some(question) = answered(&mut open, *socket, chat, *before, at, report) else {
                    continue;
                };
                let begin = begins.get(&(lives.user(device), chat.as_str())).copied().unwrap_or(0);
                let wrong = page(&question, messages, *more, begin, history.rules.gaps);
                if let Some(wrong) = wrong {
                    report.add(13, at, || format!("{device}: page of chat {chat} before {before}: {wrong}"));
                }
            }
            What::NoPage { device, socket, chat, before, code } => {
                let Some(question) = answered(&mut open, *socket, chat, *before, at, report) else {
                    continue;
                };
                if code == "main_offline" {
                    offline.push(Offline { device, asked: (question.place, question.at), told: at });
                }
            }
            _ => {}
        }
    }
    for (socket, questions) in open {
        for question in questions {
            let (chat, before) = (question.chat, question.before);
            report.add(14, question.at, || {
                format!("socket {socket}: no answer about chat {chat} before {before}")
            });
        }
    }
    judge_offline(history, lives, &mains, &offline, report);
}

/// The question that an answer belongs to.
fn answered<'h>(
    open: &mut HashMap<Socket, Vec<Question<'h>>>,
    socket: Socket,
    chat: &str,
    before: Seq,
    at: u64,
    report: &mut Report,
) -> Option<Question<'h>> {
    let questions = open.entry(socket).or_default();
    let question = questions.iter().position(|open| open.chat == chat && open.before == before);
    if question.is_none() {
        report.add(14, at, || {
            format!("socket {socket}: an answer about chat {chat} before {before}, and no open question")
        });
    }
    question.map(|place| questions.remove(place))
}

/// What is wrong with a page, if anything. The main has everything above `begin`.
fn page(question: &Question<'_>, messages: &[Seen], more: bool, begin: Seq, gaps: bool) -> Option<String> {
    let Question { before, limit, .. } = *question;
    if messages.len() as u64 > limit {
        return Some(format!("{} messages, {limit} were asked for", messages.len()));
    }
    if messages.first().is_some_and(|first| first.seq == 0) {
        return Some("it has a number 0".to_owned());
    }
    if let Some(pair) = messages.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
        return Some(format!("{} comes before {}", pair[0].seq, pair[1].seq));
    }
    if let Some(last) = messages.last().filter(|last| last.seq >= before) {
        return Some(format!("{} isn't below", last.seq));
    }
    if messages.is_empty() && more {
        return Some("it is empty, and says that there is more".to_owned());
    }
    // With more to come it is whole from its first message on, else from where the main begins.
    let mut next = if more { messages.first()?.seq.max(begin + 1) } else { begin + 1 };
    let mut holes = Vec::new();
    for seq in messages.iter().map(|seen| seen.seq).chain([before]) {
        if seq > next {
            holes.push((next, seq - 1));
        }
        next = next.max(seq + 1);
    }
    (!gaps && !holes.is_empty()).then(|| format!("{} is missing", spans(&holes)))
}

/// A main that was connected all the time, as far as it knows, isn't offline, unless a fault had its hand in it.
fn judge_offline(
    history: &History,
    lives: &Lives<'_>,
    mains: &HashMap<&str, Vec<Main>>,
    offline: &[Offline<'_>],
    report: &mut Report,
) {
    let lease = history.rules.lease;
    let mut faults: Vec<(&str, u64, u64)> = Vec::new();
    for event in &history.events {
        let What::Fault { name, phase } = &event.what else { continue };
        match phase {
            Phase::Begun => faults.push((name, event.at, u64::MAX)),
            Phase::Healed => {
                let open = faults.iter_mut().find(|fault| fault.0 == name && fault.2 == u64::MAX);
                if let Some(fault) = open {
                    fault.2 = event.at + 2 * lease;
                }
            }
        }
    }
    for Offline { device, asked, told } in offline {
        let since = asked.1.saturating_sub(2 * lease);
        if faults.iter().any(|(_, begun, healed)| *begun <= *told && since <= *healed) {
            continue;
        }
        let user = lives.user(device);
        let there =
            mains.get(user).into_iter().flatten().find(|main| {
                main.welcome < asked.0 && main.closed.is_none_or(|closed| closed > told + lease)
            });
        if let Some(main) = there {
            let socket = main.socket;
            report.add(14, *told, || {
                format!(
                    "{device} was told that {user}'s main is offline, and it was there on socket {socket}"
                )
            });
        }
    }
}
