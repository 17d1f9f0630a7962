//! From noon: airplane mode, the same window twice, a tunnel, Bob's browser, and the end of a session left behind.

use std::time::{Duration, Instant};

use keepstep_client::{Api, Close, DeviceId, frame::DeviceEvent, http::Termination};
use serde_json::json;

use super::{BEAT, Day, Ending, Show, millis};
use crate::cli::{
    Failure,
    demo::{
        PATIENCE,
        cast::{Person, Role, Room},
        device::{Departure, Opened},
        memory::Memory,
    },
};

const ALICE_WEB: [Role; 2] = [Role::AliceLaptop, Role::BobPhone];
const PHONES: [Role; 2] = [Role::AlicePhone, Role::BobPhone];

pub(super) async fn play(day: &mut Day<'_>) -> Result<(), Failure> {
    airplane(day).await?;
    landed(day).await?;
    twice(day).await?;
    tunnel(day).await?;
    evening(day).await?;
    left_behind(day).await?;
    night(day).await
}

async fn airplane(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("10:40", "Airplane mode: no phone, no new web session")?;
    let phone = day.device(Role::AlicePhone)?.id;
    let since = day.device(Role::AliceLaptop)?.memory().events();
    day.device_mut(Role::AlicePhone)?.leave(Departure::Goodbye).await?;
    day.screen.seen("offline", "10:40", Role::AlicePhone, "airplane mode: disconnected", json!({}))?;
    sees(day, Role::AliceLaptop, since, DeviceEvent::Offline, phone).await?;
    let said = "the phone is offline; this window has its past already and goes on, by the Wi-Fi on board";
    day.screen.seen("main_offline", "10:40", Role::AliceLaptop, said, json!({}))?;
    let sent = day.part("airplane", PHONES, Show::All).await?;
    let (_, waiting) = day.queues_with(Role::AlicePhone, sent.len() as u64).await?;
    let said = format!("{waiting} messages wait in the queues of Alice's phone");
    day.screen.note("backlog", &said, json!({"device": Role::AlicePhone.key(), "depth": waiting}))?;
    day.screen.pause(400).await;

    day.register(Role::AliceCafe).await?;
    let close = day.refused(Role::AliceCafe, 4303).await?;
    let Some(seen) = close.main_last_seen() else {
        return Err(Failure::run(format!("4303 came without last_seen in its reason: {}", close.reason)));
    };
    let ago = crate::domain::now_millis().saturating_sub(seen);
    let said = format!(
        "a PC in the arrivals hall: refused with 4303 main_offline. Only the phone has the past, and it was last seen at \
         10:40 (by the real clock {ago} ms ago)"
    );
    day.screen.seen("refused", "13:25", Role::AliceCafe, &said, json!({"code": 4303, "last_seen": seen}))
}

async fn sees(
    day: &Day<'_>,
    role: Role,
    since: usize,
    event: DeviceEvent,
    device: DeviceId,
) -> Result<(), Failure> {
    let came = |memory: &Memory| memory.event_since(since, event, device).then_some(());
    day.wait(role, &format!("the event that a device is {event:?}"), came).await
}

async fn landed(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("13:30", "Landed: the phone is back")?;
    let phone = day.device(Role::AlicePhone)?.id;
    let since = day.device(Role::AliceLaptop)?.memory().events();
    let live = day.device(Role::AlicePhone)?.memory().live;
    day.connect(Role::AlicePhone).await?;
    caught_up(day, Role::AlicePhone).await?;
    let came = day.device(Role::AlicePhone)?.memory().live - live;
    let said = format!("on again: the {came} messages that waited came in order");
    day.screen.seen("caught_up", "13:30", Role::AlicePhone, &said, json!({"messages": came}))?;
    sees(day, Role::AliceLaptop, since, DeviceEvent::Online, phone).await?;
    let welcome = day.connect(Role::AliceCafe).await?;
    day.screen.seen("connected", "13:31", Role::AliceCafe, "tried again: welcome", json!({"kind": "sub"}))?;
    day.bootstrap(Role::AliceCafe, "13:31", &welcome).await?;
    day.part("landed", PHONES, Show::All).await?;
    day.catch_up(Role::AlicePhone).await?;
    day.catch_up(Role::BobPhone).await
}

/// It has everything up to the heads.
async fn caught_up(day: &Day<'_>, role: Role) -> Result<(), Failure> {
    for room in Room::ALL {
        let (head, chat) = (day.head(room), day.chat(room));
        let has = |memory: &Memory| memory.has(chat, head).then_some(());
        day.wait(role, &format!("#{head} in {}", room.name()), has).await?;
    }
    Ok(())
}

async fn twice(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("14:10", "The same window twice")?;
    let role = Role::AliceCafe;
    let older = day.device(role)?.line();
    day.connect(role).await?;
    day.device(role)?.ready().await?;
    let close = |memory: &Memory| memory.close_of(older);
    let Close { code, reason } = day.wait(role, "its older socket to be closed", close).await?;
    if code != 4409 {
        day.faults.push(format!("an older socket was closed with {code} {reason}; it should have been 4409"));
    }
    let said = format!("opened in a second tab: the new one is in, the older is closed with {code} {reason}");
    day.screen.seen("replaced", "14:10", role, &said, json!({"code": code, "reason": reason}))
}

async fn tunnel(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("15:20", "A tunnel: the line is cut, and taken up where it was")?;
    let role = Role::AliceLaptop;
    let due = day.script.part("cut").len() as u64;
    // What comes now is stored and never acknowledged: the cruel moment for a cut.
    day.device(role)?.hold_acks(true);
    let before = highest(day, role)?;
    day.part("unacked", ALICE_WEB, Show::All).await?;
    day.device_mut(role)?.leave(Departure::Cut).await?;
    day.device(role)?.hold_acks(false);
    let said = "the network is gone, no goodbye; the last message is stored here but was never acknowledged";
    day.screen.seen("cut", "15:20", role, said, json!({}))?;
    day.part("cut", ALICE_WEB, Show::All).await?;
    day.screen.pause(400).await;
    let (live, repeated) = counts(day, role)?;
    let welcome = day.connect(role).await?;
    let cursors: u64 = welcome.chats.iter().map(|entry| entry.cursor).sum();
    day.device(role)?.ready().await?;
    caught_up(day, role).await?;
    let (live_now, repeated_now) = counts(day, role)?;
    let (came, again) = (live_now - live, repeated_now - repeated);
    // One message above what was acknowledged had come before the cut.
    if came != due || again != (before + 1).saturating_sub(cursors) {
        day.faults.push(format!("after the cut {came} new messages came and {again} again; {due} were new"));
    }
    let said = format!(
        "back: resumed behind the cursor; {came} new messages, and {again} again that wasn't acknowledged (recognised by its seq)"
    );
    day.screen.seen("resumed", "15:25", role, &said, json!({"messages": came, "again": again}))?;
    day.part("after", ALICE_WEB, Show::All).await?;
    day.catch_up(role).await?;
    day.catch_up(Role::BobPhone).await
}

/// The sum of the heads that a device has.
fn highest(day: &Day<'_>, role: Role) -> Result<u64, Failure> {
    let memory = day.device(role)?.memory();
    Ok(Room::ALL.iter().map(|room| memory.highest(day.chat(*room))).sum())
}

fn counts(day: &Day<'_>, role: Role) -> Result<(u64, u64), Failure> {
    let memory = day.device(role)?.memory();
    Ok((memory.live, memory.repeated))
}

async fn evening(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("17:35", "Bob opens the web too")?;
    day.register(Role::BobWeb).await?;
    let welcome = day.connect(Role::BobWeb).await?;
    day.screen.seen(
        "connected",
        "17:35",
        Role::BobWeb,
        "welcome: the phone is online",
        json!({"kind": "sub"}),
    )?;
    day.bootstrap(Role::BobWeb, "17:36", &welcome).await?;
    day.part("evening", [Role::AlicePhone, Role::BobWeb], Show::All).await?;
    day.catch_up(Role::AlicePhone).await?;
    day.catch_up(Role::BobWeb).await
}

async fn left_behind(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(600).await;
    day.screen.chapter("19:20", "Left logged in at the café: ended from the phone")?;
    let role = Role::AliceCafe;
    let (queues, _) = day.queues(role).await?;
    let line = day.device(role)?.line();
    let phone = day.stage.api(Role::AlicePhone, &day.device(Role::AlicePhone)?.token)?;
    let begun = Instant::now();
    let termination = phone.terminate(day.device(role)?.id).await?.id;
    let said = format!("ends the café's session; the server shows {queues} queues of it");
    day.screen.seen(
        "terminate",
        "19:20",
        Role::AlicePhone,
        &said,
        json!({"termination": termination, "queues": queues}),
    )?;

    let Close { code, reason } =
        day.wait(role, "its socket to be closed", |memory| memory.close_of(line)).await?;
    if code != 4403 {
        day.faults
            .push(format!("an ended session was closed with {code} {reason}; it should have been 4403"));
    }
    let said = format!("closed with {code} {reason}");
    day.screen.seen("terminated", "19:20", role, &said, json!({"code": code, "reason": reason}))?;
    let receipt =
        day.screen.during("the queues are removed, and looked for once more", receipt(&phone, &termination));
    let receipt = receipt.await?;
    let (left, _) = day.queues(role).await?;
    let Termination { state, channels_deleted: deleted, .. } = receipt;
    let took = begun.elapsed();
    day.ending = Some(Ending { state: state.clone(), deleted, left, took });
    let said =
        format!("the receipt: {state}, {deleted} queues deleted; an admin sees {left} queues of it now");
    let data =
        json!({"state": state, "channels_deleted": deleted, "channels_left": left, "ms": millis(took)});
    day.screen.seen("receipt", "19:21", Role::AlicePhone, &said, data)?;
    if left > 0 {
        day.faults.push(format!("{left} queues of an ended session are left"));
    }
    let stage = day.stage;
    match day.device_mut(role)?.connect(stage.edge(role)).await? {
        Opened::Refused(Close { code: 4403, reason }) => {
            let said = format!("tries again with its old token: refused, 4403 {reason}");
            day.screen.seen("refused", "19:21", role, &said, json!({"code": 4403, "reason": reason}))?;
        }
        other => day.faults.push(format!("the token of an ended session still gets {other:?}")),
    }
    day.screen.pause(BEAT * 3).await;
    Ok(())
}

/// The termination when it is done.
async fn receipt(api: &Api, termination: &str) -> Result<Termination, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = api.termination(termination).await?;
        if answer.state == "done" {
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Err(Failure::run(format!(
                "waited 10 s in vain for the termination to be done: {answer:?}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn night(day: &mut Day<'_>) -> Result<(), Failure> {
    day.screen.pause(400).await;
    day.screen.chapter("19:22", "Good night")?;
    day.part("night", [Role::AlicePhone, Role::BobWeb], Show::All).await?;
    day.catch_up(Role::AlicePhone).await?;
    day.catch_up(Role::BobWeb).await?;
    // The last offsets and acknowledgements are under way: everybody waits for them, and only then it is compared.
    for role in Role::ALL.into_iter().filter(|role| !day.ended(*role)) {
        for room in Room::ALL {
            let (head, chat) = (day.head(room), day.chat(room));
            let read = |memory: &Memory| (memory.read(chat) >= head).then_some(());
            day.wait(role, &format!("the read offset #{head} in {}", room.name()), read).await?;
            day.device(role)?.settle(chat).await?;
        }
    }
    for person in [Person::Alice, Person::Bob] {
        let offsets = day.stage.api(Role::AlicePhone, day.token(person))?.offsets().await?;
        for room in Room::ALL {
            let (said, head) = (offsets.get(&day.chat(room)).copied().unwrap_or(0), day.head(room));
            if said != head {
                let (name, room) = (person.name(), room.name());
                day.faults
                    .push(format!("the server says that {name} read {room} up to #{said}; it was #{head}"));
            }
        }
    }
    Ok(())
}
