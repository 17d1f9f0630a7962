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
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_customer_is_one() {
        let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2");
        let near = |one: &str, other: &str| network(one).neighbourhood() == network(other).neighbourhood();
        assert!(near("2001:db8:1:2::1", "2001:db8:1:ff02::1") && !near("2001:db8:1:2::1", "2001:db8:2:2::1"));
        assert!(near("192.0.2.1", "192.0.2.255") && !near("192.0.2.1", "192.0.3.1"));
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(network("192.0.2.1").neighbourhood().to_string(), "192.0.2");
        assert_eq!(network("2001:db8:1:ff02::1").neighbourhood().to_string(), "2001:db8:1");
    }
}
