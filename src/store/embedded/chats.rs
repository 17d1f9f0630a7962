//! Chats and membership.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{ChatState, EmbeddedStore, Gone, Membership};
use crate::{
    domain::{
        chat::{Chat, ChatKind, Entry, Member},
        id::{ChatId, UserId},
        label,
    },
    store::{
        Created, Departure, JoinBy, Joined, NewChat, Result,
        bounds::{LEFT, NAMED, UNSAID},
    },
};

/// The membership of a chat's first members.
const FIRST: Membership = Membership { boundary: 0, version: 0 };

impl EmbeddedStore {
    /// See [`crate::store::Store::create_chat`].
    pub async fn create_chat(&self, new: &NewChat) -> Result<Created> {
        let mut state = self.state();
        state.tidy();
        if state.deleted.contains(&new.id) {
            return Ok(Created::Conflict);
        }
        let pair = new.with.as_ref().map(|with| pair(&new.owner, with));
        if let Some(room) = state.chats.get(&new.id) {
            let same = room.chat.kind == new.kind
                && match &pair {
                    None => room.chat.owner == new.owner,
                    Some(wanted) => room.pair().as_ref() == Some(wanted),
                };
            return Ok(if same { Created::Existing(room.chat.clone()) } else { Created::Conflict });
        }
        let direct = pair.as_ref().and_then(|pair| state.pairs.get(pair));
        if let Some(room) = direct.and_then(|id| state.chats.get(id)) {
            return Ok(Created::Existing(room.chat.clone()));
        }
        let mut users = vec![new.owner.clone()];
        users.extend(new.with.clone().filter(|with| *with != new.owner && new.entry == Entry::AtOnce));
        let most = self.limits().chats_per_user as usize;
        if users.iter().any(|user| state.users.get(user).is_some_and(|user| user.chats.len() >= most)) {
            return Ok(Created::LimitReached);
        }
        match &new.name {
            Some(name) if pair.is_none() && new.public => {
                let (alike, open) = (label::key(name), new.password_hash.is_none());
                if state.public.contains_key(&alike) || (open && state.named.contains_key(&alike)) {
                    return Ok(Created::NameTaken);
                }
                state.public.insert(alike, new.id);
            }
            Some(name) if pair.is_none() && new.password_hash.is_some() => {
                let alike = label::key(name);
                let public = state.public.get(&alike).and_then(|id| state.chats.get(id));
                if public.is_some_and(|room| room.chat.password_hash.is_none()) {
                    return Ok(Created::NameTaken);
                }
                state.named.entry(alike).or_default().insert((new.created, new.id));
            }
            _ => {}
        }
        if let Some(pair) = pair {
            state.pairs.insert(pair, new.id);
        }
        for user in &users {
            state.user(user).chats.insert(new.id);
        }
        let chat = Chat {
            id: new.id,
            kind: new.kind,
            name: new.name.clone(),
            public: new.public,
            password_hash: new.password_hash.clone(),
            owner: new.owner.clone(),
            node: new.node.clone(),
            created: new.created,
            head: 0,
            epoch: 0,
        };
        let room = ChatState {
            chat: chat.clone(),
            with: new.with.clone(),
            arriving: users.iter().map(|user| (user.clone(), FIRST.version)).collect(),
            members: users.into_iter().map(|user| (user, FIRST)).collect(),
            version: 0,
            banned: HashSet::new(),
            left: BTreeMap::new(),
            log: Default::default(),
            log_bytes: 0,
            outbox: Default::default(),
            keys: HashMap::new(),
            key_ages: Default::default(),
            subscriptions: HashMap::new(),
            ledger: Default::default(),
            let_go: Default::default(),
        };
        state.chats.insert(new.id, room);
        Ok(Created::New(chat))
    }

    /// See [`crate::store::Store::chat`].
    pub async fn chat(&self, chat: ChatId) -> Result<Option<Chat>> {
        Ok(self.state().chats.get(&chat).map(|room| room.chat.clone()))
    }

    /// See [`crate::store::Store::chat_of_member`].
    pub async fn chat_of_member(&self, chat: ChatId, user: &UserId) -> Result<Option<(Chat, Member)>> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else { return Ok(None) };
        let member = room.members.get(user).map(|membership| membership.of(user));
        Ok(member.map(|member| (room.chat.clone(), member)))
    }

    /// See [`crate::store::Store::members`].
    pub async fn members(&self, chat: ChatId) -> Result<Vec<Member>> {
        let state = self.state();
        let members = state.chats.get(&chat).into_iter().flat_map(|room| &room.members);
        Ok(members.map(|(user, membership)| membership.of(user)).collect())
    }

    /// See [`crate::store::Store::chats_of`].
    pub async fn chats_of(&self, user: &UserId) -> Result<Vec<ChatId>> {
        let state = self.state();
        Ok(state.users.get(user).map(|user| user.chats.iter().copied().collect()).unwrap_or_default())
    }

    /// See [`crate::store::Store::chats_named`].
    pub async fn chats_named(&self, name: &str) -> Result<Vec<ChatId>> {
        let (state, alike) = (self.state(), label::key(name));
        let public = state.public.get(&alike).copied();
        let others = state.named.get(&alike).into_iter().flatten().map(|(_, id)| *id);
        Ok(public.into_iter().chain(others).take(NAMED).collect())
    }

    /// See [`crate::store::Store::move_names`]. No earlier build wrote anything here.
    pub async fn move_names(&self, _page: u64) -> Result<Option<u64>> {
        Ok(None)
    }

    /// See [`crate::store::Store::add_member`].
    pub async fn add_member(&self, chat: ChatId, user: &UserId, by: JoinBy, epoch: u64) -> Result<Joined> {
        let mut guard = self.state();
        let state = &mut *guard;
        let most = self.limits().chats_per_user as usize;
        let list = state.users.get(user).map(|user| &user.chats);
        if list.is_some_and(|list| !list.contains(&chat) && list.len() >= most) {
            return Ok(Joined::LimitReached);
        }
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(Joined::Refused) };
        let (boundary, joined) = if let Some(Membership { boundary, .. }) = room.members.get(user) {
            (*boundary, Joined::Already(*boundary))
        } else {
            if room.may_have_left_since(user, epoch) {
                return Ok(Joined::Stale);
            }
            if by == JoinBy::Themselves && room.banned.contains(user) {
                return Ok(Joined::Refused);
            }
            let most = match room.chat.kind {
                ChatKind::Direct => 2,
                ChatKind::Group => self.limits().members_per_group,
            };
            if room.members.len() >= most as usize {
                return Ok(Joined::LimitReached);
            }
            room.banned.remove(user);
            room.version += 1;
            let membership = Membership { boundary: room.chat.head, version: room.version };
            room.members.insert(user.clone(), membership);
            room.arriving.insert(user.clone(), room.version);
            (room.chat.head, Joined::New(room.chat.head))
        };
        state.user(user).chats.insert(chat);
        state.read(user, chat, boundary, None);
        Ok(joined)
    }

    /// See [`crate::store::Store::arriving`].
    pub async fn arriving(&self, chat: ChatId) -> Result<Vec<(UserId, u64)>> {
        let state = self.state();
        let arriving = state.chats.get(&chat).into_iter().flat_map(|room| &room.arriving);
        Ok(arriving.map(|(user, version)| (user.clone(), *version)).collect())
    }

    /// See [`crate::store::Store::arrived`].
    pub async fn arrived(&self, chat: ChatId, user: &UserId, version: u64) -> Result<()> {
        if let Some(room) = self.state().chats.get_mut(&chat)
            && room.arriving.get(user) == Some(&version)
        {
            room.arriving.remove(user);
        }
        Ok(())
    }

    /// See [`crate::store::Store::remove_member`].
    pub async fn remove_member(&self, chat: ChatId, member: &Member, how: Departure) -> Result<Option<u64>> {
        let (mut guard, user) = (self.state(), &member.user);
        let state = &mut *guard;
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(None) };
        let Some(membership) = room.members.get(user) else { return Ok(None) };
        if membership.version != member.version {
            return Ok(None);
        }
        room.members.remove(user);
        room.arriving.remove(user);
        if how == Departure::Removed {
            room.banned.insert(user.clone());
        }
        room.chat.epoch += 1;
        room.left.retain(|_, other| other != user);
        room.left.insert(room.chat.epoch, user.clone());
        if room.left.len() > LEFT {
            room.left.pop_first();
        }
        if room.chat.owner == *user
            && room.chat.kind == ChatKind::Group
            && let Some((heir, _)) =
                room.members.iter().min_by_key(|(name, membership)| (membership.boundary, name.as_str()))
        {
            room.chat.owner = heir.clone();
        }
        let stay = room.members.len() as u64;
        let user = state.user(user);
        user.chats.remove(&chat);
        user.reads.remove(&chat);
        user.put.remove(&chat);
        Ok(Some(stay))
    }

    /// See [`crate::store::Store::unlist_unborn`]. Here every indexed chat exists.
    pub async fn unlist_unborn(&self, chat: ChatId) -> Result<bool> {
        Ok(!self.state().chats.contains_key(&chat))
    }

    /// See [`crate::store::Store::was_deleted`].
    pub async fn was_deleted(&self, chat: ChatId) -> Result<bool> {
        let mut state = self.state();
        state.tidy();
        Ok(state.deleted.contains(&chat))
    }

    /// See [`crate::store::Store::move_chat`].
    pub async fn move_chat(&self, chat: ChatId, from: &str, to: &str) -> Result<bool> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(false) };
        if room.chat.node == from {
            room.chat.node = to.to_owned();
        }
        Ok(room.chat.node == to)
    }

    /// See [`crate::store::Store::delete_chat`].
    pub async fn delete_chat(&self, chat: ChatId) -> Result<bool> {
        let mut state = self.state();
        match state.chats.get(&chat) {
            None => return Ok(true),
            Some(room) if !room.members.is_empty() => return Ok(false),
            Some(_) => {}
        }
        let Some(room) = state.chats.remove(&chat) else { return Ok(true) };
        state.give_back(chat, &room.ledger);
        state.deleted.insert(chat);
        let most = self.limits().tombstones;
        let long = if room.chat.head == 0 { most.min(UNSAID) } else { most };
        state.mark(Gone::Chat(chat), long);
        if let Some(pair) = room.pair() {
            state.pairs.remove(&pair);
        }
        if let Some(alike) = room.chat.name.as_deref().map(label::key) {
            if state.public.get(&alike) == Some(&chat) {
                state.public.remove(&alike);
            }
            if let Some(named) = state.named.get_mut(&alike) {
                named.remove(&(room.chat.created, chat));
                if named.is_empty() {
                    state.named.remove(&alike);
                }
            }
        }
        Ok(true)
    }
}

impl Membership {
    pub(super) fn of(self, user: &UserId) -> Member {
        Member { user: user.clone(), boundary: self.boundary, version: self.version }
    }
}

impl ChatState {
    /// So many users have left that the first are forgotten: then it is unknown.
    fn may_have_left_since(&self, user: &UserId, epoch: u64) -> bool {
        match self.left.iter().find(|(_, other)| *other == user) {
            Some((at, _)) => *at > epoch,
            None => {
                self.left.len() >= LEFT
                    && self.left.first_key_value().is_some_and(|(first, _)| *first > epoch + 1)
            }
        }
    }

    fn pair(&self) -> Option<(UserId, UserId)> {
        self.with.as_ref().map(|with| pair(&self.chat.owner, with))
    }
}

pub(super) fn pair(one: &UserId, other: &UserId) -> (UserId, UserId) {
    if one <= other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}
