//! What people do beside their sockets: come and go, invite and remove, register and end devices, send as bots. Each call is
//! tried again until it is answered, as good clients do, or given up, as others do.

use std::{sync::Arc, time::Duration};

use keepstep::{
    domain::{
        chat::ChatKind,
        device::DeviceKind,
        id::{ChatId, DeviceId, TerminationId, UserId},
        termination::TerminationState,
    },
    protocol::{ErrorCode, Problem, Send},
    sync::{membership, registration, send, termination},
};
use tokio::time::sleep;

use crate::{
    device::{Device, Habits},
    history::What,
    leases,
    unkind::{Unkind, may},
    world::{Open, Stage, World, text, user},
};

/// The broker of some runs takes no larger messages, and bots send some that are.
pub const LARGE: usize = 1500;

/// Who there is at the beginning.
pub struct People {
    pub group: ChatId,
    pub subs: Vec<Device>,
    /// Whether one is brought into the group and sent out of it, who asks for nothing.
    pub invited: bool,
}

/// How a device behaves.
pub fn habits(world: &World, busy: bool) -> Habits {
    let below = |most| world.shared().below(most);
    let once = |of: u64, most: u64| if below(of) == 0 { below(most) as u32 } else { 0 };
    Habits {
        tick: 10 + below(80),
        sends: if busy { 50 + below(400) as u32 } else { below(60) as u32 },
        acks: 100 + below(900) as u32,
        reads: below(200) as u32,
        hangs_up: once(2, 30),
        dawdles: once(4, 100),
        lies: once(4, 500),
        page: 1 + below(12),
    }
}

/// Two people with a phone each, perhaps the web; a chat of theirs, a group, perhaps forty; a third who comes and goes, perhaps
/// a fourth who is brought and sent.
pub async fn begins(world: &World) -> People {
    let below = |most| world.shared().below(most);
    let mut subs = Vec::new();
    let invited = may(Unkind::Invitations) && below(2) == 0;
    for n in 0..if invited { 4 } else { 3 } {
        registers(world, &user(n), DeviceKind::Main, habits(world, n < 2)).await;
    }
    creates(world, &user(0), Some(&user(1))).await;
    let group = creates(world, &user(0), None).await;
    joins(world, &user(1), group).await;
    if may(Unkind::ManyChats) && below(10) == 0 {
        for _ in 0..38 {
            let chat = creates(world, &user(0), None).await;
            joins(world, &user(1), chat).await;
        }
    }
    if below(2) == 0 {
        subs.extend(registers(world, &user(0), DeviceKind::Sub, habits(world, false)).await);
    }
    People { group, subs, invited }
}

/// Forty people with six devices each, in one group, who say little.
pub async fn begins_crowded(world: &World) -> People {
    let group = creates(world, &user(0), None).await;
    let quiet =
        Habits { tick: 1000, sends: 1, acks: 900, reads: 2, hangs_up: 0, dawdles: 0, lies: 0, page: 50 };
    for n in 0..40 {
        if n > 0 {
            joins(world, &user(n), group).await;
        }
        for kind in [DeviceKind::Main].into_iter().chain([DeviceKind::Sub; 5]) {
            registers(world, &user(n), kind, quiet.clone()).await;
        }
    }
    // A sub has nothing to do before its main is there.
    sleep(Duration::from_secs(10)).await;
    People { group, subs: Vec::new(), invited: false }
}

/// Makes a chat of `user`, public or with somebody.
pub async fn creates(world: &World, user: &UserId, with: Option<&UserId>) -> ChatId {
    let id: ChatId = world.uuid().to_string().parse().expect("an id");
    let members = [Some(user), with];
    for member in members.into_iter().flatten() {
        world.saw(What::Joining { user: member.to_string(), chat: text(id) });
    }
    let wish = membership::CreateChat {
        id: Some(id),
        kind: if with.is_some() { ChatKind::Direct } else { ChatKind::Group },
        name: with.is_none().then(|| format!("group {}", world.number())),
        password: None,
        public: with.is_none(),
        with: with.cloned(),
    };
    let made = world
        .insists(|core| {
            let (user, wish) = (user.clone(), wish.clone());
            async move { membership::create(&core, &user, wish).await }
        })
        .await;
    made.map(|made| made.unwrap_or_else(|problem| panic!("a chat can't be made: {problem}")));
    for member in members.into_iter().flatten() {
        world.saw(What::Joined { user: member.to_string(), chat: text(id) });
        world.is_member_from_now(member, id);
    }
    id
}

/// The user joins a public group.
pub async fn joins(world: &World, user: &UserId, chat: ChatId) {
    let open = world.opens(format!("{user} joins {chat}"));
    world.saw(What::Joining { user: user.to_string(), chat: text(chat) });
    let joined = world
        .insists(|core| {
            let user = user.clone();
            async move { membership::join(&core, &user, membership::ChatRef::Id(chat), None).await.map(drop) }
        })
        .await;
    has_come(world, user, chat, joined, open).await;
}

/// The owner of a group invites somebody.
pub async fn invites(world: &World, owner: &UserId, chat: ChatId, whom: &UserId) {
    let open = world.opens(format!("{owner} invites {whom} to {chat}"));
    world.saw(What::Joining { user: whom.to_string(), chat: text(chat) });
    let joined = world
        .insists(|core| {
            let (owner, whom) = (owner.clone(), whom.clone());
            async move { membership::invite(&core, &owner, chat, &whom).await.map(drop) }
        })
        .await;
    has_come(world, whom, chat, joined, open).await;
}

async fn has_come(
    world: &World,
    user: &UserId,
    chat: ChatId,
    joined: Option<Result<(), Problem>>,
    _open: Open,
) {
    match joined {
        None => return world.perhaps_member(user, chat),
        Some(Err(problem)) => panic!("{user} can't come into {chat}: {problem}"),
        Some(Ok(())) => world.saw(What::Joined { user: user.to_string(), chat: text(chat) }),
    }
    world.is_member_from_now(user, chat);
    if world.is_calm() {
        world.owes(user).await;
    }
}

/// The user leaves it.
pub async fn leaves(world: &World, user: &UserId, chat: ChatId) {
    let open = world.opens(format!("{user} leaves {chat}"));
    world.is_leaving(user, chat);
    world.saw(What::Leaving { user: user.to_string(), chat: text(chat) });
    let left = world
        .insists(|core| {
            let user = user.clone();
            async move { membership::leave(&core, &user, chat).await }
        })
        .await;
    has_left(world, user, chat, left, open).await;
}

/// The owner of a group removes somebody.
pub async fn removes(world: &World, owner: &UserId, chat: ChatId, whom: &UserId) {
    let open = world.opens(format!("{owner} removes {whom} from {chat}"));
    world.is_leaving(whom, chat);
    world.saw(What::Leaving { user: whom.to_string(), chat: text(chat) });
    let left = world
        .insists(|core| {
            let (owner, whom) = (owner.clone(), whom.clone());
            async move { membership::remove(&core, &owner, chat, &whom).await }
        })
        .await;
    has_left(world, whom, chat, left, open).await;
}

async fn has_left(
    world: &World,
    user: &UserId,
    chat: ChatId,
    left: Option<Result<(), Problem>>,
    _open: Open,
) {
    match left {
        None => return world.perhaps_member(user, chat),
        // A try whose outcome wasn't known had done it.
        Some(Err(problem)) if problem.code != ErrorCode::NotFound => panic!("{user} can't leave: {problem}"),
        Some(_) => {}
    }
    let head = Some(world.head(chat).await);
    world.saw(What::Left { user: user.to_string(), chat: text(chat), head });
}

/// Registers a device and lets it live. None: the user has as many as they may, or has given up.
pub async fn registers(world: &World, user: &UserId, kind: DeviceKind, habits: Habits) -> Option<Device> {
    let device = is_registered(world, user, kind, habits).await?;
    tokio::spawn(device.clone().live());
    Some(device)
}

/// Registers a device that doesn't connect by itself.
pub async fn is_registered(world: &World, user: &UserId, kind: DeviceKind, habits: Habits) -> Option<Device> {
    let id: DeviceId = world.uuid().to_string().parse().expect("an id");
    let _open = world.opens(format!("{user} registers {id}"));
    let main = kind == DeviceKind::Main;
    world.saw(What::Registering { user: user.to_string(), device: id.to_string(), main });
    let wish = registration::RegisterDevice {
        id: Some(id),
        kind,
        name: "device".to_owned(),
        platform: "simulated".to_owned(),
        replace: false,
        history: None,
    };
    let registered = world
        .insists(|core| {
            let (user, wish) = (user.clone(), wish.clone());
            async move { registration::register(&core, &user, wish).await.map(|(_, claims, _)| claims) }
        })
        .await;
    let claims = match registered {
        None => return None,
        Some(Ok(claims)) => claims,
        Some(Err(problem)) if problem.code == ErrorCode::LimitReached => return None,
        // The store's clock says that it never came to its end in a day.
        Some(Err(problem)) if problem.code == ErrorCode::Conflict && world.has_jumped() => return None,
        Some(Err(problem)) => panic!("{user} can't register a device: {problem}"),
    };
    world.saw(What::Registered { device: id.to_string() });
    let device = Device::new(world, claims, habits);
    world.adds(device.clone());
    if world.is_calm() {
        world.owes(user).await;
    }
    Some(device)
}

/// Ends a device, and waits for nothing but the answer; that it is done is watched in the background.
pub async fn ends(world: &World, user: &UserId, device: DeviceId) {
    let open = begins_to_end(world, user, device);
    let begun = world
        .insists(|core| {
            let user = user.clone();
            async move { termination::begin(&core, &user, device, "user").await }
        })
        .await;
    let Some(begun) = begun else { return world.perhaps_ended(device) };
    let begun = begun.unwrap_or_else(|problem| panic!("{device} can't be ended: {problem}"));
    is_ending(world, begun.id, device, open);
}

/// Somebody asks for the end of a device.
pub fn begins_to_end(world: &World, user: &UserId, device: DeviceId) -> Open {
    world.is_being_ended(device);
    world.saw(What::Ending { device: device.to_string() });
    world.opens(format!("{user} ends {device}"))
}

/// The end of a device was accepted: it is watched until it is done, and that it stays so.
pub fn is_ending(world: &World, end: TerminationId, device: DeviceId, open: Open) {
    world.saw(What::Accepted { device: device.to_string() });
    world.ended(device);
    let world = world.clone();
    tokio::spawn(async move {
        let mut newest = None;
        while !is_done(&world, end).await {
            newest = leases::newest(&world, device).await.or(newest);
            sleep(Duration::from_millis(20)).await;
        }
        world.saw(What::Done { device: device.to_string() });
        if let Some(why) = leases::outlived(&world, device, newest).await {
            world.violates(why);
        }
        drop(open);
        // Nothing of it comes back.
        let mut stands = true;
        while world.stage() != Stage::Over {
            if stands && !is_done(&world, end).await {
                stands = false;
                world.violates(format!("invariant 12: the end of {device} was done, and isn't any more"));
            }
            for queue in world.broker().queues_of(device).await.0 {
                world.saw(What::Queue {
                    node: queue.node,
                    chat: text(queue.chat),
                    device: device.to_string(),
                });
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
}

async fn is_done(world: &World, end: TerminationId) -> bool {
    let now = world.store().termination(end).await.expect("the truth is always there");
    now.is_none_or(|termination| termination.state == TerminationState::Done)
}

/// A bot sends over HTTP until it is answered; with so much content.
pub async fn bot_sends(world: &World, user: &UserId, chat: ChatId, length: usize) {
    let _open = world.opens(format!("a bot of {user} sends"));
    let key = world.uuid().to_string();
    let content = format!("said {key} {}", "x".repeat(length));
    let frame = serde_json::json!({ "key": key, "kind": "text", "content": content }).to_string();
    let sent = world
        .insists(|core: Arc<keepstep::sync::Core>| {
            world.saw(What::Sending {
                user: user.to_string(),
                device: None,
                chat: text(chat),
                key: key.clone(),
            });
            let (user, frame) = (user.clone(), frame.clone());
            async move {
                let message: Send = serde_json::from_str(&frame).expect("a good frame");
                let sender = send::Sender { user: &user, device: None };
                send::send(&core, sender, chat, &message).await
            }
        })
        .await;
    match sent {
        None => {}
        Some(Ok((seq, _))) => world.saw(What::Sent { chat: text(chat), key, seq }),
        Some(Err(problem)) => {
            world.saw(What::Refused { chat: text(chat), key, code: problem.code.as_str().to_owned() })
        }
    }
}
