//! Readiness and metrics.

use std::time::Duration;

use warp::{
    Reply,
    http::{StatusCode, header},
    reply::Response,
};

use super::{
    Context, Request,
    respond::{json, ok},
};
use crate::{
    broker::NodeHealth,
    metrics::whole,
    protocol::{ErrorCode, Problem},
};

/// Deadline of the broker's check: a load balancer that gets no answer takes the edge for dead.
const BROKER_WITHIN: Duration = Duration::from_millis(300);

/// `GET /readyz`: 200 if the store works, the edge has its name and isn't draining; else 503 with the reason. A failing nsqd or
/// nsqlookupd is only noted: messages come later without it, and 503 would take all edges away at once.
pub(super) async fn ready(context: Context) -> Response {
    let core = &context.core;
    let broker = async {
        let asked = tokio::time::timeout(BROKER_WITHIN, core.broker.health());
        asked.await.unwrap_or_else(|_| core.broker.last_health())
    };
    let (store, broker) = tokio::join!(core.store.ping(), broker);
    let mut problems = Vec::new();
    if core.drain.has_begun() {
        problems.push("this edge is shutting down".to_owned());
    }
    if core.edge.claim.waits() {
        let name = &core.edge.name;
        problems.push(format!(
            "it isn't known yet whether the name `{name}` (KEEPSTEP_EDGE) is this edge's alone: nobody is served until then"
        ));
    }
    if let Err(error) = store {
        problems.push(error.to_string());
    } else if let Some(reason) = core.store.refusal() {
        problems.push(format!("Redis refuses writes: {reason}"));
    }
    let told = |server: NodeHealth| Some(format!("{} {}: {}", server.role, server.node, server.problem?));
    let notes: Vec<String> = broker.into_iter().filter_map(told).collect();
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": problems.is_empty(), "problems": problems, "notes": notes });
    json(status, &body)
}

/// `GET /v1/ready`, for load balancers: whether a new client is served. It is on the clients' listener: a full one fails
/// the check. Anybody may call it, so it asks neither store nor broker.
pub(super) async fn open_for_clients(request: Request) -> Result<Response, Problem> {
    let core = &request.context.core;
    if core.drain.has_begun() {
        return Err(Problem::new(ErrorCode::Draining, "this server is stopping: ask another"));
    }
    if !core.store.is_up() || core.store.refusal().is_some() {
        return Err(Problem::new(ErrorCode::Unavailable, "this server can't accept anything now: try again"));
    }
    Ok(ok(&serde_json::json!({ "ready": true })))
}

/// `GET /metrics`. Sets the gauges that aren't kept elsewhere. Asks neither store nor broker.
pub(super) async fn metrics(context: Context) -> Response {
    let core = &context.core;
    let metrics = &core.metrics;
    // The store counts these.
    let missed = core.store.notifications_missed().saturating_sub(metrics.notifications_missed.get());
    metrics.notifications_missed.inc_by(missed);
    for (node, up) in core.broker.nodes() {
        metrics.nsqd_up.with_label_values(&[&node]).set(i64::from(up));
    }
    let silent = |server: &NodeHealth| server.role == "nsqlookupd" && server.problem.is_some();
    metrics
        .nsqlookupd_down
        .set(whole(core.broker.last_health().iter().filter(|server| silent(server)).count()));
    metrics.store_up.set(i64::from(core.store.is_up()));
    metrics.store_writable.set(i64::from(core.store.is_up() && core.store.refusal().is_none()));
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
            tracing::error!(%error, "rendering metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
