//! The two works that every system does alike: as much as it can, and a steady trickle.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    machine,
    tally::{Figures, Tally, put_times},
};

/// A system with its chats set up and all its receivers connected.
pub trait Rig {
    /// Sends one message to a chat, and waits until the system has accepted it.
    fn send(&self, sender: usize, chat: usize) -> impl Future<Output = Result<(), String>>;
    /// What the receivers count.
    fn tally(&self) -> &Arc<Tally>;
    /// The processes that do the work.
    fn servers(&self) -> Vec<(&'static str, u32)>;
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Chats.
    pub chats: usize,
    /// Devices of each chat.
    pub devices: usize,
    /// Senders that wait for each message to be accepted before they send the next.
    pub senders: usize,
    /// Seconds before anything counts.
    pub warm_up: f64,
    /// Seconds that count.
    pub seconds: f64,
}

/// Each sender sends as fast as it is let; acknowledged deliveries are counted.
pub async fn throughput<R: Rig>(rig: &R, size: Size) -> Result<Figures, String> {
    let tally = rig.tally();
    let stop = std::cell::Cell::new(false);
    let sent = std::cell::Cell::new(0u64);
    let (stop, sent) = (&stop, &sent);
    let senders = (0..size.senders).map(|sender| async move {
        // Each has chats of its own, so that two senders never wait for each other's.
        let mut chats = (sender..size.chats).step_by(size.senders).cycle();
        while !stop.get() {
            let Some(chat) = chats.next() else { break };
            rig.send(sender, chat).await?;
            sent.set(sent.get() + 1);
        }
        Ok::<(), String>(())
    });
    let watch = async {
        sleep(Duration::from_secs_f64(size.warm_up)).await;
        let (began, sent_before, acked_before) = (Instant::now(), sent.get(), tally.acked());
        let costs_before = costs(rig);
        sleep(Duration::from_secs_f64(size.seconds)).await;
        let seconds = began.elapsed().as_secs_f64();
        let (sent_then, acked_then) = (sent.get() - sent_before, tally.acked() - acked_before);
        let mut figures = Figures::new();
        let mut busy = 0.0;
        for ((name, after), (_, before)) in costs(rig).into_iter().zip(costs_before) {
            let share = (after - before) / seconds;
            figures.insert(format!("cpu_{name}"), share);
            if name != "load" {
                busy += share;
            }
        }
        let rate = acked_then as f64 / seconds;
        figures.insert("deliveries_per_s".to_owned(), rate);
        figures.insert("deliveries_per_core_s".to_owned(), rate / busy);
        figures.insert("sends_per_s".to_owned(), sent_then as f64 / seconds);
        let owed = sent.get() * size.devices as u64;
        figures.insert("behind_at_end".to_owned(), owed.saturating_sub(tally.acked()) as f64);
        stop.set(true);
        figures
    };
    let (ended, figures) = tokio::join!(join_all(senders), watch);
    ended.into_iter().collect::<Result<(), String>>()?;
    all_acked(tally, sent.get() * size.devices as u64).await?;
    Ok(figures)
}

/// `per_second` sends, evenly, whether or not earlier ones are through; the time from the send to each receiver is
/// taken.
pub async fn latency<R: Rig>(rig: &R, size: Size, per_second: f64) -> Result<Figures, String> {
    let tally = rig.tally();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (warm_up, total) = ((size.warm_up * per_second) as u64, ((size.warm_up + size.seconds) * per_second) as u64);
    let mut under_way = FuturesUnordered::new();
    let mut costs_before = costs(rig);
    let mut began = Instant::now();
    for turn in 0..total {
        loop {
            tokio::select! {
                _ = ticks.tick() => break,
                Some(sent) = under_way.next(), if !under_way.is_empty() => sent?,
            }
        }
        if turn == warm_up {
            tally.timed.store(true, Ordering::Relaxed);
            costs_before = costs(rig);
            began = Instant::now();
        }
        let turn = usize::try_from(turn).unwrap_or(usize::MAX);
        under_way.push(rig.send(turn % size.senders, turn % size.chats));
    }
    let costs_after = costs(rig);
    let seconds = began.elapsed().as_secs_f64();
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    all_acked(tally, total * size.devices as u64).await?;
    let mut figures = Figures::new();
    put_times(&mut figures, "receive", tally.take_times());
    for ((name, after), (_, before)) in costs_after.into_iter().zip(costs_before) {
        figures.insert(format!("cpu_{name}"), (after - before) / seconds);
    }
    Ok(figures)
}

/// Waits until everything that is owed has arrived and was acknowledged: a fast system that loses messages is none.
async fn all_acked(tally: &Tally, owed: u64) -> Result<(), String> {
    let began = Instant::now();
    loop {
        tally.check()?;
        let acked = tally.acked();
        if acked == owed {
            return Ok(());
        }
        if acked > owed {
            return Err(format!("{acked} messages were acknowledged, but only {owed} are owed"));
        }
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("only {acked} of {owed} messages have come, a minute after the last was sent"));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until so many receivers are ready.
pub async fn all_ready(tally: &Tally, receivers: u64, patience: Duration) -> Result<(), String> {
    let began = Instant::now();
    while tally.ready.load(Ordering::Relaxed) < receivers {
        tally.check()?;
        if began.elapsed() > patience {
            let ready = tally.ready.load(Ordering::Relaxed);
            return Err(format!("only {ready} of {receivers} receivers are ready after {patience:?}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Processor seconds of each server and of the load generator.
fn costs<R: Rig>(rig: &R) -> Vec<(&'static str, f64)> {
    let mut all = rig.servers();
    all.push(("load", std::process::id()));
    all.into_iter().map(|(name, pid)| (name, machine::cpu_seconds(pid).unwrap_or(f64::NAN))).collect()
}

/// Memory of idle receivers: what each server grew by, per receiver.
pub fn put_growth(
    figures: &mut Figures,
    before: &[(&'static str, u32, f64)],
    after: &[(&'static str, u32, f64)],
    receivers: usize,
) {
    for ((name, _, after), (_, _, before)) in after.iter().zip(before) {
        figures.insert(format!("kib_per_device_{name}"), (after - before) / receivers as f64);
        figures.insert(format!("rss_mib_{name}"), after / 1024.0);
    }
}

/// Each server with its memory in KiB.
pub fn memory(servers: Vec<(&'static str, u32)>) -> Vec<(&'static str, u32, f64)> {
    servers.into_iter().map(|(name, pid)| (name, pid, machine::rss_kib(pid).unwrap_or(f64::NAN))).collect()
}

/// Over some seconds without traffic, what each server uses of a core.
pub async fn put_idle_costs(figures: &mut Figures, servers: Vec<(&'static str, u32)>, seconds: f64) {
    let cost = |pid| machine::cpu_seconds(pid).unwrap_or(f64::NAN);
    let before: Vec<f64> = servers.iter().map(|(_, pid)| cost(*pid)).collect();
    sleep(Duration::from_secs_f64(seconds)).await;
    for ((name, pid), before) in servers.into_iter().zip(before) {
        figures.insert(format!("idle_cpu_{name}"), (cost(pid) - before) / seconds);
    }
}
