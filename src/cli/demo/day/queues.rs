//! What the server holds for the devices: their queues, as an admin sees them.

use std::time::Duration;

use keepstep_client::ApiError;
use reqwest::Method;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Day;
use crate::cli::{
    Failure,
    demo::{PATIENCE, cast::Role},
};

#[derive(Deserialize)]
struct Queues {
    items: Vec<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    depth: Option<u64>,
    in_flight: Option<u64>,
}

impl Day<'_> {
    /// What an admin sees of a device: its queues, and the messages in them.
    pub(super) async fn queues(&self, role: Role) -> Result<(u64, u64), Failure> {
        let (api, id) = (self.stage.api(role, &self.admin)?, self.device(role)?.id.to_string());
        let path = ["admin", "v1", "devices", &id, "channels"];
        match api.call::<Queues>(Method::GET, &path, &[], None).await {
            // Ended, and forgotten.
            Err(ApiError::Refused(refusal)) if refusal.status == 404 => Ok((0, 0)),
            Err(error) => Err(error.into()),
            Ok(Queues { items }) => {
                let waiting =
                    |queue: &Queue| queue.depth.unwrap_or_default() + queue.in_flight.unwrap_or_default();
                Ok((items.len() as u64, items.iter().map(waiting).sum()))
            }
        }
    }

    /// The same, until so many messages are there: they reach the queues a moment after they are durable.
    pub(super) async fn queues_with(&self, role: Role, messages: u64) -> Result<(u64, u64), Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (queues, waiting) = self.queues(role).await?;
            if waiting >= messages {
                return Ok((queues, waiting));
            }
            if Instant::now() >= until {
                let name = role.name();
                let said = format!(
                    "waited 10 s in vain for {messages} messages in the queues of {name}: {waiting} are there"
                );
                return Err(Failure::run(said));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes what the demo has put on a server that goes on after it; how many devices couldn't be ended.
    pub async fn tidy(&self) -> u64 {
        let (mut left, mut ending) = (0, Vec::new());
        for device in self.devices.iter().flatten().filter(|device| !self.ended(device.role)) {
            let ended = match self.stage.api(device.role, self.token(device.role.person())) {
                Ok(api) => api.terminate(device.id).await.is_ok(),
                Err(_) => false,
            };
            if ended { ending.push(device.role) } else { left += 1 }
        }
        let until = Instant::now() + PATIENCE;
        for role in ending {
            while self.queues(role).await.is_ok_and(|(queues, _)| queues > 0) {
                if Instant::now() >= until {
                    left += 1;
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        left
    }
}
