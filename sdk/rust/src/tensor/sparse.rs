//! Rows that are mostly zeros.

/// A `[rows, columns]` fp32 tensor given by what is not zero. The host writes the
/// zeros once, into the batch; the plugin never does. Every entry adds its value, so
/// repeated columns sum.
///
/// ```
/// use sluice_sdk::Tensor;
///
/// let mut rows = Tensor::sparse_rows(1024);
/// rows.shared(7, 1.0); // in every row
/// rows.row([(20, 1.0)]); // row 0
/// rows.row([(21, 0.5), (7, 1.0)]); // row 1, whose column 7 holds 2.0
/// assert_eq!(rows.rows(), 2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SparseRows {
    /// The width of the tensor.
    pub columns: u32,
    /// Columns of the entries that every row has.
    pub shared_columns: Vec<u32>,
    /// Their values.
    pub shared_values: Vec<f32>,
    /// Row `r` also has the entries `row_offsets[r] .. row_offsets[r + 1]` of the lists below.
    pub row_offsets: Vec<u32>,
    /// Columns of the rows' own entries.
    pub own_columns: Vec<u32>,
    /// Their values.
    pub own_values: Vec<f32>,
}

impl SparseRows {
    /// No rows yet.
    pub fn new(columns: u32) -> Self {
        Self {
            columns,
            shared_columns: Vec::new(),
            shared_values: Vec::new(),
            row_offsets: vec![0],
            own_columns: Vec::new(),
            own_values: Vec::new(),
        }
    }

    /// Room for so many rows with one entry each.
    #[must_use]
    pub fn with_capacity(mut self, rows: usize) -> Self {
        self.row_offsets.reserve(rows);
        self.own_columns.reserve(rows);
        self.own_values.reserve(rows);
        self
    }

    /// An entry that every row has, those before and those to come.
    ///
    /// # Panics
    /// If the column is past the end: a mistake in the plugin.
    pub fn shared(&mut self, column: u32, value: f32) -> &mut Self {
        self.check(column);
        self.shared_columns.push(column);
        self.shared_values.push(value);
        self
    }

    /// One more row, with entries of its own.
    ///
    /// # Panics
    /// If a column is past the end: a mistake in the plugin.
    pub fn row(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) -> &mut Self {
        for (column, value) in entries {
            self.check(column);
            self.own_columns.push(column);
            self.own_values.push(value);
        }
        let end = u32::try_from(self.own_columns.len()).expect("fewer entries than 32 bits count");
        self.row_offsets.push(end);
        self
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.row_offsets.len() - 1
    }

    /// All numbers, zeros included, row by row: what the host makes of it.
    ///
    /// # Panics
    /// If the public fields were filled with something that is no sparse matrix.
    pub fn to_dense(&self) -> Vec<f32> {
        let columns = self.columns as usize;
        let mut dense = vec![0.0; self.rows() * columns];
        for (row, own) in dense.chunks_exact_mut(columns.max(1)).zip(self.row_offsets.windows(2)) {
            for (column, value) in self.shared_columns.iter().zip(&self.shared_values) {
                row[*column as usize] += value;
            }
            let own = own[0] as usize..own[1] as usize;
            for (column, value) in self.own_columns[own.clone()].iter().zip(&self.own_values[own]) {
                row[*column as usize] += value;
            }
        }
        dense
    }

    fn check(&self, column: u32) {
        assert!(column < self.columns, "column {column} of a sparse tensor with {} columns", self.columns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_own_entries_sum() {
        let mut rows = SparseRows::new(4).with_capacity(3);
        rows.shared(1, 1.0).row([(1, 2.0), (3, 0.5)]).row([]).shared(0, 4.0).row([(2, 1.0), (2, 1.0)]);
        assert_eq!(rows.rows(), 3);
        assert_eq!(rows.to_dense(), [4.0, 3.0, 0.0, 0.5, 4.0, 1.0, 0.0, 0.0, 4.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "column 4 of a sparse tensor with 4 columns")]
    fn a_column_past_the_end_is_a_mistake() {
        SparseRows::new(4).row([(4, 1.0)]);
    }
}
