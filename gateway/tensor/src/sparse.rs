//! Rows that are mostly zeros, as hashed features are.

use crate::TensorError;

/// A `[rows, columns]` f32 tensor given by what is not zero, in the usual
/// compressed-sparse-row form, plus entries that every row shares. An entry
/// **adds** its value, so repeated columns sum, as in feature hashing.
///
/// A plugin that hashes 40 features for 64 candidates sends 104 entries in
/// place of 256 KiB; the zeros are written once, into the batch itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseRows {
    columns: usize,
    shared: Entries,
    row_offsets: Vec<u32>,
    own: Entries,
}

/// Parallel lists of columns and values.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entries {
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// Checks that the parts fit together.
    ///
    /// `shared_columns`/`shared_values` are added to every row. Row `r` also gets
    /// the entries `row_offsets[r]..row_offsets[r + 1]` of `columns_of`/`values`;
    /// `row_offsets` has one more element than there are rows.
    ///
    /// Lists that name a column more than once are summed here where that makes them
    /// shorter than a row: writing the rows then takes time for what they hold, and not for
    /// how often it was said.
    ///
    /// # Errors
    /// [`TensorError::Sparse`] for lists of unequal length, offsets that fall or
    /// overrun, and columns past the end.
    pub fn new(
        columns: usize,
        (shared_columns, shared_values): (Vec<u32>, Vec<f32>),
        row_offsets: Vec<u32>,
        (own_columns, own_values): (Vec<u32>, Vec<f32>),
    ) -> Result<Self, TensorError> {
        let fault = TensorError::Sparse;
        let mut shared = Entries { columns: shared_columns, values: shared_values };
        let mut own = Entries { columns: own_columns, values: own_values };
        shared.check(columns)?;
        own.check(columns)?;
        if row_offsets.first() != Some(&0) {
            return Err(fault("row offsets must start with 0"));
        }
        if row_offsets.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(fault("row offsets must not fall"));
        }
        if row_offsets.last().copied().map(index) != Some(own.columns.len()) {
            return Err(fault("the last row offset must be the number of entries"));
        }
        if shared.columns.len() > columns {
            shared = shared.summed(0..shared.columns.len(), columns);
        }
        let is_long = |pair: &[u32]| index(pair[1]) - index(pair[0]) > columns;
        let mut row_offsets = row_offsets;
        if row_offsets.windows(2).any(is_long) {
            (row_offsets, own) = own.summed_by_row(&row_offsets, columns)?;
        }
        Ok(Self { columns, shared, row_offsets, own })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.row_offsets.len() - 1
    }

    /// Elements of one row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Writes the rows `start..start + out.len() / (4 * columns)` as little-endian f32.
    pub(crate) fn write_rows(&self, start: usize, out: &mut [u8]) {
        let row_bytes = self.columns * 4;
        if row_bytes == 0 {
            return;
        }
        out.fill(0);
        let (shared, own) = (&self.shared, &self.own);
        for (row, bytes) in (start..).zip(out.chunks_exact_mut(row_bytes)) {
            shared.add_to(0..shared.columns.len(), bytes);
            own.add_to(index(self.row_offsets[row])..index(self.row_offsets[row + 1]), bytes);
        }
    }
}

impl Entries {
    fn check(&self, columns: usize) -> Result<(), TensorError> {
        if self.columns.len() != self.values.len() {
            return Err(TensorError::Sparse("columns and values differ in length"));
        }
        if self.columns.iter().any(|column| index(*column) >= columns) {
            return Err(TensorError::Sparse("a column is past the end of the row"));
        }
        Ok(())
    }

    /// The entries of a range, one for each column: for a range that is longer than a row.
    fn summed(&self, range: std::ops::Range<usize>, columns: usize) -> Self {
        let mut sums = vec![0.0_f32; columns];
        for (column, value) in self.columns[range.clone()].iter().zip(&self.values[range]) {
            if let Some(sum) = sums.get_mut(index(*column)) {
                *sum += value;
            }
        }
        Self { columns: (0..).take(columns).collect(), values: sums }
    }

    /// The same for each row that is longer than a row need be. The others stay.
    fn summed_by_row(&self, row_offsets: &[u32], columns: usize) -> Result<(Vec<u32>, Self), TensorError> {
        let mut offsets = Vec::with_capacity(row_offsets.len());
        let mut all = Self::default();
        offsets.push(0);
        for pair in row_offsets.windows(2) {
            let range = index(pair[0])..index(pair[1]);
            if range.len() > columns {
                let row = self.summed(range, columns);
                all.columns.extend(row.columns);
                all.values.extend(row.values);
            } else {
                all.columns.extend_from_slice(&self.columns[range.clone()]);
                all.values.extend_from_slice(&self.values[range]);
            }
            offsets.push(u32::try_from(all.columns.len()).map_err(|_| TensorError::Overflow)?);
        }
        Ok((offsets, all))
    }

    fn add_to(&self, range: std::ops::Range<usize>, row: &mut [u8]) {
        for (column, value) in self.columns[range.clone()].iter().zip(&self.values[range]) {
            let at = index(*column) * 4;
            if let Some(cell) = row.get_mut(at..at + 4).and_then(|cell| <&mut [u8; 4]>::try_from(cell).ok()) {
                *cell = (f32::from_le_bytes(*cell) + value).to_le_bytes();
            }
        }
    }
}

/// A `u32` from outside as an index; 32 bits always fit on supported machines.
fn index(value: u32) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> SparseRows {
        SparseRows::new(4, (vec![0, 0], vec![1.0, 1.0]), vec![0, 1, 1], (vec![3], vec![5.0])).expect("valid")
    }

    #[test]
    fn entries_add_up_and_rows_can_be_written_apart() {
        let mut out = [0xffu8; 32];
        rows().write_rows(0, &mut out);
        let values: Vec<f32> =
            out.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("four"))).collect();
        assert_eq!(values, [2.0, 0.0, 0.0, 5.0, 2.0, 0.0, 0.0, 0.0]);
        let mut second = [0xffu8; 16];
        rows().write_rows(1, &mut second);
        assert_eq!(second, out[16..]);
    }

    #[test]
    fn a_row_costs_no_more_than_its_columns_however_often_they_are_named() {
        let many = 1 << 20;
        let shared = (vec![1; many], vec![1.0; many]);
        let own = ([vec![2; many], vec![0, 3]].concat(), [vec![2.0; many], vec![5.0, 7.0]].concat());
        let end = u32::try_from(many).expect("fits");
        let rows = SparseRows::new(4, shared, vec![0, 0, end, end + 2], own).expect("valid");
        assert_eq!((rows.shared.columns.len(), &*rows.row_offsets), (4, &[0, 0, 4, 6][..]));
        let mut out = [0xffu8; 48];
        rows.write_rows(0, &mut out);
        let values: Vec<f32> =
            out.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("four"))).collect();
        let (one, two) = (1_048_576.0, 2_097_152.0);
        assert_eq!(values, [0.0, one, 0.0, 0.0, 0.0, one, two, 0.0, 5.0, one, 0.0, 7.0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let none = || (Vec::new(), Vec::new());
        let bad = [
            SparseRows::new(4, (vec![4], vec![1.0]), vec![0], none()),
            SparseRows::new(4, (vec![1], Vec::new()), vec![0], none()),
            SparseRows::new(4, none(), Vec::new(), none()),
            SparseRows::new(4, none(), vec![0, 2, 1], (vec![0], vec![1.0])),
            SparseRows::new(4, none(), vec![0, 2], (vec![0], vec![1.0])),
            SparseRows::new(4, none(), vec![1, 1], (vec![0], vec![1.0])),
        ];
        for (case, result) in bad.into_iter().enumerate() {
            assert!(matches!(result, Err(TensorError::Sparse(_))), "case {case}");
        }
    }
}
