//! Tests the judges of closes and gaps, and the link that delivers late, each with a constructed case.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::closes::{self, Close};
use crate::gaps::{self, Held, Loss, Told};
use crate::history::{Event, Phase, Seen, What};
use crate::plan::Kind;
use crate::proxy::{FaultProfile, Proxy};
use crate::support::free_port;

/// Runs all trials. Panics if one fails.
pub async fn all() {
    of_closes();
    of_gaps();
    what_is_late_comes_although_its_sender_is_gone().await;
}

const SECOND: u64 = 1_000_000;

fn event(second: u64, what: What) -> Event {
    Event { at: second * SECOND, what }
}

fn fault(kind: Kind, phase: Phase) -> What {
    What::Fault { name: kind.to_string(), phase }
}

fn of_closes() {
    let main = "main".to_owned();
    let events = [
        event(0, What::Registering { user: "alice".into(), device: main.clone(), main: true }),
        event(1, What::Connecting { device: main.clone(), socket: 1 }),
        event(1, What::Welcome { device: main.clone(), socket: 1, session: 1, chats: Default::default() }),
        event(40, fault(Kind::RedisFreeze, Phase::Begun)),
        event(45, fault(Kind::RedisFreeze, Phase::Healed)),
        event(80, fault(Kind::EdgeStop, Phase::Begun)),
        event(90, What::Closed { device: main.clone(), socket: 1, code: None }),
    ];
    let close = |device: &str, second: u64, code| Close {
        at: second * SECOND,
        device: device.to_owned(),
        user: "alice".to_owned(),
        socket: u64::from(device != "idle"),
        edge: 0,
        code,
        reason: String::new(),
        idle: (second == 31).then_some(30 * SECOND),
    };
    for (device, second, code, is_true) in [
        ("idle", 35, 4301, false),
        ("main", 35, 4302, false),
        ("sub", 35, 4303, false),
        ("sub", 46, 4303, true),
        ("sub", 95, 4303, true),
        ("main", 35, 4304, false),
        ("main", 42, 4304, true),
        ("main", 60, 4304, true),
        ("main", 70, 4304, false),
        ("main", 30, 4305, false),
        ("main", 31, 4305, true),
        ("idle", 35, 4304, false),
        ("idle", 42, 4304, true),
        ("idle", 42, 4401, false),
        ("idle", 42, 4403, false),
        ("idle", 42, 4409, false),
        ("main", 35, 4300, false),
        ("main", 85, 4300, true),
    ] {
        let found = closes::untrue(&[close(device, second, code)], &events);
        assert_eq!(found.is_empty(), is_true, "{code} of the {device} at {second} s: {found:?}");
    }
}

fn of_gaps() {
    let (chat, device) = ("c".to_owned(), "d".to_owned());
    let mut events = Vec::new();
    for seq in 1..=900u64 {
        // Ten a second; the last six hundred all at once.
        let second = seq.min(300) / 10;
        let (chat, key) = (chat.clone(), format!("k{seq}"));
        events.push(event(
            second,
            What::Sending { user: "u".into(), device: None, chat: chat.clone(), key: key.clone() },
        ));
        let seen = Seen { seq, key, frame: 0 };
        events.push(event(second, What::Message { device: "other".into(), socket: 1, chat, seen }));
    }
    // All but one of what it had before the gap.
    events.push(event(18, What::Acked { device: device.clone(), socket: 1, chat: chat.clone(), seq: 148 }));
    let gap = |second: u64, from, to, messages, head| Told {
        at: second * SECOND,
        device: device.clone(),
        chat: chat.clone(),
        from,
        to,
        held: vec![Held { nsqd: 1, messages }],
        head: Some(head),
    };
    let loss = |nsqd, kind, begun: u64, healed: u64| Loss {
        nsqd,
        kind,
        begun: begun * SECOND,
        healed: Some(healed * SECOND),
    };
    let killed = loss(Some(1), Kind::NsqdKill, 20, 21);
    for (told, losses, is_true) in [
        (gap(25, 150, 190, 5, 200), vec![killed], true),
        (gap(25, 150, 190, 13, 200), vec![killed], true),
        (gap(25, 150, 190, 15, 200), vec![killed], true),
        (gap(25, 190, 190, 52, 200), vec![killed], true),
        (gap(25, 150, 190, 40, 200), vec![killed], false),
        (gap(25, 150, 190, 33, 200), vec![killed], false),
        (gap(25, 190, 190, 11, 200), vec![], false),
        (gap(25, 190, 190, 52, 200), vec![], false),
        (gap(25, 150, 190, 5, 200), vec![], false),
        (gap(25, 150, 190, 5, 200), vec![loss(Some(0), Kind::NsqdKill, 20, 21)], false),
        (gap(19, 150, 180, 5, 190), vec![killed], false),
        (gap(25, 150, 190, 5, 200), vec![loss(None, Kind::NsqdStop, 18, 21)], false),
        // More than may wait for NSQ.
        (gap(40, 150, 190, 5, 900), vec![loss(None, Kind::NsqdStop, 18, 35)], true),
    ] {
        let found = gaps::untrue(std::slice::from_ref(&told), &losses, &events);
        assert_eq!(found.is_empty(), is_true, "{told:?} with {losses:?}: {found:?}");
    }
    events.push(event(24, What::Ending { device: device.clone() }));
    assert!(gaps::untrue(&[gap(25, 150, 190, 50, 200)], &[], &events).is_empty(), "it is being ended");
}

async fn what_is_late_comes_although_its_sender_is_gone() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let proxy =
        Proxy::start(free_port(), server.local_addr().expect("an address").port()).await.expect("a proxy");
    let mut old = TcpStream::connect(proxy.addr()).await.expect("a connection");
    let (mut from_old, _) = server.accept().await.expect("a connection");
    proxy.set(FaultProfile::LateOfOld(1));
    old.write_all(b"late").await.expect("it is taken");
    // It passes nothing, and takes an answer; then its client gives up.
    let mut answer = [0; 3];
    from_old.write_all(b"yes").await.expect("it is taken");
    timeout(Duration::from_secs(5), old.read_exact(&mut answer))
        .await
        .expect("answers pass")
        .expect("an answer");
    drop(old);
    let mut new = TcpStream::connect(proxy.addr()).await.expect("a connection");
    let (mut from_new, _) = server.accept().await.expect("a connection");
    new.write_all(b"now").await.expect("it is taken");
    timeout(Duration::from_secs(5), from_new.read_exact(&mut answer))
        .await
        .expect("new ones pass")
        .expect("bytes");
    let mut late = Vec::new();
    assert!(
        timeout(Duration::from_millis(200), from_old.read_to_end(&mut late)).await.is_err(),
        "{late:?} wasn't late"
    );
    proxy.heal();
    timeout(Duration::from_secs(5), from_old.read_to_end(&mut late)).await.expect("it comes").expect("bytes");
    assert_eq!(late, b"late");
    while proxy.seen().orphaned.load(std::sync::atomic::Ordering::Relaxed) != 4 {
        sleep(Duration::from_millis(5)).await;
    }
}
