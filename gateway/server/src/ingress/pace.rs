//! How long a body may take to arrive, whatever the protocol.

use std::time::Duration;

use tokio::time::Instant;

/// A body may take so long to begin, or stand still, before the rate below counts. Clients
/// that ask first whether they may send (`Expect: 100-continue`) wait a second for that.
const GRACE: Duration = Duration::from_secs(5);

/// Slowest rate at which a body may come, in bytes a second: 408 below. Half of what a
/// modem had; who sends one byte now and then holds a connection for [`GRACE`] and not for
/// all of `body_timeout_ms`.
const RATE_MIN: u32 = 4 << 10;

/// When a body has to be there, or more of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    begun: Instant,
    longest: Duration,
}

impl Pace {
    /// The pace of a body that begins now and takes `longest` at the most.
    pub(super) fn new(begun: Instant, longest: Duration) -> Self {
        Self { begun, longest }
    }

    /// Until when more has to come, when `bytes` of it are there.
    pub(super) fn deadline(&self, bytes: usize) -> Instant {
        let seconds = u32::try_from(bytes).unwrap_or(u32::MAX) / RATE_MIN;
        let allowed = GRACE + Duration::from_secs(u64::from(seconds));
        self.begun + allowed.min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_buys_time_up_to_the_longest() {
        let (begun, longest) = (Instant::now(), Duration::from_secs(30));
        let pace = Pace::new(begun, longest);
        assert_eq!(pace.deadline(1), begun + GRACE);
        assert_eq!(pace.deadline(10 * (4 << 10)), begun + GRACE + Duration::from_secs(10));
        assert_eq!(pace.deadline(usize::MAX), begun + longest);
        assert_eq!(
            Pace::new(begun, Duration::from_millis(500)).deadline(0),
            begun + Duration::from_millis(500)
        );
    }
}
