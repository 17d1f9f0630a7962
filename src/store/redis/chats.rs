//! Creating, finding and deleting chats.
//!
//! A chat, its name, its pair of users and the users' lists of chats are in different slots. The indexes are written
//! first, and the target of an index entry decides its meaning: nothing yet (a caller is just creating the chat, or
//! died meanwhile), a chat, or the tombstone of a deleted one, which its id keeps for a while.

use redis::Value;

use super::{
    RedisStore,
    error::{corrupt, later},
    millis, script, value,
};
use crate::{
    domain::{
        chat::{Chat, ChatKind, Entry, Member},
        id::{ChatId, UserId},
        now_millis,
    },
    store::{Created, NewChat, Result, StoreError, UNBORN, bounds::UNSAID},
};

/// What an id refers to.
pub(super) enum Standing {
    Nothing,
    Deleted,
    /// A chat, with the other user of a direct chat.
    Chat(Chat, Option<UserId>),
}

impl RedisStore {
    /// See [`crate::store::Store::create_chat`].
    pub async fn create_chat(&self, new: &NewChat) -> Result<Created> {
        self.in_time(async {
            match self.standing(new.id).await? {
                Standing::Deleted => return Ok(Created::Conflict),
                Standing::Chat(chat, with) => return Ok(same_or_conflict(new, chat, with)),
                Standing::Nothing => {}
            }
            if let Some(with) = &new.with
                && let Standing::Chat(chat, _) = self.standing_of_pair(&new.owner, with).await?
            {
                return Ok(Created::Existing(chat));
            }
            for user in users(new) {
                if self.list_is_full(user).await? {
                    return Ok(Created::LimitReached);
                }
            }
            match (&new.with, &new.name) {
                (Some(with), _) => self.create_direct(new, with).await,
                (None, Some(name)) if new.public => self.create_public(new, name).await,
                (None, Some(name)) if new.password_hash.is_some() => self.create_guarded(new, name).await,
                (None, _) => self.write_chat(new, new.id).await.map_err(later),
            }
        })
        .await
    }

    // The pair's entry decides the chat's id. A caller that finds an entry without a chat creates *that* chat, so that
    // two concurrent callers create one.
    async fn create_direct(&self, new: &NewChat, with: &UserId) -> Result<Created> {
        let pair = self.keys().pair(&new.owner, with);
        let mut expected = String::new();
        loop {
            let holds = self.swap(&pair, &expected, &new.id.hex()).await;
            let holds = holds.map_err(|err| if expected.is_empty() { err } else { later(err) })?;
            if holds.is_empty() {
                expected = holds; // its chat was deleted meanwhile, and the entry with it
                continue;
            }
            let id = value::chat(&holds)?;
            match self.standing(id).await.map_err(later)? {
                Standing::Chat(chat, _) => return Ok(Created::Existing(chat)),
                Standing::Deleted if id == new.id => return Ok(Created::Conflict),
                Standing::Deleted => expected = holds,
                Standing::Nothing => match self.write_chat(new, id).await.map_err(later)? {
                    Created::Conflict => expected = holds, // deleted, or tombstoned, meanwhile
                    done => return Ok(done),
                },
            }
        }
    }

    // Writes the index of all chats and the lists of its users, the chat, and all of them once more: a tidy-up may have
    // found the entries before the chat.
    pub(super) async fn write_chat(&self, new: &NewChat, id: ChatId) -> Result<Created> {
        let mut index = redis::cmd("SADD");
        index.arg(self.keys().part_of(id)).arg(id.hex());
        self.commands().run(&index).await?;
        let users = users(new);
        for user in &users {
            if !self.list_chat(user, id, self.limits().chats_per_user).await? {
                return Ok(Created::LimitReached);
            }
        }
        let created = new.created.to_string();
        let optional = [
            ("name", new.name.as_deref()),
            ("password", new.password_hash.as_deref()),
            ("with", new.with.as_ref().map(UserId::as_str)),
        ];
        let (meta, members) = (self.keys().meta(id), self.keys().members(id));
        let mut call = script::CREATE_CHAT.call().arg(meta).arg(members).arg(self.keys().arriving(id));
        // In a store that came back older once, the id may be that of a lost chat, whose numbers are used.
        let seq_offset = self.inner.identity.seq_offset();
        call = users.iter().fold(call.arg(users.len()).arg(seq_offset), |call, user| call.arg(user.as_str()));
        call = call.arg("kind").arg(new.kind.as_str()).arg("owner").arg(new.owner.as_str());
        call = call.arg("public").arg(u8::from(new.public)).arg("node").arg(&new.node);
        call = call
            .arg("created")
            .arg(created)
            .arg("head")
            .arg(seq_offset)
            .arg("lift")
            .arg(seq_offset)
            .arg("freed")
            .arg(0);
        for (field, text) in optional.into_iter().filter_map(|(field, text)| Some((field, text?))) {
            call = call.arg(field).arg(text);
        }
        let mut answer = value::list(self.commands().eval(&call).await?)?;
        if answer.is_empty() {
            return Err(corrupt("an empty answer"));
        }
        let fields = answer.split_off(1);
        let was_new = value::text(answer.remove(0))? == "new";
        let fields = value::pairs(Value::Array(fields))?;
        if is_unborn(&fields) {
            let why = "nothing came of an earlier try to make this chat, and its id is just tidied away: try again in a minute";
            return Err(StoreError::Unavailable(why.to_owned()));
        }
        let Some((chat, with)) = record_from(id, fields)? else { return Ok(Created::Conflict) };
        if !was_new {
            return Ok(same_or_conflict(new, chat, with));
        }
        self.commands().run(&index).await?;
        for user in &users {
            self.list_chat(user, id, u32::MAX).await?;
            if chat.head > 0 {
                self.move_read(user, id, chat.head, None).await?;
            }
        }
        Ok(Created::New(chat))
    }

    pub(super) async fn standing(&self, id: ChatId) -> Result<Standing> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().meta(id));
        let fields = value::pairs(self.commands().run(&read).await?)?;
        let nothing = fields.is_empty() || is_unborn(&fields);
        Ok(match record_from(id, fields)? {
            Some((chat, with)) => Standing::Chat(chat, with),
            None if nothing => Standing::Nothing,
            None => Standing::Deleted,
        })
    }

    pub(super) async fn standing_of_pair(&self, one: &UserId, other: &UserId) -> Result<Standing> {
        let mut read = redis::cmd("GET");
        read.arg(self.keys().pair(one, other));
        match value::some(self.commands().run(&read).await?) {
            Some(id) => self.standing(value::chat(&value::text(id)?)?).await,
            None => Ok(Standing::Nothing),
        }
    }

    pub(super) async fn swap(&self, key: &str, expected: &str, new: &str) -> Result<String> {
        let call = script::COMPARE_AND_SET.call().arg(key).arg(expected).arg(new);
        value::text(self.commands().eval(&call).await?)
    }

    /// See [`crate::store::Store::chat`].
    pub async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        Ok(match self.standing(id).await? {
            Standing::Chat(chat, _) => Some(chat),
            Standing::Nothing | Standing::Deleted => None,
        })
    }

    /// See [`crate::store::Store::chat_of_member`].
    pub async fn chat_of_member(&self, id: ChatId, user: &UserId) -> Result<Option<(Chat, Member)>> {
        let (meta, members) = (self.keys().meta(id), self.keys().members(id));
        let call = script::CHAT_OF_MEMBER.call().arg(meta).arg(members).arg(user.as_str());
        let Some(answer) = value::some(self.commands().eval(&call).await?) else { return Ok(None) };
        let mut answer = value::list(answer)?.into_iter();
        let Some(chat) = chat_from(id, value::pairs(value::next(&mut answer)?)?)? else { return Ok(None) };
        let member = super::members::member_from(user.as_str(), value::next(&mut answer)?)?;
        Ok(Some((chat, member)))
    }

    /// Returns true if there is no chat with this id, and there will be none for a minute.
    pub(super) async fn forget_unborn(&self, id: ChatId) -> Result<bool> {
        let call = script::FORGET_UNBORN.call().arg(self.keys().meta(id));
        let call = call.arg(now_millis()).arg(super::millis(UNBORN));
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::unlist_unborn`].
    pub async fn unlist_unborn(&self, id: ChatId) -> Result<bool> {
        self.in_time(async {
            if !self.forget_unborn(id).await? {
                return Ok(false);
            }
            let mut remove = redis::cmd("SREM");
            remove.arg(self.keys().part_of(id)).arg(id.hex());
            self.commands().run(&remove).await.map_err(later)?;
            Ok(true)
        })
        .await
    }

    /// See [`crate::store::Store::was_deleted`].
    pub async fn was_deleted(&self, chat: ChatId) -> Result<bool> {
        let mut mark = redis::cmd("HEXISTS");
        mark.arg(self.keys().meta(chat)).arg("deleted");
        Ok(value::number(self.commands().run(&mark).await?)? == 1)
    }

    /// See [`crate::store::Store::move_chat`].
    pub async fn move_chat(&self, chat: ChatId, from: &str, to: &str) -> Result<bool> {
        let call = script::MOVE_CHAT.call().arg(self.keys().meta(chat)).arg(from).arg(to);
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::delete_chat`].
    ///
    /// The chat goes first and leaves a tombstone that keeps its id from being reused; then the entries of its name and
    /// pair. Idempotency keys of an older build expire; nothing can find them any more.
    pub async fn delete_chat(&self, id: ChatId) -> Result<bool> {
        self.in_time(async {
            let keys = self.keys();
            let call = script::DELETE_CHAT
                .call()
                .arg(keys.meta(id))
                .arg(keys.members(id))
                .arg(keys.key_counts(id, 0))
                .arg(keys.key_counts(id, 1))
                .arg(keys.spent(id))
                .arg(keys.segment(id))
                .arg(keys.behind(id))
                .arg(keys.standing(id))
                .arg(keys.banned(id))
                .arg(keys.log(id))
                .arg(keys.outbox(id))
                .arg(keys.ages(id))
                .arg(keys.from(id))
                .arg(keys.cursor(id))
                .arg(keys.fence(id))
                .arg(keys.left(id))
                .arg(keys.arriving(id))
                .arg(keys.message_keys(id, 0))
                .arg(keys.message_keys(id, 1))
                .arg(now_millis())
                .arg(millis(self.limits().tombstones))
                .arg(millis(self.limits().tombstones.min(UNSAID)));
            let Some(answer) = value::some(self.commands().eval(&call).await?) else { return Ok(false) };
            let mut answer = value::list(answer)?.into_iter();
            let was = value::next(&mut answer)?;
            self.give_back(id, value::list(value::next(&mut answer)?)?).await.map_err(later)?;
            let mut forget = redis::cmd("SREM");
            forget.arg(keys.part_of(id)).arg(id.hex());
            self.commands().run(&forget).await.map_err(later)?;
            let fields = value::pairs(was)?;
            let Some((chat, with)) = record_from(id, fields)? else { return Ok(true) };
            if let Some(with) = with {
                let release = script::RELEASE_LEASE.call().arg(keys.pair(&chat.owner, &with)).arg(id.hex());
                self.commands().eval(&release).await.map_err(later)?;
            }
            if let Some(name) = &chat.name {
                self.forget_name(name, id).await.map_err(later)?;
            }
            Ok(true)
        })
        .await
    }
}

/// Returns the chat's first members.
fn users(new: &NewChat) -> Vec<&UserId> {
    let with = new.with.as_ref().filter(|with| **with != new.owner && new.entry == Entry::AtOnce);
    std::iter::once(&new.owner).chain(with).collect()
}

fn same_or_conflict(new: &NewChat, chat: Chat, with: Option<UserId>) -> Created {
    let same = match chat.kind {
        ChatKind::Group => chat.owner == new.owner,
        ChatKind::Direct => {
            let (pair, wanted) = ((Some(&chat.owner), with.as_ref()), (Some(&new.owner), new.with.as_ref()));
            pair == wanted || (pair.1, pair.0) == wanted
        }
    };
    if same && chat.kind == new.kind { Created::Existing(chat) } else { Created::Conflict }
}

/// Returns a chat from the fields of its meta hash. Returns none if they are a tombstone, or nothing.
pub(super) fn chat_from(id: ChatId, fields: Vec<(String, Value)>) -> Result<Option<Chat>> {
    Ok(record_from(id, fields)?.map(|(chat, _)| chat))
}

/// Returns whether this marks an id whose index entry is being removed, because no chat ever had it.
fn is_unborn(fields: &[(String, Value)]) -> bool {
    fields.iter().any(|(field, _)| field == "unborn")
}

fn record_from(id: ChatId, fields: Vec<(String, Value)>) -> Result<Option<(Chat, Option<UserId>)>> {
    let mut chat = Chat {
        id,
        kind: ChatKind::Group,
        name: None,
        public: false,
        password_hash: None,
        owner: value::user("nobody")?,
        node: String::new(),
        created: 0,
        head: 0,
        epoch: 0,
    };
    let (mut known, mut with) = (false, None);
    for (field, value) in fields {
        match field.as_str() {
            "deleted" => return Ok(None),
            "kind" => {
                known = true;
                chat.kind = match value::text(value)?.as_str() {
                    "direct" => ChatKind::Direct,
                    "group" => ChatKind::Group,
                    other => return Err(corrupt(format!("a chat of kind {other:?}"))),
                };
            }
            "name" => chat.name = Some(value::text(value)?),
            "public" => chat.public = value::text(value)? == "1",
            "password" => chat.password_hash = Some(value::text(value)?),
            "owner" => chat.owner = value::user(&value::text(value)?)?,
            "with" => with = Some(value::user(&value::text(value)?)?),
            "node" => chat.node = value::text(value)?,
            "created" => chat.created = value::number(value)?,
            "head" => chat.head = value::number(value)?,
            "epoch" => chat.epoch = value::number(value)?,
            _ => {} // of a newer version
        }
    }
    Ok(known.then_some((chat, with)))
}
