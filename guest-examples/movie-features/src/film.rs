//! What the store knows about films.

use std::collections::HashMap;

use serde::Deserialize;
use sluice_sdk::json::Text;
use sluice_sdk::{Error, Result, log};

/// An attribute that tastes and features speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Genre,
    Creative,
    Source,
    Mpaa,
    Distributor,
    Director,
    Decade,
}

impl Attribute {
    /// Its name in the store and in features.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Genre => "genre",
            Self::Creative => "creative",
            Self::Source => "source",
            Self::Mpaa => "mpaa",
            Self::Distributor => "distributor",
            Self::Director => "director",
            Self::Decade => "decade",
        }
    }
}

/// A film's record as it is in the store. What is not known is absent.
#[derive(Debug, Deserialize)]
struct Record<'a> {
    year: Option<i64>,
    minutes: Option<i64>,
    budget: Option<u64>,
    #[serde(borrow)]
    genre: Option<Text<'a>>,
    #[serde(borrow)]
    creative: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    mpaa: Option<Text<'a>>,
    #[serde(borrow)]
    distributor: Option<Text<'a>>,
    #[serde(borrow)]
    director: Option<Text<'a>>,
}

/// A film: its record, and what is computed from it.
#[derive(Debug)]
pub(crate) struct Film<'a> {
    record: Record<'a>,
    decade: Option<String>,
}

impl<'a> Film<'a> {
    fn read(record: &'a [u8]) -> serde_json::Result<Self> {
        let record: Record<'a> = serde_json::from_slice(record)?;
        let decade = record.year.map(|year| decade_text(year - year.rem_euclid(10)));
        Ok(Self { record, decade })
    }

    /// An attribute as text, if it is known.
    pub(crate) fn attribute(&self, attribute: Attribute) -> Option<&str> {
        let text = match attribute {
            Attribute::Genre => &self.record.genre,
            Attribute::Creative => &self.record.creative,
            Attribute::Source => &self.record.source,
            Attribute::Mpaa => &self.record.mpaa,
            Attribute::Distributor => &self.record.distributor,
            Attribute::Director => &self.record.director,
            Attribute::Decade => return self.decade.as_deref(),
        };
        text.as_ref().map(Text::as_str)
    }

    pub(crate) fn year(&self) -> Option<i64> {
        self.record.year
    }

    pub(crate) fn minutes(&self) -> Option<i64> {
        self.record.minutes
    }

    /// How many bits the budget has, in millions.
    pub(crate) fn budget_bits(&self) -> Option<u32> {
        self.record.budget.map(|budget| u64::BITS - (budget / 1_000_000).leading_zeros())
    }
}

/// A decade as tastes and features write it.
pub(crate) fn decade_text(decade: i64) -> String {
    decade.to_string()
}

/// The films that were looked up and found.
#[derive(Debug)]
pub(crate) struct Catalogue<'a> {
    films: HashMap<&'a str, Film<'a>>,
}

impl<'a> Catalogue<'a> {
    /// Reads what the store gave for these titles.
    pub(crate) fn read(titles: &[&'a str], records: &'a [Option<Vec<u8>>]) -> Result<Self> {
        let mut films = HashMap::with_capacity(titles.len());
        for (title, record) in titles.iter().zip(records) {
            let Some(record) = record else { continue };
            let film = Film::read(record).map_err(|error| {
                log::error!("the record of {title:?} does not fit: {error}");
                Error::internal("the store holds a record that is no film")
            })?;
            films.insert(*title, film);
        }
        Ok(Self { films })
    }

    /// A film by its title.
    pub(crate) fn get(&self, title: &str) -> Option<&Film<'a>> {
        self.films.get(title)
    }
}
