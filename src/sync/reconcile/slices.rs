//! The state of the edge that reconciles: its round, what it has found once, and what it must look at soon.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    SOON, WORK,
    diff::{Comparison, Drift, OF_A_CHAT, Speed, shown_by_none},
    listing::{Listing, Shown},
    mending,
    round::Round,
};
use crate::{
    domain::id::ChatId,
    store::Result as Stored,
    sync::{
        Core,
        budget::{Kind, Sweep, URGENT},
        placement, trim,
    },
};

/// A slice of a round takes so long, and then the servers are read again …
const SLICE: Duration = Duration::from_secs(10);
/// … unless their answers take longer than this part of it.
const LISTING_PART: u32 = 20;
/// Chats that are compared urgently when an edge takes over: the one before may have left something half done.
const TAKEN_OVER: usize = 5_000;
/// Chats of a server that is away for good, in one slice.
const GIVEN_UP: usize = placement::MOST;
/// Commands for a chat with two users whom nobody else talks to.
const A_CHAT: usize = OF_A_CHAT + 2;
/// How often a long round records how far it is.
const SAVE: Duration = Duration::from_secs(60);

/// A round under way.
#[derive(Debug)]
struct UnderWay {
    round: Round,
    begun: Instant,
    // It began with the first page.
    is_whole: bool,
    // Logs are trimmed, too.
    trims: bool,
}

/// The edge that reconciles.
#[derive(Debug)]
pub(super) struct Reconciler<'a> {
    core: &'a Core,
    sweep: Sweep<'a>,
    round: Option<UnderWay>,
    shown: Shown,
    // Found once.
    suspects: Drift,
    // To be compared at once; servers whose chats must be, as soon as they answer; how many looks follow soon.
    urgent: HashSet<ChatId>,
    restarted: HashSet<String>,
    hurry: u32,
    // The store failed.
    has_failed: bool,
    // So many chats of the round are compared urgently.
    urgent_chats: usize,
    away: Away,
    times: Times,
}

/// Servers that are away for good.
#[derive(Debug, Default)]
struct Away {
    // Those whose chats were looked for.
    known: HashSet<String>,
    // Chats to relocate, each with its server.
    chats: HashMap<ChatId, String>,
}

/// What the servers show, and how long they took to say so.
#[derive(Debug)]
pub(super) struct Listed {
    listing: Listing,
    took: Duration,
}

/// How far a slice came, and what it found.
#[derive(Debug)]
pub(super) struct Slice {
    round: Round,
    found: Drift,
    urgent_chats: usize,
    has_failed: bool,
}

/// When something was done last.
#[derive(Debug)]
struct Times {
    trimmed: Option<Instant>,
    saved: Instant,
}

impl<'a> Reconciler<'a> {
    /// Returns the least time between the beginnings of two rounds.
    pub(super) fn period(core: &Core) -> Duration {
        core.timing.reconcile.min(trim::period(core))
    }

    /// Goes on where the edge before has recorded to be.
    pub(super) async fn take_over(core: &'a Core) -> Self {
        let page = core.store.saved_sweep(WORK).await.ok().flatten().unwrap_or(0);
        let mut taken = Self {
            core,
            sweep: Sweep::new(core, Kind::Reconcile),
            round: None,
            shown: Shown::default(),
            suspects: Drift::default(),
            urgent: HashSet::new(),
            restarted: HashSet::new(),
            hurry: 2,
            has_failed: false,
            urgent_chats: TAKEN_OVER,
            away: Away::default(),
            times: Times { trimmed: None, saved: Instant::now() },
        };
        taken.begin_round_at(page);
        taken
    }

    fn hurries(&self) -> bool {
        self.hurry > 0
    }

    /// Returns when the next slice follows; none: when the time of the next round has come.
    pub(super) fn pause(&self) -> Option<Duration> {
        if self.hurries() || self.has_failed {
            return Some(SOON);
        }
        let has_many = self.suspects.len() > self.most(self.sweep.rate());
        (self.round.is_some() || has_many || !self.away.chats.is_empty()).then_some(Duration::ZERO)
    }

    /// A restarted server may have lost queues, or restored some: look twice, without the usual pauses.
    pub(super) fn on_restart(&mut self, nodes: &[String]) {
        self.restarted.extend(nodes.iter().cloned());
        self.hurry = 2;
    }

    pub(super) fn begin_round(&mut self) {
        if self.round.is_none() {
            self.begin_round_at(0);
        }
    }

    /// Begins anew: which chats an event is about is unknown.
    fn begin_urgent_round(&mut self) {
        self.urgent_chats = usize::MAX;
        self.begin_round_at(0);
    }

    fn begin_round_at(&mut self, page: u64) {
        let period = trim::period(self.core);
        let trims = self.times.trimmed.is_none_or(|at| at.elapsed() >= period);
        if trims {
            self.times.trimmed = Some(Instant::now());
        }
        let (begun, is_whole) = (Instant::now(), page == 0);
        self.round = Some(UnderWay { round: Round::at(page), begun, is_whole, trims });
    }

    /// Reads the servers, looks again at what was found once, at what events are about, and at chats without a server; repairs
    /// what was found twice. If the store fails, the next slice does it again. Returns what the servers show.
    pub(super) async fn look_and_mend(&mut self) -> Listed {
        let begun = Instant::now();
        self.has_failed = false;
        let remembered = self.core.broker.remembered().await;
        let present = self.core.broker.queues().await;
        // At once, without a second comparison: nobody loses anything by it, and an nsqd that creates a topic again creates all
        // remembered channels.
        let by_none = shown_by_none(remembered, &present);
        let listing = Listing::of(present);
        let took = begun.elapsed();
        mending::remove_orphans(self.core, self.speed(), by_none).await;
        self.take_changed(&listing);
        let (urgent, before) = self.take_due();
        match self.look_again(&listing, &urgent, &before).await {
            Ok((mut twice, once)) => {
                self.take_unplaced(mem::take(&mut twice.unplaced));
                self.relocate_some().await;
                self.suspects.extend(mending::repair(self.core, self.speed(), twice).await);
                self.suspects.extend(once);
            }
            Err(error) => {
                tracing::debug!(%error, "queues can't be compared now");
                self.urgent.extend(urgent);
                self.suspects.extend(before);
                self.has_failed = true;
            }
        }
        if self.urgent.is_empty() {
            self.hurry = self.hurry.saturating_sub(1);
        }
        Listed { listing, took }
    }

    /// Learns from a listing which chats must be compared at once.
    fn take_changed(&mut self, listing: &Listing) {
        let nodes = self.core.broker.nodes();
        let names = nodes.iter().map(|(node, _)| node.clone());
        let changed = self.shown.update(names, listing, &mut self.restarted);
        self.urgent.extend(changed.chats);
        if changed.is_back {
            self.hurry = 2;
        }
        if changed.has_lost {
            self.begin_urgent_round();
        }
        let give_up = self.core.timing.nsqd_give_up;
        for (node, _) in nodes {
            let down = self.core.broker.down_for(&node);
            if give_up.is_zero() || down.is_none_or(|down| down < give_up) {
                self.away.known.remove(&node);
            } else if let Some(chats) = self.shown.take(&node, GIVEN_UP) {
                self.urgent.extend(chats);
            } else if self.away.known.insert(node) {
                // Nobody knows which chats it has.
                self.begin_urgent_round();
            }
        }
    }

    /// Takes chats whose server is away for good. If it isn't configured any more, the other chats that it had are looked for.
    fn take_unplaced(&mut self, unplaced: HashMap<ChatId, String>) {
        let nodes = self.core.broker.nodes();
        for (chat, node) in unplaced {
            if nodes.iter().all(|(other, _)| *other != node) && self.away.known.insert(node.clone()) {
                self.begin_urgent_round();
            }
            self.away.chats.insert(chat, node);
        }
    }

    /// Relocates some of these chats. What fails is found again.
    async fn relocate_some(&mut self) {
        let chats: Vec<ChatId> = self.away.chats.keys().copied().take(placement::MOST).collect();
        let some = chats.into_iter().filter_map(|chat| self.away.chats.remove_entry(&chat)).collect();
        placement::relocate_all(self.core, &some).await;
    }

    /// Takes what is looked at in this slice, of what is urgent and of what was found once.
    fn take_due(&mut self) -> (Vec<ChatId>, Drift) {
        let urgent: Vec<ChatId> = self.urgent.iter().copied().take(self.most(URGENT)).collect();
        for chat in &urgent {
            self.urgent.remove(chat);
        }
        let most = if self.hurries() { self.most(URGENT) } else { self.most(self.sweep.rate()) };
        let suspects = self.suspects.chats().into_iter().take(most).chain(urgent.iter().copied());
        let before = self.suspects.take(&suspects.collect());
        (urgent, before)
    }

    /// Returns how many chats a slice may look at.
    fn most(&self, rate: f64) -> usize {
        (rate * SLICE.as_secs_f64()) as usize / A_CHAT + 1
    }

    async fn look_again(
        &self,
        listing: &Listing,
        urgent: &[ChatId],
        before: &Drift,
    ) -> Stored<(Drift, Drift)> {
        let (mut comparison, mut found) = (Comparison::with(self.core, listing), Drift::default());
        let mut again = before.chats();
        for chat in urgent {
            again.remove(chat);
        }
        let again: Vec<ChatId> = again.into_iter().collect();
        for (chats, speed) in [(urgent, Speed::Urgent(&self.sweep)), (&again, self.speed())] {
            for chats in chats.chunks(speed.chats()) {
                let absent = comparison.compare(chats, speed, &mut found, &mut |_, _| {}).await?;
                comparison.ring_unread(speed).await;
                let absent = absent.into_iter().filter_map(|chat| before.absent.get_key_value(&chat));
                found.absent.extend(absent.map(|(chat, since)| (*chat, *since)));
            }
        }
        Ok(found.confirm(before))
    }

    fn speed(&self) -> Speed<'_> {
        if self.hurries() { Speed::Urgent(&self.sweep) } else { Speed::Budget(&self.sweep) }
    }

    /// Compares the next chats of the round, until the slice is over. Changes nothing: what is cut off comes again.
    pub(super) async fn go_on(&self, listed: &Listed) -> Option<Slice> {
        let round = self.round.as_ref()?.round.clone();
        let mut slice =
            Slice { round, found: Drift::default(), urgent_chats: self.urgent_chats, has_failed: false };
        let mut comparison = Comparison::with(self.core, &listed.listing);
        let until = Instant::now() + SLICE.min(self.core.timing.reconcile).max(listed.took * LISTING_PART);
        while !slice.round.is_over() && Instant::now() < until && (!self.hurries() || slice.urgent_chats > 0)
        {
            if let Err(error) = self.step(&mut comparison, &mut slice).await {
                tracing::debug!(%error, "queues can't be compared now");
                slice.has_failed = true;
                break;
            }
        }
        Some(slice)
    }

    /// Compares the next chats. What has failed comes again.
    async fn step(&self, comparison: &mut Comparison<'_>, slice: &mut Slice) -> Stored<()> {
        let speed =
            if slice.urgent_chats > 0 { Speed::Urgent(&self.sweep) } else { Speed::Budget(&self.sweep) };
        if let Some(page) = slice.round.needs() {
            speed.spend(1).await;
            let page = self.core.store.chat_ids(page).await?;
            if let Some(seen) = slice.round.add(&page) {
                let beyond = comparison.listing.beyond(page.listed, &seen);
                beyond.for_each(|chat| comparison.is_nowhere(chat, &mut slice.found));
            }
        }
        let chats = slice.round.next(speed.chats());
        let absent = comparison.compare(&chats, speed, &mut slice.found, &mut |_, _| {}).await?;
        comparison.ring_unread(speed).await;
        slice.found.absent.extend(absent.into_iter().map(|chat| (chat, Instant::now())));
        if self.round.as_ref().is_some_and(|under_way| under_way.trims) {
            trim::look(self.core, &chats, speed).await?;
        }
        slice.urgent_chats = slice.urgent_chats.saturating_sub(chats.len());
        slice.round.pass(chats.len());
        Ok(())
    }

    /// Takes what a slice has found, and how far it came.
    pub(super) async fn end_slice(&mut self, slice: Option<Slice>) {
        let Some(Slice { round, mut found, urgent_chats, has_failed }) = slice else { return };
        let unplaced = mem::take(&mut found.unplaced);
        self.urgent_chats = urgent_chats;
        self.has_failed |= has_failed;
        self.suspects.extend(found);
        self.save(&round).await;
        let is_over = round.is_over();
        let Some(under_way) = &mut self.round else { return };
        under_way.round = round;
        if is_over {
            if under_way.is_whole {
                self.sweep.went_round(under_way.begun);
            }
            (self.round, self.urgent_chats) = (None, 0);
        }
        // (They may begin another round.)
        self.take_unplaced(unplaced);
        self.relocate_some().await;
    }

    /// Records now and then how far a long round is. If this fails, the next slice records it.
    async fn save(&mut self, round: &Round) {
        let Some(page) = round.position().filter(|_| self.times.saved.elapsed() >= SAVE) else { return };
        self.sweep.spend(1).await;
        if self.core.store.save_sweep(WORK, page).await.is_ok() {
            self.times.saved = Instant::now();
        }
    }
}
