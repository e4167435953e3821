//! Time, without a clock: whether a second model is worth asking, or whether to answer
//! with what there is.

use std::time::Duration;

use crate::imp;

/// What this call has left now: until the request's deadline, or until the plugin's own
/// budget is used up, whichever comes first. To the millisecond.
pub fn left() -> Duration {
    imp::time_left()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_test_says_how_much_time_there_is() {
        assert!(left() > Duration::from_secs(10), "plenty unless a test says so");
        testing::set_time_left(Duration::from_millis(3));
        assert_eq!(left(), Duration::from_millis(3));
    }
}
