//! Who was there when: devices, their sockets, and who was surely in a chat or surely not.

use std::collections::HashMap;

use super::super::{History, Seq, Socket, What};

/// One device. Places in the history, each the first of its kind.
#[derive(Debug, Default)]
pub(super) struct Device<'h> {
    pub user: &'h str,
    pub main: bool,
    pub registering: usize,
    pub registered: Option<usize>,
    pub ending: Option<usize>,
    pub accepted: Option<usize>,
    pub done: Option<usize>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Line<'h> {
    pub device: &'h str,
    pub connecting: usize,
    pub session: Option<u64>,
    /// Where it was seen to be over, and the server's code.
    pub closed: Option<(usize, Option<u16>)>,
}

/// A stretch of the history, both ends outside.
type Stretch = (usize, usize);

/// One user in one chat.
#[derive(Debug, Default)]
pub(super) struct Member {
    joinings: Vec<usize>,
    joineds: Vec<usize>,
    // Surely not in it; surely in it.
    out: Vec<Stretch>,
    inside: Vec<Stretch>,
    // Not answered yet, while the history is read: where they began.
    open_joins: Vec<usize>,
    open_leaves: Vec<usize>,
    last_leaving: Option<usize>,
    last_left: Option<usize>,
    // How many messages the chat had when a leave was answered.
    heads: Vec<(usize, Seq)>,
}

impl Member {
    fn joining(&mut self, place: usize) {
        match self.out.last_mut() {
            None if self.joinings.is_empty() && self.last_leaving.is_none() => self.out.push((0, place)),
            Some((_, end)) if *end == usize::MAX => *end = place,
            _ => {}
        }
        self.joinings.push(place);
        self.open_joins.push(place);
    }

    fn joined(&mut self, place: usize) {
        self.joineds.push(place);
        if self.open_joins.is_empty() {
            return;
        }
        let began = self.open_joins.remove(0);
        let left_since = self.last_leaving.max(self.last_left).is_some_and(|leaving| leaving > began);
        let is_in = self.inside.last().is_some_and(|(_, end)| *end == usize::MAX);
        if self.open_leaves.is_empty() && !left_since && !is_in {
            self.inside.push((place, usize::MAX));
        }
    }

    fn leaving(&mut self, place: usize) {
        if let Some(stretch) = self.inside.last_mut() {
            stretch.1 = stretch.1.min(place);
        }
        self.last_leaving = Some(place);
        self.open_leaves.push(place);
    }

    fn left(&mut self, place: usize, head: Option<Seq>) {
        self.heads.extend(head.map(|head| (place, head)));
        self.last_left = Some(place);
        if self.open_leaves.is_empty() {
            return;
        }
        let began = self.open_leaves.remove(0);
        let joined_since = self.joinings.last().is_some_and(|joining| *joining > began);
        let is_out = self.out.last().is_some_and(|(_, end)| *end == usize::MAX);
        // A join that was under way when the leave began may come after it.
        let joining =
            !self.open_joins.is_empty() || self.joineds.last().is_some_and(|joined| *joined > began);
        if !joining && !joined_since && !is_out {
            self.out.push((place, usize::MAX));
        }
    }

    /// If the user was surely out of it from one place to another: since when.
    pub fn out_between(&self, from: usize, to: usize) -> Option<usize> {
        within(&self.out, from, to)
    }

    /// How many messages the chat had when the user had left it, at a place at which that was answered.
    pub fn head_at(&self, left: usize) -> Option<Seq> {
        let at = self.heads.binary_search_by_key(&left, |(place, _)| *place).ok()?;
        Some(self.heads[at].1)
    }

    /// Since when the user has surely been in it, at a place.
    pub fn inside_since(&self, place: usize) -> Option<usize> {
        let last = self.inside.partition_point(|(start, _)| *start < place).checked_sub(1)?;
        let (start, end) = self.inside[last];
        (place <= end).then_some(start)
    }

    /// The earliest place at which the membership that there is at a place can have begun.
    pub fn began_earliest(&self, place: usize) -> Option<usize> {
        let outs = self.out.partition_point(|(start, _)| *start <= place);
        let out = outs.checked_sub(1).map_or(0, |last| self.out[last].0);
        self.joinings.get(self.joinings.partition_point(|joining| *joining < out)).copied()
    }

    /// The latest place at which a join can have taken effect, up to a place.
    pub fn joined_latest(&self, place: usize) -> usize {
        let joinings = self.joinings.partition_point(|joining| *joining < place);
        let joineds = self.joineds.partition_point(|joined| *joined < place);
        if joinings > joineds { place } else { joineds.checked_sub(1).map_or(0, |last| self.joineds[last]) }
    }
}

fn within(stretches: &[Stretch], from: usize, to: usize) -> Option<usize> {
    let last = stretches.partition_point(|(start, _)| *start <= from).checked_sub(1)?;
    let (start, end) = stretches[last];
    (to <= end).then_some(start)
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Lives<'h> {
    pub devices: HashMap<&'h str, Device<'h>>,
    pub sockets: HashMap<Socket, Line<'h>>,
    pub members: HashMap<&'h str, HashMap<&'h str, Member>>,
}

impl<'h> Lives<'h> {
    /// Reads the history.
    pub fn of(history: &'h History) -> Lives<'h> {
        let mut lives = Lives::default();
        for (place, event) in history.events.iter().enumerate() {
            match &event.what {
                What::Joining { user, chat } => lives.member_mut(user, chat).joining(place),
                What::Joined { user, chat } => lives.member_mut(user, chat).joined(place),
                What::Leaving { user, chat } => lives.member_mut(user, chat).leaving(place),
                What::Left { user, chat, head } => lives.member_mut(user, chat).left(place, *head),
                What::Registering { user, device, main } => {
                    let fresh = Device { user, main: *main, registering: place, ..Device::default() };
                    lives.devices.entry(device).or_insert(fresh);
                }
                What::Registered { device } => lives.note(device, |life| &mut life.registered, place),
                What::Ending { device } => lives.note(device, |life| &mut life.ending, place),
                What::Accepted { device } => lives.note(device, |life| &mut life.accepted, place),
                What::Done { device } => lives.note(device, |life| &mut life.done, place),
                What::Connecting { device, socket } => {
                    let line = Line { device, connecting: place, session: None, closed: None };
                    lives.sockets.insert(*socket, line);
                }
                What::Closed { socket, code, .. } => {
                    if let Some(line) = lives.sockets.get_mut(socket) {
                        line.closed.get_or_insert((place, *code));
                    }
                }
                What::Welcome { socket, session, .. } => {
                    if let Some(line) = lives.sockets.get_mut(socket) {
                        line.session = Some(*session);
                    }
                }
                _ => {}
            }
        }
        lives
    }

    /// A user in a chat.
    pub fn member(&self, user: &str, chat: &str) -> Option<&Member> {
        self.members.get(user)?.get(chat)
    }

    /// The user of a device.
    pub fn user(&self, device: &str) -> &'h str {
        self.devices.get(device).map_or("", |device| device.user)
    }

    /// Where a socket began to connect.
    pub fn connecting(&self, socket: Socket) -> usize {
        self.sockets.get(&socket).map_or(0, |line| line.connecting)
    }

    /// The number of the session on a socket; 0 when it wasn't welcome.
    pub fn session(&self, socket: Socket) -> u64 {
        self.sockets.get(&socket).and_then(|line| line.session).unwrap_or(0)
    }

    fn member_mut(&mut self, user: &'h str, chat: &'h str) -> &mut Member {
        self.members.entry(user).or_default().entry(chat).or_default()
    }

    fn note(
        &mut self,
        device: &'h str,
        field: impl for<'d> Fn(&'d mut Device<'h>) -> &'d mut Option<usize>,
        place: usize,
    ) {
        field(self.devices.entry(device).or_default()).get_or_insert(place);
    }
}
