//! The load balancers and proxies whose word on the client's address is believed.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use super::ConfigError;

const NAME: &str = "KEEPSTEP_TRUSTED_PROXIES";

/// Networks whose hosts are believed about the client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Parses networks (`10.0.0.0/8`, `2001:db8::/32`) and addresses, separated by commas.
    ///
    /// # Errors
    /// One of them can't be read, or contains every address.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let one = |text: &str| {
            let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let net = net.map(canonical).ok_or_else(|| {
                let reason =
                    format!("`{text}` isn't a network: write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32");
                ConfigError::value(NAME, reason)
            })?;
            if net.prefix_len() == 0 {
                let reason = format!(
                    "with `{text}` everybody could say to be anybody: name the networks of your own proxies alone"
                );
                return Err(ConfigError::value(NAME, reason));
            }
            Ok(net)
        };
        let parts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        parts.map(one).collect::<Result<Vec<_>, _>>().map(|nets| Self(nets.into()))
    }

    /// Returns whether the host at this address is believed.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Returns whether nobody is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// IPv4-mapped networks (::ffff:10.0.0.0/104) are IPv4.
fn canonical(net: IpNet) -> IpNet {
    let IpAddr::V4(address) = net.addr().to_canonical() else { return net };
    let prefix = if net.addr().is_ipv6() { net.prefix_len().checked_sub(96) } else { Some(net.prefix_len()) };
    prefix.and_then(|prefix| Ipv4Net::new(address, prefix).ok()).map_or(net, IpNet::from)
}

#[cfg(test)]
#[path = "../../tests/unit/config/proxies.rs"]
mod tests;
