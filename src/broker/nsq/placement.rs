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
#[path = "../../../tests/unit/broker/nsq/placement.rs"]
mod tests;
