//! Which addresses a name may stand for: the public internet, and no inner place
//! that a plugin could reach through the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The public internet.
    Public,
    /// This machine, or a network of the operator's.
    Private,
    /// Never where a name may lead: link-local (where clouds keep the credentials of a
    /// machine), multicast, unspecified, reserved.
    Forbidden,
}

/// The credentials of a machine, over IPv6, in a range that is otherwise private.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What clouds have outside of the link-local range: Azure's agent, in the public one, and
/// Alibaba's credentials, in one that is otherwise private.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];

/// Where an address lies. An IPv4 address inside of an IPv6 one counts as itself.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match inner_v4(address) {
            Some(inner) => reach_v4(inner),
            None => reach_v6(address),
        },
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Forbidden;
    }
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        // Loopback; private; shared with a carrier, and used by clusters.
        (127 | 10, _, _) | (192, 168, _) | (172, 16..=31, _) | (100, 64..=127, _) => Reach::Private,
        // "This network"; link-local; protocol assignments; 6to4 relays; documentation;
        // benchmarks; multicast, reserved and broadcast.
        (0, _, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (224.., _, _) => Reach::Forbidden,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let [a, b, ..] = address.segments();
    if address.is_loopback() {
        return Reach::Private;
    }
    if address == METADATA_V6 {
        return Reach::Forbidden;
    }
    match (a, b) {
        // Unique local.
        (0xfc00..=0xfdff, _) => Reach::Private,
        // Protocol assignments (Teredo among them) and documentation lie within the
        // global range.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => Reach::Forbidden,
        (0x2000..=0x3fff, _) => Reach::Public,
        _ => Reach::Forbidden,
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64, 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if g != 0 => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, high, low, ..) => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reach {
        reach(text.parse().expect("an address"))
    }

    #[test]
    fn the_public_internet_is_public() {
        for text in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]
        {
            assert_eq!(of(text), Reach::Public, "{text}");
        }
    }

    #[test]
    fn inner_networks_are_private_however_they_are_written() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
        ] {
            assert_eq!(of(text), Reach::Private, "{text}");
        }
    }

    #[test]
    fn metadata_multicast_and_nowhere_are_forbidden() {
        for text in [
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "::ffff:168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "fd00:ec2::254",
            "fec0::1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::",
        ] {
            assert_eq!(of(text), Reach::Forbidden, "{text}");
        }
    }
}
