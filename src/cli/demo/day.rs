//! The day: what all its chapters are made of.

use std::{collections::BTreeSet, time::Duration};

use keepstep_client::{ChatId, Close, DeviceKind, Registration, frame::Welcome};
use serde_json::json;

use super::{
    cast::{Person, Role, Room},
    device::{Clock, Device, Opened},
    marks::{Mark, Row},
    memory::Memory,
    screen::Screen,
    script::{Line, Script},
    stage::Stage,
};
use crate::cli::Failure;

mod afternoon;
mod borrowing;
mod morning;
mod queues;

/// Small enough that a bootstrap has several pages to show; the contract allows 100.
const PAGE: u64 = 40;
/// Between two messages, at the usual pace.
const BEAT: u32 = 100;

/// One bootstrap.
#[derive(Debug, Clone, Copy)]
pub struct Bootstrap {
    /// Of which device.
    pub role: Role,
    /// Borrowed from the phone.
    pub messages: u64,
    /// In so many pages.
    pub pages: u64,
    /// From each question to its answer, added up.
    pub took: Duration,
}

/// How the café's session ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The last state of the termination.
    pub state: String,
    /// By the receipt.
    pub deleted: u64,
    /// Channels that an admin still sees.
    pub left: u64,
    /// From the order to the receipt.
    pub took: Duration,
}

/// The day under way.
pub struct Day<'a> {
    /// Where it is told.
    pub screen: &'a Screen,
    /// Where it is played.
    pub stage: &'a Stage,
    script: Script,
    clock: Clock,
    users: [String; 2],
    tokens: [String; 2],
    admin: String,
    devices: [Option<Device>; Role::ALL.len()],
    chats: [ChatId; 2],
    /// Each bootstrap, in their order.
    pub bootstraps: Vec<Bootstrap>,
    /// The termination.
    pub ending: Option<Ending>,
    /// What isn't as the contract promises.
    pub faults: Vec<String>,
}

/// How much of a part is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    All,
    /// The first of each language and kind.
    Examples,
}

impl<'a> Day<'a> {
    /// Two users of this run alone.
    ///
    /// # Errors
    /// When there is nothing to sign their tokens with.
    pub fn new(screen: &'a Screen, stage: &'a Stage) -> Result<Self, Failure> {
        let run = format!("{:06x}", rand::random::<u32>() >> 8);
        let users = ["alice", "bob"].map(|name| format!("{name}.demo-{run}"));
        let tokens = [stage.token(&users[0], false)?, stage.token(&users[1], false)?];
        let admin = stage.token(&format!("admin.demo-{run}"), true)?;
        Ok(Self {
            screen,
            stage,
            script: Script::load()?,
            clock: Clock::default(),
            users,
            tokens,
            admin,
            devices: [const { None }; Role::ALL.len()],
            chats: [ChatId::nil(); 2],
            bootstraps: Vec::new(),
            ending: None,
            faults: Vec::new(),
        })
    }

    /// From morning to night.
    ///
    /// # Errors
    /// The first thing that doesn't come about.
    pub async fn play(&mut self) -> Result<(), Failure> {
        morning::play(self).await?;
        afternoon::play(self).await
    }

    /// What the story is called.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.script.title
    }

    /// The id of a chat.
    #[must_use]
    pub fn chat(&self, room: Room) -> ChatId {
        self.chats[room as usize]
    }

    /// The token of a user.
    #[must_use]
    pub fn token(&self, person: Person) -> &str {
        &self.tokens[person as usize]
    }

    /// A device, if it was registered.
    #[must_use]
    pub fn cast(&self, role: Role) -> Option<&Device> {
        self.devices[role.index()].as_ref()
    }

    fn device(&self, role: Role) -> Result<&Device, Failure> {
        self.cast(role).ok_or_else(|| Failure::run(format!("{} isn't registered yet", role.name())))
    }

    fn device_mut(&mut self, role: Role) -> Result<&mut Device, Failure> {
        let missing = || Failure::run(format!("{} isn't registered yet", role.name()));
        self.devices[role.index()].as_mut().ok_or_else(missing)
    }

    /// Whether a device was ended.
    #[must_use]
    pub fn ended(&self, role: Role) -> bool {
        role == Role::AliceCafe && self.ending.is_some()
    }

    /// The head of a chat: the highest seq that any device has.
    #[must_use]
    pub fn head(&self, room: Room) -> u64 {
        let heads = self.devices.iter().flatten().map(|device| device.memory().highest(self.chat(room)));
        heads.max().unwrap_or(0)
    }

    /// Registers a device; its queues exist when this returns.
    async fn register(&mut self, role: Role) -> Result<(), Failure> {
        let (name, platform) = role.described();
        let kind = if role.is_main() { DeviceKind::Main } else { DeviceKind::Sub };
        let api = self.stage.api(role, self.token(role.person()))?;
        let registered = api.register(&Registration::new(kind, name, platform)).await?;
        let (id, token) = (registered.device.id, registered.token);
        self.devices[role.index()] = Some(Device::new(role, id, token, self.clock.clone()));
        Ok(())
    }

    /// Connects a device that has to be let in; its `welcome`.
    async fn connect(&mut self, role: Role) -> Result<Box<Welcome>, Failure> {
        let stage = self.stage;
        match self.device_mut(role)?.connect(stage.edge(role)).await? {
            Opened::In(welcome) => Ok(welcome),
            Opened::Refused(Close { code, reason }) => {
                Err(Failure::run(format!("{} wasn't let in: {code} {reason}", role.name())))
            }
        }
    }

    /// Connects a device that has to be refused.
    async fn refused(&mut self, role: Role, expected: u16) -> Result<Close, Failure> {
        let stage = self.stage;
        match self.device_mut(role)?.connect(stage.edge(role)).await? {
            Opened::Refused(close) if close.code == expected => Ok(close),
            Opened::Refused(Close { code, reason }) => Err(Failure::run(format!(
                "{} was closed with {code} {reason}; it should have been {expected}",
                role.name()
            ))),
            Opened::In(_) => {
                Err(Failure::run(format!("{} was let in; it should have been {expected}", role.name())))
            }
        }
    }

    /// Waits until a device knows it; on a terminal one sees for what.
    async fn wait<T>(
        &self,
        role: Role,
        what: &str,
        look: impl FnMut(&Memory) -> Option<T>,
    ) -> Result<T, Failure> {
        let waiting = self.device(role)?.until(what, look);
        self.screen.during(&format!("{} waits for {what}", role.name()), waiting).await
    }

    fn marks(&self, room: Room, seq: u64, from: Role) -> [Mark; Role::ALL.len()] {
        Role::ALL.map(|role| match self.cast(role) {
            None => Mark::Absent,
            Some(_) if self.ended(role) => Mark::Ended,
            Some(device) if device.memory().has(self.chat(room), seq) => {
                if role == from {
                    Mark::Sent
                } else {
                    Mark::Has
                }
            }
            Some(_) => Mark::Waits,
        })
    }

    /// Sends one line from a device, and waits until every connected device has it.
    async fn send(&self, line: &Line, from: Role) -> Result<u64, Failure> {
        let chat = self.chat(line.room);
        let seq = self.device(from)?.send(chat, line.draft.clone()).await?;
        let what = format!("#{seq} in {}", line.room.name());
        for device in self.devices.iter().flatten().filter(|device| device.online()) {
            self.wait(device.role, &what, |memory| memory.has(chat, seq).then_some(())).await?;
        }
        Ok(seq)
    }

    /// Plays one part; each person writes on the device named. The seqs, in their order.
    async fn part(&self, name: &str, on: [Role; 2], show: Show) -> Result<Vec<(Room, u64)>, Failure> {
        let lines = self.script.part(name);
        if lines.is_empty() {
            return Err(Failure::run(format!("the conversation has no part `{name}`")));
        }
        let (mut seen, mut sent) = (BTreeSet::new(), Vec::new());
        for (i, line) in lines.iter().enumerate() {
            let from = on[line.by as usize];
            let seq = self.send(line, from).await?;
            sent.push((line.room, seq));
            if show == Show::All || seen.insert(line.sort()) {
                let marks = self.marks(line.room, seq, from);
                let text = line.shown();
                // Of the days before it shows the day, as chat windows do.
                let at = line.at.split(' ').next().unwrap_or_default();
                let row = Row { at, from, room: line.room, seq, text: &text, marks };
                self.screen.message(&row)?;
                self.screen.pause(BEAT).await;
            } else {
                let (done, all) = (i as u64 + 1, lines.len() as u64);
                self.screen.progress("", from, done, all, "messages", false)?;
                self.screen.pause(BEAT / 12).await;
            }
        }
        if show == Show::Examples {
            let languages =
                lines.iter().filter_map(|line| line.lang.as_deref()).collect::<BTreeSet<_>>().len();
            let (all, more) = (lines.len(), lines.len() - seen.len());
            let said = format!(
                "and {more} more: {all} messages in {languages} languages; these were the first of each"
            );
            self.screen.aside(
                "...",
                "part",
                &said,
                json!({"part": name, "messages": all, "languages": languages}),
            )?;
        }
        Ok(sent)
    }

    /// The user has read everything, on this device.
    async fn catch_up(&self, role: Role) -> Result<(), Failure> {
        for room in Room::ALL {
            let head = self.head(room);
            if head > 0 {
                self.device(role)?.read(self.chat(room), head).await?;
            }
        }
        Ok(())
    }

    /// Messages above the read offset, as a device would show them in its badge.
    fn unread(&self, role: Role) -> Result<u64, Failure> {
        let memory = self.device(role)?.memory();
        let chats = Room::ALL.iter().map(|room| self.chat(*room));
        Ok(chats.map(|chat| memory.highest(chat).saturating_sub(memory.read(chat))).sum())
    }
}

/// For people: at least a tenth is shown of what is short.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
