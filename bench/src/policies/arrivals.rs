//! When requests arrive: made up from a seed, or recorded.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A way of arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Independently of each other.
    Poisson,
    /// In bursts at four times the mean rate, a quarter of the time; Poisson within.
    Bursts,
    /// As in a day: the rate swings between a fifth and nine fifths of the mean, ten times.
    Diurnal,
}

impl Pattern {
    pub(super) const ALL: [Self; 3] = [Self::Poisson, Self::Bursts, Self::Diurnal];

    /// So many arrivals at this mean rate, in seconds, the same for the same seed.
    pub(crate) fn arrivals(self, rate: f64, count: usize, seed: u64) -> Vec<Duration> {
        let mut random = Random::new(seed);
        let whole = count as f64 / rate;
        let (mut at, mut arrivals) = (0.0, Vec::with_capacity(count));
        // A burst lasts for some 50 requests.
        let period = 50.0 / rate;
        while arrivals.len() < count {
            let most = match self {
                Self::Poisson => rate,
                Self::Bursts => 4.0 * rate,
                Self::Diurnal => 1.8 * rate,
            };
            at += random.exponential() / most;
            // Thinning: of arrivals at the highest rate each stays with the share of its moment.
            let share = match self {
                Self::Poisson => 1.0,
                Self::Bursts => f64::from(u8::from((at / period).fract() < 0.25)),
                Self::Diurnal => (1.0 + 0.8 * (at / whole * 10.0 * std::f64::consts::TAU).sin()) / 1.8,
            };
            if random.unit() < share {
                arrivals.push(Duration::from_secs_f64(at));
            }
        }
        arrivals
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "Poisson",
            Self::Bursts => "bursts",
            Self::Diurnal => "diurnal",
        })
    }
}

/// Most arrivals of a recording: more than any p99 needs.
const RECORDED_MAX: usize = 1_000_000;

/// Reads a recording.
pub(super) fn read(path: &Path) -> Result<Vec<Duration>, String> {
    let fault = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let mut arrivals = Vec::new();
    for (number, line) in text.lines().filter(|line| !line.starts_with('#')).enumerate().take(RECORDED_MAX) {
        let micros: u64 = line.trim().parse().map_err(|_| fault(format!("arrival {number} is no number")))?;
        arrivals.push(Duration::from_micros(micros));
    }
    if arrivals.len() < 2 || !arrivals.is_sorted() || arrivals.first() == arrivals.last() {
        return Err(fault("arrivals must be ascending, and more than one".to_owned()));
    }
    Ok(arrivals)
}

/// The same arrivals at another mean rate.
pub(super) fn stretched(recorded: &[Duration], rate: f64) -> Vec<Duration> {
    let whole =
        recorded.last().zip(recorded.first()).map_or(1.0, |(last, first)| (*last - *first).as_secs_f64());
    let factor = recorded.len() as f64 / whole / rate;
    recorded.iter().map(|at| at.mul_f64(factor)).collect()
}

/// xorshift64*: small, seeded, and good enough here.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 up to 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// With mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}
