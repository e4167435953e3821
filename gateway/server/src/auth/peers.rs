//! Who shows bad tokens too often (A7): a token bucket for each peer, in memory of a
//! fixed size however many peers there are.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bad tokens that a peer may show at once. A deployment with a mistyped secret retries
/// some times; nobody needs more.
const BURST: u32 = 30;

/// Time after which a peer may show one more. 30 and 4 a second: a thousand a second
/// leave 4 that cost a look-up.
const REFILL: Duration = Duration::from_millis(250);

/// Peers that are remembered: [`SETS`] × [`WAYS`], some 100 KiB. A peer that is pushed
/// out begins anew, so the bound costs precision under an attack from thousands of
/// addresses, and never keeps out somebody else.
const SETS: usize = 512;

/// Peers that share a set; the one that was quiet for longest makes room.
const WAYS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Peer {
    address: IpAddr,
    /// When it has its whole burst again. Further away than the burst takes to refill:
    /// it has used it up.
    whole_at: Instant,
}

/// Remembers who showed bad tokens.
pub(super) struct Peers {
    sets: Box<[Mutex<[Option<Peer>; WAYS]>]>,
    hasher: RandomState,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Whether this peer's tokens are looked at now.
    pub(super) fn may_try(&self, address: IpAddr) -> bool {
        let address = network(address);
        self.with_set(address, |set| {
            let found = set.iter().flatten().find(|peer| peer.address == address);
            found.is_none_or(|peer| {
                peer.whole_at.saturating_duration_since(Instant::now()) + REFILL <= REFILL * BURST
            })
        })
    }

    /// This peer showed a bad token.
    pub(super) fn failed(&self, address: IpAddr) {
        let address = network(address);
        let now = Instant::now();
        self.with_set(address, |set| {
            let known = set.iter().position(|peer| peer.is_some_and(|peer| peer.address == address));
            // None sorts first: an empty place is taken before anybody is pushed out.
            let place = known.or_else(|| {
                (0..WAYS).min_by_key(|way| set.get(*way).copied().flatten().map(|peer| peer.whole_at))
            });
            if let Some(slot) = place.and_then(|place| set.get_mut(place)) {
                let before = slot.filter(|_| known.is_some()).map_or(now, |peer| peer.whole_at.max(now));
                *slot = Some(Peer { address, whole_at: (before + REFILL).min(now + REFILL * BURST) });
            }
        });
    }

    fn with_set<T>(&self, address: IpAddr, work: impl FnOnce(&mut [Option<Peer>; WAYS]) -> T) -> T {
        // The hash has a key of its own in each process: nobody chooses whom they push out.
        let hash = self.hasher.hash_one(address);
        let index = usize::try_from(hash % (SETS as u64)).unwrap_or(0);
        match self.sets.get(index) {
            Some(set) => work(&mut set.lock().unwrap_or_else(PoisonError::into_inner)),
            None => work(&mut [None; WAYS]),
        }
    }
}

/// What counts as one peer: an IPv4 address, or the /64 network that one IPv6 host
/// commonly has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_stopped_after_its_burst_and_comes_back_with_time() {
        let peers = Peers::new();
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for number in 0..BURST {
            assert!(peers.may_try(bad), "{number}");
            peers.failed(bad);
        }
        assert!(!peers.may_try(bad));
        assert!(!peers.may_try(address("::ffff:192.0.2.1")), "the same peer in IPv6 clothes");
        assert!(peers.may_try(good));
        // More failures, as from requests that were under way, do not add up.
        (0..1000).for_each(|_| peers.failed(bad));
        tokio::time::advance(REFILL).await;
        assert!(peers.may_try(bad));
        peers.failed(bad);
        assert!(!peers.may_try(bad));
        tokio::time::advance(REFILL * BURST).await;
        for _ in 0..BURST {
            assert!(peers.may_try(bad));
            peers.failed(bad);
        }
        assert!(!peers.may_try(bad));
    }

    #[test]
    fn an_ipv6_host_has_one_bucket_for_all_its_addresses() {
        let peers = Peers::new();
        (0..BURST).for_each(|number| peers.failed(address(&format!("2001:db8::{number:x}"))));
        assert!(!peers.may_try(address("2001:db8::ffff")));
        assert!(peers.may_try(address("2001:db8:0:1::1")));
    }

    #[test]
    fn strangers_by_the_thousand_take_no_more_memory_and_keep_nobody_out() {
        let peers = Peers::new();
        for number in 0..100_000u32 {
            peers.failed(IpAddr::from(number.to_be_bytes()));
        }
        assert!(peers.may_try(address("203.0.113.7")));
        let known: usize =
            peers.sets.iter().map(|set| set.lock().expect("whole").iter().flatten().count()).sum();
        assert!(known <= SETS * WAYS, "{known}");
    }
}
