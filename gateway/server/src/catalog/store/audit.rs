//! Which audit lines are kept: a bounded number, and of those who wrote most the fewest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::limits::AUDIT_ENTRIES_MAX;

/// The numbers of the lines that are kept, by who did what they say. Who changes a thousand
/// things a minute loses his own lines for it, and nobody else's.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditLines {
    of: BTreeMap<Arc<str>, VecDeque<u64>>,
    count: u64,
}

impl AuditLines {
    /// Takes a line in; numbers ascend.
    pub(super) fn add(&mut self, actor: &str, sequence: u64) {
        if let Some(lines) = self.of.get_mut(actor) {
            lines.push_back(sequence);
        } else {
            self.of.insert(actor.into(), VecDeque::from([sequence]));
        }
        self.count += 1;
    }

    /// The next line that has to go, if there are too many: the oldest of whoever has most.
    pub(super) fn drop_one(&mut self) -> Option<u64> {
        if self.count <= AUDIT_ENTRIES_MAX {
            return None;
        }
        let most = self.of.iter().max_by_key(|(_, lines)| lines.len()).map(|(actor, _)| Arc::clone(actor))?;
        let lines = self.of.get_mut(&most)?;
        let oldest = lines.pop_front();
        if lines.is_empty() {
            self.of.remove(&most);
        }
        self.count -= 1;
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_writes_most_pushes_out_his_own_lines() {
        let mut lines = AuditLines::default();
        for sequence in 1..=9 {
            lines.add("careful", sequence);
        }
        let mut gone = Vec::new();
        for sequence in 10..=9 + 2 * AUDIT_ENTRIES_MAX {
            lines.add("flood", sequence);
            gone.extend(lines.drop_one());
        }
        assert_eq!(lines.count, AUDIT_ENTRIES_MAX);
        assert_eq!(lines.of["careful"].len(), 9, "all of them");
        assert_eq!(gone.first(), Some(&10), "the oldest of the flood");
        assert!(gone.is_sorted());
    }
}
