//! Values in numbered slots; freed slots are used again.

/// Values in numbered slots. Memory is that of the most values held at a time.
#[derive(Debug)]
pub(crate) struct Slab<V> {
    slots: Vec<Option<V>>,
    free: Vec<usize>,
}

impl<V> Slab<V> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Stores a value and says where.
    pub(crate) fn insert(&mut self, value: V) -> usize {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        self.slots.len() - 1
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&V> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut V> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// All values with their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &V)> {
        self.slots.iter().enumerate().filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }

    /// Takes the value out; `None` if the slot is empty.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<V> {
        let value = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    /// How many values it holds.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many values it has room for; never shrinks.
    #[cfg(test)]
    pub(crate) const fn slots(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_and_holds_nothing_meanwhile() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        let second = slab.insert('b');
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.insert('c'), first);
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.slots(), 2);
        assert_eq!(slab.remove(99), None);
    }
}
