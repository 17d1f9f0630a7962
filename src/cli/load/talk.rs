//! The connected devices: each takes what comes in a task of its own; the main of each user also sends.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use keepstep_client::{ChatId, Client, DeviceKind, Draft, Event, Events, Reconnect, session::Session};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    LoadArgs,
    crowd::{Crowd, Device},
    tally::{DeviceTally, Tally},
};
use crate::cli::Failure;

/// Devices that connect at the same time.
const CONNECTING: usize = 64;
/// The longest wait for a device's first welcome.
const WELCOME: Duration = Duration::from_secs(60);

/// A user who talks.
struct Speaker {
    client: Client,
    chats: Vec<ChatId>,
    random: StdRng,
}

/// See the module.
pub(super) struct Talk {
    speakers: Vec<Speaker>,
    clients: Vec<Client>,
    sending: JoinSet<()>,
    receiving: JoinSet<()>,
    tally: Arc<Tally>,
    think: Duration,
    bytes: usize,
}

impl Talk {
    /// Connects all devices: first the mains, without which no sub is let in.
    pub(super) async fn connect(args: &LoadArgs, crowd: &Crowd, tally: &Arc<Tally>) -> Result<Self, Failure> {
        for (chat, devices) in &crowd.audience {
            tally.expects(*chat, *devices);
        }
        let mut talk = Self {
            speakers: Vec::new(),
            clients: Vec::new(),
            sending: JoinSet::new(),
            receiving: JoinSet::new(),
            tally: tally.clone(),
            think: args.think,
            bytes: args.bytes,
        };
        for kind in [DeviceKind::Main, DeviceKind::Sub] {
            let wanted = crowd.people.iter().enumerate().flat_map(|(n, person)| {
                person.devices.iter().filter(|device| device.kind == kind).map(move |device| (n, device))
            });
            let opening = wanted.map(|(n, device)| async move {
                let (client, events) = start(&args.url, device)?;
                let (ready, welcome) = oneshot::channel();
                let took = takes(events, client.clone(), tally.device(), ready);
                Ok::<_, Failure>((n, client, took, welcome))
            });
            let mut opened: Vec<_> = stream::iter(opening).buffered(CONNECTING).try_collect().await?;
            let mut welcomes = Vec::new();
            for (n, client, took, welcome) in opened.drain(..) {
                talk.receiving.spawn(took);
                welcomes.push(welcome);
                talk.clients.push(client.clone());
                if kind == DeviceKind::Main {
                    let chats = crowd.people[n].chats.clone();
                    let random = StdRng::seed_from_u64(args.seed.wrapping_add(n as u64));
                    talk.speakers.push(Speaker { client, chats, random });
                }
            }
            for welcome in welcomes {
                match timeout(WELCOME, welcome).await {
                    Ok(Ok(())) => {}
                    _ => {
                        return Err(Failure::run(
                            "a device wasn't welcomed within a minute: see the server's log",
                        ));
                    }
                }
            }
        }
        Ok(talk)
    }

    /// All users talk until then.
    pub(super) fn begin(&mut self, until: Instant) {
        for speaker in std::mem::take(&mut self.speakers) {
            self.sending.spawn(says(speaker, self.tally.clone(), self.think, self.bytes, until));
        }
    }

    /// Waits until each user's last message is answered.
    pub(super) async fn ends_sending(&mut self) {
        while self.sending.join_next().await.is_some() {}
    }

    pub(super) async fn disconnects(self) {
        stream::iter(&self.clients).for_each_concurrent(CONNECTING, Client::close).await;
    }
}

fn start(url: &str, device: &Device) -> Result<(Client, Events), Failure> {
    let builder = Client::builder(url, &device.token).map_err(Failure::usage)?;
    let mut session = Session::new();
    if device.kind == DeviceKind::Sub {
        session.ready();
    }
    Ok(builder.reconnect(Reconnect::Always).session(session).start())
}

/// Talks: a message, and a time to think.
async fn says(mut speaker: Speaker, tally: Arc<Tally>, think: Duration, bytes: usize, until: Instant) {
    if speaker.chats.is_empty() {
        return;
    }
    loop {
        // Exponentially distributed, so that the users are independent of each other.
        let pause = think.mul_f64(-speaker.random.random::<f64>().max(1e-9).ln());
        let next = Instant::now() + pause;
        if next >= until {
            return;
        }
        tokio::time::sleep_until(next).await;
        let chat = speaker.chats[speaker.random.random_range(0..speaker.chats.len())];
        let sent = tally.sends(chat);
        let text = format!("{:.<bytes$}", sent.stamp());
        match speaker.client.send(chat, Draft::text(text)).await {
            Ok(receipt) => tally.sent(sent, receipt.seq),
            Err(error) => tally.refused(&error.to_string()),
        }
    }
}

/// Takes everything that comes, and acknowledges it.
async fn takes(mut events: Events, client: Client, mut tally: DeviceTally, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    while let Some(event) = events.next().await {
        match event {
            Event::Connected(_) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
            }
            Event::Message(message) => {
                let (chat, seq) = (message.chat, message.seq);
                tally.message(&message);
                let _ = client.ack(chat, seq);
            }
            Event::Duplicate(message) => {
                let _ = client.ack(message.chat, message.seq);
            }
            Event::Gap(gap) => tally.gap(gap.to - gap.from + 1),
            Event::Violation(violation) => tally.violation(&violation.to_string()),
            Event::Disconnected { .. } => tally.disconnected(),
            Event::Stopped(_) => return,
            _ => {}
        }
    }
}
