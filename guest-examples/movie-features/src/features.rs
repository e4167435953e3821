//! The features of a film for a user, as `FEATURES.md` numbers them.

use example_common::Fnv1a;

use crate::film::{Attribute, Film};
use crate::taste::{Taste, distinct};

/// Columns of the model's input.
pub(crate) const WIDTH: u32 = 1024;

/// Stands for an attribute that is not known.
const MISSING: &str = "?";

/// Row 1 of the definition.
const PLAIN: [Attribute; 7] = [
    Attribute::Genre,
    Attribute::Creative,
    Attribute::Source,
    Attribute::Mpaa,
    Attribute::Distributor,
    Attribute::Director,
    Attribute::Decade,
];

/// Row 4: what the genre is crossed with.
const CROSSED: [(&str, Attribute); 4] = [
    ("genre+creative", Attribute::Creative),
    ("genre+source", Attribute::Source),
    ("genre+decade", Attribute::Decade),
    ("genre+mpaa", Attribute::Mpaa),
];

/// Row 11: what a liked film lends to the taste.
const LENT: [Attribute; 6] = [
    Attribute::Genre,
    Attribute::Director,
    Attribute::Creative,
    Attribute::Source,
    Attribute::Distributor,
    Attribute::Decade,
];

/// A count of liked films is taken as at most this, and divided by it.
const LIKED_COUNT_MAX: u8 = 4;

/// The row under way.
struct Row(Vec<(u32, f32)>);

impl Row {
    fn add<const N: usize>(&mut self, name: &str, value: [&str; N], amount: f32) {
        let hash = value.into_iter().fold(Fnv1a::of([name, "="]), Fnv1a::and);
        self.0.push((hash.index(WIDTH), amount));
    }
}

/// The row of a film for a user: columns and amounts, repeated columns to be summed.
pub(crate) fn of(key: &str, film: &Film<'_>, taste: &Taste<'_>) -> Vec<(u32, f32)> {
    let mut row = Row(Vec::with_capacity(32));
    film_features(&mut row, film);
    taste_features(&mut row, key, film, taste);
    row.0
}

/// Rows 1 to 7: what is known about a film, whoever asks.
fn film_features(row: &mut Row, film: &Film<'_>) {
    let or_missing = |attribute| film.attribute(attribute).unwrap_or(MISSING);
    for attribute in PLAIN {
        row.add(attribute.name(), [or_missing(attribute)], 1.0);
    }
    let minutes = film.minutes().map(|minutes| (minutes - minutes.rem_euclid(10)).clamp(60, 200).to_string());
    row.add("minutes", [minutes.as_deref().unwrap_or(MISSING)], 1.0);
    let bits = film.budget_bits().map(|bits| bits.to_string());
    row.add("budget", [bits.as_deref().unwrap_or(MISSING)], 1.0);
    for (name, attribute) in CROSSED {
        row.add(name, [or_missing(Attribute::Genre), "|", or_missing(attribute)], 1.0);
    }
    if let Some(year) = film.year() {
        row.add("year", ["#"], small(year.clamp(1900, 2030) - 1990) / 32.0);
    }
    if let Some(minutes) = film.minutes() {
        row.add("minutes", ["#"], small(minutes.clamp(40, 240) - 110) / 32.0);
    }
    if let Some(bits) = film.budget_bits() {
        row.add("budget", ["#"], small(i64::from(bits.min(8))) / 8.0);
    }
}

/// Rows 8 to 13: how the film meets the tastes.
fn taste_features(row: &mut Row, key: &str, film: &Film<'_>, taste: &Taste<'_>) {
    let mut declared = false;
    for (attribute, wanted) in taste.declared() {
        declared = true;
        let met = film.attribute(attribute).is_some_and(|has| wanted.iter().any(|item| item == has));
        row.add(if met { "match" } else { "miss" }, [attribute.name()], 1.0);
    }
    let genre = film.attribute(Attribute::Genre).unwrap_or(MISSING);
    for wanted in taste.genres() {
        row.add("taste-genre", [wanted, "|", genre], 1.0);
    }

    let liked = taste.liked_besides(key);
    for attribute in LENT {
        let Some(has) = film.attribute(attribute) else { continue };
        let count = liked.clone().filter(|other| other.attribute(attribute) == Some(has)).count();
        if count > 0 {
            row.add("liked", [attribute.name()], share(count));
        }
    }
    let genres = liked.clone().map(|other| other.attribute(Attribute::Genre).unwrap_or(MISSING));
    for other in distinct(genres.clone()) {
        let count = genres.clone().filter(|genre| *genre == other).count();
        row.add("liked-genre", [other, "|", genre], share(count));
    }
    let some = declared || liked.clone().next().is_some();
    row.add("tastes", [if some { "some" } else { "none" }], 1.0);
}

fn share(count: usize) -> f32 {
    f32::from(u8::try_from(count).unwrap_or(u8::MAX).min(LIKED_COUNT_MAX)) / f32::from(LIKED_COUNT_MAX)
}

/// A number of a few digits, exact as a float.
#[expect(clippy::cast_precision_loss, reason = "clamped by every caller to far below 2^24")]
fn small(number: i64) -> f32 {
    number as f32
}
