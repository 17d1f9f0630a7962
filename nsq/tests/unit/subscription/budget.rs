use proptest::prelude::*;

use super::*;

const LARGE: usize = 10;

fn wish(told: u32, live: u32, ahead: u32) -> Wish {
    Wish { told, live, most: 256, ahead, large: LARGE }
}

fn amount(messages: u32) -> Amount {
    Amount { messages, bytes: messages as usize * LARGE }
}

/// A subscription, and what its channel at nsqd has; nsqd receives each RDY at once.
#[derive(Default)]
struct Sub {
    number: usize,
    entry: Entry,
    rdy: u32,
    live: u32,
    waiting: u32,
    ahead: u32,
    refused: u32,
    came: u32,
}

impl Sub {
    fn new(number: usize, waiting: u32) -> Self {
        Self { number, waiting, ahead: 1, ..Self::default() }
    }

    fn asks(&mut self, ledger: &mut Ledger<usize>) {
        let wish = wish(self.rdy, self.live, self.ahead);
        self.rdy = ledger.grants(&mut self.entry, amount(self.live), wish, &self.number);
    }

    /// Delivers what nsqd may send now. Returns false if that is nothing.
    fn gets(&mut self, ledger: &mut Ledger<usize>) -> bool {
        if self.waiting == 0 || self.rdy <= self.live {
            return false;
        }
        self.waiting -= 1;
        if ledger.takes(&mut self.entry, LARGE) {
            self.live += 1;
        } else {
            self.waiting += 1;
            self.refused += 1;
        }
        self.asks(ledger);
        true
    }
}

/// Wakes each subscription that is due, one after the other.
fn wake(ledger: &mut Ledger<usize>, subs: &mut [Sub]) {
    let mut woken = 0;
    while let Some(next) = ledger.next() {
        subs[next].asks(ledger);
        woken += 1;
        assert!(woken <= 3 * subs.len(), "somebody is woken for nothing, for ever");
    }
}

fn ledger(messages: u32) -> Ledger<usize> {
    Ledger::new(amount(messages))
}

#[test]
fn two_hundred_that_find_a_backlog_at_once_hold_the_limit_and_one_each() {
    let mut ledger = ledger(512);
    let mut subs: Vec<Sub> = (0..200).map(|number| Sub::new(number, 300)).collect();
    subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
    assert!(subs.iter().all(|sub| sub.rdy == 1), "each is ready for one");
    // Each finds that its messages are old.
    subs.iter_mut().for_each(|sub| sub.ahead = 100);
    while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
        wake(&mut ledger, &mut subs);
    }
    let held: u32 = subs.iter().map(|sub| sub.live).sum();
    assert!((512..=712).contains(&held), "{held}");
    assert!(subs.iter().all(|sub| sub.live > 0 && sub.refused == 0), "each has some");
}

#[test]
fn room_goes_to_the_first_in_line_and_is_shared() {
    let mut ledger = ledger(10);
    let mut subs: Vec<Sub> = (0..4).map(|number| Sub::new(number, 100)).collect();
    subs[0].ahead = 100;
    subs[0].asks(&mut ledger);
    assert_eq!(subs[0].rdy, 11, "all there is, and the first");
    while subs[0].gets(&mut ledger) {}
    assert_eq!((subs[0].live, subs[0].rdy), (10, 0));
    for sub in &mut subs[1..] {
        sub.ahead = 100;
        sub.asks(&mut ledger);
        assert_eq!(sub.rdy, 1);
        assert!(sub.gets(&mut ledger) && sub.rdy == 0);
    }
    assert_eq!(
        ledger.line.waiting.iter().map(|one| one.wake).collect::<Vec<_>>(),
        [1, 2, 3],
        "it has all that one may"
    );
    assert_eq!(ledger.next(), None);
    assert_eq!((ledger.greedy, ledger.sated), (4, 1));
    // The first subscription's messages are all settled: it is ready for one in any case, and gets its share of the
    // rest behind the others.
    subs[0].live = 0;
    subs[0].asks(&mut ledger);
    assert_eq!(subs[0].rdy, 1);
    assert_eq!(ledger.next(), Some(1));
    wake(&mut ledger, &mut subs);
    assert_eq!(subs[1..].iter().map(|sub| sub.rdy - sub.live).collect::<Vec<_>>(), [1, 2, 2]);
    assert_eq!(subs[0].rdy, 3);
    assert!(ledger.line.is_empty());
}

#[test]
fn beyond_twice_the_limit_everything_is_given_back() {
    let mut ledger = ledger(4);
    let mut subs: Vec<Sub> = (0..20).map(|number| Sub::new(number, 10)).collect();
    subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
    while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
        wake(&mut ledger, &mut subs);
    }
    assert_eq!(ledger.held.messages, 8);
    assert_eq!(subs.iter().filter(|sub| sub.refused > 0).count(), 15, "once, and then they wait");
    assert!(subs.iter().all(|sub| sub.refused <= 1));
    // A subscription that ends makes room.
    let mut first = subs.swap_remove(0);
    ledger.closes(&mut first.entry);
    assert_eq!(ledger.held.messages, 4);
}

#[test]
fn bytes_count_as_messages_do() {
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1000, bytes: 100 });
    let mut entry = Entry::default();
    let large = Wish { large: 30, ..wish(0, 0, 100) };
    assert_eq!(ledger.grants(&mut entry, Amount::default(), large, &0), 4, "three that fit, and the first");
    for n in 1..=6 {
        assert!(ledger.takes(&mut entry, 30), "{n}");
    }
    assert!(!ledger.takes(&mut entry, 30), "200 is the very most");
    let held = Amount { messages: 6, bytes: 180 };
    assert_eq!(ledger.grants(&mut entry, held, Wish { live: 6, told: 4, ..large }, &0), 0);
    // One message comes, however large it is.
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1, bytes: 1 });
    let mut entry = Entry::default();
    assert_eq!(ledger.grants(&mut entry, Amount::default(), large, &0), 2);
    assert!(ledger.takes(&mut entry, 1000) && !ledger.takes(&mut entry, 1));
}

/// A subscription that held nothing learns the size of its message when the message is given back.
#[test]
fn what_was_given_back_is_not_asked_for_before_it_fits() {
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1000, bytes: 100 });
    let (mut full, mut other) = (Entry::default(), Entry::default());
    for _ in 0..3 {
        assert!(ledger.takes(&mut full, 50));
    }
    // It holds nothing, and knows of no body of its own yet.
    let first = Wish { large: 0, ..wish(0, 0, 1) };
    assert_eq!(ledger.grants(&mut other, Amount::default(), first, &1), 1, "the first is free");
    assert!(!ledger.takes(&mut other, 60));
    let refused = Wish { told: 1, ..first };
    assert_eq!(ledger.grants(&mut other, Amount::default(), refused, &1), 0, "it would only come again");
    assert_eq!(ledger.next(), None, "nothing has been settled");
    let less = Amount { messages: 2, bytes: 100 };
    ledger.grants(&mut full, less, Wish { large: 50, ..wish(0, 2, 1) }, &0);
    assert_eq!(ledger.next(), Some(1));
    let again = Wish { told: 0, ..first };
    assert_eq!(ledger.grants(&mut other, Amount::default(), again, &1), 1);
    assert!(ledger.takes(&mut other, 60));
}

/// The same for a subscription that holds something already, with a body far larger than any before.
#[test]
fn what_was_given_back_waits_beside_what_is_held() {
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1000, bytes: 100 });
    let mut entry = Entry::default();
    assert!(ledger.takes(&mut entry, 90) && !ledger.takes(&mut entry, 150));
    let held = Amount { messages: 1, bytes: 90 };
    assert_eq!(ledger.grants(&mut entry, held, Wish { large: 1, ..wish(2, 1, 100) }, &0), 0);
    assert_eq!(ledger.next(), None);
    assert_eq!(ledger.grants(&mut entry, Amount::default(), Wish { large: 1, ..wish(0, 0, 100) }, &0), 100);
    assert!(ledger.takes(&mut entry, 150), "alone it is taken, however large");
}

/// A device that acknowledges the oldest messages, a fixed number at a time; all chats have more than can ever come.
fn deliver(
    ledger: &mut Ledger<usize>,
    subs: &mut [Sub],
    held: &mut VecDeque<usize>,
    rounds: usize,
    batch: usize,
) {
    for _ in 0..rounds {
        while (0..subs.len()).fold(false, |any, n| {
            let before = subs[n].live;
            let asked = subs[n].gets(ledger);
            if subs[n].live > before {
                held.push_back(n);
                subs[n].came += 1;
            }
            any | asked
        }) {
            wake(ledger, subs);
        }
        for _ in 0..batch {
            let Some(n) = held.pop_front() else { break };
            subs[n].live -= 1;
            subs[n].asks(ledger);
            wake(ledger, subs);
        }
    }
}

#[test]
fn beyond_twice_the_limit_each_has_its_turn() {
    for ahead in [1, 100] {
        let (mut ledger, mut held) = (ledger(64), VecDeque::new());
        let mut subs: Vec<Sub> = (0..200).map(|number| Sub::new(number, u32::MAX)).collect();
        subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
        subs.iter_mut().for_each(|sub| sub.ahead = ahead);
        deliver(&mut ledger, &mut subs, &mut held, 400, 1);
        let never = subs.iter().filter(|sub| sub.came == 0).count();
        assert_eq!(never, 0, "so many of 200 never got one message, with {ahead} wanted");
        subs.iter_mut().for_each(|sub| (sub.came, sub.refused) = (0, 0));
        deliver(&mut ledger, &mut subs, &mut held, 2000, 1);
        let refused = subs.iter().map(|sub| sub.refused).sum::<u32>();
        assert!(
            ahead == 1 || refused == 0,
            "{refused} were given back, although it was known that there was no room"
        );
        let (least, most) = least_and_most(&subs);
        assert!(least * 2 >= most, "from {least} to {most} of 2000, with {ahead} wanted");
    }
}

fn least_and_most(subs: &[Sub]) -> (u32, u32) {
    let came = || subs.iter().map(|sub| sub.came);
    (came().min().unwrap_or(0), came().max().unwrap_or(0))
}

#[derive(Debug, Clone)]
enum Step {
    Gets(usize),
    Settles(usize, u32),
    Wishes(usize, bool),
    Publishes(usize, u32),
    Reopens(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<usize>().prop_map(Step::Gets),
        4 => (any::<usize>(), 1_u32..20).prop_map(|(sub, count)| Step::Settles(sub, count)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(sub, old)| Step::Wishes(sub, old)),
        2 => (any::<usize>(), 1_u32..40).prop_map(|(sub, count)| Step::Publishes(sub, count)),
        1 => any::<usize>().prop_map(Step::Reopens),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    /// Some subscriptions had the budget for themselves before the others came. All get equal parts of what is settled
    /// from then on.
    #[test]
    fn what_is_settled_is_shared_alike(
        limit in 8_u32..100,
        early in 1_usize..4,
        late in 1_usize..40,
        batch in 1_usize..12,
    ) {
        let (mut ledger, mut held) = (ledger(limit), VecDeque::new());
        let mut subs: Vec<Sub> = (0..early + late).map(|number| Sub::new(number, u32::MAX)).collect();
        subs.iter_mut().for_each(|sub| sub.ahead = 100);
        subs[..early].iter_mut().for_each(|sub| sub.asks(&mut ledger));
        deliver(&mut ledger, &mut subs[..early], &mut held, 10, batch);
        subs[early..].iter_mut().for_each(|sub| sub.asks(&mut ledger));
        let count = early + late;
        deliver(&mut ledger, &mut subs, &mut held, 10 * count.max(limit as usize) / batch + 1, batch);
        subs.iter_mut().for_each(|sub| sub.came = 0);
        deliver(&mut ledger, &mut subs, &mut held, 50 * count / batch + 1, batch);
        let (least, most) = least_and_most(&subs);
        prop_assert!(least * 3 >= most, "from {} to {} of {}", least, most, 50 * count);
    }

    /// For any sequence of events: the bounds hold, no waiter is forgotten, and in the end all messages have come.
    #[test]
    fn the_bounds_hold_and_everything_comes(limit in 1_u32..60, count in 1_usize..30, steps in steps()) {
        let mut ledger = ledger(limit);
        let mut subs: Vec<Sub> = (0..count).map(|number| Sub::new(number, 20)).collect();
        subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
        for step in steps {
            match step {
                Step::Gets(n) => drop(subs[n % count].gets(&mut ledger)),
                Step::Settles(n, done) => {
                    let sub = &mut subs[n % count];
                    sub.live -= done.min(sub.live);
                    sub.asks(&mut ledger);
                }
                Step::Wishes(n, old) => {
                    let sub = &mut subs[n % count];
                    sub.ahead = if old { 100 } else { 1 };
                    sub.asks(&mut ledger);
                }
                Step::Publishes(n, more) => subs[n % count].waiting += more,
                Step::Reopens(n) => {
                    let sub = &mut subs[n % count];
                    ledger.closes(&mut sub.entry);
                    sub.waiting += std::mem::take(&mut sub.live);
                    sub.rdy = 0;
                    sub.asks(&mut ledger);
                }
            }
            wake(&mut ledger, &mut subs);
            let held: u32 = subs.iter().map(|sub| sub.live).sum();
            prop_assert_eq!(ledger.held, amount(held));
            let claimed = subs.iter().fold(Amount::default(), |sum, sub| sum.plus(sub.entry.claimed));
            prop_assert_eq!(ledger.claimed, claimed);
            prop_assert!(held <= 2 * limit);
            let coming: u32 = subs.iter().map(|sub| sub.live.max(sub.rdy)).sum();
            prop_assert!(coming <= limit + count as u32, "{} may be out, with {} for {}", coming, limit, count);
            for sub in &subs {
                prop_assert!(sub.rdy > sub.live || sub.entry.place + sub.entry.first > 0 || sub.entry.sated > 0 || sub.live >= 256, "nobody is forgotten");
            }
        }
        for round in 0.. {
            while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
                wake(&mut ledger, &mut subs);
            }
            if subs.iter().all(|sub| sub.waiting + sub.live == 0) {
                break;
            }
            prop_assert!(round < 10_000, "something never comes");
            for n in 0..count {
                subs[n].live = 0;
                subs[n].asks(&mut ledger);
                wake(&mut ledger, &mut subs);
            }
        }
        prop_assert_eq!(ledger.held, Amount::default());
        // A subscription that expects many messages keeps room for them, until its socket has been quiet.
        for n in 0..count {
            subs[n].ahead = 1;
            subs[n].asks(&mut ledger);
            wake(&mut ledger, &mut subs);
        }
        prop_assert!(ledger.firsts.is_empty() && ledger.line.is_empty() && ledger.claimed == Amount::default());
    }
}
