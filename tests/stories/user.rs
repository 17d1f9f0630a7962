//! A user of the application.

use std::sync::Arc;

use serde_json::{Value, json};

use super::client::{Api, user_token};
use super::device::Device;

/// See the module.
#[derive(Clone, Debug)]
pub struct User {
    /// The `sub` of the token.
    pub name: String,
    /// The user token.
    pub token: String,
    edges: Arc<[String]>,
}

impl User {
    /// Returns a user with this name.
    pub fn new(name: &str, edges: Arc<[String]>) -> User {
        User::with_token(name, &user_token(name), edges)
    }

    /// Returns a user with a token from elsewhere.
    pub fn with_token(name: &str, token: &str, edges: Arc<[String]>) -> User {
        User { name: name.to_owned(), token: token.to_owned(), edges }
    }

    /// Returns the API of an edge with the user's token.
    pub fn api(&self, edge: usize) -> Api {
        Api::new(&self.edges[edge % self.edges.len()], &self.token)
    }

    /// Registers a device without connecting it.
    pub async fn registers(&self, kind: &str) -> Device {
        let body = json!({ "kind": kind, "name": format!("{}'s {kind}", self.name), "platform": "tests" });
        self.device(&self.api(0).post("/v1/devices", body).await.with(201))
    }

    /// Returns the device of a registration's answer.
    pub fn device(&self, registered: &Value) -> Device {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{registered}")).to_owned();
        let device = &registered["device"];
        let edges = self.edges.clone();
        Device::new(&text(&device["id"]), &text(&device["kind"]), &text(&registered["token"]), edges)
    }

    /// Registers a main and connects it.
    pub async fn phone(&self, edge: usize) -> Device {
        let mut phone = self.registers("main").await;
        phone.connects(edge).await;
        phone
    }

    /// Registers a sub and connects it. The phone must be connected.
    pub async fn web(&self, edge: usize) -> Device {
        let mut web = self.registers("sub").await;
        web.connects(edge).await;
        web
    }

    /// Returns the direct chat with another user.
    pub async fn direct(&self, with: &User) -> String {
        let made = self.api(0).post("/v1/chats", json!({ "kind": "direct", "with": with.name })).await.ok();
        id(&made)
    }

    /// Creates a private group.
    pub async fn group(&self, name: &str) -> String {
        id(&self.api(0).post("/v1/chats", json!({ "kind": "group", "name": name })).await.with(201))
    }

    /// Invites a user into a group.
    pub async fn invites(&self, chat: &str, whom: &User) {
        let path = format!("/v1/chats/{chat}/members");
        self.api(0).post(&path, json!({ "user": whom.name })).await.ok();
    }

    /// Removes a user from a group.
    pub async fn removes(&self, chat: &str, whom: &User) {
        self.api(0).delete(&format!("/v1/chats/{chat}/members/{}", whom.name)).await.ok();
    }

    /// Leaves a group.
    pub async fn leaves(&self, chat: &str) {
        self.api(0).post(&format!("/v1/chats/{chat}/leave"), json!({})).await.ok();
    }

    /// Terminates a device; returns the id of the termination.
    pub async fn ends(&self, device: &str) -> String {
        accepted(&self.api(0), device).await
    }
}

/// Terminates a device with any token; returns the id of the termination, which must have been accepted.
pub async fn accepted(api: &Api, device: &str) -> String {
    let answer = api.delete(&format!("/v1/devices/{device}")).await.with(202);
    assert!(matches!(answer["termination"]["state"].as_str(), Some("accepted" | "pending")), "{answer}");
    id(&answer["termination"])
}

/// Returns the id of an object.
#[track_caller]
pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}
