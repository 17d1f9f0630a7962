//! Groups by name. An entry is indexed by the lookalike key of the name ([`label::key`]). Earlier builds indexed it by
//! the name itself, so reads check both, and [`RedisStore::move_names`] moves such groups to their keys.
//!
//! A group that everybody may enter and a group with a password never share a name. The creator of one writes its entry
//! first, and then checks for one of the other kind: of two that are created at once, at least one sees the other.

use redis::Value;

use super::{
    RedisStore,
    chats::Standing,
    error::{corrupt, later},
    keys::Keys,
    millis, script, value,
};
use crate::{
    domain::{id::ChatId, label, now_millis},
    store::{
        Created, NewChat, Result, UNBORN,
        bounds::{NAMED, UNSAID},
    },
};

/// How long a public name may point to a chat that doesn't exist yet, in milliseconds, before another chat may have the
/// name.
const NAME_CLAIM: u64 = 10_000;
/// How many entries are read to find groups by a name: some may be deleted by now.
const NAMED_READ: usize = 64;
/// How many chats are read together.
const BATCH: usize = 256;

/// A group with a name.
struct Named {
    id: ChatId,
    guarded: bool,
}

impl RedisStore {
    // A name that points nowhere for long is taken over. The tombstone for its id comes first: the id's creator, should
    // it only have been slow, can't use it any more.
    pub(super) async fn create_public(&self, new: &NewChat, name: &str) -> Result<Created> {
        let alike = label::key(name);
        if alike != name && self.older_public(new, name).await? {
            return Ok(Created::NameTaken);
        }
        let key = self.keys().public_name(&alike);
        let mine = format!("{} {}", new.id.hex(), now_millis());
        let mut expected = String::new();
        loop {
            let holds = self.swap(&key, &expected, &mine).await;
            let holds = holds.map_err(|err| if expected.is_empty() { err } else { later(err) })?;
            if holds.is_empty() {
                expected = holds; // its chat was deleted meanwhile, and the entry with it
                continue;
            }
            let (id, since) = entry(&holds)?;
            if id == new.id {
                if new.password_hash.is_none() && self.has_guarded(name).await.map_err(later)? {
                    let release = script::RELEASE_LEASE.call().arg(&key).arg(&holds);
                    self.commands().eval(&release).await.map_err(later)?;
                    return Ok(Created::NameTaken);
                }
                return match self.write_chat(new, id).await.map_err(later)? {
                    Created::Conflict => Ok(Created::NameTaken), // another caller was faster and wrote the tombstone
                    done => Ok(done),
                };
            }
            match self.standing(id).await.map_err(later)? {
                Standing::Chat(..) => return Ok(Created::NameTaken),
                Standing::Nothing if now_millis() < since.saturating_add(NAME_CLAIM) => {
                    return Ok(Created::NameTaken);
                }
                Standing::Nothing => {
                    let tombstone = script::TOMBSTONE_CHAT.call().arg(self.keys().meta(id)).arg(now_millis());
                    let tombstone = tombstone.arg(millis(UNSAID));
                    if value::number(self.commands().eval(&tombstone).await.map_err(later)?)? == 0 {
                        return Ok(Created::NameTaken);
                    }
                }
                Standing::Deleted => {}
            }
            expected = holds;
        }
    }

    /// Creates a group with a password that isn't public.
    pub(super) async fn create_guarded(&self, new: &NewChat, name: &str) -> Result<Created> {
        let alike = label::key(name);
        self.list_name(&alike, new).await?;
        let (older, open) = (alike != name, self.is_open(&alike).await.map_err(later)?);
        if open || (older && self.is_open(name).await.map_err(later)?) {
            let mut remove = redis::cmd("ZREM");
            remove.arg(self.keys().named(&alike)).arg(new.id.hex());
            self.commands().run(&remove).await.map_err(later)?;
            return Ok(Created::NameTaken);
        }
        // Written again after it: a tidy-up may have deleted the entry before there was a chat.
        let written = self.write_chat(new, new.id).await.map_err(later)?;
        self.list_name(&alike, new).await.map_err(later)?;
        Ok(written)
    }

    async fn list_name(&self, alike: &str, new: &NewChat) -> Result<()> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys().named(alike)).arg(new.created).arg(new.id.hex());
        self.commands().run(&add).await.map(drop)
    }

    async fn public_entry(&self, under: &str) -> Result<Option<(ChatId, u64)>> {
        let mut read = redis::cmd("GET");
        read.arg(self.keys().public_name(under));
        let found = value::some(self.commands().run(&read).await?).map(value::text).transpose()?;
        found.map(|holds| entry(&holds)).transpose()
    }

    /// Returns whether another public group of an older build has exactly this name.
    async fn older_public(&self, new: &NewChat, name: &str) -> Result<bool> {
        match self.public_entry(name).await? {
            Some((id, _)) if id != new.id => Ok(matches!(self.standing(id).await?, Standing::Chat(..))),
            _ => Ok(false),
        }
    }

    /// Returns whether a group without a password has the name under this key, or is just getting it.
    async fn is_open(&self, under: &str) -> Result<bool> {
        let Some((id, since)) = self.public_entry(under).await? else { return Ok(false) };
        Ok(match self.standing(id).await? {
            Standing::Chat(chat, _) => chat.password_hash.is_none(),
            Standing::Nothing => now_millis() < since.saturating_add(NAME_CLAIM),
            Standing::Deleted => false,
        })
    }

    /// Returns whether a group with a password has this name, or is just getting it.
    async fn has_guarded(&self, name: &str) -> Result<bool> {
        let (found, coming) = self.named(name).await?;
        Ok(coming || found.iter().any(|named| named.guarded))
    }

    /// See [`crate::store::Store::chats_named`].
    pub async fn chats_named(&self, name: &str) -> Result<Vec<ChatId>> {
        let (mut found, _) = self.in_time(self.named(name)).await?;
        found.truncate(NAMED);
        Ok(found.into_iter().map(|named| named.id).collect())
    }

    // Also returns whether a group with a password may just be in creation.
    async fn named(&self, name: &str) -> Result<(Vec<Named>, bool)> {
        let alike = label::key(name);
        // Under its exact name first: no other group's entry is there.
        let mut places = vec![name];
        if alike != name {
            places.push(&alike);
        }
        let mut pipeline = redis::pipe();
        for under in &places {
            pipeline.cmd("GET").arg(self.keys().public_name(under));
        }
        for under in &places {
            pipeline.cmd("ZRANGE").arg(self.keys().named(under)).arg(0).arg(NAMED_READ - 1);
        }
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let mut ids: Vec<(ChatId, &str)> = Vec::new();
        let mut add = |id: ChatId, under| match ids.iter().any(|(other, _)| *other == id) {
            true => {}
            false => ids.push((id, under)),
        };
        for under in &places {
            if let Some(holds) = value::some(value::next(&mut answers)?).map(value::text).transpose()? {
                add(entry(&holds)?.0, *under);
            }
        }
        for under in &places {
            for id in value::list(value::next(&mut answers)?)? {
                add(value::chat(&value::text(id)?)?, *under);
            }
        }

        let mut pipeline = redis::Pipeline::with_capacity(ids.len());
        for (id, _) in &ids {
            let fields = pipeline.cmd("HMGET").arg(self.keys().meta(*id));
            fields.arg("name").arg("deleted").arg("kind").arg("password");
        }
        let (mut found, mut gone, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for ((id, under), answer) in ids.into_iter().zip(self.bulk().run_all(&pipeline).await?) {
            let mut answer = value::list(answer)?.into_iter();
            let its = value::some(value::next(&mut answer)?).map(value::text).transpose()?;
            if value::some(value::next(&mut answer)?).is_some() {
                gone.push((id, under));
            } else if its.is_some_and(|its| label::key(&its) == alike) {
                value::next(&mut answer)?;
                let guarded = value::some(value::next(&mut answer)?).is_some();
                found.push(Named { id, guarded });
            } else if value::next(&mut answer)? == Value::Nil {
                absent.push((id, under));
            }
        }
        let (unborn, coming) = self.unborn(&absent).await?;
        gone.extend(unborn);
        if !gone.is_empty() {
            let mut pipeline = redis::Pipeline::with_capacity(gone.len());
            for (id, under) in gone {
                pipeline.cmd("ZREM").arg(self.keys().named(under)).arg(id.hex());
            }
            self.commands().run_all(&pipeline).await?;
        }
        Ok((found, coming))
    }

    /// Returns those of these ids under a name that have been there for long without a chat: no chat follows any more.
    /// Also returns whether a chat may follow for others.
    async fn unborn<'a>(&self, absent: &[(ChatId, &'a str)]) -> Result<(Vec<(ChatId, &'a str)>, bool)> {
        let mut pipeline = redis::Pipeline::with_capacity(absent.len());
        for (id, under) in absent {
            pipeline.cmd("ZSCORE").arg(self.keys().named(under)).arg(id.hex());
        }
        let (mut unborn, mut coming) = (Vec::new(), false);
        for ((id, under), score) in absent.iter().zip(self.commands().run_all(&pipeline).await?) {
            // The public name's entry has no score: another group takes it over.
            let since = match score {
                Value::Double(since) => since,
                _ => continue,
            };
            let long_ago = since + (UNBORN.as_millis() as f64) < now_millis() as f64;
            if long_ago && self.forget_unborn(*id).await? {
                unborn.push((*id, *under));
            } else {
                coming = true;
            }
        }
        Ok((unborn, coming))
    }

    /// Deletes the entries of a deleted chat.
    pub(super) async fn forget_name(&self, name: &str, id: ChatId) -> Result<()> {
        let alike = label::key(name);
        let older = (alike != name).then_some(name);
        for under in [alike.as_str()].into_iter().chain(older) {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZREM").arg(self.keys().named(under)).arg(id.hex());
            pipeline.cmd("GET").arg(self.keys().public_name(under));
            let holds = self.commands().run_all(&pipeline).await?.pop().and_then(value::some);
            let holds = holds.map(value::text).transpose()?.filter(|holds| holds.starts_with(&id.hex()));
            if let Some(holds) = holds {
                let release = script::RELEASE_LEASE.call().arg(self.keys().public_name(under)).arg(holds);
                self.commands().eval(&release).await?;
            }
        }
        Ok(())
    }

    /// See [`crate::store::Store::move_names`]. A page is one part of the index of chats.
    pub async fn move_names(&self, page: u64) -> Result<Option<u64>> {
        let (rules, mark) = (label::rules(), self.keys().names());
        if page == 0 {
            let mut read = redis::cmd("GET");
            read.arg(&mark);
            let written = value::some(self.commands().run(&read).await?).map(value::text).transpose()?;
            if written.as_ref() == Some(&rules) {
                return Ok(None);
            }
        }
        let mut part = redis::cmd("SMEMBERS");
        part.arg(self.keys().all_chats(page));
        let ids = self.in_time(async { value::list(self.bulk().run(&part).await?) }).await?;
        let ids = ids.into_iter().map(|id| value::chat(&value::text(id)?)).collect::<Result<Vec<_>>>()?;
        for ids in ids.chunks(BATCH) {
            self.in_time(self.move_names_of(ids)).await?;
        }
        if page + 1 < Keys::CHAT_PARTS {
            return Ok(Some(page + 1));
        }
        let mut done = redis::cmd("SET");
        done.arg(&mark).arg(&rules);
        self.commands().run(&done).await.map(|_| None)
    }

    async fn move_names_of(&self, ids: &[ChatId]) -> Result<()> {
        let mut pipeline = redis::Pipeline::with_capacity(ids.len());
        for id in ids {
            let fields = pipeline.cmd("HMGET").arg(self.keys().meta(*id));
            fields.arg("name").arg("public").arg("password").arg("created");
        }
        for (id, answer) in ids.iter().zip(self.bulk().run_all(&pipeline).await?) {
            let mut fields = value::list(answer)?.into_iter();
            let mut field = || value::some(value::next(&mut fields)?).map(value::text).transpose();
            let (name, public, password, created) = (field()?, field()?, field()?, field()?);
            let (Some(name), Some(created)) = (name, created) else { continue };
            let alike = label::key(&name);
            if public.as_deref() == Some("1") {
                // Another group has the key already: then this one is found under its exact name only, as before.
                self.swap(&self.keys().public_name(&alike), "", &format!("{} {created}", id.hex())).await?;
            } else if password.is_some() {
                let mut add = redis::cmd("ZADD");
                add.arg(self.keys().named(&alike)).arg(created).arg(id.hex());
                self.commands().run(&add).await?;
            }
        }
        Ok(())
    }
}

fn entry(holds: &str) -> Result<(ChatId, u64)> {
    let (id, since) = holds.split_once(' ').ok_or_else(|| corrupt("a name's entry of another shape"))?;
    Ok((value::chat(id)?, value::parse(since)?))
}
