//! The addresses that webhooks may be sent to. Tenants name the receivers, so addresses that only this machine or its
//! network can reach are forbidden, unless the configuration allows them. Otherwise a webhook would be a way into
//! that network (server-side request forgery).
//!
//! This module does no lookups: the API checks the host as written in a URL, the worker checks every address that a
//! name resolves to, at each attempt.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The networks and hosts that are allowed by the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    networks: Vec<IpNet>,
    hosts: Vec<String>,
}

/// The error of a text that is neither a network nor a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a network such as 10.1.0.0/16, nor an address, nor a host name")]
pub struct InvalidAllowed(String);

impl Allowed {
    /// Parses the allowed networks (`10.1.0.0/16`), addresses and host names.
    ///
    /// # Errors
    /// If a text is none of these.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidAllowed> {
        let mut allowed = Self::default();
        for text in texts {
            if let Ok(network) = text.parse() {
                allowed.networks.push(network);
            } else if let Ok(address) = IpAddr::from_str(text) {
                allowed.networks.push(address.into());
            } else if is_host(text) {
                allowed.hosts.push(normal(text));
            } else {
                return Err(InvalidAllowed(text.to_owned()));
            }
        }
        Ok(allowed)
    }

    /// Returns true if `host` is allowed by its name, whatever it resolves to.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.hosts.contains(&normal(host))
    }

    /// Returns true if a webhook may be sent to `address`.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        // The embedded address is the one that is reached.
        let address = embedded(address).map_or(address, IpAddr::V4);
        let is_allowed = |address: &IpAddr| self.networks.iter().any(|net| net.contains(address));
        is_allowed(&address) || is_public(address)
    }

    /// Returns true if a webhook may be sent to `host`, as far as its text decides: an address, or a name that always
    /// means this machine. Other names are checked when they are resolved.
    #[must_use]
    pub fn permits_spelling(&self, host: &str) -> bool {
        let host = normal(host.trim_start_matches('[').trim_end_matches(']'));
        if self.names(&host) {
            return true;
        }
        match IpAddr::from_str(&host) {
            Ok(address) => self.permits(address),
            // RFC 6761: these names always mean this machine.
            Err(_) if host == "localhost" || host.ends_with(".localhost") => {
                self.permits(Ipv4Addr::LOCALHOST.into()) || self.permits(Ipv6Addr::LOCALHOST.into())
            }
            Err(_) => true,
        }
    }
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        // The limits of DNS names (RFC 1035).
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    // A text of numbers only is a misspelled address, such as 1.2.3.
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').all(is_number)
}

fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Returns the IPv4 address inside an IPv6 address: mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056). Without it,
/// `::ffff:127.0.0.1` would pass as a public address.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// The networks of IPv4 that are not the public Internet (IANA's registry of special-purpose addresses).
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The one network of IPv6 with public addresses, and the networks in it that are not public.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const SPECIAL_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public(address: IpAddr) -> bool {
    let v4 = |(network, length), address| {
        Ipv4Net::new(network, length).is_ok_and(|net| net.contains(&address))
    };
    let v6 = |(network, length), address| {
        Ipv6Net::new(network, length).is_ok_and(|net| net.contains(&address))
    };
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|net| v4(*net, address)),
        IpAddr::V6(address) => {
            v6(PUBLIC_V6, address) && !SPECIAL_V6.iter().any(|net| v6(*net, address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allowed: &[&str], address: &str) -> bool {
        Allowed::new(allowed.iter().copied()).unwrap().permits(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_permitted() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "100::1",
        ] {
            assert!(!permits(&[], address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(permits(&[], address), "{address}");
        }
    }

    #[test]
    fn allowed_addresses_are_permitted() {
        let allowed = ["127.0.0.0/8", "10.1.2.3", "fd00::/8", "Hooks.Internal."];
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fd00::1", "1.1.1.1"] {
            assert!(permits(&allowed, address), "{address}");
        }
        assert!(!permits(&allowed, "10.1.2.4"));
        let allowed = Allowed::new(allowed).unwrap();
        assert!(allowed.names("hooks.internal"));
        assert!(!allowed.names("other.internal"));
    }

    #[test]
    fn a_literal_address_is_checked_by_its_text() {
        let none = Allowed::default();
        for host in ["127.0.0.1", "[::1]", "localhost", "LOCALHOST.", "a.localhost", "10.0.0.1"] {
            assert!(!none.permits_spelling(host), "{host}");
        }
        assert!(none.permits_spelling("example.com"));
        let some = Allowed::new(["127.0.0.0/8", "db.localhost"]).unwrap();
        for host in ["127.0.0.1", "localhost", "db.localhost"] {
            assert!(some.permits_spelling(host), "{host}");
        }
    }

    #[test]
    fn an_invalid_allowance_is_refused() {
        for text in ["", "10.0.0.0/33", "a b", "http://x", "1.2.3", "x/8", "-.-/"] {
            assert!(Allowed::new([text]).is_err(), "{text:?}");
        }
    }
}
