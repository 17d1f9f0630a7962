//! Random good histories pass; with any one kind of damage they don't, and the checker says which promise it broke.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::model;
use crate::history::check::check;
use crate::history::{Event, History, What};

#[test]
fn random_good_histories_pass() {
    for seed in 0..150 {
        let violations = check(&model::history(seed, 800));
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

#[test]
fn a_long_history_is_checked_quickly() {
    let history = model::history(7, 300_000);
    let began = Instant::now();
    let violations = check(&history);
    let (events, took) = (history.events.len(), began.elapsed());
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(events > 100_000 && took.as_secs() < 20, "{events} events took {took:?}");
    println!("{events} events took {took:?}");
}

/// Damages one kind of thing at a random place of that kind; no if there is none.
type Damage = fn(&mut History, &mut StdRng) -> Option<()>;

/// What was done, how, and which promises that breaks: at least one of them is named.
const DAMAGES: [(&str, Damage, &[u8]); 26] = [
    ("a key that nobody sent", |h, r| with(h, r, message, |what| *key(what) = "strange".to_owned()), &[1]),
    ("another frame", |h, r| with(h, r, seen_twice, |what| *frame(what) += 1), &[2]),
    ("another number acknowledged", |h, r| with(h, r, sent, renumber), &[2]),
    ("a message is lost", lose_the_last, &[3]),
    ("a message is lost in the middle", |h, r| remove(h, r, followed), &[6]),
    ("a device never comes back", |h, _| h.end.devices.pop_first().map(drop), &[3]),
    (
        "a head that nobody reached",
        |h, _| h.end.heads.first_entry().map(|mut head| *head.get_mut() += 1000),
        &[4],
    ),
    ("two are swapped", swap, &[6]),
    ("one comes twice", double, &[6]),
    ("one comes below the cursor", replay, &[7, 8]),
    ("a cursor falls", |h, r| with(h, r, acked_before, cursor_falls), &[7]),
    ("a from that falls", |h, r| with(h, r, owed, from_falls), &[8]),
    ("a chat that nobody joined", |h, r| with(h, r, message, |what| *chat(what) = "z".to_owned()), &[8]),
    ("an offset falls", |h, r| with(h, r, marked, lower), &[9]),
    ("an offset falls in the end", |h, _| reads(h, |read| *read = read.checked_sub(1).unwrap_or(1000)), &[9]),
    ("an offset rises by itself", |h, _| reads(h, |read| *read += 1000), &[9]),
    ("a session comes twice", |h, r| with(h, r, later_session, |what| set_session(what, 1)), &[10]),
    ("an ended device gets a frame", after_the_end, &[11]),
    ("a queue is left", leak, &[12]),
    (
        "a queue is missing",
        |h, r| h.end.queues.choose(r).cloned().map(|q| h.end.queues.retain(|o| *o != q)),
        &[12],
    ),
    (
        "something isn't published",
        |h, _| h.end.unpublished.insert("x".to_owned(), 1).map_or(Some(()), |_| None),
        &[12],
    ),
    ("a page with a hole", |h, r| with(h, r, long_page, hole), &[13]),
    ("a question without answer", unanswered, &[14]),
    ("a refused message is there", refuse, &[15]),
    ("a socket closed by nobody's session", replaced_by_nobody, &[17]),
    ("a message of after a leave", after_the_leave, &[8]),
];

#[test]
fn every_kind_of_damage_is_found() {
    for (name, damage, invariants) in DAMAGES {
        let mut done = 0;
        for seed in 0..40 {
            let mut history = model::history(seed, 800);
            if damage(&mut history, &mut StdRng::seed_from_u64(seed)).is_none() {
                continue;
            }
            done += 1;
            let violations = check(&history);
            assert!(
                violations.iter().any(|violation| invariants.contains(&violation.invariant)),
                "{name}, seed {seed}: expected {invariants:?}, found {violations:#?}"
            );
        }
        assert!(done >= 5, "{name}: there was something to damage in {done} histories only");
    }
}

/// Changes a random event of a kind.
fn with(
    history: &mut History,
    random: &mut StdRng,
    kind: fn(&History, usize) -> bool,
    change: impl FnOnce(&mut What),
) -> Option<()> {
    let place = any(history, random, kind)?;
    change(&mut history.events[place].what);
    Some(())
}

fn remove(history: &mut History, random: &mut StdRng, kind: fn(&History, usize) -> bool) -> Option<()> {
    let place = any(history, random, kind)?;
    history.events.remove(place);
    Some(())
}

fn any(history: &History, random: &mut StdRng, kind: fn(&History, usize) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..history.events.len()).filter(|place| kind(history, *place)).collect();
    places.choose(random).copied()
}

fn message(history: &History, place: usize) -> bool {
    matches!(history.events[place].what, What::Message { .. })
}

fn sent(history: &History, place: usize) -> bool {
    matches!(history.events[place].what, What::Sent { .. })
}

/// A message that somebody else gets, too.
fn seen_twice(history: &History, place: usize) -> bool {
    let What::Message { chat: here, seen: this, .. } = &history.events[place].what else { return false };
    let like = |event: &Event| matches!(&event.what, What::Message { chat, seen, .. } if chat == here && seen == this);
    history.events.iter().filter(|event| like(event)).count() > 1
}

/// A message with another one behind it in the same chat on the same socket.
fn followed(history: &History, place: usize) -> bool {
    next_on_socket(history, place).is_some()
}

fn next_on_socket(history: &History, place: usize) -> Option<usize> {
    let What::Message { chat: here, socket: on, seen: this, .. } = &history.events[place].what else {
        return None;
    };
    (place + 1..history.events.len()).find(|next| {
        matches!(&history.events[*next].what, What::Message { chat, socket, seen, .. }
            if chat == here && socket == on && seen.seq == this.seq + 1)
    })
}

/// A welcome to a chat with something acknowledged.
fn acked_before(history: &History, place: usize) -> bool {
    let What::Welcome { device, chats, .. } = &history.events[place].what else { return false };
    let connecting =
        |event: &Event| matches!(&event.what, What::Connecting { device: of, .. } if of == device);
    let Some(connecting) = history.events[..place].iter().rposition(connecting) else { return false };
    chats.iter().any(|(chat, entry)| {
        history.events[..connecting].iter().any(|event| {
            matches!(&event.what, What::Acked { device: of, chat: on, seq, .. }
                if of == device && on == chat && *seq == entry.cursor)
        })
    })
}

/// A welcome with something before its begin, of a device that knew so.
fn owed(history: &History, place: usize) -> bool {
    let What::Welcome { session, chats, .. } = &history.events[place].what else { return false };
    *session > 1 && chats.values().any(|entry| entry.from > 0)
}

fn marked(history: &History, place: usize) -> bool {
    matches!(history.events[place].what, What::Marked { .. })
}

fn later_session(history: &History, place: usize) -> bool {
    matches!(history.events[place].what, What::Welcome { session, .. } if session > 1)
}

fn long_page(history: &History, place: usize) -> bool {
    matches!(&history.events[place].what, What::Page { messages, .. } if messages.len() > 2)
}

fn page(history: &History, place: usize) -> bool {
    matches!(history.events[place].what, What::Page { .. })
}

fn key(what: &mut What) -> &mut String {
    let What::Message { seen, .. } = what else { unreachable!("a message was chosen") };
    &mut seen.key
}

fn frame(what: &mut What) -> &mut u64 {
    let What::Message { seen, .. } = what else { unreachable!("a message was chosen") };
    &mut seen.frame
}

fn chat(what: &mut What) -> &mut String {
    let What::Message { chat, .. } = what else { unreachable!("a message was chosen") };
    chat
}

fn renumber(what: &mut What) {
    let What::Sent { seq, .. } = what else { unreachable!("an acknowledgement was chosen") };
    *seq = seq.checked_sub(1).filter(|seq| *seq > 0).unwrap_or(2);
}

fn lower(what: &mut What) {
    let What::Marked { asked, seq, .. } = what else { unreachable!("a mark was chosen") };
    *seq = *asked - 1;
}

fn set_session(what: &mut What, number: u64) {
    let What::Welcome { session, .. } = what else { unreachable!("a welcome was chosen") };
    *session = number;
}

fn cursor_falls(what: &mut What) {
    let What::Welcome { chats, .. } = what else { unreachable!("a welcome was chosen") };
    chats.values_mut().for_each(|entry| (entry.from, entry.cursor) = (0, entry.cursor.saturating_sub(1)));
}

fn from_falls(what: &mut What) {
    let What::Welcome { chats, .. } = what else { unreachable!("a welcome was chosen") };
    chats.values_mut().for_each(|entry| entry.from = 0);
}

fn reads(history: &mut History, change: fn(&mut u64)) -> Option<()> {
    let reads = history.end.reads.values_mut().next()?.values_mut().find(|read| **read > 0)?;
    change(reads);
    Some(())
}

fn lose_the_last(history: &mut History, random: &mut StdRng) -> Option<()> {
    let owed = history.end.devices.iter().flat_map(|(device, chats)| {
        chats
            .iter()
            .filter(|(_, entry)| entry.head > entry.from)
            .map(move |(chat, entry)| (device, chat, entry.head))
    });
    let (lost_by, of, head) = owed.collect::<Vec<_>>().choose(random).copied()?;
    history.events.retain(|event| {
        !matches!(&event.what, What::Message { device, chat, seen, .. }
            if device == lost_by && chat == of && seen.seq == head)
    });
    Some(())
}

fn swap(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place = any(history, random, followed)?;
    let next = next_on_socket(history, place)?;
    let (first, second) = (history.events[place].what.clone(), history.events[next].what.clone());
    (history.events[place].what, history.events[next].what) = (second, first);
    Some(())
}

fn double(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place = any(history, random, message)?;
    history.events.insert(place, history.events[place].clone());
    Some(())
}

/// The last acknowledged message comes again, behind the welcome.
fn replay(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place = any(history, random, acked_before)?;
    let Event { at, what: What::Welcome { device, socket, chats, .. } } = &history.events[place] else {
        return None;
    };
    let again = chats.iter().find_map(|(on, entry)| {
        history.events[..place].iter().find_map(|event| match &event.what {
            What::Message { chat, seen, .. } if chat == on && seen.seq == entry.cursor => {
                let (device, chat, seen) = (device.clone(), chat.clone(), seen.clone());
                Some(What::Message { device, socket: *socket, chat, seen })
            }
            _ => None,
        })
    })?;
    history.events.insert(place + 1, Event { at: *at, what: again });
    Some(())
}

fn ended(history: &History) -> Option<String> {
    history.events.iter().find_map(|event| match &event.what {
        What::Done { device } => Some(device.clone()),
        _ => None,
    })
}

fn after_the_end(history: &mut History, _: &mut StdRng) -> Option<()> {
    let (device, at) = (ended(history)?, history.events.last()?.at + 2000);
    let what = What::Frame { device, socket: 1, kind: "device".to_owned() };
    history.events.push(Event { at, what });
    Some(())
}

fn leak(history: &mut History, random: &mut StdRng) -> Option<()> {
    let (node, device) = ("n".to_owned(), ended(history)?);
    if random.random_ratio(1, 2) {
        history.end.queues.push((node, "x".to_owned(), device));
    } else {
        let at = history.events.last()?.at;
        history.events.push(Event { at, what: What::Queue { node, chat: "x".to_owned(), device } });
    }
    Some(())
}

fn hole(what: &mut What) {
    let What::Page { messages, .. } = what else { unreachable!("a page was chosen") };
    messages.remove(1);
}

/// A question that gets no page, on a socket that stays open.
fn unanswered(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place = any(history, random, page)?;
    let What::Page { socket: on, .. } = history.events.remove(place).what else { return None };
    history.events.retain(|event| !matches!(event.what, What::Closed { socket, .. } if socket == on));
    Some(())
}

/// A socket that was the last of its device is replaced.
fn replaced_by_nobody(history: &mut History, random: &mut StdRng) -> Option<()> {
    let last = |history: &History, place: usize| {
        let What::Welcome { device: here, .. } = &history.events[place].what else { return false };
        let again = |event: &Event| matches!(&event.what, What::Connecting { device, .. } if device == here);
        !history.events[place..].iter().any(again)
    };
    let place = any(history, random, last)?;
    let What::Welcome { device, socket, .. } = &history.events[place].what else { return None };
    let what = What::Closed { device: device.clone(), socket: *socket, code: Some(4409) };
    let at = history.events.last()?.at;
    history.events.push(Event { at, what });
    Some(())
}

/// The next message of a chat comes to a device whose user has just left it.
fn after_the_leave(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place =
        any(history, random, |history, place| matches!(history.events[place].what, What::Left { .. }))?;
    let What::Left { user, chat: here, .. } = &history.events[place].what else { return None };
    let next = history.events[place..].iter().find_map(|event| match &event.what {
        What::Sent { chat, key, seq } if chat == here => Some((key.clone(), *seq)),
        _ => None,
    });
    let device = history.events.iter().find_map(|event| match &event.what {
        What::Registered { device } if device.starts_with(user.as_str()) => Some(device.clone()),
        _ => None,
    });
    let ((key, seq), chat, at) = (next?, here.clone(), history.events[place].at);
    let head = match &history.events[place].what {
        What::Left { head, .. } => head.unwrap_or(0),
        _ => 0,
    };
    let seen = crate::history::Seen { seq, key, frame: 0 };
    let what = What::Message { device: device?, socket: 0, chat, seen };
    (seq > head).then(|| history.events.insert(place + 1, Event { at, what }))
}

/// One that everybody got was refused.
fn refuse(history: &mut History, random: &mut StdRng) -> Option<()> {
    let place = any(history, random, message)?;
    let Event { at, what: What::Message { chat, seen, .. } } = &history.events[place] else { return None };
    let (chat, key, code) = (chat.clone(), seen.key.clone(), "bad_field".to_owned());
    history.events.insert(place + 1, Event { at: *at, what: What::Refused { chat, key, code } });
    Some(())
}
