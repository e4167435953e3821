//! All bars as one picture, plain SVG: how far each number is from where it should be.

use std::fmt::Write as _;

use crate::bars::{Bar, Limit};

const WIDTH: f64 = 900.0;
const LABELS: f64 = 440.0;
const ROW: f64 = 20.0;
const TOP: f64 = 46.0;
const NUMBERS: f64 = 150.0;

/// Longer bars are cut here, as multiples of the limit: the number beside them says it all.
const SHOWN_MAX: f64 = 2.0;

/// Met and missed, told apart also by people who see red and green alike (Okabe and Ito).
const MET: &str = "#0072B2";
const MISSED: &str = "#D55E00";

/// One line for each bar: its number against its limit, which is the line in the middle.
pub fn svg(bars: &[Bar]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 14.0;
    let scale = (WIDTH - LABELS - NUMBERS) / SHOWN_MAX;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"12\" y=\"18\" font-weight=\"bold\">Measured, as multiples of what was asked for</text>\n\
         <text x=\"12\" y=\"34\"><tspan fill=\"{MET}\">met</tspan>, <tspan fill=\"{MISSED}\">missed</tspan>; \
         ▸ more is better, ◂ less is better</text>"
    );
    for (row, bar) in bars.iter().enumerate() {
        draw(&mut out, bar, TOP + ROW * row as f64, scale);
    }
    let middle = LABELS + scale;
    let _ = writeln!(
        out,
        "<path d=\"M{middle} {}V{}\" stroke=\"black\" stroke-dasharray=\"3 2\"/>\n</svg>",
        TOP - 6.0,
        height - 10.0
    );
    out
}

fn draw(out: &mut String, bar: &Bar, y: f64, scale: f64) {
    let (limit, sign) = match bar.limit {
        Limit::AtLeast(limit) => (limit, '▸'),
        Limit::AtMost(limit) => (limit, '◂'),
    };
    let share = bar.number / limit;
    let length = if share.is_finite() { share.clamp(0.0, SHOWN_MAX) * scale } else { 0.0 };
    let color = if bar.is_met() { MET } else { MISSED };
    let base = y + 12.0;
    let _ = writeln!(
        out,
        "<text x=\"{label}\" y=\"{base}\" text-anchor=\"end\">{what} {sign}</text>\
         <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"12\" fill=\"{color}\"/>\
         <text x=\"{number}\" y=\"{base}\">{measured:.2} {unit} ({limit_text})</text>",
        label = LABELS - 8.0,
        what = bar.what.replace('`', "").replace('&', "&amp;").replace('<', "&lt;"),
        top = y + 2.0,
        number = WIDTH - NUMBERS + 6.0,
        measured = bar.number,
        unit = bar.unit,
        limit_text = bar.limit(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_a_line_and_none_is_longer_than_the_picture() {
        let bars = [
            Bar::at_least("a", 0.9, 0.85),
            Bar::at_most("b", 50.0, 1.2),
            Bar::at_most("c < d", f64::NAN, 1.0),
        ];
        let picture = svg(&bars);
        assert_eq!(picture.matches("<rect x=").count(), 3);
        assert_eq!((picture.matches(MISSED).count(), picture.matches(MET).count()), (3, 2));
        assert!(picture.contains("width=\"310.0\"") && picture.contains("c &lt; d"), "{picture}");
    }
}
