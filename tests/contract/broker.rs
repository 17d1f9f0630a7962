//! The broker's contract as stories, each run over both variants. The including module gives `start()`, a fresh broker
//! with whatever has to live as long as it, and `SETTLE`, how long a removed queue is watched for coming back.

use keepstep::{
    broker::{Backlog, Event, Flow, Notice, Prefetch, Present, QueueAt, Receipt, RemovalScope},
    domain::id::{ChatId, DeviceId},
};
use tokio::time::Instant;

use super::{SETTLE, start};
use crate::support::{stays, wait_until};

#[path = "inbox.rs"]
pub mod inbox;

use inbox::{Inbox, PATIENCE, numbers, provision, publish, text, until};

#[tokio::test]
async fn what_is_provisioned_gets_what_is_published_in_order() {
    let (broker, _world) = start().await;
    let (chat, phone, laptop) = (ChatId::random(), DeviceId::random(), DeviceId::random());
    provision(&broker, phone, &[chat]).await;
    provision(&broker, laptop, &[chat]).await;
    publish(&broker, chat, numbers(0..100)).await;

    // Both get all: what was published before they attached, and what after.
    let (mut at_phone, mut at_laptop) = (Inbox::new(16), Inbox::new(16));
    let _phone = at_phone.attach(&broker, chat, phone).await;
    let _laptop = at_laptop.attach(&broker, chat, laptop).await;
    let publishing = publish(&broker, chat, numbers(100..200));
    let (_, phones, laptops) = tokio::join!(publishing, at_phone.take(200), at_laptop.take(200));
    assert_eq!(phones, numbers(0..200));
    assert_eq!(laptops, numbers(0..200));
}

#[tokio::test]
async fn a_later_queue_gets_only_what_comes_later() {
    let (broker, _world) = start().await;
    let (chat, first, second) = (ChatId::random(), DeviceId::random(), DeviceId::random());
    provision(&broker, first, &[chat]).await;
    publish(&broker, chat, numbers(0..3)).await;
    // A server may copy to a new queue what it took and hasn't copied yet.
    until(&broker, first, |queues| queues[0].depth == 3).await;
    provision(&broker, second, &[chat]).await;
    // Once more changes nothing and keeps what is in the queue.
    provision(&broker, first, &[chat]).await;
    publish(&broker, chat, numbers(3..5)).await;

    let (mut at_first, mut at_second) = (Inbox::new(16), Inbox::new(16));
    let _first = at_first.attach(&broker, chat, first).await;
    let _second = at_second.attach(&broker, chat, second).await;
    assert_eq!(at_first.take(5).await, numbers(0..5));
    assert_eq!(at_second.take(2).await, numbers(3..5));
}

#[tokio::test]
async fn one_inbox_serves_many_chats() {
    let (broker, _world) = start().await;
    let device = DeviceId::random();
    let chats: Vec<_> = std::iter::repeat_with(ChatId::random).take(20).collect();
    provision(&broker, device, &chats).await;
    // Room for one: they all wait for it, and each has its turn.
    let mut inbox = Inbox::new(1);
    let mut subscriptions = Vec::new();
    for chat in &chats {
        subscriptions.push(inbox.attach(&broker, *chat, device).await);
    }
    for chat in &chats {
        publish(&broker, *chat, [chat.to_string()]).await;
    }
    let mut seen = Vec::new();
    while seen.len() < chats.len() {
        let Notice { chat, event: Event::Delivery(delivery), .. } = inbox.next().await else {
            panic!("a delivery")
        };
        assert_eq!(text(&delivery.body), chat.to_string());
        delivery.receipt.finish();
        seen.push(chat);
    }
    seen.sort();
    let mut wanted = chats;
    wanted.sort();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_chat_without_queues_takes_a_message_too() {
    let (broker, _world) = start().await;
    publish(&broker, ChatId::random(), numbers(0..1)).await;
}

#[tokio::test]
async fn a_dropped_receipt_comes_back_at_once() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..1)).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, device).await;
    let since = Instant::now();
    for _ in 0..3 {
        let (body, receipt) = inbox.delivery().await;
        assert_eq!(body, "0");
        drop(receipt);
    }
    inbox.take(1).await;
    assert!(since.elapsed() < PATIENCE, "at once, not after the message's time-out");
    let queues = until(&broker, device, |queues| queues[0].in_flight == 0 && queues[0].requeues == 3).await;
    assert_eq!(queues[0].depth, 0);
}

#[tokio::test]
async fn finishing_takes_it_off_the_queue() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..10)).await;
    let (queues, _) = broker.queues_of(device).await;
    assert_eq!(queues.len(), 1);
    assert_eq!((queues[0].chat, queues[0].device, &queues[0].node), (chat, device, &broker.place(chat)));
    until(&broker, device, |queues| queues[0].depth == 10 && queues[0].consumers == 0).await;

    let mut inbox = Inbox::new(16);
    let subscription = inbox.attach(&broker, chat, device).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(inbox.delivery().await.1);
    }
    let queues = until(&broker, device, |queues| queues[0].in_flight == 10).await;
    assert_eq!((queues[0].depth, queues[0].consumers), (0, 1));
    assert!(queues[0].consumer.is_some());

    let kept = held.split_off(7);
    held.into_iter().for_each(Receipt::finish);
    until(&broker, device, |queues| queues[0].in_flight == 3).await;
    kept.into_iter().for_each(Receipt::finish);
    until(&broker, device, |queues| queues[0].in_flight == 0 && queues[0].depth == 0).await;
    drop(subscription);
    let queues = until(&broker, device, |queues| queues[0].consumers == 0).await;
    assert_eq!((queues[0].depth, queues[0].consumer.as_deref()), (0, None));
}

#[tokio::test]
async fn a_backlog_is_what_waits_and_what_is_in_flight() {
    let (broker, _world) = start().await;
    let (chat, other, device, another) =
        (ChatId::random(), ChatId::random(), DeviceId::random(), DeviceId::random());
    let node = broker.place(chat);
    assert_eq!(broker.backlog(&node, chat, device).await.unwrap(), None);
    provision(&broker, device, &[chat, other]).await;
    provision(&broker, another, &[chat]).await;
    publish(&broker, chat, numbers(0..10)).await;
    publish(&broker, other, numbers(0..3)).await;
    let shows = async |depth, in_flight, consumers| {
        let wanted = Some(Backlog { depth, in_flight, consumers, ..Backlog::default() });
        wait_until("the queue to show it", PATIENCE, || async {
            (broker.backlog(&node, chat, device).await.unwrap() == wanted).then_some(())
        })
        .await;
    };
    shows(10, 0, 0).await;
    let mut inbox = Inbox::new(16);
    let subscription = inbox.attach(&broker, chat, device).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(inbox.delivery().await.1);
    }
    shows(0, 10, 1).await;
    held.drain(..4).for_each(Receipt::finish);
    shows(0, 6, 1).await;
    // Given back it waits, or is in flight again.
    held.truncate(3);
    let mut again = 0;
    while again < 3 {
        held.push(inbox.delivery().await.1);
        again += 1;
    }
    shows(0, 6, 1).await;
    subscription.close().await;
    shows(6, 0, 0).await;
    assert_eq!(
        broker.backlog(&node, chat, another).await.unwrap(),
        Some(Backlog { depth: 10, ..Backlog::default() })
    );
    assert_eq!(broker.backlog(&node, chat, DeviceId::random()).await.unwrap(), None);
}

#[tokio::test]
async fn an_emptied_queue_goes_on_with_what_comes_next() {
    let (broker, _world) = start().await;
    let (chat, device, another) = (ChatId::random(), DeviceId::random(), DeviceId::random());
    let node = broker.place(chat);
    provision(&broker, device, &[chat]).await;
    provision(&broker, another, &[chat]).await;
    publish(&broker, chat, numbers(0..10)).await;
    let mut inbox = Inbox::new(4);
    let _subscription = inbox.attach(&broker, chat, device).await;
    let (_, held) = inbox.delivery().await;
    assert!(broker.empty_queue(&node, chat, device).await.unwrap());
    until(&broker, device, |queues| queues[0].depth + queues[0].in_flight == 0).await;
    // What was delivered is settled without effect. nsqd refuses that, and then the consumer begins anew, so that both
    // count the same.
    held.finish();
    publish(&broker, chat, ["next".to_owned()]).await;
    let (mut body, mut receipt) = inbox.delivery_on_any_connection().await;
    while body != "next" {
        // What was under way when it was emptied.
        receipt.finish();
        (body, receipt) = inbox.delivery_on_any_connection().await;
    }
    receipt.finish();
    until(&broker, device, |queues| queues[0].depth + queues[0].in_flight == 0).await;
    let others = until(&broker, another, |queues| queues[0].depth == 11).await;
    assert_eq!(others.len(), 1, "another's is its own");
    assert!(!broker.empty_queue(&node, chat, DeviceId::random()).await.unwrap());
    assert!(!broker.empty_queue(&node, ChatId::random(), device).await.unwrap());
}

#[tokio::test]
async fn closing_gives_everything_back_at_once() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..50)).await;

    // Some are held by the session, some wait in its inbox, some are still on their way there.
    let mut older = Inbox::new(8);
    let subscription = older.attach(&broker, chat, device).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(older.delivery().await.1);
    }
    subscription.close().await;
    let since = Instant::now();
    let mut newer = Inbox::new(8);
    let _subscription = newer.attach(&broker, chat, device).await;
    let mut all = newer.take(50).await;
    assert!(since.elapsed() < PATIENCE, "at once, not after the message's time-out");
    all.sort_by_key(|number| number.parse::<usize>().unwrap());
    assert_eq!(all, numbers(0..50));
    // The older session's receipts are void: neither way of letting go of them does anything.
    drop(held.split_off(10));
    held.into_iter().for_each(Receipt::finish);
    let queues = until(&broker, device, |queues| queues[0].in_flight == 0).await;
    assert_eq!((queues[0].depth, queues[0].consumers), (0, 1));
}

#[tokio::test]
async fn dropping_a_subscription_leaves_no_consumer_and_loses_nothing() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..5)).await;
    let mut inbox = Inbox::new(16);
    let subscription = inbox.attach(&broker, chat, device).await;
    let held = inbox.delivery().await;
    drop(subscription);
    until(&broker, device, |queues| queues[0].consumers == 0 && queues[0].depth == 5).await;
    drop(held);
    until(&broker, device, |queues| queues[0].depth == 5).await;
}

#[tokio::test]
async fn a_session_that_ends_without_a_word_loses_nothing() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..5)).await;
    let mut inbox = Inbox::new(2);
    let subscription = inbox.attach(&broker, chat, device).await;
    drop(inbox);
    until(&broker, device, |queues| queues[0].depth == 5 && queues[0].in_flight == 0).await;
    subscription.close().await;
    until(&broker, device, |queues| queues[0].consumers == 0).await;
}

#[tokio::test]
async fn a_slow_session_loses_nothing() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    let mut inbox = Inbox::new(1);
    let _subscription = inbox.attach(&broker, chat, device).await;
    publish(&broker, chat, numbers(0..1_000)).await;
    assert_eq!(inbox.take(1_000).await, numbers(0..1_000));
    until(&broker, device, |queues| queues[0].in_flight == 0 && queues[0].depth == 0).await;
}

#[tokio::test]
async fn what_one_device_holds_is_bounded_and_every_chat_gets_some() {
    let (broker, _world) = start().await;
    let device = DeviceId::random();
    let chats: Vec<_> = std::iter::repeat_with(ChatId::random).take(10).collect();
    provision(&broker, device, &chats).await;
    for chat in &chats {
        publish(&broker, *chat, numbers(0..40)).await;
    }
    // Room for whatever may come.
    let mut inbox = Inbox::with(1_000, Prefetch::new(20, 1 << 20));
    let subscribed = chats.iter().map(|chat| {
        broker.subscribe(&broker.place(*chat), *chat, device, &inbox.prefetch, inbox.sink.clone())
    });
    let subscriptions: Vec<_> = subscribed.collect();
    let queues = until(&broker, device, |queues| queues.iter().all(|queue| queue.in_flight > 0)).await;
    assert_eq!(queues.len(), 10);
    let in_flight =
        async || broker.queues_of(device).await.0.iter().map(|queue| queue.in_flight).sum::<u64>();
    // And what was on its way when enough had come.
    stays(SETTLE, async || assert!(in_flight().await <= 2 * 20)).await;
    assert!(in_flight().await >= 20);

    // What is finished or given back makes room, until all has come.
    let mut left = 10 * 40;
    let mut given_back = 0;
    while left > 0 {
        if let Event::Delivery(delivery) = inbox.next().await.event {
            if given_back < 30 {
                given_back += 1;
                continue;
            }
            delivery.receipt.finish();
            left -= 1;
        }
    }
    until(&broker, device, |queues| queues.iter().all(|queue| queue.depth + queue.in_flight == 0)).await;
    drop(subscriptions);
}

#[tokio::test]
async fn a_removed_queue_is_gone_and_stays_gone() {
    let (broker, _world) = start().await;
    let (chat, device, other) = (ChatId::random(), DeviceId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    provision(&broker, other, &[chat]).await;
    publish(&broker, chat, numbers(0..5)).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, device).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(inbox.delivery().await.1);
    }
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[chat], RemovalScope::WholeDevice).await;
    assert_eq!(removal.unreachable, Vec::<String>::new());
    assert_eq!(removal.removed.len(), 1);
    let was = &removal.removed[0];
    assert_eq!((was.chat, was.device, was.depth, was.in_flight, was.consumers), (chat, device, 0, 5, 1));
    inbox.gone().await;
    held.into_iter().for_each(Receipt::finish);

    // Whoever comes later isn't let in either, and nobody brings it back.
    let node = broker.place(chat);
    let mut late = Inbox::new(1);
    let _late = broker.subscribe(&node, chat, device, &late.prefetch, late.sink.clone());
    late.gone().await;
    stays(SETTLE, async || assert_eq!(broker.queues_of(device).await, (vec![], vec![]))).await;
    until(&broker, other, |queues| queues[0].depth == 5).await;

    let again =
        broker.remove_queues(&Flow::of("test", "all"), device, &[chat], RemovalScope::WholeDevice).await;
    assert_eq!((again.removed, again.unreachable), (vec![], vec![]));
}

#[tokio::test]
async fn a_removal_tells_what_was_left_in_the_queue() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(0..5)).await;
    until(&broker, device, |queues| queues[0].depth == 5).await;
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[chat], RemovalScope::NamedChats).await;
    assert_eq!(removal.removed.iter().map(|queue| queue.depth).collect::<Vec<_>>(), [5]);
    // Made again it starts empty.
    provision(&broker, device, &[chat]).await;
    publish(&broker, chat, numbers(7..8)).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, device).await;
    assert_eq!(inbox.take(1).await, ["7"]);
}

#[tokio::test]
async fn leaving_one_chat_leaves_the_others_alone() {
    let (broker, _world) = start().await;
    let (left, kept, unnamed, device) =
        (ChatId::random(), ChatId::random(), ChatId::random(), DeviceId::random());
    provision(&broker, device, &[left, kept, unnamed]).await;
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[left], RemovalScope::NamedChats).await;
    assert_eq!(removal.removed.iter().map(|queue| queue.chat).collect::<Vec<_>>(), [left]);
    let mut rest: Vec<_> = broker.queues_of(device).await.0.into_iter().map(|queue| queue.chat).collect();
    rest.sort();
    let mut wanted = vec![kept, unnamed];
    wanted.sort();
    assert_eq!(rest, wanted);
    let Present { queues: all, silent, .. } = broker.queues().await;
    let all: Vec<_> = all.iter().filter(|queue| queue.device == device).map(|queue| queue.chat).collect();
    assert!(all.len() == 2 && wanted.iter().all(|chat| all.contains(chat)) && silent.is_empty());

    // A termination finds also what it wasn't told of.
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[kept], RemovalScope::WholeDevice).await;
    assert_eq!(removal.removed.len(), 2);
    assert_eq!(broker.queues_of(device).await, (vec![], vec![]));
}

#[tokio::test]
async fn a_removed_chat_takes_all_its_queues_along() {
    let (broker, _world) = start().await;
    let (chat, other, phone, laptop) =
        (ChatId::random(), ChatId::random(), DeviceId::random(), DeviceId::random());
    provision(&broker, phone, &[chat, other]).await;
    provision(&broker, laptop, &[chat]).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, phone).await;
    assert_eq!(broker.remove_chat(chat).await, Vec::<String>::new());
    inbox.gone().await;
    assert_eq!(broker.queues_of(laptop).await, (vec![], vec![]));
    assert_eq!(broker.queues_of(phone).await.0.len(), 1);
    assert_eq!(broker.remove_chat(chat).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_well_broker_says_so() {
    let (broker, _world) = start().await;
    let health = broker.health().await;
    assert!(!health.is_empty());
    for node in &health {
        assert_eq!(node.problem, None, "{node:?}");
    }
    let place = broker.place(ChatId::random());
    assert!(health.iter().any(|node| node.node == place), "{place} in {health:?}");
}

#[tokio::test]
async fn all_queues_are_summed_up() {
    let (broker, _world) = start().await;
    let (one, other, phone, laptop) =
        (ChatId::random(), ChatId::random(), DeviceId::random(), DeviceId::random());
    provision(&broker, phone, &[one, other]).await;
    provision(&broker, laptop, &[one]).await;
    publish(&broker, one, numbers(0..5)).await;
    publish(&broker, other, numbers(0..2)).await;
    let totals = wait_until("what was published to be in the queues", PATIENCE, || async {
        let totals = broker.totals(100).await;
        let held: u64 = totals.devices.values().map(|device| device.depth).sum();
        (held == 12).then_some(totals)
    })
    .await;
    assert_eq!((totals.devices[&phone].queues, totals.devices[&phone].depth), (2, 7));
    assert_eq!((totals.devices[&laptop].queues, totals.devices[&laptop].depth), (1, 5));
    let mut holding = totals.holding.clone();
    holding.sort_unstable_by_key(|(device, _, held)| (*device != phone, *held));
    assert_eq!(holding, [(phone, other, 2), (phone, one, 5), (laptop, one, 5)]);
    assert_eq!(totals.nodes.iter().map(|node| node.queues).sum::<u64>(), 3);
    assert_eq!(totals.nodes.iter().map(|node| node.depth).sum::<u64>(), 12);
    assert!(totals.silent.is_empty() && !totals.truncated);
    // No more than so many are told apart, but all are counted.
    let few = broker.totals(2).await;
    assert_eq!(few.devices.values().map(|device| device.queues).sum::<u64>(), 2);
    assert_eq!((few.nodes.iter().map(|node| node.queues).sum::<u64>(), few.truncated), (3, true));

    let node = broker.queues_of(laptop).await.0[0].node.clone();
    let at = |chat, device| QueueAt { node: node.as_str().into(), chat, device };
    let found = broker.queue_at(&at(one, laptop)).await.unwrap().unwrap();
    assert_eq!((found.chat, found.device, found.depth), (one, laptop, 5));
    assert_eq!(broker.queue_at(&at(other, laptop)).await.unwrap(), None);
    assert_eq!(broker.queue_at(&at(ChatId::random(), laptop)).await.unwrap(), None);
}
