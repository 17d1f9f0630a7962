//! The upgrade to a socket. The handshake is done here, because warp's own can neither set the read buffer (128 KiB a
//! connection) nor answer a subprotocol; the frames are tungstenite's.

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::{body::Bytes, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Span, instrument::Instrument};
use warp::{
    Reply,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    Request, auth, cors,
    listener::{Line, Permit},
    trace::RequestId,
};
use crate::{
    protocol::{CloseCode, ErrorCode, Problem, SUBPROTOCOL},
    session::{self, Connection, Wire},
    spans,
};

/// `GET /v1/socket`.
pub(super) async fn open(
    request: Request,
    upgrade: Option<OnUpgrade>,
    permit: Option<Permit>,
    id: Option<RequestId>,
) -> Result<Response, Problem> {
    let Request { context, headers, query, .. } = &request;
    cors::may_ask(&context.server.allowed_origins, headers)?;
    let accept = handshake(headers)?;
    let Some(upgrade) = upgrade else {
        return Err(Problem::new(ErrorCode::BadField, "this connection can't be upgraded"));
    };
    if context.core.drain.has_begun() {
        return Err(Problem::new(ErrorCode::Draining, "this edge is shutting down: connect again"));
    }
    let offered = offered(headers);
    let token = auth::bearer(headers)
        .or_else(|| offered.iter().find_map(|protocol| protocol.strip_prefix("bearer.")))
        .or_else(|| query.get("token"));
    let claims = token.and_then(|token| context.tokens.verify_device(token).ok());
    if let Some(claims) = &claims {
        context.core.admission.rates.connect(claims.device, &context.core.limits)?;
    }

    // Without a valid token nothing is logged.
    let span = claims.as_ref().map_or_else(Span::none, |claims| {
        spans::session(&claims.user, claims.device, id.as_ref().map(RequestId::as_str))
    });
    let core = context.core.clone();
    let limits = &core.limits;
    // A frame is read beyond its limit, so that the refusal can name it.
    let most = limits.history_frame_bytes.max(limits.frame_bytes);
    let tasks = core.drain.clone();
    let opening = Box::pin(async move {
        let (stream, read) = upgraded(upgrade).await?;
        let connection = Connection::new(Wire::from(stream), read, most).await;
        let Some(claims) = claims else {
            // Browsers see a close code, but no HTTP status of an upgrade.
            session::refuse(&core, connection, CloseCode::Unauthorized.into()).await;
            return None;
        };
        if core.edge.claim.waits() {
            session::refuse(&core, connection, CloseCode::BackendUnavailable.into()).await;
            return None;
        }
        session::open(core, connection, claims).await
    });
    let served = async move {
        let _counted = permit;
        if let Some(session) = opening.await {
            session.serve().await;
        }
    };
    tasks.spawn(served.instrument(span));

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if offered.contains(&SUBPROTOCOL) {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

async fn upgraded(upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    match upgrade.await {
        Ok(upgraded) => match upgraded.downcast::<TokioIo<Line>>() {
            Ok(parts) => Some((parts.io.into_inner().into_stream(), parts.read_buf)),
            Err(_) => {
                tracing::error!("an upgraded connection isn't a TCP stream");
                None
            }
        },
        Err(error) => {
            tracing::debug!(%error, "a client went away during its upgrade");
            None
        }
    }
}

/// Checks the client's handshake (RFC 6455, section 4.2.1) and returns `Sec-WebSocket-Accept`.
fn handshake(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let bad = |detail: &'static str| Problem::new(ErrorCode::BadField, detail);
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(bad("this address is for WebSocket connections"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("only version 13 of WebSocket is spoken here"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    if !BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(bad("Sec-WebSocket-Key isn't 16 bytes of base64"));
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| bad("Sec-WebSocket-Key can't be answered"))
}

fn offered(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect()
}
