//! Making, finding and deleting chats.
//!
//! A chat, its name, its pair of users and the users' lists of chats live in different slots. The indexes are written
//! first, and what an index entry points to decides what it means: nothing yet (somebody is just creating it, or
//! died while), a chat, or the mark of a deleted one, which its id keeps for ever.

use redis::Value;

use super::{
    RedisStore,
    error::{corrupt, later},
    script, value,
};
use crate::{
    domain::{
        chat::{Chat, ChatKind, Member},
        id::{ChatId, UserId},
        now_millis,
    },
    store::{Created, NewChat, Result, StoreError, UNBORN},
};

/// How long a public name may point to a chat that isn't there yet, before another may have the name.
const NAME_CLAIM: u64 = 10_000;
/// How many groups are found by one name.
const NAMED: usize = 16;
/// How many entries are looked at to find them: some may be deleted by now.
const NAMED_READ: usize = 64;

/// What an id stands for.
enum Standing {
    Nothing,
    Deleted,
    /// With the other one of a direct chat.
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
                (None, name) => {
                    let Some(name) = name.as_ref().filter(|_| new.password_hash.is_some()) else {
                        return self.write_chat(new, new.id).await.map_err(later);
                    };
                    // Again behind it: what names no chat may be tidied away meanwhile.
                    self.list_name(name, new).await?;
                    let written = self.write_chat(new, new.id).await.map_err(later)?;
                    self.list_name(name, new).await.map_err(later)?;
                    Ok(written)
                }
            }
        })
        .await
    }

    // The pair's entry decides the chat's id. Who finds an entry without a chat creates *that* chat, so that two who
    // create at once make one.
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
                    Created::Conflict => expected = holds, // deleted, or buried, meanwhile
                    done => return Ok(done),
                },
            }
        }
    }

    // A name that points nowhere for long is taken over; burying the id first makes sure that its creator, should it
    // only have been slow, can't come back to it.
    async fn create_public(&self, new: &NewChat, name: &str) -> Result<Created> {
        let key = self.keys().public_name(name);
        let mine = format!("{} {}", new.id.hex(), now_millis());
        let mut expected = String::new();
        loop {
            let holds = self.swap(&key, &expected, &mine).await;
            let holds = holds.map_err(|err| if expected.is_empty() { err } else { later(err) })?;
            if holds.is_empty() {
                expected = holds; // its chat was deleted meanwhile, and the entry with it
                continue;
            }
            let (id, since) =
                holds.split_once(' ').ok_or_else(|| corrupt("a name's entry of another shape"))?;
            let (id, since) = (value::chat(id)?, value::parse::<u64>(since)?);
            if id == new.id {
                return match self.write_chat(new, id).await.map_err(later)? {
                    Created::Conflict => Ok(Created::NameTaken), // somebody was faster and buried it
                    done => Ok(done),
                };
            }
            match self.standing(id).await.map_err(later)? {
                Standing::Chat(..) => return Ok(Created::NameTaken),
                Standing::Nothing if now_millis() < since.saturating_add(NAME_CLAIM) => {
                    return Ok(Created::NameTaken);
                }
                Standing::Nothing => {
                    let bury = script::BURY_CHAT.call().arg(self.keys().meta(id)).arg(now_millis());
                    if value::number(self.commands().eval(&bury).await.map_err(later)?)? == 0 {
                        return Ok(Created::NameTaken);
                    }
                }
                Standing::Deleted => {}
            }
            expected = holds;
        }
    }

    async fn list_name(&self, name: &str, new: &NewChat) -> Result<()> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys().named(name)).arg(new.created).arg(new.id.hex());
        self.commands().run(&add).await.map(drop)
    }

    // The index of all chats and the lists of its users, the chat, and all of them once more: a tidy-up may have found the
    // entries before the chat.
    async fn write_chat(&self, new: &NewChat, id: ChatId) -> Result<Created> {
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
        // In a store that came back older once, the id may be that of a chat that was lost, and its numbers taken.
        let lift = self.inner.identity.lift();
        call = users.iter().fold(call.arg(users.len()).arg(lift), |call, user| call.arg(user.as_str()));
        call = call.arg("kind").arg(new.kind.as_str()).arg("owner").arg(new.owner.as_str());
        call = call.arg("public").arg(u8::from(new.public)).arg("node").arg(&new.node);
        call = call.arg("created").arg(created).arg("head").arg(lift).arg("lift").arg(lift);
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

    async fn standing(&self, id: ChatId) -> Result<Standing> {
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

    async fn standing_of_pair(&self, one: &UserId, other: &UserId) -> Result<Standing> {
        let mut read = redis::cmd("GET");
        read.arg(self.keys().pair(one, other));
        match value::some(self.commands().run(&read).await?) {
            Some(id) => self.standing(value::chat(&value::text(id)?)?).await,
            None => Ok(Standing::Nothing),
        }
    }

    async fn swap(&self, key: &str, expected: &str, new: &str) -> Result<String> {
        let call = script::SWAP.call().arg(key).arg(expected).arg(new);
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

    /// See [`crate::store::Store::chats_named`].
    pub async fn chats_named(&self, name: &str) -> Result<Vec<ChatId>> {
        self.in_time(self.named(name)).await
    }

    async fn named(&self, name: &str) -> Result<Vec<ChatId>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(self.keys().public_name(name));
        pipeline.cmd("ZRANGE").arg(self.keys().named(name)).arg(0).arg(NAMED_READ - 1);
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let public = value::some(value::next(&mut answers)?).map(value::text).transpose()?;
        let mut ids = Vec::new();
        if let Some((id, _)) = public.as_deref().and_then(|entry| entry.split_once(' ')) {
            ids.push(value::chat(id)?);
        }
        for id in value::list(value::next(&mut answers)?)? {
            ids.push(value::chat(&value::text(id)?)?);
        }

        let mut pipeline = redis::Pipeline::with_capacity(ids.len());
        for id in &ids {
            pipeline.cmd("HMGET").arg(self.keys().meta(*id)).arg("name").arg("deleted").arg("kind");
        }
        let (mut found, mut gone, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for (id, answer) in ids.into_iter().zip(self.bulk().run_all(&pipeline).await?) {
            let mut answer = value::list(answer)?.into_iter();
            let its = value::some(value::next(&mut answer)?).map(value::text).transpose()?;
            if value::some(value::next(&mut answer)?).is_some() {
                gone.push(id.hex());
            } else if its.as_deref() == Some(name) {
                found.push(id);
            } else if value::next(&mut answer)? == Value::Nil {
                absent.push(id);
            }
        }
        gone.extend(self.unborn(name, &absent).await?);
        if !gone.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(self.keys().named(name)).arg(gone);
            self.commands().run(&remove).await?;
        }
        found.truncate(NAMED);
        Ok(found)
    }

    /// Those of these ids under a name that have been there for long without a chat: nothing comes of them any more.
    async fn unborn(&self, name: &str, absent: &[ChatId]) -> Result<Vec<String>> {
        let mut pipeline = redis::Pipeline::with_capacity(absent.len());
        for id in absent {
            pipeline.cmd("ZSCORE").arg(self.keys().named(name)).arg(id.hex());
        }
        let mut unborn = Vec::new();
        for (id, score) in absent.iter().zip(self.commands().run_all(&pipeline).await?) {
            // The public name's has none: it is taken over by whoever wants it.
            let since = match score {
                Value::Double(since) => since,
                _ => continue,
            };
            if since + (UNBORN.as_millis() as f64) < now_millis() as f64 && self.forget_unborn(*id).await? {
                unborn.push(id.hex());
            }
        }
        Ok(unborn)
    }

    /// True: there is no chat of this id, and for a minute there will be none.
    async fn forget_unborn(&self, id: ChatId) -> Result<bool> {
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
    /// The chat goes first and leaves a mark that keeps its id from being used again; then the entries of its name and
    /// pair. Idempotency keys of an older build run out by themselves; nothing can find them any more.
    pub async fn delete_chat(&self, id: ChatId) -> Result<bool> {
        self.in_time(async {
            let keys = self.keys();
            let call = script::DELETE_CHAT
                .call()
                .arg(keys.meta(id))
                .arg(keys.members(id))
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
                .arg(now_millis());
            let Some(was) = value::some(self.commands().eval(&call).await?) else { return Ok(false) };
            let mut forget = redis::cmd("SREM");
            forget.arg(keys.part_of(id)).arg(id.hex());
            self.commands().run(&forget).await.map_err(later)?;
            let fields = value::pairs(was)?;
            let Some((chat, with)) = record_from(id, fields)? else { return Ok(true) };
            if let Some(with) = with {
                let release = script::RELEASE.call().arg(keys.pair(&chat.owner, &with)).arg(id.hex());
                self.commands().eval(&release).await.map_err(later)?;
            }
            if let Some(name) = &chat.name {
                let mut remove = redis::cmd("ZREM");
                remove.arg(keys.named(name)).arg(id.hex());
                self.commands().run(&remove).await.map_err(later)?;
                let mut read = redis::cmd("GET");
                read.arg(keys.public_name(name));
                let entry = value::some(self.commands().run(&read).await.map_err(later)?);
                let entry = entry.map(value::text).transpose()?.filter(|entry| entry.starts_with(&id.hex()));
                if let Some(entry) = entry {
                    let release = script::RELEASE.call().arg(keys.public_name(name)).arg(entry);
                    self.commands().eval(&release).await.map_err(later)?;
                }
            }
            Ok(true)
        })
        .await
    }
}

fn users(new: &NewChat) -> Vec<&UserId> {
    let with = new.with.as_ref().filter(|with| **with != new.owner);
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

/// A chat from the fields of its meta hash; none when they are the mark of a deleted one, or nothing.
pub(super) fn chat_from(id: ChatId, fields: Vec<(String, Value)>) -> Result<Option<Chat>> {
    Ok(record_from(id, fields)?.map(|(chat, _)| chat))
}

/// Whether this is the mark of an id whose index entry is just removed, because no chat ever had it.
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
