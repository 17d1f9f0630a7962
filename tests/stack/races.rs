//! Methods of several steps, from two edges at once. One edge's Redis is far away (each request takes some
//! milliseconds), so that the other's steps fall in every possible place between its own.

use std::time::Duration;

use keepstep::{
    domain::{
        chat::ChatKind,
        device::DeviceKind,
        id::{ChatId, DeviceId, TerminationId, UserId},
        termination::{Receipt, Termination, TerminationState},
    },
    store::{
        Created, Departure, JoinBy, Joined, NewChat, NewDevice,
        redis::{RedisOptions, RedisStore},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::support::Redis;

const ROUNDS: usize = 100;
/// How long a request of the far edge is on its way at most.
const FAR: Duration = Duration::from_millis(5);

/// Two stores on one Redis: a near one and a far one.
async fn near_and_far(redis: &Redis) -> (RedisStore, RedisStore) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, addr) = (listener.local_addr().unwrap(), redis.addr());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&addr).await else { continue };
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut chunk = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                    sleep(FAR.mul_f64(rand::random())).await;
                    if to_server.write_all(&chunk[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let connect = async |url: String| RedisStore::connect(&url, RedisOptions::default()).await.unwrap();
    (connect(redis.url()).await, connect(format!("redis://{far}/")).await)
}

/// Somewhere in the time that the other's steps take.
async fn soon() {
    sleep(FAR.mul_f64(2.0 * rand::random::<f64>())).await;
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

/// Joins as of now; again if somebody has left in between.
async fn join(store: &RedisStore, chat: ChatId, who: &UserId) {
    loop {
        let epoch = store.chat(chat).await.unwrap().map_or(0, |chat| chat.epoch);
        if store.add_member(chat, who, JoinBy::Invitation, epoch).await.unwrap() != Joined::Stale {
            return;
        }
    }
}

/// Ends the membership that there is.
async fn leave(store: &RedisStore, chat: ChatId, who: &UserId) {
    if let Some((_, member)) = store.chat_of_member(chat, who).await.unwrap() {
        store.remove_member(chat, &member, Departure::Left).await.unwrap();
    }
}

fn new_chat(owner: &UserId, with: Option<UserId>) -> NewChat {
    NewChat {
        id: ChatId::random(),
        kind: if with.is_some() { ChatKind::Direct } else { ChatKind::Group },
        name: None,
        public: false,
        password_hash: None,
        owner: owner.clone(),
        with,
        entry: keepstep::domain::chat::Entry::AtOnce,
        node: "n".into(),
        created: 1,
    }
}

fn new_device(owner: &UserId, id: DeviceId) -> NewDevice {
    let (name, platform) = (String::new(), String::new());
    NewDevice { id, user: owner.clone(), kind: DeviceKind::Sub, name, platform, history: None, created: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_is_never_missing_from_its_users_list() {
    let redis = Redis::start().await;
    let (near, far) = near_and_far(&redis).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let new = new_chat(&alice, None);
    let chat = new.id;
    near.create_chat(&new).await.unwrap();
    let mut members = 0;
    for round in 0..ROUNDS {
        // A far leaver has somebody to take out in each round, a far joiner in every other.
        let (joiner, leaver) = if round % 2 == 0 { (&near, &far) } else { (&far, &near) };
        if round % 2 == 0 || round % 4 == 1 {
            join(&near, chat, &bob).await;
        }
        let join = async {
            soon().await;
            join(joiner, chat, &bob).await;
        };
        let leave = async {
            soon().await;
            leave(leaver, chat, &bob).await;
        };
        tokio::join!(join, leave);
        if near.chat_of_member(chat, &bob).await.unwrap().is_some() {
            members += 1;
            assert_eq!(near.chats_of(&bob).await.unwrap(), [chat], "round {round}");
        }
    }
    assert!((1..ROUNDS).contains(&members), "both orders came: {members}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_and_registering_on_two_edges_see_each_other() {
    let redis = Redis::start().await;
    let (near, far) = near_and_far(&redis).await;
    let alice = user("alice");
    for round in 0..ROUNDS {
        let (joiner, registrar) = if round % 2 == 0 { (&near, &far) } else { (&far, &near) };
        let bob = user(&format!("bob-{round}"));
        let (new, device) = (new_chat(&alice, None), DeviceId::random());
        near.create_chat(&new).await.unwrap();
        let join = async {
            soon().await;
            join(joiner, new.id, &bob).await;
            !joiner.devices(&bob).await.unwrap().is_empty()
        };
        let register = async {
            soon().await;
            registrar.register_device(&new_device(&bob, device)).await.unwrap();
            !registrar.chats_of(&bob).await.unwrap().is_empty()
        };
        let (saw_device, saw_chat) = tokio::join!(join, register);
        assert!(saw_device || saw_chat, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_is_not_undone_by_a_registration_on_its_way() {
    let redis = Redis::start().await;
    let (near, far) = near_and_far(&redis).await;
    let alice = user("alice");
    for round in 0..ROUNDS {
        let device = DeviceId::random();
        let new = new_device(&alice, device);
        let late = async { far.register_device(&new).await.unwrap() };
        let whole_life = async {
            soon().await;
            near.register_device(&new).await.unwrap();
            let record = Termination {
                id: TerminationId::random(),
                user: alice.clone(),
                device,
                by: "user".into(),
                state: TerminationState::Done,
                accepted_at: 1,
                unreachable: Vec::new(),
                receipt: Receipt::default(),
            };
            near.begin_termination(&record).await.unwrap().unwrap();
            near.forget_device(&alice, device, &[]).await.unwrap();
        };
        tokio::join!(late, whole_life);
        assert_eq!(near.device(&alice, device).await.unwrap(), None, "round {round}");
        assert!(near.owner(device).await.unwrap().unwrap().terminated.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_has_one_direct_chat_even_while_it_is_deleted() {
    let redis = Redis::start().await;
    let (near, far) = near_and_far(&redis).await;
    for round in 0..ROUNDS {
        let (one, other) = (user(&format!("one-{round}")), user(&format!("other-{round}")));
        let create = async |store: &RedisStore, new: NewChat| match store.create_chat(&new).await.unwrap() {
            Created::New(chat) | Created::Existing(chat) => chat.id,
            other => panic!("{other:?}"),
        };
        // An older chat of the pair is just being deleted.
        let old = create(&near, new_chat(&one, Some(other.clone()))).await;
        let delete = async {
            for user in [&one, &other] {
                leave(&near, old, user).await;
            }
            assert!(near.delete_chat(old).await.unwrap());
        };
        let slow = async {
            soon().await;
            create(&far, new_chat(&one, Some(other.clone()))).await
        };
        let fast = async {
            soon().await;
            create(&near, new_chat(&other, Some(one.clone()))).await
        };
        let ((), slow, fast) = tokio::join!(delete, slow, fast);
        let ids: Vec<_> = [slow, fast].into_iter().filter(|id| *id != old).collect();
        assert!(ids.windows(2).all(|two| two[0] == two[1]), "round {round}");
        for id in ids {
            assert!(near.chats_of(&one).await.unwrap().contains(&id), "round {round}");
            assert!(near.chats_of(&other).await.unwrap().contains(&id), "round {round}");
        }
    }
}
