//! Terminations of devices, and background work that one edge does for all: its leases, its rate limits.

use std::time::Duration;

use super::{
    RedisStore,
    devices::all_fields,
    error::{corrupt, later},
    millis, script, value,
};
use crate::{
    domain::{
        id::{ChatId, DeviceId, TerminationId, UserId},
        termination::{Receipt, Termination, TerminationState},
    },
    store::{Count, RegisteredSession, Result},
};

/// How long the receipt of a finished termination is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many chats' scripts are sent together.
const BATCH: usize = 128;

impl RedisStore {
    /// See [`crate::store::Store::begin_termination`].
    ///
    /// Each slot is one step: record and list, tombstone, state, then the fence of the device in each of its chats (so
    /// that its acks are refused too). A repeated call repeats all steps, with the record in force.
    pub async fn begin_termination(&self, new: &Termination) -> Result<Option<Termination>> {
        self.in_time(async {
            let Some(owner) = self.owner(new.device).await?.filter(|owner| owner.user == new.user) else {
                return Ok(None);
            };
            let id = if let Some(earlier) = owner.terminated {
                earlier
            } else {
                if self.device(&new.user, new.device).await?.is_none() {
                    return Ok(None);
                }
                self.save_termination(new).await?;
                let tombstone = script::TOMBSTONE_DEVICE
                    .call()
                    .arg(self.keys().owner(new.device))
                    .arg(new.user.as_str())
                    .arg(new.id.hex());
                let stands = self.commands().eval(&tombstone).await.map_err(later)?;
                value::termination(&value::text(stands)?)?
            };
            if id != new.id {
                // Also a record that was written late: it terminates nothing, and would be resumed without end.
                self.drop_termination(new.id).await.map_err(later)?;
            }
            self.fence_off(&new.user, new.device).await.map_err(later)?;
            let record = self.termination(id).await.map_err(later)?;
            // The receipt has expired, so the termination was done long ago.
            Ok(Some(record.unwrap_or_else(|| Termination {
                id,
                state: TerminationState::Done,
                receipt: Receipt::default(),
                ..new.clone()
            })))
        })
        .await
    }

    async fn fence_off(&self, user: &UserId, device: DeviceId) -> Result<()> {
        let end = script::END_DEVICE.call().arg(self.keys().devices(user)).arg(device.hex());
        self.commands().eval(&end).await?;
        for chats in self.chats_of(user).await?.chunks(BATCH) {
            let bar = |chat: &ChatId| {
                let (from, fence) = (self.keys().from(*chat), self.keys().fence(*chat));
                script::FENCE_DEVICE.call().arg(from).arg(fence).arg(device.hex())
            };
            self.bulk().eval_all(&chats.iter().map(bar).collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn drop_termination(&self, id: TerminationId) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SREM").arg(self.keys().unfinished()).arg(id.hex());
        pipeline.cmd("DEL").arg(self.keys().termination(id));
        self.commands().run_all(&pipeline).await.map(drop)
    }

    /// See [`crate::store::Store::termination`].
    pub async fn termination(&self, id: TerminationId) -> Result<Option<Termination>> {
        let mut read = redis::cmd("GET");
        read.arg(self.keys().termination(id));
        let Some(json) = value::some(self.commands().run(&read).await?) else { return Ok(None) };
        serde_json::from_slice(&value::bytes(json)?).map(Some).map_err(|err| corrupt(err.to_string()))
    }

    /// See [`crate::store::Store::save_termination`].
    ///
    /// An unfinished termination enters the list before its record is written; a finished one leaves the list after: a
    /// crash in between leaves work that can be repeated.
    pub async fn save_termination(&self, termination: &Termination) -> Result<()> {
        let json = serde_json::to_vec(termination).map_err(|err| corrupt(err.to_string()))?;
        let (key, list, id) =
            (self.keys().termination(termination.id), self.keys().unfinished(), termination.id.hex());
        let (state, kept) = match termination.state {
            TerminationState::Accepted => ("accepted", 0),
            TerminationState::Pending => ("pending", 0),
            TerminationState::Done => ("done", millis(KEPT)),
        };
        let call = script::SAVE_TERMINATION.call();
        let save = call.arg(key).arg(json).arg(state).arg(termination.receipt.channels.len()).arg(kept);
        self.in_time(async {
            if termination.state != TerminationState::Done {
                self.commands().eval(&script::ENLIST.call().arg(&list).arg(&id)).await?;
            }
            let stands = value::text(self.commands().eval(&save).await.map_err(later)?)?;
            if stands == "done" {
                let mut leave = redis::cmd("SREM");
                leave.arg(&list).arg(&id);
                self.commands().run(&leave).await.map_err(later)?;
            }
            Ok(())
        })
        .await
    }

    /// See [`crate::store::Store::unfinished_terminations`].
    pub async fn unfinished_terminations(&self) -> Result<Vec<TerminationId>> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.keys().unfinished());
        let ids = value::list(self.bulk().run(&read).await?)?.into_iter();
        let mut ids = ids.map(|id| value::termination(&value::text(id)?)).collect::<Result<Vec<_>>>()?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// See [`crate::store::Store::forget_device`].
    pub async fn forget_device(&self, user: &UserId, device: DeviceId, chats: &[ChatId]) -> Result<()> {
        self.in_time(async {
            self.forget_last_session(user, device).await?;
            let mut pipeline = redis::pipe();
            pipeline.cmd("HDEL").arg(self.keys().devices(user)).arg(all_fields(device));
            pipeline.cmd("DEL").arg(self.keys().intent(user, device));
            pipeline.cmd("PEXPIRE").arg(self.keys().owner(device)).arg(millis(self.limits().tombstones));
            self.commands().run_all(&pipeline).await?;
            self.put_off(user, device, None).await.map_err(later)?;
            for chats in chats.chunks(BATCH) {
                let mut pipeline = redis::pipe();
                for chat in chats {
                    self.disown_in(&mut pipeline, *chat, device);
                }
                self.bulk().run_all(&pipeline).await.map_err(later)?;
            }
            Ok(())
        })
        .await
    }

    // A session whose edge died is still registered for that edge.
    async fn forget_last_session(&self, user: &UserId, device: DeviceId) -> Result<()> {
        let mut read = redis::cmd("HMGET");
        let field = |name: &str| format!("{}.{name}", device.hex());
        read.arg(self.keys().devices(user))
            .arg(field("session"))
            .arg(field("edge"))
            .arg(field("incarnation"));
        let mut answer = value::list(self.commands().run(&read).await?)?.into_iter();
        let session = value::some(value::next(&mut answer)?).map(value::number).transpose()?;
        let edge = value::some(value::next(&mut answer)?).map(value::text).transpose()?;
        let incarnation = value::some(value::next(&mut answer)?).map(value::text).transpose()?;
        let (Some(session), Some(edge)) = (session, edge) else { return Ok(()) };
        let incarnation = incarnation.unwrap_or_default();
        let noted = RegisteredSession { user: user.clone(), device, session, incarnation };
        self.forget_session(&edge, &noted, Duration::ZERO).await
    }

    /// See [`crate::store::Store::try_acquire_lease`].
    pub async fn try_acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let call = script::ACQUIRE_LEASE.call().arg(self.keys().work(name)).arg(holder).arg(millis(ttl));
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::release_lease`].
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<()> {
        let call = script::RELEASE_LEASE.call().arg(self.keys().work(name)).arg(holder);
        self.commands().eval(&call).await.map(drop)
    }

    /// See [`crate::store::Store::count`].
    pub async fn count(&self, name: &str, window: Duration) -> Result<Count> {
        Ok(self.counted(name, window).await?.0)
    }
}
