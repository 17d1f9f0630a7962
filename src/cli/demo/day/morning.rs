//! Until noon: last week, a phone that is off, a web session that borrows its past, life on all devices, and the read
//! offset on its way.

use keepstep_client::{frame::DeviceEvent, http::NewGroup};
use serde_json::json;

use super::{BEAT, Day, Show};
use crate::cli::{
    Failure,
    demo::{
        cast::{Person, Role, Room},
        device::Departure,
        memory::Memory,
        stage::Ground,
    },
};

const PHONES: [Role; 2] = [Role::AlicePhone, Role::BobPhone];

pub(super) async fn play(day: &mut Day<'_>) -> Result<(), Failure> {
    stage(day).await?;
    past(day).await?;
    phone_off(day).await?;
    web_opens(day).await?;
    live(day).await?;
    read_offset(day).await
}

async fn stage(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.section("The stage")?;
    let (what, key) = match day.stage.ground {
        Ground::Embedded => {
            ("a server in this process, store and queues in memory; real sockets all the same", "embedded")
        }
        Ground::Stack => {
            ("two edges in this process on Redis and nsqd: phones on one, web sessions on the other", "stack")
        }
        Ground::Remote => ("a server that runs elsewhere; the demo is only its client", "remote"),
    };
    let edges: Vec<&str> =
        day.stage.edges().iter().map(|edge| edge.base.as_str().trim_end_matches('/')).collect();
    day.screen.note(
        "stage",
        &format!("{what} ({})", edges.join(" ")),
        json!({"backend": key, "edges": edges}),
    )?;
    for role in PHONES {
        day.register(role).await?;
        let welcome = day.connect(role).await?;
        let edge = &welcome.edge;
        let said =
            format!("registered as the main device of {}, connected to edge {edge}", role.person().name());
        let data = json!({"kind": "main", "edge": edge, "session": welcome.session});
        day.screen.seen("connected", "", role, &said, data)?;
        day.screen.pause(BEAT).await;
    }
    let alice = day.stage.api(Role::AlicePhone, day.token(Person::Alice))?;
    let bob = &day.users[Person::Bob as usize];
    let direct = alice.direct_chat(bob).await?.id;
    let group = NewGroup { name: Some("Studio Babel".to_owned()), ..NewGroup::default() };
    let studio = alice.create_group(&group).await?.id;
    alice.invite(studio, bob).await?;
    day.chats = [direct, studio];
    let mut queues = 0;
    for role in PHONES {
        queues += day.queues(role).await?.0;
    }
    let said = format!(
        "2 chats (a direct one and the group Studio Babel), so {queues} queues: one per chat and device"
    );
    day.screen.note("chats", &said, json!({"chats": day.chats, "queues": queues}))
}

async fn past(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(400).await;
    day.screen.chapter("", "The days before, both phones on")?;
    day.part("past", PHONES, Show::Examples).await?;
    for role in PHONES {
        day.catch_up(role).await?;
    }
    Ok(())
}

async fn phone_off(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("07:10", "Bob's phone is off")?;
    day.device_mut(Role::BobPhone)?.leave(Departure::Goodbye).await?;
    day.screen.seen("offline", "07:10", Role::BobPhone, "the battery is empty: disconnected", json!({}))?;
    let sent = day.part("morning", PHONES, Show::All).await?;
    let due = sent.len() as u64;
    let (queues, waiting) = day.queues_with(Role::BobPhone, due).await?;
    let said =
        format!("Bob's phone has {queues} queues with {waiting} messages waiting in them, until he is back");
    day.screen.note(
        "backlog",
        &said,
        json!({"device": Role::BobPhone.key(), "queues": queues, "depth": waiting}),
    )?;
    day.screen.pause(600).await;

    let live = day.device(Role::BobPhone)?.memory().live;
    day.connect(Role::BobPhone).await?;
    for (room, seq) in &sent {
        let chat = day.chat(*room);
        day.wait(Role::BobPhone, &format!("#{seq} of the backlog"), |memory| {
            memory.has(chat, *seq).then_some(())
        })
        .await?;
    }
    let came = day.device(Role::BobPhone)?.memory().live - live;
    let said = format!("on again: {came} messages waited, and came in order: {}", ranges(&sent));
    day.screen.seen("caught_up", "07:56", Role::BobPhone, &said, json!({"messages": came}))?;
    day.part("back", PHONES, Show::All).await?;
    for role in PHONES {
        day.catch_up(role).await?;
    }
    Ok(())
}

/// `#103-#109 and #24-#25`
fn ranges(sent: &[(Room, u64)]) -> String {
    let of = |room: Room| {
        let seqs = sent.iter().filter(|(of, _)| *of == room).map(|(_, seq)| *seq);
        seqs.clone().min().zip(seqs.max()).map(|(low, high)| format!("#{low}-#{high} in {}", room.name()))
    };
    Room::ALL.into_iter().filter_map(of).collect::<Vec<_>>().join(" and ")
}

async fn web_opens(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("09:00", "The web borrows its past from the phone")?;
    let role = Role::AliceLaptop;
    let since = day.device(Role::AlicePhone)?.memory().events();
    day.register(role).await?;
    let id = day.device(role)?.id;
    let linked = |memory: &Memory| memory.event_since(since, DeviceEvent::Linked, id).then_some(());
    day.wait(Role::AlicePhone, "the event that the web session was linked", linked).await?;
    let (queues, _) = day.queues(role).await?;
    let said = format!("a web session was linked to this account; its {queues} queues are there already");
    day.screen.seen(
        "linked",
        "09:00",
        Role::AlicePhone,
        &said,
        json!({"linked": role.key(), "queues": queues}),
    )?;
    day.screen.pause(BEAT * 3).await;
    let welcome = day.connect(role).await?;
    let edge = &welcome.edge;
    let main = welcome.main.as_ref().is_some_and(|main| main.online);
    let said = format!(
        "welcome: edge {edge}, {} chats, the phone is {}; of the past it has nothing yet",
        welcome.chats.len(),
        if main { "online" } else { "offline" },
    );
    day.screen.seen(
        "connected",
        "09:00",
        role,
        &said,
        json!({"kind": "sub", "edge": edge, "main_online": main}),
    )?;
    day.bootstrap(role, "09:01", &welcome).await
}

async fn live(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(500).await;
    day.screen.chapter("09:05", "Live, both ways: Alice on the web, Bob on the phone")?;
    day.part("live", [Role::AliceLaptop, Role::BobPhone], Show::All).await?;
    day.catch_up(Role::AliceLaptop).await?;
    day.catch_up(Role::BobPhone).await
}

async fn read_offset(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(500).await;
    day.screen.chapter("10:02", "Read on one device, read on all")?;
    day.part("unread", [Role::AliceLaptop, Role::BobPhone], Show::All).await?;
    for role in [Role::AlicePhone, Role::AliceLaptop] {
        settled(day, role, day.head(Room::Direct).saturating_sub(4)).await?;
        let said = format!("badge: {} unread", day.unread(role)?);
        day.screen.seen("unread", "10:05", role, &said, json!({"unread": day.unread(role)?}))?;
    }
    day.screen.pause(500).await;
    travels(day, "10:20", Room::Direct, Role::AlicePhone, Role::AliceLaptop).await?;
    day.screen.pause(300).await;
    travels(day, "10:21", Room::Studio, Role::AliceLaptop, Role::AlicePhone).await?;
    day.catch_up(Role::BobPhone).await
}

/// The offset of before has come here too, so that the badges are those of the story.
async fn settled(day: &Day<'_>, role: Role, read: u64) -> Result<(), Failure> {
    let chat = day.chat(Room::Direct);
    let there = |memory: &Memory| (memory.read(chat) >= read).then_some(());
    day.wait(role, "the read offset of another device", there).await
}

async fn travels(day: &Day<'_>, at: &str, room: Room, from: Role, to: Role) -> Result<(), Failure> {
    let (head, chat) = (day.head(room), day.chat(room));
    day.device(from)?.read(chat, head).await?;
    let data =
        |role: Role| Ok::<_, Failure>(json!({"chat": room.key(), "seq": head, "unread": day.unread(role)?}));
    let said = format!("Alice reads {} up to #{head} here", room.name());
    day.screen.seen("read", at, from, &said, data(from)?)?;
    let came = |memory: &Memory| (memory.read(chat) >= head).then_some(());
    day.wait(to, "the read offset", came).await?;
    let said = format!("read up to #{head} on another device; badge: {} unread", day.unread(to)?);
    day.screen.seen("read", at, to, &said, data(to)?)
}
