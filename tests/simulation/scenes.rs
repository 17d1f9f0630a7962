//! What a drawn schedule meets too rarely: a few stories, each about one order of things, with its moments drawn from the seed.
//! Each is the world of the schedules, judged as they are; with the bug that it is for it must fail.

use std::time::Duration;

use keepstep::{
    config::Limits,
    domain::{device::DeviceKind, id::ChatId},
    simulation::{FaultProfile, Link, Manners, Port},
    sync::termination,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    device::{Device, Habits},
    history::What,
    life,
    planted::Bug,
    world::{Stage, World, user},
};

/// One story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// An opening is done when its caller has given up and the device is connected elsewhere.
    LateOpening,
    /// A renewal is done when its session is closed.
    LateRenewal,
    /// How far an end is is written when it is done.
    LateProgress,
    /// The store answers late, and then not any more.
    LateAnswers,
    /// An edge is away from the store for longer than its lease, and comes back.
    LongSilence,
    /// A device is ended whose session hears of nothing, and can't ask.
    UnheardEnd,
    /// A device is ended whose old connections freeze, and go on one after the other.
    FrozenConnections,
    /// People join while their devices are being registered.
    JoinsWhileRegistering,
    /// A message that the log hasn't got any more is with a consumer that has gone without a word.
    OnTheMove,
    /// Somebody speaks just when a queue is detached because nobody has.
    QuietChat,
    /// Somebody speaks just when a device connects that has everything.
    ComesToWords,
}

impl Scene {
    /// All of them.
    pub const ALL: &[Scene] = &[
        Scene::LateOpening,
        Scene::LateRenewal,
        Scene::LateProgress,
        Scene::LateAnswers,
        Scene::LongSilence,
        Scene::UnheardEnd,
        Scene::FrozenConnections,
        Scene::JoinsWhileRegistering,
        Scene::OnTheMove,
        Scene::QuietChat,
        Scene::ComesToWords,
    ];

    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Scene::LateOpening => "late opening",
            Scene::LateRenewal => "late renewal",
            Scene::LateProgress => "late progress",
            Scene::LateAnswers => "late answers",
            Scene::LongSilence => "long silence",
            Scene::UnheardEnd => "unheard end",
            Scene::FrozenConnections => "frozen connections",
            Scene::JoinsWhileRegistering => "joins while registering",
            Scene::OnTheMove => "on the move",
            Scene::QuietChat => "quiet chat",
            Scene::ComesToWords => "comes to words",
        }
    }

    /// The bug that it must fail with.
    pub fn bug(self) -> Bug {
        match self {
            Scene::LateOpening => Bug::LateOpen,
            Scene::LateRenewal => Bug::ClosedNumberLives,
            Scene::LateProgress => Bug::LastTerminationWins,
            Scene::LateAnswers => Bug::LeaseFromAnswer,
            Scene::LongSilence => Bug::OldIncarnationServes,
            Scene::UnheardEnd => Bug::DeleteBeforeStop,
            Scene::FrozenConnections => Bug::LastLookRemoves,
            Scene::JoinsWhileRegistering => Bug::RegisterLate,
            Scene::OnTheMove => Bug::GapAtFirstLook,
            Scene::QuietChat => Bug::DoorbellWhileDetaching,
            Scene::ComesToWords => Bug::DoorbellWhileConnecting,
        }
    }

    /// How much may be.
    pub fn limits(self) -> Limits {
        match self {
            Scene::OnTheMove => Limits { log_messages: 20, log_keep: 0, ..Limits::default() },
            _ => Limits::default(),
        }
    }

    /// How long the broker waits for a consumer.
    pub fn msg_timeout(self) -> Duration {
        Duration::from_secs(if self == Scene::OnTheMove { 30 } else { 5 })
    }

    /// Plays it in a world of three edges. Afterwards whoever wasn't ended lives on.
    pub async fn plays(self, world: &World) {
        let owner = user(0);
        let phone =
            life::is_registered(world, &owner, DeviceKind::Main, QUIET).await.expect("nothing is wrong yet");
        let group = life::creates(world, &owner, None).await;
        match self {
            Scene::LateOpening => late_opening(world, &phone).await,
            Scene::LateRenewal => late_renewal(world, &phone).await,
            Scene::LateProgress => late_progress(world, &phone).await,
            Scene::LateAnswers => late_answers(world, &phone).await,
            Scene::LongSilence => long_silence(world, &phone).await,
            Scene::UnheardEnd => unheard_end(world, &phone).await,
            Scene::FrozenConnections => frozen_connections(world, &phone).await,
            Scene::JoinsWhileRegistering => joins_while_registering(world).await,
            Scene::OnTheMove => on_the_move(world, phone.clone(), group).await,
            Scene::QuietChat => quiet_chat(world, &phone, group).await,
            Scene::ComesToWords => comes_to_words(world, &phone, group).await,
        }
        if !world.is_ended(phone.id) {
            tokio::spawn(phone.live());
        }
    }
}

/// After this time without a message a queue is detached.
pub const NSQ_IDLE: Duration = Duration::from_millis(500);

/// It takes what comes, and acknowledges it.
const QUIET: Habits =
    Habits { tick: 50, sends: 0, acks: 900, reads: 0, hangs_up: 0, dawdles: 0, lies: 0, page: 10 };

/// However late a call is done, it is by then (twice 30 s).
const LATEST: Duration = Duration::from_secs(61);

async fn late_opening(world: &World, phone: &Device) {
    set_late(world, 0, "open_session");
    // Its client is told to come back.
    phone.clone().connects(&world.edge(0)).await;
    world.edge(0).faults.set_link(Port::Store, Link::default());
    let (here, there) = (phone.clone(), world.edge(1));
    let mut serves = tokio::spawn(async move { here.connects(&there).await });
    if timeout(LATEST, &mut serves).await.is_ok() {
        world.violates("invariant 17: a socket was closed by an opening that was done late".to_owned());
    } else {
        hangs_up(world, phone, serves);
    }
}

async fn late_renewal(world: &World, phone: &Device) {
    let serves = is_connected(world, phone, 0).await;
    set_late(world, 0, "check_session");
    while world.shared().late() == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    world.edge(0).faults.set_link(Port::Store, Link::default());
    hangs_up(world, phone, serves);
    let is_online = async || {
        let row = world.store().device(&phone.user, phone.id).await.expect("the truth is always there");
        row.is_some_and(|row| row.online())
    };
    while is_online().await {
        sleep(Duration::from_millis(10)).await;
    }
    while world.shared().late() > 0 {
        sleep(Duration::from_millis(10)).await;
        if is_online().await {
            world.violates(format!("invariant 15: {} is online, and nobody is there", phone.id));
            return;
        }
    }
}

async fn late_progress(world: &World, phone: &Device) {
    (0..3).for_each(|place| set_late(world, place, "save_termination"));
    life::ends(world, &phone.user, phone.id).await;
    sleep(Duration::from_secs(3)).await;
    (0..3).for_each(|place| world.edge(place).faults.set_link(Port::Store, Link::default()));
    sleep(LATEST).await;
}

async fn late_answers(world: &World, phone: &Device) {
    let serves = is_connected(world, phone, 0).await;
    let faults = world.edge(0).faults;
    faults.set_link(Port::Store, Link { delay: 800_000..950_000, ..Link::default() });
    sleep(Duration::from_millis(6_000 + world.shared().below(3_000))).await;
    faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
    let _ = timeout(Duration::from_secs(15), serves).await;
    faults.set_link(Port::Store, Link::default());
}

async fn long_silence(world: &World, phone: &Device) {
    let serves = is_connected(world, phone, 0).await;
    let faults = world.edge(0).faults;
    faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
    // So long that others take it for dead, and release what it has.
    let silence = Duration::from_millis(8_000 + world.shared().below(4_000));
    let begun = tokio::time::Instant::now();
    let _ = timeout(silence, serves).await;
    tokio::time::sleep_until(begun + silence).await;
    faults.set_link(Port::Store, Link::default());
    sleep(Duration::from_secs(5)).await;
}

async fn unheard_end(world: &World, phone: &Device) {
    let serves = is_connected(world, phone, 0).await;
    sleep(Duration::from_millis(world.shared().below(2_500))).await;
    world.shared().set_profile(FaultProfile { lose_events: 1000, ..FaultProfile::default() });
    world.edge(0).faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
    life::ends(world, &phone.user, phone.id).await;
    let _ = timeout(Duration::from_secs(15), serves).await;
    world.edge(0).faults.set_link(Port::Store, Link::default());
    sleep(Duration::from_secs(5)).await;
}

async fn frozen_connections(world: &World, phone: &Device) {
    world.shared().set_profile(FaultProfile { ghosts: 1000, ..FaultProfile::default() });
    let mut connections = Vec::new();
    for place in [0, 1] {
        connections.push(is_connected(world, phone, place).await);
        sleep(Duration::from_millis(500)).await;
        world.edge(place).gate.freeze();
    }
    let open = life::begins_to_end(world, &phone.user, phone.id);
    let begun = termination::begin(&world.edge(2).core, &phone.user, phone.id, "user").await;
    life::is_ending(world, begun.expect("nothing is wrong here").id, phone.id, open);
    // The first look, when the lease of the second connection is over.
    while !world.broker().queues_of(phone.id).await.0.is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let below = |most| world.shared().below(most);
    sleep(Duration::from_millis(below(200))).await;
    world.edge(0).gate.thaw();
    sleep(Duration::from_millis(1000 + below(300))).await;
    world.edge(1).gate.thaw();
    for connection in connections {
        let _ = connection.await;
    }
    sleep(Duration::from_secs(10)).await;
}

async fn joins_while_registering(world: &World) {
    world.set_calm();
    // One edge is so far from the store that what it has read is old when it writes.
    world.edge(0).faults.set_link(Port::Store, Link { delay: 30_000..60_000, ..Link::default() });
    let group = life::creates(world, &user(1), None).await;
    for guest in [user(2), user(3)] {
        let below = |most| Duration::from_millis(world.shared().below(most));
        life::is_registered(world, &guest, DeviceKind::Main, QUIET).await.expect("nothing is wrong");
        for _ in 0..8 {
            // A registration first asks what it may, so its device is written up to a second later.
            let (one, other) = (below(1_200), below(100));
            let joining = async {
                sleep(one).await;
                life::joins(world, &guest, group).await;
            };
            let registering = async {
                sleep(other).await;
                life::is_registered(world, &guest, DeviceKind::Sub, QUIET).await.expect("nothing is wrong")
            };
            let ((), sub) = tokio::join!(joining, registering);
            life::leaves(world, &guest, group).await;
            life::ends(world, &guest, sub.id).await;
            sleep(Duration::from_millis(100)).await;
        }
    }
    world.devices().into_iter().filter(|device| !world.is_ended(device.id)).for_each(|device| {
        if device.user != user(0) {
            tokio::spawn(device.live());
        }
    });
}

async fn on_the_move(world: &World, mut phone: Device, group: ChatId) {
    let manners = Manners { half_open: 1000, half_open_for: world.msg_timeout(), ..world.shared().manners() };
    world.shared().set_manners(manners);
    let acks = std::mem::replace(&mut phone.habits.acks, 0);
    let connection = is_connected(world, &phone, 0).await;
    life::bot_sends(world, &user(0), group, 0).await;
    while phone.status.lock().unwrap().chats.get(&group).is_none_or(|chat| chat.last == 0) {
        sleep(Duration::from_millis(1)).await;
    }
    world.edge(0).faults.lose_lines();
    hangs_up(world, &phone, connection);
    for _ in 0..80 {
        life::bot_sends(world, &user(0), group, 0).await;
    }
    // The log is cut once in a second.
    sleep(Duration::from_millis(1500)).await;
    phone.habits.acks = acks;
    let connection = is_connected(world, &phone, 1).await;
    while phone.status.lock().unwrap().chats.get(&group).is_none_or(|chat| chat.acked == 0) {
        sleep(Duration::from_millis(10)).await;
    }
    hangs_up(world, &phone, connection);
}

/// With nothing wrong a message is there within milliseconds; the looks that would find it later take seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn quiet_chat(world: &World, phone: &Device, group: ChatId) {
    let idle = u64::try_from(NSQ_IDLE.as_micros()).expect("it is short");
    let connection = is_connected(world, phone, 0).await;
    for _ in 0..60 {
        life::bot_sends(world, &user(0), group, 0).await;
        hears_at_once(world, phone, group).await;
        // Around the moment at which the queue has been quiet for long enough.
        sleep(Duration::from_micros(idle - 5_000 + world.shared().below(7_000))).await;
    }
    hangs_up(world, phone, connection);
}

async fn comes_to_words(world: &World, phone: &Device, group: ChatId) {
    for _ in 0..40 {
        let (here, edge) = (phone.clone(), world.edge(0));
        let connection = tokio::spawn(async move { here.connects(&edge).await });
        sleep(Duration::from_micros(world.shared().below(10_000))).await;
        life::bot_sends(world, &user(0), group, 0).await;
        while live(phone).is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        hears_at_once(world, phone, group).await;
        // Everything is acknowledged, so that the next connection finds nothing to attach for.
        while world.head(group).await > phone.status.lock().unwrap().chats[&group].acked {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(20)).await;
        hangs_up(world, phone, connection);
        sleep(Duration::from_secs(7)).await;
    }
}

/// The device has everything of the chat.
async fn hears_at_once(world: &World, device: &Device, chat: ChatId) {
    let (head, begun) = (world.head(chat).await, world.shared().now());
    while device.status.lock().unwrap().chats.get(&chat).is_none_or(|chat| chat.last < head) {
        sleep(Duration::from_millis(1)).await;
    }
    let took = Duration::from_micros(world.shared().now() - begun);
    if took > AT_ONCE {
        world.violates(format!("invariant 21: message {head} took {took:?}, and nothing was wrong"));
    }
}

/// The device is welcomed by the edge of a place; the connection, which ends with its task.
async fn is_connected(world: &World, device: &Device, place: usize) -> JoinHandle<()> {
    let (here, edge) = (device.clone(), world.edge(place));
    let before = live(device);
    let connection = tokio::spawn(async move { here.connects(&edge).await });
    while live(device).is_none() || live(device) == before {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(world.stage() == Stage::Life);
    connection
}

fn live(device: &Device) -> Option<crate::history::Socket> {
    device.status.lock().unwrap().live
}

/// Its process ends: the connection is closed without a word.
fn hangs_up(world: &World, device: &Device, connection: JoinHandle<()>) {
    connection.abort();
    let Some(socket) = device.status.lock().unwrap().live.take() else { return };
    world.saw(What::Closed { device: device.id.to_string(), socket, code: None });
}

fn set_late(world: &World, place: usize, name: &'static str) {
    world.edge(place).faults.set_link(Port::Store, Link { late: 1000, late_name: name, ..Link::default() });
}
