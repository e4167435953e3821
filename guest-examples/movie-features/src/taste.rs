//! The caller's tastes, made ready to meet many films.

use crate::film::{Attribute, Catalogue, Film, decade_text};
use crate::question::Tastes;

/// What a user can declare, in the order of the definition.
const DECLARED: [Attribute; 4] = [Attribute::Genre, Attribute::Director, Attribute::Mpaa, Attribute::Decade];

/// Tastes without repetitions, and the liked films that the store has.
#[derive(Debug)]
pub(crate) struct Taste<'a> {
    declared: [Vec<String>; 4],
    liked: Vec<(&'a str, &'a Film<'a>)>,
}

impl<'a> Taste<'a> {
    pub(crate) fn new(tastes: &'a Tastes<'a>, films: &'a Catalogue<'a>) -> Self {
        let liked = distinct(tastes.liked.iter().map(|title| title.as_str()));
        Self {
            declared: [
                distinct(tastes.genres.iter().map(ToString::to_string)),
                distinct(tastes.directors.iter().map(ToString::to_string)),
                distinct(tastes.mpaa.iter().map(ToString::to_string)),
                distinct(tastes.decades.iter().map(|decade| decade_text(*decade))),
            ],
            liked: liked.into_iter().filter_map(|title| Some((title, films.get(title)?))).collect(),
        }
    }

    /// The genres that were declared.
    pub(crate) fn genres(&self) -> &[String] {
        &self.declared[0]
    }

    /// The lists that are not empty, under the attribute that they speak of.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (Attribute, &[String])> {
        DECLARED
            .into_iter()
            .zip(self.declared.iter().map(Vec::as_slice))
            .filter(|(_, wanted)| !wanted.is_empty())
    }

    /// The liked films but the candidate itself.
    pub(crate) fn liked_besides<'s>(
        &'s self,
        candidate: &'s str,
    ) -> impl Iterator<Item = &'s Film<'a>> + Clone {
        self.liked.iter().filter(move |(title, _)| *title != candidate).map(|(_, film)| *film)
    }
}

/// In order of first appearance. Lists are short, so a look back is cheaper than a set.
pub(crate) fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}
