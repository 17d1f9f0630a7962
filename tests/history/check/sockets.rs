//! A socket is closed for a reason that is true, above all with 44xx, which says "don't come again" (17), and is never sent more
//! than the window before it acknowledges (18).

use std::collections::{HashMap, VecDeque};

use super::super::{History, Seq, Socket, What};
use super::Report;
use super::lives::{Line, Lives};

/// What each chat on a socket has sent and isn't acknowledged.
#[derive(Debug, Default)]
struct Open<'h> {
    chats: HashMap<&'h str, VecDeque<Seq>>,
    count: u64,
}

impl<'h> Open<'h> {
    fn sent(&mut self, chat: &'h str, seq: Seq) {
        self.chats.entry(chat).or_default().push_back(seq);
        self.count += 1;
    }

    fn acked(&mut self, chat: &str, up_to: Seq) {
        let Some(open) = self.chats.get_mut(chat) else { return };
        while open.front().is_some_and(|seq| *seq <= up_to) {
            open.pop_front();
            self.count -= 1;
        }
    }
}

pub(super) fn check<'h>(history: &'h History, lives: &Lives<'h>, report: &mut Report) {
    let mut of_device: HashMap<&str, Vec<(Socket, &Line<'_>)>> = HashMap::new();
    for (socket, line) in &lives.sockets {
        of_device.entry(line.device).or_default().push((*socket, line));
    }
    let mut open: HashMap<Socket, Open<'h>> = HashMap::new();
    for (place, event) in history.events.iter().enumerate() {
        match &event.what {
            What::Closed { device, socket, code: Some(code) } => {
                let others = of_device.get(device.as_str()).map_or(&[][..], Vec::as_slice);
                if let Some(wrong) = wrong(history, lives, device, *socket, *code, place, others) {
                    report.add(17, event.at, || {
                        format!("{device}: socket {socket} was closed {code}, and {wrong}")
                    });
                }
            }
            What::Message { device, socket, chat, seen } => {
                let open = open.entry(*socket).or_default();
                open.sent(chat, seen.seq);
                let (count, window) = (open.count, history.rules.window.unwrap_or(u64::MAX));
                if count > window {
                    report.add(18, event.at, || {
                        format!("{device}, socket {socket}: {count} messages aren't acknowledged, {window} is the window")
                    });
                }
            }
            What::Acking { socket, chat, seq, .. } => open.entry(*socket).or_default().acked(chat, *seq),
            What::Attached { socket, chat, .. } | What::Detached { socket, chat, .. } => {
                open.entry(*socket).or_default().acked(chat, Seq::MAX);
            }
            _ => {}
        }
    }
}

/// Why a socket shouldn't have been closed so.
fn wrong(
    history: &History,
    lives: &Lives<'_>,
    device: &str,
    socket: Socket,
    code: u16,
    place: usize,
    others: &[(Socket, &Line<'_>)],
) -> Option<&'static str> {
    match code {
        4301 => history.rules.clients_read.then_some("its client takes what comes"),
        4403 => {
            let ending = lives.devices.get(device).and_then(|life| life.ending);
            ending.is_none_or(|ending| ending > place).then_some("nobody has ended the device")
        }
        4409 => {
            let this = lives.sockets.get(&socket)?;
            let newer = others.iter().any(|(other, line)| *other != socket && is_newer(line, this, place));
            (!newer).then_some("there is no newer connection of the device")
        }
        // It has a good token, says nothing wrong, and little.
        4400..=4499 | 1002 | 1003 | 1007..=1010 => Some("there is no reason for it"),
        _ => None,
    }
}

/// Whether another connection may have taken the device from this one by a place. One that was turned away hasn't, nor has an
/// older one that went before it was welcome: its client knows nothing of it.
fn is_newer(other: &Line<'_>, this: &Line<'_>, place: usize) -> bool {
    if other.connecting > place {
        return false;
    }
    let gone = other.closed.filter(|(closed, _)| *closed < place);
    match (other.session, gone) {
        (Some(session), _) => this.session.is_none_or(|this| session > this),
        (None, None) => true,
        (None, Some((_, code))) => code.is_none() && other.connecting > this.connecting,
    }
}
