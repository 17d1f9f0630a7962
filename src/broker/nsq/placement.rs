//! Which nsqd shall carry a chat: rendezvous hashing. Each node scores each chat, and the highest score has it. When a
//! node comes or goes, only the chats change that it gains or had. The choice is stored with the chat, so a change of
//! this function moves nothing: the function must only be the same on all edges of one version.

use crate::domain::id::ChatId;

/// Returns the node with the highest score.
pub(super) fn choose<'a>(nodes: impl IntoIterator<Item = &'a str>, chat: ChatId) -> Option<&'a str> {
    nodes.into_iter().max_by_key(|node| (score(node, chat), *node))
}

/// FNV-1a over both, then murmur3's last step: FNV alone hardly moves the high bits, which decide the comparison.
fn score(node: &str, chat: ChatId) -> u64 {
    let bytes = node.bytes().chain([0]).chain(*chat.as_bytes());
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
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
}
