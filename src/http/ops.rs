//! For operators: is it ready, and what does it count.

use warp::{
    Reply,
    http::{StatusCode, header},
    reply::Response,
};

use super::{Context, respond::json};

/// `GET /readyz`: 200 when the store and every nsqd answer and the edge isn't stopping; else 503, and what is wrong.
/// A missing nsqlookupd is said, but live delivery doesn't need it.
pub(super) async fn ready(context: Context) -> Response {
    let core = &context.core;
    let (store, broker) = tokio::join!(core.store.ping(), core.broker.health());
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    if core.drain.has_begun() {
        problems.push("this edge is shutting down".to_owned());
    }
    if let Err(error) = store {
        problems.push(error.to_string());
    }
    for server in &broker {
        if let Some(problem) = &server.problem {
            let text = format!("{} {}: {problem}", server.role, server.node);
            if server.role == "nsqlookupd" { notes.push(text) } else { problems.push(text) }
        }
    }
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": problems.is_empty(), "problems": problems, "notes": notes });
    json(status, &body)
}

/// `GET /metrics`.
pub(super) async fn metrics(context: Context) -> Response {
    let metrics = &context.core.metrics;
    // The store counts these itself.
    let missed = context.core.store.notifications_missed().saturating_sub(metrics.notifications_missed.get());
    metrics.notifications_missed.inc_by(missed);
    for (node, up) in context.core.broker.nodes() {
        metrics.nsqd_up.with_label_values(&[&node]).set(i64::from(up));
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    let (mains, subs) = context.core.hub.count();
    metrics.connections.with_label_values(&["main"]).set(i64::try_from(mains).unwrap_or(i64::MAX));
    metrics.connections.with_label_values(&["sub"]).set(i64::try_from(subs).unwrap_or(i64::MAX));
    let text = metrics.render();
    warp::reply::with_header(text, header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .into_response()
}
