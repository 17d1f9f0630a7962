//! Several edges over one store and one broker, and who writes down what happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keepstep::{
    broker::{Broker, embedded::EmbeddedBroker},
    config::{Limits, Timing},
    domain::id::{ChatId, DeviceId, UserId},
    drain::Drain,
    metrics::Metrics,
    protocol::{ErrorCode, Problem},
    session::{self, Connection, Wire},
    simulation::{Faults, Gate, Shared, Watched, broker::FaultyBroker, store::FaultyStore},
    store::{Store, StoreLimits, embedded::EmbeddedStore},
    sync::Core,
    tokens::DeviceClaims,
};
use tokio::{io::DuplexStream, sync::oneshot, time::Instant};

use crate::{
    device::Device,
    history::{Event, What},
    unkind::{Unkind, may},
};

mod whereabouts;

/// One edge that runs, or ran.
#[derive(Clone)]
pub struct Edge {
    /// Its number among those of the run; one that is started anew takes the place of the one that died.
    pub place: usize,
    pub core: Arc<Core>,
    pub faults: Faults,
    pub gate: Gate,
}

impl Edge {
    /// Whether it takes new connections.
    pub fn is_ready(&self) -> bool {
        !self.gate.is_dead() && !self.core.drain.has_begun()
    }
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything happens.
    Life,
    /// Nothing new; everyone comes back and gets what is theirs.
    Settling,
    /// Everyone goes.
    Over,
}

/// Everything of one run. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    pub shared: Arc<Shared>,
    store: EmbeddedStore,
    broker: EmbeddedBroker,
    msg_timeout: Duration,
    limits: Limits,
    timing: Timing,
    edges: Mutex<Vec<Edge>>,
    events: Mutex<Vec<Event>>,
    ids: Mutex<Ids>,
    stage: Watched<Stage>,
    // Calls and devices whose story isn't told to its end.
    open: Mutex<BTreeMap<u64, String>>,
    devices: Mutex<Vec<Device>>,
    // An edge that everyone keeps away from, and until when all are silent.
    partitioned: Mutex<Option<(usize, Instant)>>,
    // Whether the store's clock has jumped.
    jumped: AtomicBool,
    // Whether nothing is wrong but what clients do.
    calm: AtomicBool,
    // What is wrong whatever the history says.
    violations: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Ids {
    last: u64,
    ended: BTreeSet<DeviceId>,
    // Whose callers gave up on them: they may have been ended, people may be in chats or not.
    perhaps_ended: BTreeSet<DeviceId>,
    perhaps_members: BTreeSet<(UserId, ChatId)>,
    // Who was told that they are in a chat, and hasn't begun to leave it.
    members: BTreeSet<(UserId, ChatId)>,
    // Whose end was asked for.
    ending: BTreeSet<DeviceId>,
}

impl World {
    /// `edges` of them, on good links, in quiet profile. What a consumer doesn't settle for `msg_timeout` the broker gives to
    /// somebody else.
    pub fn new(
        shared: Arc<Shared>,
        edges: usize,
        limits: Limits,
        timing: Timing,
        msg_timeout: Duration,
    ) -> Self {
        // Whoever leaves may be brought back at once, and everybody be in any chat.
        let limits = Limits {
            invited_per_hour: u32::MAX,
            devices_per_hour: u32::MAX,
            devices_per_day: u32::MAX,
            ..limits
        };
        let timing = Timing { reinvite_after: Duration::ZERO, ..timing };
        let world = Self(Arc::new(Inner {
            shared,
            store: EmbeddedStore::new(StoreLimits::new(&limits, &timing)),
            broker: EmbeddedBroker::with_msg_timeout(msg_timeout),
            msg_timeout,
            limits,
            timing,
            edges: Mutex::default(),
            events: Mutex::default(),
            ids: Mutex::default(),
            stage: Watched::new(Stage::Life),
            open: Mutex::default(),
            devices: Mutex::default(),
            partitioned: Mutex::default(),
            jumped: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            violations: Mutex::default(),
        }));
        for place in 0..edges {
            let edge = world.start_edge(place);
            world.edges().push(edge);
        }
        world
    }

    fn start_edge(&self, place: usize) -> Edge {
        let drain = Drain::default();
        let gate = drain.gate.clone();
        let faults = Faults::new(self.0.shared.clone(), gate.clone());
        let store = Store::Faulty(FaultyStore::new(self.0.store.another(), faults.clone()));
        let broker = Broker::Faulty(FaultyBroker::new(self.0.broker.clone(), faults.clone()));
        let name = format!("e-{}", self.number());
        let (limits, timing) = (self.0.limits.clone(), self.0.timing.clone());
        let metrics = Metrics::new().expect("good names, each used once");
        let core = Core::start(store, broker, metrics, drain, limits, timing, name);
        Edge { place, core, faults, gate }
    }

    /// Starts the edge of this place anew, if it is dead.
    pub fn restart(&self, place: usize) {
        if self.edge(place).gate.is_dead() {
            let edge = self.start_edge(place);
            self.edges()[place] = edge;
        }
    }

    /// The edge of this place.
    pub fn edge(&self, place: usize) -> Edge {
        let edges = self.edges();
        edges[place % edges.len()].clone()
    }

    pub fn edges(&self) -> MutexGuard<'_, Vec<Edge>> {
        self.0.edges.lock().unwrap()
    }

    /// An edge that lives, and that people go to, if there is any.
    pub fn some_edge(&self) -> Option<Edge> {
        let edges = self.edges();
        let living: Vec<_> =
            edges.iter().filter(|edge| edge.is_ready() && !self.is_partitioned(edge.place)).collect();
        let at = self.0.shared.below(living.len() as u64) as usize;
        living.get(at).map(|edge| (*edge).clone())
    }

    /// Everyone turns away from the edge of a place, and nobody says anything for so long.
    pub fn partition(&self, place: usize, silence: Duration) {
        *self.0.partitioned.lock().unwrap() = Some((place, Instant::now() + silence));
    }

    /// People go to every edge again.
    pub fn heal_partitions(&self) {
        *self.0.partitioned.lock().unwrap() = None;
    }

    /// Whether people keep away from the edge of this place.
    pub fn is_partitioned(&self, place: usize) -> bool {
        self.0.partitioned.lock().unwrap().is_some_and(|(partitioned, _)| partitioned == place)
    }

    /// Whether nobody says anything.
    pub fn is_silent(&self) -> bool {
        self.0.partitioned.lock().unwrap().is_some_and(|(_, until)| Instant::now() < until)
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The truth, past all faults.
    pub fn store(&self) -> &EmbeddedStore {
        &self.0.store
    }

    /// The queues, past all faults.
    pub fn broker(&self) -> &EmbeddedBroker {
        &self.0.broker
    }

    /// The store's clock jumps by so many milliseconds.
    pub fn jump_store(&self, by: i64) {
        self.0.jumped.store(true, Ordering::Relaxed);
        keepstep::simulation::seed::jump_store(by);
    }

    /// Whether it ever did.
    pub fn has_jumped(&self) -> bool {
        self.0.jumped.load(Ordering::Relaxed)
    }

    /// Nothing goes wrong but what clients do, so whatever is answered is done to its end.
    pub fn set_calm(&self) {
        self.0.calm.store(true, Ordering::Relaxed);
    }

    /// See [`World::set_calm`].
    pub fn is_calm(&self) -> bool {
        self.0.calm.load(Ordering::Relaxed)
    }

    /// How long the broker waits for a consumer that has gone without a word.
    pub fn msg_timeout(&self) -> Duration {
        self.0.msg_timeout
    }

    pub fn tail_check(&self) -> Duration {
        self.0.timing.tail_check
    }

    pub fn stage(&self) -> Stage {
        self.0.stage.get()
    }

    pub fn set_stage(&self, stage: Stage) {
        self.0.stage.change(|now| *now = stage);
    }

    /// Waits for another one than this.
    pub async fn after(&self, stage: Stage) -> Stage {
        self.0.stage.until(|now| *now != stage).await
    }

    /// Writes down.
    pub fn saw(&self, what: What) {
        let at = self.0.shared.now();
        self.0.events.lock().unwrap().push(Event { at, what });
    }

    /// What was written down.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.events.lock().unwrap())
    }

    /// Something is wrong whatever the history says.
    pub fn violates(&self, what: String) {
        self.0.violations.lock().unwrap().push(what);
    }

    /// All of that.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.violations.lock().unwrap())
    }

    /// A number that wasn't used before.
    pub fn number(&self) -> u64 {
        let mut ids = self.0.ids.lock().unwrap();
        ids.last += 1;
        ids.last
    }

    /// A UUID that wasn't used before.
    pub fn uuid(&self) -> uuid::Uuid {
        keepstep::rng::uuid()
    }

    /// Something has begun that must come to an end before the run does.
    pub fn opens(&self, what: String) -> Open {
        let id = self.number();
        self.0.open.lock().unwrap().insert(id, what);
        Open { world: self.clone(), id }
    }

    /// What isn't at its end.
    pub fn open(&self) -> Vec<String> {
        self.0.open.lock().unwrap().values().cloned().collect()
    }

    pub fn adds(&self, device: Device) {
        self.0.devices.lock().unwrap().push(device);
    }

    /// All devices that were ever registered.
    pub fn devices(&self) -> Vec<Device> {
        self.0.devices.lock().unwrap().clone()
    }

    /// All who may have devices.
    pub fn users(&self) -> BTreeSet<UserId> {
        let devices = self.0.devices.lock().unwrap();
        devices.iter().map(|device| device.user.clone()).chain((0..USERS).map(user)).collect()
    }

    /// Devices know the world, and edges what they stand on: without this neither would ever be freed.
    pub fn falls_apart(&self) {
        self.0.devices.lock().unwrap().clear();
        self.edges().clear();
    }

    pub fn ended(&self, device: DeviceId) {
        self.0.ids.lock().unwrap().ended.insert(device);
    }

    pub fn is_ended(&self, device: DeviceId) -> bool {
        self.0.ids.lock().unwrap().ended.contains(&device)
    }

    /// Whoever ended it has given up: perhaps it is, or will be.
    pub fn perhaps_ended(&self, device: DeviceId) {
        self.0.ids.lock().unwrap().perhaps_ended.insert(device);
    }

    /// Those of which nobody was told whether they ended.
    pub fn all_perhaps_ended(&self) -> BTreeSet<DeviceId> {
        self.0.ids.lock().unwrap().perhaps_ended.clone()
    }

    /// Somebody has begun to end it.
    pub fn is_being_ended(&self, device: DeviceId) {
        self.0.ids.lock().unwrap().ending.insert(device);
    }

    /// A user was told that they are in a chat.
    pub fn is_member_from_now(&self, user: &UserId, chat: ChatId) {
        self.0.ids.lock().unwrap().members.insert((user.clone(), chat));
    }

    /// Somebody has begun to bring a user out of a chat.
    pub fn is_leaving(&self, user: &UserId, chat: ChatId) {
        self.0.ids.lock().unwrap().members.remove(&(user.clone(), chat));
    }

    /// Where a user was told to be, and which of their devices were told to be registered, has a position each.
    pub async fn owes(&self, user: &UserId) {
        let (chats, ending): (Vec<ChatId>, _) = {
            let ids = self.0.ids.lock().unwrap();
            let of_user = ids.members.iter().filter(|(member, _)| member == user);
            (of_user.map(|(_, chat)| *chat).collect(), ids.ending.clone())
        };
        let devices = self.devices();
        for device in devices.iter().filter(|device| device.user == *user && !ending.contains(&device.id)) {
            for chat in &chats {
                if self.0.store.position(*chat, device.id).await.expect("the truth is always there").is_none()
                {
                    let now = self.0.shared.now() as f64 / 1000.0;
                    self.violates(format!(
                        "invariant 20 at {now:.3} ms: {user} is in {chat} and has {}, both answered, and it is owed nothing \
                         there",
                        device.id
                    ));
                }
            }
        }
    }

    /// Whoever brought or sent a user into or out of a chat has given up.
    pub fn perhaps_member(&self, user: &UserId, chat: ChatId) {
        self.0.ids.lock().unwrap().perhaps_members.insert((user.clone(), chat));
    }

    /// Whether nobody was told whether the user is in the chat.
    pub fn is_perhaps_member(&self, user: &UserId, chat: ChatId) -> bool {
        self.0.ids.lock().unwrap().perhaps_members.contains(&(user.clone(), chat))
    }

    /// The truth about a member.
    pub async fn is_member(&self, user: &UserId, chat: ChatId) -> bool {
        self.0.store.chat_of_member(chat, user).await.expect("the truth is always there").is_some()
    }

    /// How many messages a chat has.
    pub async fn head(&self, chat: ChatId) -> u64 {
        self.0.store.heads(&[chat]).await.expect("the truth is always there")[0].head
    }

    /// One HTTP call to some edge. None: no edge, or it died before it answered.
    pub async fn call<T, F>(&self, work: impl FnOnce(Arc<Core>) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let edge = self.some_edge()?;
        let (answer, answered) = oneshot::channel();
        let work = work(edge.core.clone());
        edge.core.drain.spawn(async move {
            let _ = answer.send(work.await);
        });
        answered.await.ok()
    }

    /// The same, tried again until there is an answer that isn't `unavailable`, as good clients do. None: this one has given
    /// up, and whatever it asked for happened or not, or happens yet.
    pub async fn insists<T, F>(&self, work: impl Fn(Arc<Core>) -> F) -> Option<Result<T, Problem>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let patient = !may(Unkind::GivesUp) || self.stage() != Stage::Life || !self.0.shared.per_mille(400);
        let begun = Instant::now();
        loop {
            match self.call(&work).await {
                Some(Ok(done)) => return Some(Ok(done)),
                Some(Err(problem)) if problem.code != ErrorCode::Unavailable => return Some(Err(problem)),
                refused if begun.elapsed() > ENDLESS => {
                    let why =
                        refused.and_then(Result::err).map_or(String::new(), |problem| problem.to_string());
                    let since = begun.elapsed().as_secs();
                    let lost = format!("invariant 16: a call isn't answered for {since} s: {why}");
                    self.violates(lost);
                    return None;
                }
                _ if !patient => {
                    self.0.shared.record("callers who gave up", 1);
                    return None;
                }
                _ => tokio::time::sleep(Duration::from_millis(20 + self.0.shared.below(300))).await,
            }
        }
    }

    /// A socket to an edge; the client's end.
    pub fn dial(&self, edge: &Edge, claims: DeviceClaims) -> DuplexStream {
        let (client, server) = tokio::io::duplex(16 << 10);
        let core = edge.core.clone();
        let most = core.limits.history_frame_bytes;
        edge.core.drain.spawn(async move {
            let connection = Connection::new(Wire::from(server), Bytes::new(), most).await;
            if let Some(open) = session::open(core, connection, claims).await {
                open.serve().await;
            }
        });
        client
    }
}

/// See [`World::opens`].
pub struct Open {
    world: World,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.world.0.open.lock().unwrap().remove(&self.id);
    }
}

/// However much goes wrong, and however long it takes until it is well again: a call that is repeated for so long is lost.
const ENDLESS: Duration = Duration::from_secs(90);

/// So many users there are at most, but in crowds.
pub const USERS: u64 = 4;

/// The name of a user, by number.
pub fn user(n: u64) -> UserId {
    format!("u{n}").parse().expect("a good name")
}

/// As it stands in the history.
pub fn text(chat: ChatId) -> String {
    chat.to_string()
}
