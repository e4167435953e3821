//! How much memory and how many tables an instance starts with: the sum over all of its
//! parts, as often as each is made.

use wasmparser::{MemoryType, TableType};

use crate::engine::{TABLE_ELEMENTS_MAX, TABLES_PER_MODULE_MAX};
use crate::error::LoadError;
use crate::limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};

/// What an instance of a component or a module takes before anything runs. Sums
/// saturate: far above every limit, more is no news.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) core_instances: u64,
    pub(super) memories: u64,
    pub(super) memory_bytes: u64,
    pub(super) tables: u64,
    pub(super) table_elements: u64,
    /// Of the largest table.
    table_elements_largest: u64,
    /// Of the module with the most.
    tables_of_a_module: u64,
}

impl Demand {
    /// What one core module takes, before its memories and tables.
    pub(super) fn of_module() -> Self {
        Self { core_instances: 1, ..Self::default() }
    }

    pub(super) fn add_memory(&mut self, memory: &MemoryType) {
        let bytes = memory.initial.saturating_mul(u64::from(memory.page_size()));
        self.memories = self.memories.saturating_add(1);
        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
    }

    pub(super) fn add_table(&mut self, table: &TableType) {
        self.tables = self.tables.saturating_add(1);
        self.table_elements = self.table_elements.saturating_add(table.initial);
        self.table_elements_largest = self.table_elements_largest.max(table.initial);
        self.tables_of_a_module = self.tables;
    }

    /// Adds a part that is made so many times.
    pub(super) fn add(&mut self, part: &Self, times: u64) {
        let sum = |a: u64, b: u64| a.saturating_add(b.saturating_mul(times));
        *self = Self {
            core_instances: sum(self.core_instances, part.core_instances),
            memories: sum(self.memories, part.memories),
            memory_bytes: sum(self.memory_bytes, part.memory_bytes),
            tables: sum(self.tables, part.tables),
            table_elements: sum(self.table_elements, part.table_elements),
            table_elements_largest: self.table_elements_largest.max(part.table_elements_largest),
            tables_of_a_module: self.tables_of_a_module.max(part.tables_of_a_module),
        };
    }

    /// Checks what the pool has places for; the sum of bytes has limits of its own.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let limits = [
            ("core instances", self.core_instances, u64::from(CORE_INSTANCES_MAX)),
            ("memories", self.memories, u64::from(MEMORIES_MAX)),
            ("tables", self.tables, u64::from(TABLES_MAX)),
            ("tables in one module", self.tables_of_a_module, u64::from(TABLES_PER_MODULE_MAX)),
            ("elements in one table", self.table_elements_largest, TABLE_ELEMENTS_MAX as u64),
        ];
        match limits.into_iter().find(|(_, count, most)| count > most) {
            Some((what, count, most)) => {
                Err(LoadError::Limits(format!("it has {count} {what}, at most {most}")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_count_as_often_as_they_are_made_and_never_overflow() {
        let memory = |initial| MemoryType {
            memory64: false,
            shared: false,
            initial,
            maximum: None,
            page_size_log2: None,
        };
        let mut part = Demand::of_module();
        part.add_memory(&memory(2));
        part.add_memory(&memory(1));
        let mut whole = Demand::default();
        whole.add(&part, 3);
        assert_eq!((whole.core_instances, whole.memories, whole.memory_bytes), (3, 6, 9 << 16));
        assert!(whole.check().is_ok());
        whole.add(&part, u64::MAX);
        assert_eq!(whole.memory_bytes, u64::MAX);
        assert!(whole.check().is_err());
    }
}
