//! Mosquitto with persistent sessions and QoS 1: what one would take for this without Keepstep. A chat is a topic, a device a session
//! (`clean_session = false`), a message is accepted by the broker's PUBACK and acknowledged by the receiver's. The
//! client is the few packets of MQTT 3.1.1 that this needs, so that the load generator isn't the limit.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::{
    machine,
    support::{Process, free_port},
    tally::{Figures, Tally, body, stamp},
    work::{self, Rig, Size},
};

/// Why there are no figures of it.
pub const MISSING: &str = "not installed: apt-get install mosquitto";

/// Where the program is, if it is there.
pub fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KEEPSTEP_MOSQUITTO_BIN").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts it where only root looks.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join("mosquitto")).find(|file| file.is_file())
}

struct Broker {
    process: Process,
    addr: String,
    _folder: TempDir,
}

impl Broker {
    async fn start() -> Result<Self, String> {
        let program = program().ok_or(MISSING)?;
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        let port = free_port();
        // No bound on what waits for an offline session, as many in flight as Keepstep's window, no Nagle: its best.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nmax_inflight_messages 256\nset_tcp_nodelay true\nlog_type error\nuser root\n",
            folder.path().display()
        );
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut process = Process::new("mosquitto", program, folder.path().join("mosquitto.log")).arg("-c").arg(file);
        machine::pin(machine::SERVERS);
        process.spawn();
        machine::pin(machine::LOAD);
        let addr = format!("127.0.0.1:{port}");
        process.ready(|| async { TcpStream::connect(&addr).await.is_ok() }).await?;
        Ok(Self { process, addr, _folder: folder })
    }

    fn servers(&self) -> Vec<(&'static str, u32)> {
        vec![("mosquitto", self.process.pid())]
    }
}

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;

/// One connection. `buffer` holds what was read and isn't a whole packet yet.
struct Mqtt {
    stream: TcpStream,
    buffer: BytesMut,
    out: Vec<u8>,
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(0));
    out.put_slice(text.as_bytes());
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.put_u8(first);
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        out.put_u8(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    out.put_slice(body);
}

fn put_publish(out: &mut Vec<u8>, id: u16, topic: &str, payload: &[u8]) {
    let mut packet = Vec::with_capacity(payload.len() + topic.len() + 4);
    put_text(&mut packet, topic);
    packet.put_u16(id);
    packet.put_slice(payload);
    put_packet(out, PUBLISH << 4 | 2, &packet);
}

impl Mqtt {
    async fn connect(addr: &str, id: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| format!("connect to {addr}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut mqtt = Self { stream, buffer: BytesMut::new(), out: Vec::new() };
        let mut packet = Vec::new();
        put_text(&mut packet, "MQTT");
        // Level 4, not clean, no keep-alive.
        packet.put_slice(&[4, 0, 0, 0]);
        put_text(&mut packet, id);
        put_packet(&mut mqtt.out, 0x10, &packet);
        mqtt.flush().await?;
        let (kind, answer) = mqtt.expect().await?;
        if kind >> 4 == CONNACK && answer.get(1) == Some(&0) {
            Ok(mqtt)
        } else {
            Err(format!("mosquitto refused a connection: {kind:x} {answer:?}"))
        }
    }

    async fn subscribe(&mut self, topic: &str) -> Result<(), String> {
        let mut packet = vec![0, 1];
        put_text(&mut packet, topic);
        packet.put_u8(1);
        put_packet(&mut self.out, 0x82, &packet);
        self.flush().await?;
        let (kind, answer) = self.expect().await?;
        if kind >> 4 == SUBACK && answer.last() == Some(&1) {
            Ok(())
        } else {
            Err(format!("mosquitto refused a subscription: {kind:x} {answer:?}"))
        }
    }

    async fn flush(&mut self) -> Result<(), String> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await.map_err(|error| format!("mosquitto: {error}"))?;
            self.out.clear();
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), String> {
        self.buffer.reserve(4 << 10);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("mosquitto closed a connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("mosquitto: {error}")),
        }
    }

    /// The next whole packet of what was read: its first byte and the rest.
    fn packet(&mut self) -> Option<(u8, BytesMut)> {
        let (mut length, mut at) = (0usize, 1);
        loop {
            let byte = *self.buffer.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.buffer.len() < at + length {
            return None;
        }
        let first = self.buffer[0];
        self.buffer.advance(at);
        Some((first, self.buffer.split_to(length)))
    }

    async fn expect(&mut self) -> Result<(u8, BytesMut), String> {
        loop {
            if let Some(packet) = self.packet() {
                return Ok(packet);
            }
            self.read().await?;
        }
    }
}

/// Receives, counts and acknowledges until the connection ends.
async fn receive(mut mqtt: Mqtt, tally: Arc<Tally>) -> Result<(), String> {
    loop {
        let mut count = 0;
        while let Some((first, packet)) = mqtt.packet() {
            if first >> 4 != PUBLISH {
                continue;
            }
            let topic = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
            let (id, payload) = (&packet[topic + 2..topic + 4], &packet[topic + 4..]);
            mqtt.out.extend_from_slice(&[PUBACK << 4, 2, id[0], id[1]]);
            count += 1;
            if tally.timed.load(Ordering::Relaxed) {
                tally.time(stamp(payload));
            }
        }
        tally.received.fetch_add(count, Ordering::Relaxed);
        mqtt.flush().await?;
        tally.acked.fetch_add(count, Ordering::Relaxed);
        mqtt.read().await?;
    }
}

type Accepted = oneshot::Sender<()>;

/// One sender's connection.
struct Sender {
    asks: mpsc::UnboundedSender<(usize, Accepted)>,
}

impl Sender {
    async fn start(addr: &str, id: &str, tally: &Arc<Tally>) -> Result<Self, String> {
        let mqtt = Mqtt::connect(addr, id).await?;
        let (asks, asked) = mpsc::unbounded_channel();
        let tally = tally.clone();
        tokio::spawn(async move {
            if let Err(why) = publish(mqtt, asked).await {
                tally.fail(why);
            }
        });
        Ok(Self { asks })
    }

    async fn send(&self, chat: usize) -> Result<(), String> {
        let (accepted, wait) = oneshot::channel();
        let gone = "a sender's connection has ended";
        self.asks.send((chat, accepted)).map_err(|_| gone)?;
        wait.await.map_err(|_| gone.to_owned())
    }
}

async fn publish(mut mqtt: Mqtt, mut asked: mpsc::UnboundedReceiver<(usize, Accepted)>) -> Result<(), String> {
    let mut waiting: VecDeque<Accepted> = VecDeque::new();
    let mut id = 0u16;
    let mut topic = String::new();
    loop {
        tokio::select! {
            read = mqtt.read() => {
                read?;
                // Answers come in the order of the sends.
                while let Some((first, _)) = mqtt.packet() {
                    if first >> 4 == PUBACK && let Some(accepted) = waiting.pop_front() {
                        let _ = accepted.send(());
                    }
                }
            }
            ask = asked.recv() => {
                let Some((chat, accepted)) = ask else { return Ok(()) };
                id = id.checked_add(1).unwrap_or(1);
                topic.clear();
                let _ = write!(topic, "c/{chat}");
                put_publish(&mut mqtt.out, id, &topic, body().as_bytes());
                waiting.push_back(accepted);
                mqtt.flush().await?;
            }
        }
    }
}

struct Fan {
    broker: Broker,
    senders: Vec<Sender>,
    tally: Arc<Tally>,
}

impl Rig for Fan {
    async fn send(&self, sender: usize, chat: usize) -> Result<(), String> {
        self.senders[sender % self.senders.len()].send(chat).await
    }
    fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
    fn servers(&self) -> Vec<(&'static str, u32)> {
        self.broker.servers()
    }
}

async fn receivers(addr: &str, chats: usize, devices: usize, tally: &Arc<Tally>) -> Result<(), String> {
    let one = |n: usize| async move {
        let mut mqtt = Mqtt::connect(addr, &format!("device-{n}")).await?;
        mqtt.subscribe(&format!("c/{}", n / devices)).await?;
        tally.ready.fetch_add(1, Ordering::Relaxed);
        let tally = tally.clone();
        tokio::spawn(async move {
            if let Err(why) = receive(mqtt, tally.clone()).await {
                tally.fail(why);
            }
        });
        Ok::<_, String>(())
    };
    stream::iter((0..chats * devices).map(one)).buffer_unordered(64).try_collect::<()>().await
}

impl Fan {
    async fn start(size: Size) -> Result<Self, String> {
        let broker = Broker::start().await?;
        let tally = Tally::new();
        receivers(&broker.addr, size.chats, size.devices, &tally).await?;
        let mut senders = Vec::new();
        for n in 0..size.senders {
            senders.push(Sender::start(&broker.addr, &format!("sender-{n}"), &tally).await?);
        }
        Ok(Self { broker, senders, tally })
    }
}

/// See [`work::throughput`].
pub async fn throughput(size: Size) -> Result<Figures, String> {
    work::throughput(&Fan::start(size).await?, size).await
}

/// See [`work::latency`].
pub async fn latency(size: Size, per_second: f64) -> Result<Figures, String> {
    work::latency(&Fan::start(size).await?, size, per_second).await
}

/// Memory of an idle session.
pub async fn idle(size: Size, devices: usize) -> Result<Figures, String> {
    let broker = Broker::start().await?;
    let before = work::memory(broker.servers());
    let tally = Tally::new();
    receivers(&broker.addr, devices / size.devices, size.devices, &tally).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut figures = Figures::new();
    work::put_growth(&mut figures, &before, &work::memory(broker.servers()), devices);
    work::put_idle_costs(&mut figures, broker.servers(), size.seconds).await;
    tally.check()?;
    Ok(figures)
}

/// A session comes back to a long queue.
pub async fn drain(count: usize) -> Result<Figures, String> {
    let broker = Broker::start().await?;
    let tally = Tally::new();
    // The session exists from its first connection on.
    let mut first = Mqtt::connect(&broker.addr, "device-0").await?;
    first.subscribe("c/0").await?;
    put_packet(&mut first.out, 0xe0, &[]);
    first.flush().await?;
    drop(first);
    let sender = Sender::start(&broker.addr, "sender-0", &tally).await?;
    let sender = &sender;
    stream::iter((0..count).map(|_| sender.send(0))).buffer_unordered(64).try_collect::<()>().await?;
    let began = Instant::now();
    let mqtt = Mqtt::connect(&broker.addr, "device-0").await?;
    let receiving = tokio::spawn(receive(mqtt, tally.clone()));
    while tally.acked() < count as u64 {
        tally.check()?;
        if began.elapsed() > Duration::from_secs(60) || receiving.is_finished() {
            return Err(format!("only {} of {count} have come", tally.acked()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    receiving.abort();
    Ok(Figures::from([("seconds".to_owned(), seconds)]))
}
