//! Changes by admins. The audit log records each, dry runs and refusals too, before it is answered. A change completes although
//! the client disconnects.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use warp::{http::StatusCode, reply::Response};

use crate::{
    domain::id::{DeviceId, UserId},
    http::{
        Request, auth,
        body::{self, Body},
        devices,
        respond::json,
    },
    protocol::{ErrorCode, Problem},
    sync::{
        Core,
        admin::{self, Preview},
        console::{audit, orphans},
        termination,
    },
    tokens::UserClaims,
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Default number of queues of one sweep.
const SWEEP: u64 = 200;

/// The result of an action: the response, and what the audit log records.
struct Done {
    status: StatusCode,
    body: Value,
    detail: Value,
    /// The user, if the request didn't name one.
    user: Option<UserId>,
}

/// `DELETE /admin/v1/devices/{id}?dry_run=`.
pub(in crate::http) async fn end(id: String, request: Request) -> Result<Response, Problem> {
    let by = auth::admin(&request).await?;
    let core = request.context.core.clone();
    let (device, dry_run) = (body::id::<DeviceId>(&id), request.query.flag("dry_run"));
    let mut entry = begun(&core, &by, "device.end", &dry_run);
    entry.device = device.as_ref().ok().copied();
    audited(&request, entry, async move {
        let (device, dry_run) = (device?, dry_run?);
        if dry_run {
            return Ok(previewed(admin::preview(&core, device).await?));
        }
        // Of a terminated device it is the existing termination.
        let found = admin::owner(&core, device).await?;
        if found.terminated.is_none() {
            admin::find(&core, device).await?;
            tracing::info!(by = %by.user, user = %found.user, %device, "admin terminates a device");
        }
        let termination = termination::begin(&core, &found.user, device, "admin").await?;
        Ok(Done {
            status: StatusCode::ACCEPTED,
            body: devices::accepted_body(&termination),
            detail: json!({ "termination": termination.id }),
            user: Some(found.user),
        })
    })
    .await
}

fn previewed(preview: Preview) -> Done {
    let Preview { device, channels, nodes } = preview;
    let queues = nodes.iter().map(|node| node.queues).sum::<u64>();
    let undelivered = nodes.iter().map(|node| node.undelivered).sum::<u64>();
    let chats: std::collections::BTreeSet<_> = channels.items.iter().map(|item| item.chat).collect();
    let user = device.user.clone();
    let body = json!({
        "dry_run": true,
        "user": user,
        "sockets": u8::from(device.online()),
        "edge": device.lease.as_ref().map(|lease| &lease.edge),
        "device": devices::DeviceView::from(device),
        "chats": chats.len(),
        "queues": queues,
        "undelivered": undelivered,
        "oldest_ms": channels.items.iter().filter_map(|item| item.oldest_ms).max(),
        "nodes": nodes,
        "channels": channels.items,
        "unreachable": channels.unreachable,
    });
    let detail = json!({ "queues": queues, "undelivered": undelivered });
    Done { status: StatusCode::OK, body, detail, user: Some(user) }
}

/// `POST /admin/v1/users/{u}/kick`.
pub(in crate::http) async fn kick(user: String, request: Request, body: Body) -> Result<Response, Problem> {
    let by = auth::admin(&request).await?;
    let core = request.context.core.clone();
    let user = body::id::<UserId>(&user);
    let mut entry = begun(&core, &by, "user.kick", &Ok(false));
    entry.user = user.as_ref().ok().cloned();
    let nothing = body.json_or_nothing::<Nothing>(&request).await;
    audited(&request, entry, async move {
        let user = user?;
        let Nothing {} = nothing?;
        tracing::info!(by = %by.user, %user, "admin closes all sockets of a user");
        let connected = admin::kick(&core, &user).await?;
        let body = json!({ "connected": connected });
        Ok(Done { status: StatusCode::OK, body, detail: Value::Null, user: None })
    })
    .await
}

/// `POST /admin/v1/channels/sweep?dry_run=&foreign=&limit=`.
pub(in crate::http) async fn sweep(request: Request, body: Body) -> Result<Response, Problem> {
    let by = auth::admin(&request).await?;
    let core = request.context.core.clone();
    let query = &request.query;
    let (dry_run, foreign) = (query.flag("dry_run"), query.flag("foreign"));
    let limit = body::limit(query, SWEEP, core.limits.page);
    let entry = begun(&core, &by, "channels.sweep", &dry_run);
    let nothing = body.json_or_nothing::<Nothing>(&request).await;
    audited(&request, entry, async move {
        let wanted = orphans::Sweep { dry_run: dry_run?, foreign: foreign?, limit: limit? };
        let Nothing {} = nothing?;
        tracing::info!(by = %by.user, ?wanted, "admin sweeps orphan queues");
        let swept = orphans::sweep(&core, wanted).await?;
        let detail = match swept.dry_run {
            true => json!({ "would_remove": swept.items.len(), "left": swept.left }),
            false => json!({
                "removed": swept.removed, "kept": swept.kept, "failed": swept.failed, "left": swept.left,
            }),
        };
        Ok(Done { status: StatusCode::OK, body: json!(swept), detail, user: None })
    })
    .await
}

fn begun(core: &Core, by: &UserClaims, action: &str, dry_run: &Result<bool, Problem>) -> audit::Entry {
    audit::Entry {
        who: by.user.clone(),
        edge: core.edge.name.clone(),
        action: action.to_owned(),
        dry_run: matches!(dry_run, Ok(true)),
        user: None,
        device: None,
        result: "ok".to_owned(),
        code: None,
        detail: None,
    }
}

/// Runs an action and records it, in a task of its own, so that it is recorded although the client disconnects.
async fn audited(
    request: &Request,
    mut entry: audit::Entry,
    work: impl Future<Output = Result<Done, Problem>> + Send + 'static,
) -> Result<Response, Problem> {
    let (answer, answered) = oneshot::channel();
    let core = request.context.core.clone();
    audit::admit(&core, &entry).await?;
    core.drain.clone().spawn_in_span(async move {
        let done = work.await;
        // A dry run was counted already.
        if let (Err(_), false) = (&done, entry.dry_run)
            && let Err(too_often) = audit::attempted(&core, &entry).await
        {
            let _ = answer.send(Err(too_often));
            return;
        }
        match &done {
            Ok(done) => {
                entry.detail = Some(done.detail.clone()).filter(|detail| !detail.is_null());
                entry.user = entry.user.take().or_else(|| done.user.clone());
            }
            Err(problem) => {
                entry.result = "refused".to_owned();
                entry.code = Some(problem.code.as_str().to_owned());
            }
        }
        let noted = audit::record(&core, &entry).await;
        if let Err(error) = &noted {
            let audit::Entry { who, action, result, .. } = &entry;
            tracing::error!(%error, %who, action, result, "an admin's action is not in the audit log");
        }
        let _ = answer.send(match (done, noted) {
            (Ok(_), Err(problem)) => Err(Problem::new(
                problem.code,
                "it is done, but can't be written into the audit log now: ask again, nothing is done twice",
            )),
            (done, _) => done,
        });
    });
    let done = answered
        .await
        .map_err(|_| Problem::new(ErrorCode::Draining, "this server is stopping: ask another"))?;
    done.map(|done| json(done.status, &done.body))
}
