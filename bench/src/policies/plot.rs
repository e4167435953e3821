//! Lines over load, as plain SVG.

use std::fmt::Write as _;

/// One diagram.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) series: Vec<Series>,
}

/// One line of it.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 44.0;
const COLUMNS: usize = 2;
/// Told apart also by people who see red and green alike (Okabe and Ito).
const COLORS: [&str; 7] = ["#999999", "#E69F00", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000"];

/// All diagrams in one picture: load to the right, milliseconds upwards, by powers of ten.
pub(super) fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 40.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    if let Some(panel) = panels.first() {
        legend(&mut out, panel);
    }
    for (number, panel) in panels.iter().enumerate() {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        let _ = writeln!(
            out,
            "<g transform=\"translate({},{})\">",
            WIDTH * column as f64,
            HEIGHT * row as f64 + 40.0
        );
        draw(&mut out, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, panel: &Panel) {
    for (number, (series, color)) in panel.series.iter().zip(COLORS).enumerate() {
        let x = 20.0 + 118.0 * number as f64;
        let _ = writeln!(
            out,
            "<path d=\"M{x} 20h16\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{}\" y=\"24\">{}</text>",
            x + 20.0,
            series.name
        );
    }
}

fn draw(out: &mut String, panel: &Panel) {
    let values =
        || panel.series.iter().flat_map(|series| &series.points).map(|(_, value)| value.max(1e-3).log10());
    let low = values().fold(f64::INFINITY, f64::min).floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let x = |load: f64| MARGIN + load * (WIDTH - MARGIN - 16.0);
    let y = |log: f64| HEIGHT - 28.0 - (log - low) / (high - low) * (HEIGHT - 60.0);
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"16\" font-weight=\"bold\">{}</text>", panel.title);
    let mut decade = low;
    while decade <= high {
        let _ = writeln!(
            out,
            "<path d=\"M{MARGIN} {y}H{right}\" stroke=\"#ddd\"/><text x=\"{left}\" y=\"{base}\" \
             text-anchor=\"end\">{label}</text>",
            y = y(decade),
            right = WIDTH - 16.0,
            left = MARGIN - 6.0,
            base = y(decade) + 4.0,
            label = 10_f64.powf(decade),
        );
        decade += 1.0;
    }
    for load in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{load}</text>",
            x(load),
            HEIGHT - 12.0
        );
    }
    for (series, color) in panel.series.iter().zip(COLORS) {
        let points = series
            .points
            .iter()
            .map(|(load, value)| format!("{:.1},{:.1}", x(*load), y(value.max(1e-3).log10())));
        let dashes = if series.name == "bound" { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"{dashes} points=\"{}\"/>",
            points.collect::<Vec<_>>().join(" ")
        );
    }
}
