//! What the server holds for the devices: their queues, as an admin sees them.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Day;
use crate::cli::{
    Failure,
    demo::{PATIENCE, cast::Role, memory::number},
};

impl Day<'_> {
    /// What an admin sees of a device: its queues, and the messages in them.
    pub(super) async fn queues(&self, role: Role) -> Result<(u64, u64), Failure> {
        let path = format!("/admin/v1/devices/{}/channels", self.device(role)?.id);
        let edge = self.stage.edge(role);
        match self.stage.ask(edge, Method::GET, &path, &self.admin, None).await? {
            // Ended, and forgotten.
            (404, _) => Ok((0, 0)),
            (200, answer) => {
                let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                let waiting = |item: &Value| {
                    number(item, "depth").unwrap_or(0) + number(item, "in_flight").unwrap_or(0)
                };
                Ok((items.len() as u64, items.iter().map(waiting).sum()))
            }
            (status, answer) => Err(Failure::run(format!("GET {path} was answered {status}: {answer}"))),
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
            let path = format!("/v1/devices/{}", device.id);
            let (edge, token) = (self.stage.edge(device.role), self.token(device.role.person()));
            match self.stage.call(edge, Method::DELETE, &path, token, None).await {
                Ok(_) => ending.push(device.role),
                Err(_) => left += 1,
            }
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
