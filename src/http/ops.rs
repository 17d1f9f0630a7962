//! For operators: is it ready, and what does it count.

use warp::{
    Reply,
    http::{StatusCode, header},
    reply::Response,
};

use super::{Context, respond::json};
use crate::metrics::whole;

/// `GET /readyz`: 200 when the store and every nsqd answer, the edge has its name and isn't stopping; else 503,
/// and what is wrong.
/// A missing nsqlookupd is said, but live delivery doesn't need it.
pub(super) async fn ready(context: Context) -> Response {
    let core = &context.core;
    let (store, broker) = tokio::join!(core.store.ping(), core.broker.health());
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    if core.drain.has_begun() {
        problems.push("this edge is shutting down".to_owned());
    }
    if core.name.waits() {
        let name = &core.edge;
        problems.push(format!(
            "it isn't known yet whether the name `{name}` (KEEPSTEP_EDGE) is this edge's alone: nobody is served until then"
        ));
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

/// `GET /metrics`. What isn't counted where it happens is looked at here; nothing is asked of the store or the broker.
pub(super) async fn metrics(context: Context) -> Response {
    let core = &context.core;
    let metrics = &core.metrics;
    // The store counts these itself.
    let missed = core.store.notifications_missed().saturating_sub(metrics.notifications_missed.get());
    metrics.notifications_missed.inc_by(missed);
    for (node, up) in core.broker.nodes() {
        metrics.nsqd_up.with_label_values(&[&node]).set(i64::from(up));
    }
    metrics.store_up.set(i64::from(core.store.is_up()));
    metrics.draining.set(i64::from(core.drain.has_begun()));
    metrics.tasks.set(whole(tokio::runtime::Handle::current().metrics().num_alive_tasks()));
    let (mains, subs) = core.hub.count();
    metrics.connections.with_label_values(&["main"]).set(whole(mains));
    metrics.connections.with_label_values(&["sub"]).set(whole(subs));
    let unconfirmed = core.unconfirmed();
    metrics.outbox_messages.set(whole(unconfirmed.messages + unconfirmed.dead_edge_messages));
    metrics.outbox_dead_edge_messages.set(whole(unconfirmed.dead_edge_messages));
    metrics.outbox_oldest.set(unconfirmed.oldest.as_secs_f64());
    metrics.outbox_dead_edges.set(whole(unconfirmed.dead_edges));
    match metrics.render() {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            warp::reply::with_header(text, header::CONTENT_TYPE, kind).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics can't be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
