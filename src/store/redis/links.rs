//! Links. All of them share one slot, so that the number of waiting links is known in the same step; they are few, and
//! short-lived.

use std::time::Duration;

use redis::Value;

use super::{RedisStore, devices::server_time, error::corrupt, millis, script, value};
use crate::{
    domain::{
        id::{DeviceId, LinkId},
        link::{Decision, Link, LinkCode, LinkState},
    },
    store::{Decided, LinkOpened, LinkOutcome, NewLink, Result},
};

/// The fields of a link's hash, as they are read.
const FIELDS: [&str; 9] = ["code", "secret", "name", "platform", "bound", "state", "over", "user", "device"];

impl RedisStore {
    /// See [`crate::store::Store::open_link`].
    pub async fn open_link(&self, new: &NewLink, most: u64) -> Result<LinkOpened> {
        let call = script::OPEN_LINK
            .call()
            .arg(self.keys().link(new.id))
            .arg(self.keys().link_code(&new.code))
            .arg(self.keys().open_links())
            .arg(self.keys().links_of(&new.share))
            // A share is no more than an eighth: without a neighbourhood, the neighbourhood's quarter refuses nothing.
            .arg(self.keys().links_of(new.neighbourhood.as_ref().unwrap_or(&new.share)))
            .arg(new.id.hex())
            .arg(millis(new.lifetime))
            .arg(millis(new.lifetime + new.kept))
            .arg(most)
            .arg(new.code.compact())
            .arg(&new.secret)
            .arg(&new.name)
            .arg(&new.platform)
            .arg(new.bound.as_ref().map_or("", |user| user.as_str()));
        match value::text(self.commands().eval(&call).await?)?.as_str() {
            "opened" => Ok(LinkOpened::Opened),
            "taken" => Ok(LinkOpened::CodeTaken),
            "full" => Ok(LinkOpened::Full),
            "share" => Ok(LinkOpened::ShareTaken),
            other => Err(corrupt(format!("a link that is {other:?}"))),
        }
    }

    /// See [`crate::store::Store::link`].
    pub async fn link(&self, id: LinkId) -> Result<Option<Link>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("HMGET").arg(self.keys().link(id)).arg(&FIELDS);
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let now = server_time(value::next(&mut answers)?)?;
        let values = value::list(value::next(&mut answers)?)?;
        if values.first().is_none_or(|code| *code == Value::Nil) {
            return Ok(None);
        }
        let mut values = values.into_iter();
        let mut text = || value::text(value::next(&mut values)?);
        let code = value::parse(&text()?)?;
        let (secret, name, platform, bound) = (text()?, text()?, text()?, text()?);
        let state = match text()?.as_str() {
            "pending" => LinkState::Pending,
            "approving" => LinkState::Approving,
            "approved" => LinkState::Approved,
            "refused" => LinkState::Refused,
            other => return Err(corrupt(format!("a link in state {other:?}"))),
        };
        let over: u64 = value::parse(&text()?)?;
        let mut rest = values.map(value::some);
        let decided = match (rest.next().flatten(), rest.next().flatten()) {
            (Some(user), Some(device)) => {
                Some((value::user(&value::text(user)?)?, value::device(&value::text(device)?)?))
            }
            _ => None,
        };
        let bound = if bound.is_empty() { None } else { Some(value::user(&bound)?) };
        let left = Duration::from_millis(over.saturating_sub(now));
        Ok(Some(Link { id, code, secret, name, platform, bound, state, left, decided }))
    }

    /// See [`crate::store::Store::link_by_code`].
    pub async fn link_by_code(&self, code: LinkCode) -> Result<Option<Link>> {
        self.in_time(async {
            let mut read = redis::cmd("GET");
            read.arg(self.keys().link_code(&code));
            let Some(id) = value::some(self.commands().run(&read).await?) else { return Ok(None) };
            let id = value::text(id)?;
            let id = LinkId::from_hex(&id).ok_or_else(|| corrupt(format!("{id:?} isn't a link")))?;
            Ok(self.link(id).await?.filter(|link| link.code == code))
        })
        .await
    }

    /// See [`crate::store::Store::decide_link`].
    pub async fn decide_link(&self, id: LinkId, decision: &Decision) -> Result<Decided> {
        let call = script::DECIDE_LINK
            .call()
            .arg(self.keys().link(id))
            .arg(self.keys().open_links())
            .arg(id.hex())
            .arg(decision.user.as_str())
            .arg(decision.main.hex())
            .arg(if decision.approve { "approving" } else { "refused" })
            .arg(decision.history.map_or(String::new(), |most| most.to_string()))
            .arg(decision.device.hex());
        let Some(answer) = value::some(self.commands().eval(&call).await?) else { return Ok(Decided::Gone) };
        match value::text(answer)?.as_str() {
            "otherwise" => Ok(Decided::Otherwise),
            device => Ok(Decided::Counts(value::device(device)?)),
        }
    }

    /// See [`crate::store::Store::settle_link`].
    pub async fn settle_link(&self, id: LinkId, device: DeviceId, outcome: LinkOutcome) -> Result<()> {
        let call = script::SETTLE_LINK
            .call()
            .arg(self.keys().link(id))
            .arg(self.keys().open_links())
            .arg(id.hex())
            .arg(device.hex())
            .arg(match outcome {
                LinkOutcome::Registered => "approved",
                LinkOutcome::Undecided => "pending",
            });
        self.commands().eval(&call).await.map(drop)
    }
}
