//! Groups by name. Names that look alike count as one ([`crate::domain::label::key`]). A group that everybody may enter
//! and a group with a password never share a name ([`super::Created::NameTaken`]).

use super::{Result, Store};
use crate::domain::id::ChatId;

impl Store {
    /// Returns the groups that can be joined by this name: the public one first, then those with a password (at most
    /// 16).
    pub async fn chats_named(&self, name: &str) -> Result<Vec<ChatId>> {
        each!(self.chats_named(name))
    }

    /// Indexes one page of all groups by their lookalike keys, if a build with other rules left them out. Returns the
    /// next page, from 0 on; none when all groups are indexed permanently. Until then, and where two older names look
    /// alike, a group is found by its exact name.
    pub async fn move_names(&self, page: u64) -> Result<Option<u64>> {
        each!(self.move_names(page))
    }
}
