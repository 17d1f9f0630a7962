//! A request's method and path for the log and metrics: without ids and tokens, from a closed set.

use warp::http::Method;

/// All calls of docs/openapi.yaml. A literal path stands before one with a parameter.
const TEMPLATES: [&str; 39] = [
    "/v1/socket",
    "/v1/chats/{id}/messages",
    "/v1/ready",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/devices",
    "/v1/devices/{id}",
    "/v1/devices/{id}/channels",
    "/v1/terminations/{id}",
    "/v1/links",
    "/v1/links/{which}",
    "/v1/links/{code}/approve",
    "/v1/chats",
    "/v1/chats/join",
    "/v1/chats/{id}",
    "/v1/chats/{id}/join",
    "/v1/chats/{id}/leave",
    "/v1/chats/{id}/members",
    "/v1/chats/{id}/members/{user}",
    "/v1/invitations",
    "/v1/invitations/{id}/accept",
    "/v1/invitations/{id}/decline",
    "/v1/blocks",
    "/v1/blocks/{user}",
    "/v1/offsets",
    "/",
    "/admin",
    "/v1/playground",
    "/admin/v1/overview",
    "/admin/v1/users",
    "/admin/v1/devices",
    "/admin/v1/users/{user}/devices",
    "/admin/v1/users/{user}/kick",
    "/admin/v1/devices/{id}",
    "/admin/v1/devices/{id}/channels",
    "/admin/v1/channels/orphans",
    "/admin/v1/channels/sweep",
    "/admin/v1/audit",
];

/// Files of the pages, and unknown paths.
const OTHER: &str = "other";

/// Returns the path with its parameters' names instead of their values.
pub(super) fn template(path: &str) -> &'static str {
    TEMPLATES.into_iter().find(|template| fits(template, path)).unwrap_or(OTHER)
}

fn fits(template: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let all = template.split('/').all(|own| {
        parts.next().is_some_and(|part| own == part || (own.starts_with('{') && !part.is_empty()))
    });
    all && parts.next().is_none()
}

/// Returns the method, or `other` if no call has it.
pub(super) fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => OTHER,
    }
}

#[cfg(test)]
#[path = "../../tests/unit/http/paths.rs"]
mod tests;
