//! What a call's metadata says: until when, as whom, under which id.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::error::{Error, Kind, Result};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits of a timeout, by gRPC's specification.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// How long the caller waits, if it says so.
///
/// # Errors
/// Anything but digits and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse);
    let fault = || Error::new(Kind::BadRequest, "grpc-timeout must be 1 to 8 digits and one of H M S m u n");
    parsed.ok_or_else(fault).map(Some)
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether a flag in the metadata is set.
pub(super) fn is_true(headers: &HeaderMap, name: &'static str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "1s", "100000000S", "+1S", "1.5S", "-1S", "1 S", "1é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
