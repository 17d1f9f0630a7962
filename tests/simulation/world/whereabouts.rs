//! Where the messages of a device are, as the broker and the store know it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keepstep::{
    domain::{
        id::{ChatId, DeviceId},
        message::chat_and_seq,
    },
    simulation::{broker::is_whole, queue::At},
};

use super::World;
use crate::unkind::{Unkind, may};

impl World {
    /// Which of these messages the device's queue or the log still has, or the device's sessions finished.
    pub async fn held(&self, chat: ChatId, device: DeviceId, from: u64, to: u64) -> Vec<u64> {
        if !may(Unkind::GapsHeld) {
            return Vec::new();
        }
        let mut held = BTreeSet::new();
        let of_it =
            |body: &Bytes| chat_and_seq(body).map(|(_, seq)| seq).filter(|seq| (from..=to).contains(seq));
        let (mut finished, mut torn) = (BTreeSet::new(), BTreeSet::new());
        self.0.broker.each(chat, device, |body, at| {
            let into = match at {
                At::Finished => &mut finished,
                At::Torn => &mut torn,
                _ => &mut held,
            };
            into.extend(of_it(body).filter(|_| is_whole(body)));
        });
        // Of two that are the same a session finishes one; if the other comes back torn, nobody has it.
        held.extend(finished.difference(&torn));
        let count = usize::try_from(to + 1 - from).unwrap_or(0);
        let page = self.0.store.log(chat, from, count, usize::MAX).await.expect("the truth is always there");
        held.extend(page.messages.into_iter().map(|(seq, _)| seq).filter(|seq| (from..=to).contains(seq)));
        // As long as the broker has lost nothing there is no gap: what isn't there was never in the queue, because it was
        // published before that was. (But for what the log couldn't keep until the broker was back.)
        let losses = [
            "messages lost by the broker",
            "broker disks lost",
            "messages too large for the broker",
            "messages torn by the broker",
        ];
        let injected = self.shared().injected();
        if losses.iter().all(|loss| !injected.contains_key(loss)) {
            let let_go = self.0.store.let_go(chat);
            held.extend((from..=to).filter(|seq| !let_go.contains(seq)));
        }
        held.into_iter().collect()
    }

    /// Where the messages are that a device waits for, in words.
    pub async fn whereabouts(&self, chat: ChatId, device: DeviceId, from: u64) -> String {
        let mut places: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        self.0.broker.each(chat, device, |body, at| {
            let Some((_, seq)) = chat_and_seq(body).filter(|(_, seq)| *seq >= from) else { return };
            let place = match at {
                At::Waiting => "waiting",
                At::InFlight => "in flight",
                At::Nowhere => "with a lost consumer",
                At::Finished => "finished",
                At::Torn => "torn",
            };
            places.entry(place).or_default().insert(seq);
        });
        let log = self.0.store.log(chat, from, 1, 1).await.expect("the truth is always there");
        let ends = |seqs: BTreeSet<u64>| (seqs.len(), seqs.first().copied(), seqs.last().copied());
        let places: Vec<_> = places.into_iter().map(|(place, seqs)| (place, ends(seqs))).collect();
        format!("log from {} to {}, queue {places:?}", log.floor, log.head)
    }

    /// Whether the device's queue holds anything with a consumer that has gone without a word.
    pub fn has_lost_consumer(&self, chat: ChatId, device: DeviceId) -> bool {
        let mut has = false;
        self.0.broker.each(chat, device, |_, at| has |= at == At::Nowhere);
        has
    }

    /// Whether the device's queue holds this message with a consumer that has gone without a word, and only there.
    pub fn is_nowhere(&self, chat: ChatId, device: DeviceId, seq: u64) -> bool {
        let (mut nowhere, mut somewhere) = (false, false);
        self.0.broker.each(chat, device, |body, at| {
            if chat_and_seq(body).is_some_and(|(_, of)| of == seq) {
                nowhere |= at == At::Nowhere;
                somewhere |= matches!(at, At::Waiting | At::InFlight);
            }
        });
        nowhere && !somewhere
    }
}
