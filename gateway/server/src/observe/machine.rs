//! How busy the machine is, as far as the system tells: for dashboards that ask the server
//! instead of the machine.

use std::sync::{Mutex, PoisonError};

/// Processors and memory of the whole machine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Machine {
    /// Share of the processors' time that was used since the last look, 0 to 1.
    pub(super) cpu_utilization: Option<f64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) memory_used_bytes: Option<u64>,
}

/// Ticks of all processors: in all, and of those idle.
type Ticks = (u64, u64);

/// What the last look saw: utilization is a difference.
static LAST: Mutex<Ticks> = Mutex::new((0, 0));

impl Machine {
    pub(super) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = kib(&memory, "MemTotal:");
        let available = kib(&memory, "MemAvailable:");
        Self {
            cpu_utilization: ticks(&stat).and_then(|now| {
                let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
                utilization(std::mem::replace(&mut last, now), now)
            }),
            memory_bytes: total,
            memory_used_bytes: total.zip(available).map(|(total, available)| total.saturating_sub(available)),
        }
    }
}

/// The first line of `/proc/stat`: `cpu user nice system idle iowait irq …`.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    // Guests' time is part of user's: only the first eight count.
    let all = numbers.iter().take(8).fold(0, |sum: u64, one| sum.saturating_add(*one));
    let idle = numbers.iter().skip(3).take(2).fold(0, |sum: u64, one| sum.saturating_add(*one));
    (numbers.len() >= 5).then_some((all, idle))
}

fn utilization(before: Ticks, now: Ticks) -> Option<f64> {
    let all = now.0.checked_sub(before.0).filter(|ticks| *ticks > 0)?;
    let idle = now.1.saturating_sub(before.1).min(all);
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousand ticks")]
    Some((all - idle) as f64 / all as f64)
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilization_is_what_was_not_idle_since_the_last_look() {
        let before = ticks("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1").expect("well-formed");
        assert_eq!(before, (1000, 800));
        assert_eq!(utilization(before, (1100, 875)), Some(0.25));
        assert_eq!(utilization(before, before), None, "no time has passed");
        assert_eq!(ticks("intr 5"), None);
        assert_eq!(kib("MemTotal:  2 kB\nMemAvailable: 1 kB\n", "MemAvailable:"), Some(1024));
    }
}
