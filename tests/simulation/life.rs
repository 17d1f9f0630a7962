//! What people do beside their sockets: come and go, register and end devices, send as bots. Each call is tried again
//! until it is answered, as good clients do.

use std::{sync::Arc, time::Duration};

use keepstep::{
    domain::{
        chat::ChatKind,
        device::DeviceKind,
        id::{ChatId, DeviceId, UserId},
        termination::TerminationState,
    },
    protocol::{ErrorCode, Send},
    sync::{membership, registration, send, termination},
};
use tokio::time::sleep;

use crate::{
    device::{Device, Habits},
    history::What,
    world::{Stage, World, text},
};

/// Makes a chat of `user`, public or with somebody.
pub async fn creates(world: &World, user: &UserId, with: Option<&UserId>) -> ChatId {
    let id: ChatId = world.uuid().to_string().parse().expect("an id");
    let members = [Some(user), with];
    for member in members.into_iter().flatten() {
        world.saw(What::Joining { user: member.to_string(), chat: text(id) });
    }
    let wish = membership::Wish {
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
    made.unwrap_or_else(|problem| panic!("a chat can't be made: {problem}"));
    for member in members.into_iter().flatten() {
        world.saw(What::Joined { user: member.to_string(), chat: text(id) });
    }
    id
}

/// The user joins a public group.
pub async fn joins(world: &World, user: &UserId, chat: ChatId) {
    let _open = world.opens(format!("{user} joins {chat}"));
    world.saw(What::Joining { user: user.to_string(), chat: text(chat) });
    let joined = world
        .insists(|core| {
            let user = user.clone();
            async move { membership::join(&core, &user, membership::Which::Id(chat), None).await }
        })
        .await;
    joined.unwrap_or_else(|problem| panic!("{user} can't join: {problem}"));
    world.saw(What::Joined { user: user.to_string(), chat: text(chat) });
}

/// The user leaves it.
pub async fn leaves(world: &World, user: &UserId, chat: ChatId) {
    let _open = world.opens(format!("{user} leaves {chat}"));
    world.saw(What::Leaving { user: user.to_string(), chat: text(chat) });
    let left = world
        .insists(|core| {
            let user = user.clone();
            async move { membership::leave(&core, &user, chat).await }
        })
        .await;
    match left {
        // A try whose outcome wasn't known had done it.
        Err(problem) if problem.code != ErrorCode::NotFound => panic!("{user} can't leave: {problem}"),
        _ => {}
    }
    world.saw(What::Left { user: user.to_string(), chat: text(chat) });
}

/// Registers a device and lets it live. None: the user has as many as they may.
pub async fn registers(world: &World, user: &UserId, kind: DeviceKind, habits: Habits) -> Option<Device> {
    let id: DeviceId = world.uuid().to_string().parse().expect("an id");
    let _open = world.opens(format!("{user} registers {id}"));
    let main = kind == DeviceKind::Main;
    world.saw(What::Registering { user: user.to_string(), device: id.to_string(), main });
    let wish = registration::Wish {
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
            async move { registration::register(&core, &user, wish).await.map(|_| ()) }
        })
        .await;
    match registered {
        Ok(()) => {}
        Err(problem) if problem.code == ErrorCode::LimitReached => return None,
        Err(problem) => panic!("{user} can't register a device: {problem}"),
    }
    world.saw(What::Registered { device: id.to_string() });
    let device = Device::new(world, user.clone(), id, kind, habits);
    world.adds(device.clone());
    tokio::spawn(device.clone().live());
    Some(device)
}

/// Ends a device, and waits for nothing but the answer; that it is done is watched in the background.
pub async fn ends(world: &World, user: &UserId, device: DeviceId) {
    let open = world.opens(format!("{user} ends {device}"));
    world.saw(What::Ending { device: device.to_string() });
    let begun = world
        .insists(|core| {
            let user = user.clone();
            async move { termination::begin(&core, &user, device, "user").await }
        })
        .await;
    let begun = begun.unwrap_or_else(|problem| panic!("{device} can't be ended: {problem}"));
    world.saw(What::Accepted { device: device.to_string() });
    world.ended(device);
    let world = world.clone();
    tokio::spawn(async move {
        loop {
            let now = world.store().termination(begun.id).await.expect("the truth is always there");
            if now.is_none_or(|termination| termination.state == TerminationState::Done) {
                world.saw(What::Done { device: device.to_string() });
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        drop(open);
        // Nothing of it comes back.
        while world.stage() != Stage::Over {
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

/// A bot sends over HTTP until it is answered.
pub async fn bot_sends(world: &World, user: &UserId, chat: ChatId) {
    let _open = world.opens(format!("a bot of {user} sends"));
    let key = world.uuid().to_string();
    let frame =
        serde_json::json!({ "key": key, "kind": "text", "content": format!("said {key}") }).to_string();
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
        Ok((seq, _)) => world.saw(What::Sent { chat: text(chat), key, seq }),
        Err(problem) => {
            world.saw(What::Refused { chat: text(chat), key, code: problem.code.as_str().to_owned() })
        }
    }
}
