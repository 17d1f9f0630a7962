//! Addresses of servers as people write them, parsed once, at startup.

use std::fmt;

/// The address of one nsqd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its HTTP interface, `host:port`. This is also its name: chats are stored with it.
    pub http: String,
    /// Its TCP interface, `host:port`; without it nsqd is asked for the port, at the host of `http`.
    pub tcp: Option<String>,
}

/// Why a text isn't an address, as a sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} isn't the address of {what}: {why}")]
pub struct AddressError {
    text: String,
    what: &'static str,
    why: &'static str,
}

impl AddressError {
    pub(super) fn new(text: &str, what: &'static str, why: &'static str) -> Self {
        Self { text: text.to_owned(), what, why }
    }
}

impl NodeAddress {
    /// Parses `host:port`, `http://host:port` or `http://host:port?tcp=host:port`.
    ///
    /// # Errors
    /// A sentence that states what is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refuse = |why| AddressError::new(text, "an nsqd", why);
        let (http, query) = text.split_once('?').map_or((text, None), |(http, query)| (http, Some(query)));
        let http = http_address(http).map_err(refuse)?;
        let tcp = match query {
            None => None,
            Some(query) => {
                let tcp = query.strip_prefix("tcp=").ok_or("behind the ? only tcp=host:port may stand");
                let tcp = tcp.and_then(|tcp| host_port(tcp).map(|_| tcp.to_owned()));
                Some(tcp.map_err(refuse)?)
            }
        };
        Ok(Self { http, tcp })
    }

    /// Returns the host of `http`, with its brackets if it is an IPv6 address.
    pub(super) fn host(&self) -> &str {
        self.http.rsplit_once(':').map_or(&self.http, |(host, _)| host)
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.http)?;
        self.tcp.as_ref().map_or(Ok(()), |tcp| write!(f, "?tcp={tcp}"))
    }
}

/// Returns the `host:port` of an nsqlookupd's HTTP interface.
pub(super) fn lookupd_address(text: &str) -> Result<String, AddressError> {
    http_address(text).map_err(|why| AddressError::new(text, "an nsqlookupd", why))
}

fn http_address(text: &str) -> Result<String, &'static str> {
    let bare = match text.split_once("://") {
        None => text,
        Some(("http", bare)) => bare.strip_suffix('/').unwrap_or(bare),
        Some(_) => return Err("it must begin with http:// or with the host"),
    };
    host_port(bare).map(|_| bare.to_owned())
}

fn host_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it needs a host and a port, such as nsqd-1:4151")?;
    let good = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if !good {
        return Err("its host isn't a name, an IPv4 address or an IPv6 address in brackets");
    }
    // u16's own parser would accept "+4151".
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok((host, port)),
        _ => Err("its port isn't a number from 1 to 65535"),
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/broker/nsq/address.rs"]
mod tests;
