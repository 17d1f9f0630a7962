//! The users, their devices and chats: made before the load, removed after it.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use keepstep_client::{Api, ApiError, ChatId, DeviceId, DeviceKind, Registration, http::NewGroup};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{LoadArgs, Progress};
use crate::{cli::Failure, domain::id::UserId};

/// Calls at once.
const AT_ONCE: usize = 16;
/// How long a user's token is good for.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How often a call is made again that the server refuses for now. It says after which time, at most a minute.
const TRIES: u32 = 60;

/// A registered device.
pub(super) struct Device {
    pub kind: DeviceKind,
    pub id: DeviceId,
    pub token: String,
}

/// A user with devices, and the chats of this run.
pub(super) struct Person {
    pub api: Api,
    pub devices: Vec<Device>,
    pub chats: Vec<ChatId>,
}

/// See the module.
pub(super) struct Crowd {
    pub people: Vec<Person>,
    /// The devices of each chat, as they count for its deliveries.
    pub audience: std::collections::HashMap<ChatId, usize>,
}

/// Returns who is in which chat: each user in as many as asked for, with others drawn anew for each. A rest too small for a
/// chat joins the one before.
pub(super) fn groups(users: usize, chats: usize, size: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all: Vec<usize> = (0..users).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for _ in 0..chats {
        all.shuffle(&mut random);
        let first = groups.len();
        groups.extend(all.chunks(size).map(<[usize]>::to_vec));
        if groups.len() > first + 1
            && let Some(rest) = groups.pop_if(|last| last.len() < size)
            && let Some(before) = groups.last_mut()
        {
            before.extend(rest);
        }
    }
    groups
}

impl Crowd {
    /// Registers the devices and makes the chats.
    pub(super) async fn sets_the_scene(args: &LoadArgs, progress: &Progress) -> Result<Self, Failure> {
        let api = Api::new(&args.url)?;
        let run = uuid::Uuid::new_v4().simple().to_string();
        let mut names = Vec::with_capacity(args.users);
        for n in 0..args.users {
            let name = format!("load-{}-{n}", &run[..8]);
            let user: UserId = name.parse().map_err(Failure::usage)?;
            let issued = args.signing.issue(&user, false, TOKEN_TTL)?.ok_or_else(|| {
                Failure::usage("there is no secret to sign with: set KEEPSTEP_JWT_SECRET to the server's")
            })?;
            names.push((name, api.with_token(issued.token)));
        }
        progress.says(&format!("registering {} devices", args.users * args.devices));
        let registering = names.iter().map(|(_, api)| devices(api, args.devices));
        let devices: Vec<Vec<Device>> = stream::iter(registering).buffered(AT_ONCE).try_collect().await?;
        let groups = groups(args.users, args.chats, args.size, args.seed);
        progress.says(&format!("making {} chats", groups.len()));
        let making = groups.iter().map(|members| chat(&names, members));
        let chats: Vec<ChatId> = stream::iter(making).buffered(AT_ONCE).try_collect().await?;
        let people = names.into_iter().zip(devices);
        let people = people.map(|((_, api), devices)| Person { api, devices, chats: Vec::new() });
        let mut crowd = Self { people: people.collect(), audience: std::collections::HashMap::new() };
        for (chat, members) in chats.into_iter().zip(groups) {
            // Two users have one direct chat, however often they are drawn.
            if crowd.audience.insert(chat, members.len() * args.devices).is_none() {
                for member in members {
                    crowd.people[member].chats.push(chat);
                }
            }
        }
        Ok(crowd)
    }

    /// Removes what was made. What can't be removed stays.
    pub(super) async fn leaves(&self) {
        let leaving = self.people.iter().map(|person| async move {
            for chat in &person.chats {
                let _ = patiently(|| person.api.leave(*chat)).await;
            }
            for device in &person.devices {
                let _ = patiently(|| person.api.terminate(device.id)).await;
            }
        });
        stream::iter(leaving).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

async fn devices(api: &Api, count: usize) -> Result<Vec<Device>, Failure> {
    let mut devices = Vec::with_capacity(count);
    for n in 0..count {
        let kind = if n == 0 { DeviceKind::Main } else { DeviceKind::Sub };
        let mut registration = Registration::new(kind, "load", "keepstep load");
        registration.id = Some(DeviceId::new_v4());
        let registered = patiently(|| api.register(&registration)).await?;
        devices.push(Device { kind, id: registered.device.id, token: registered.token });
    }
    Ok(devices)
}

async fn chat(names: &[(String, Api)], members: &[usize]) -> Result<ChatId, Failure> {
    let [first, others @ ..] = members else { return Err(Failure::usage("a chat has members")) };
    let owner = &names[*first].1;
    if let [other] = others {
        return Ok(patiently(|| owner.direct_chat(&names[*other].0)).await?.id);
    }
    let group = NewGroup {
        name: Some(format!("load {}", uuid::Uuid::new_v4())),
        public: true,
        id: Some(ChatId::new_v4()),
        ..NewGroup::default()
    };
    let chat = patiently(|| owner.create_group(&group)).await?.id;
    // Each by a call of its own: the server limits how many others one user brings in.
    let joining =
        others.iter().map(|member| async move { patiently(|| names[*member].1.join(chat, None)).await });
    stream::iter(joining).buffer_unordered(4).try_collect::<Vec<_>>().await?;
    Ok(chat)
}

/// Makes a call again while the server can't take it, after the time that it names.
pub(super) async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(
    call: impl Fn() -> F,
) -> Result<T, ApiError> {
    let mut tries = 0;
    loop {
        let error = match call().await {
            Err(error) if error.is_retryable() && tries < TRIES => error,
            // Nobody there at the first call is a wrong address, and no load.
            result => return result,
        };
        if matches!(error, ApiError::Unreachable(_)) && tries >= 2 {
            return Err(error);
        }
        tries += 1;
        let wait = match &error {
            ApiError::Refused(refusal) => refusal.retry_after.unwrap_or(1).clamp(1, 60),
            _ => 1,
        };
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
}
