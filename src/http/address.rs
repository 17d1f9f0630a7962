//! The client's address of a request, also behind proxies. Anybody can write the header, so it is read from the right, where
//! trusted proxies have added to it, and only as far as its writers are trusted.

use std::net::{IpAddr, SocketAddr};

use warp::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::TrustedProxies;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the right-most address of `Forwarded` (RFC 7239) or `X-Forwarded-For` that isn't a trusted proxy's. Returns the
/// peer's address if it isn't a trusted proxy, if the header can't be read, or if the two headers differ: a proxy writes one of
/// them, and passes on the other as its client wrote it.
pub(super) fn client(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.to_canonical();
    if !proxies.contains(peer) {
        return peer;
    }
    let one = said(proxies, headers, &header::FORWARDED, forwarded);
    let other = said(proxies, headers, &X_FORWARDED_FOR, listed);
    match (one, other) {
        (Some(address), None) | (None, Some(address)) => address,
        (Some(one), Some(other)) if one == other => one,
        _ => None,
    }
    .unwrap_or(peer)
}

/// Returns what a header says. None: it is missing. Inside, none: it is malformed.
fn said(
    proxies: &TrustedProxies,
    headers: &HeaderMap,
    name: &HeaderName,
    addresses: fn(&str) -> Vec<Option<IpAddr>>,
) -> Option<Option<IpAddr>> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    if lines.is_empty() {
        return None;
    }
    let mut nearest = None;
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return Some(None) };
        for address in addresses(line).into_iter().rev() {
            let Some(address) = address else { return Some(None) };
            nearest = Some(address);
            if !proxies.contains(address) {
                return Some(nearest);
            }
        }
    }
    // Only proxies: the first one is the client.
    Some(nearest)
}

/// Returns the elements of one line of `X-Forwarded-For`.
fn listed(line: &str) -> Vec<Option<IpAddr>> {
    line.split(',').map(address).collect()
}

/// Returns the `for` of each element of one line of `Forwarded`. A line that breaks RFC 7239 is malformed as a whole: a client
/// that leaves a quotation mark open could otherwise hide what a proxy has added.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    elements(line).unwrap_or_else(|| vec![None])
}

fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let (mut found, mut rest, mut by) = (Vec::new(), line, None);
    loop {
        let (name, value);
        (name, rest) = rest.split_once('=')?;
        (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find([',', ';']).unwrap_or(rest.len())),
        };
        // No address has one of these, and a backslash could hide a quotation mark.
        if value.contains(['\\', '"']) {
            return None;
        }
        if name.trim().eq_ignore_ascii_case("for") {
            by = address(value);
        }
        rest = rest.trim_start();
        match rest.as_bytes().first() {
            Some(b';') => rest = &rest[1..],
            Some(b',') => {
                found.push(by.take());
                rest = &rest[1..];
            }
            Some(_) => return None,
            None => {
                found.push(by);
                return Some(found);
            }
        }
    }
}

/// Parses an address with or without a port; IPv6 with a port is in brackets. `unknown` and `_hidden` are no addresses.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|with| with.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[path = "../../tests/unit/http/address.rs"]
mod tests;
