//! The networks to which limits per address apply.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IPv4 address, or an IPv6 /64 network: one customer has 2^64 addresses of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

/// Neighbouring networks, which one household or one office may have altogether: a /24 of IPv4, a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbourhood(IpAddr);

impl Network {
    /// Returns the neighbourhood of the network.
    #[must_use]
    pub fn neighbourhood(self) -> Neighbourhood {
        Neighbourhood(match self.0 {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Ipv4Addr::new(a, b, c, 0).into()
            }
            IpAddr::V6(network) => {
                let [a, b, c, ..] = network.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
            }
        })
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => {
                let [a, b, c, d, ..] = network.segments();
                write!(f, "{a:x}:{b:x}:{c:x}:{d:x}")
            }
        }
    }
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(network) => {
                let [a, b, c, _] = network.octets();
                write!(f, "{a}.{b}.{c}")
            }
            IpAddr::V6(network) => {
                let [a, b, c, ..] = network.segments();
                write!(f, "{a:x}:{b:x}:{c:x}")
            }
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/domain/network.rs"]
mod tests;
