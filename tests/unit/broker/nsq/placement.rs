use super::*;

const NODES: [&str; 3] = ["nsqd-1:4151", "nsqd-2:4151", "nsqd-3:4151"];

#[test]
fn chats_are_spread_evenly() {
    let mut counts = [0; 3];
    for _ in 0..3_000 {
        let chosen = choose(NODES, ChatId::random()).unwrap();
        counts[NODES.iter().position(|node| *node == chosen).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    assert_eq!(choose([], ChatId::random()), None);
}

#[test]
fn a_lost_node_moves_only_its_own_chats() {
    for _ in 0..300 {
        let chat = ChatId::random();
        let (of_three, of_two) =
            (choose(NODES, chat).unwrap(), choose(NODES[..2].iter().copied(), chat).unwrap());
        assert!(of_three == of_two || of_three == NODES[2]);
        let turned = choose(NODES.iter().rev().copied(), chat);
        assert_eq!(turned, Some(of_three), "the order of the configuration doesn't matter");
    }
}
