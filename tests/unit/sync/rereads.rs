use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn each_is_read_once_at_a_time_and_after_the_last_hint(steps in proptest::collection::vec((0..3u8, 0..5u8), 0..200)) {
        let user = |n: u8| -> UserId { format!("user-{n}").parse().unwrap() };
        let mut queue = Queue::default();
        // Users with a hint since their last read, and users being read.
        let (mut due, mut reading) = (HashMap::<UserId, bool>::new(), Vec::<UserId>::new());
        for (step, n) in steps {
            match step {
                0 => {
                    queue.ask(&user(n));
                    due.insert(user(n), true);
                }
                1 => if let Some(begun) = queue.begin() {
                    prop_assert_eq!(due.insert(begun.clone(), false), Some(true), "nobody is read for nothing");
                    prop_assert!(!reading.contains(&begun), "once at a time");
                    reading.push(begun);
                },
                _ => if !reading.is_empty() {
                    queue.end(reading.remove(usize::from(n) % reading.len()));
                },
            }
            prop_assert!(queue.users.len() <= 5 && queue.waiting.len() <= 5);
        }
        reading.drain(..).for_each(|user| queue.end(user));
        while let Some(begun) = queue.begin() {
            prop_assert_eq!(due.insert(begun.clone(), false), Some(true));
            queue.end(begun);
        }
        prop_assert!(due.values().all(|due| !due), "everybody was read");
        prop_assert!(queue.users.is_empty());
    }
}
