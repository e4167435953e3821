//! Where listings go on: the last key of each page, by cursor.

use std::collections::VecDeque;

/// Listings that can be gone on with. The cursor of a page that was forgotten is refused; a
/// tool that lists uses one at a time.
const BOOKMARKS_MAX: usize = 64;

/// The last keys of pages, by cursor. The contract's cursors are numbers; a number of keys
/// to skip would make each page cost as much as all pages before it, and let anybody ask
/// for the last one at once.
#[derive(Debug, Default)]
pub struct Bookmarks {
    pages: VecDeque<(u64, String)>,
    next: u64,
}

impl Bookmarks {
    /// The cursor of the page that ended with this key.
    pub fn keep(&mut self, last: String) -> u64 {
        self.next += 1;
        self.pages.push_back((self.next, last));
        if self.pages.len() > BOOKMARKS_MAX {
            self.pages.pop_front();
        }
        self.next
    }

    /// The key that the page with this cursor comes after, if it is still known.
    pub fn find(&self, cursor: u64) -> Option<String> {
        self.pages.iter().find(|(known, _)| *known == cursor).map(|(_, last)| last.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_pages_are_known_and_no_more_than_that() {
        let mut bookmarks = Bookmarks::default();
        let first = bookmarks.keep("first".to_owned());
        assert_eq!(bookmarks.find(first).as_deref(), Some("first"));
        let cursors: Vec<u64> = (0..BOOKMARKS_MAX).map(|key| bookmarks.keep(key.to_string())).collect();
        assert_eq!((bookmarks.find(first), bookmarks.pages.len()), (None, BOOKMARKS_MAX));
        assert!(cursors.iter().all(|cursor| bookmarks.find(*cursor).is_some()));
        assert_eq!(bookmarks.find(100_000_000), None);
    }
}
