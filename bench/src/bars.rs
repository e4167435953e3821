//! What was asked for, beside what was measured.

use std::fmt::Write as _;

/// Which side of a number is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// A number with a bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What was measured.
    pub what: String,
    /// The number.
    pub number: f64,
    /// Where it should be.
    pub limit: Limit,
    /// What it is counted in; empty for ratios.
    pub unit: &'static str,
}

impl Bar {
    /// A ratio that should be high.
    pub fn at_least(what: impl Into<String>, number: f64, limit: f64) -> Self {
        Self { what: what.into(), number, limit: Limit::AtLeast(limit), unit: "" }
    }

    /// A ratio that should be low.
    pub fn at_most(what: impl Into<String>, number: f64, limit: f64) -> Self {
        Self { what: what.into(), number, limit: Limit::AtMost(limit), unit: "" }
    }

    /// The same, counted in a unit.
    #[must_use]
    pub fn in_unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// Whether the bar is met. What could not be measured does not meet it.
    pub fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.number >= limit,
            Limit::AtMost(limit) => self.number <= limit,
        }
    }

    /// `met`, or `**missed**`.
    pub fn verdict(&self) -> &'static str {
        if self.is_met() { "met" } else { "**missed**" }
    }

    /// The bar as text.
    pub fn limit(&self) -> String {
        let (sign, limit) = match self.limit {
            Limit::AtLeast(limit) => ('≥', limit),
            Limit::AtMost(limit) => ('≤', limit),
        };
        if self.unit.is_empty() {
            format!("{sign} {limit:.2}")
        } else {
            format!("{sign} {limit:.2} {}", self.unit)
        }
    }

    /// `0.87 (bar ≥ 0.85, met)`, for a cell of a table.
    pub fn cell(&self) -> String {
        format!("{:.2} (bar {}, {})", self.number, self.limit(), self.verdict())
    }
}

/// What one part of the benchmark has to say.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Tables in Markdown.
    pub text: String,
    /// Their numbers that have a bar.
    pub bars: Vec<Bar>,
}

/// All bars in one table.
pub fn summary(bars: &[Bar]) -> String {
    let mut text = String::from("## All bars\n\n| what | measured | bar | |\n|---|---|---|---|\n");
    for bar in bars {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.2} {} | {} | {} |",
            bar.what,
            bar.number,
            bar.unit,
            bar.limit(),
            bar.verdict()
        );
    }
    let met = bars.iter().filter(|bar| bar.is_met()).count();
    let _ = writeln!(text, "\n{met} of {} bars are met.", bars.len());
    text
}

/// The one in the middle; not a number if there are none.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_on_its_good_side_only_and_never_by_what_was_not_measured() {
        assert!(Bar::at_least("a", 0.85, 0.85).is_met() && !Bar::at_least("a", 0.84, 0.85).is_met());
        assert!(Bar::at_most("a", 1.2, 1.2).is_met() && !Bar::at_most("a", 1.21, 1.2).is_met());
        assert!(!Bar::at_least("a", f64::NAN, 0.5).is_met() && !Bar::at_most("a", f64::NAN, 0.5).is_met());
        let text =
            summary(&[Bar::at_most("answers", 12.0, 10.0).in_unit("ms"), Bar::at_least("b", 1.0, 0.9)]);
        assert!(text.contains("| answers | 12.00 ms | ≤ 10.00 ms | **missed** |"), "{text}");
        assert!(text.ends_with("1 of 2 bars are met.\n"), "{text}");
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
