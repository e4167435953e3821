//! Host tensors, by their handles.

use super::bindings::platform::sluice::plugin::tensors as wit;
use crate::{DType, Ranked};

#[derive(Debug)]
pub(crate) struct Tensor(pub(super) wit::Tensor);

impl Tensor {
    pub(crate) fn dtype(&self) -> DType {
        self.0.dtype().into()
    }

    pub(crate) fn shape(&self) -> Vec<u32> {
        self.0.shape()
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.0.byte_length()
    }

    pub(crate) fn read(&self, offset: u64, len: u32) -> Vec<u8> {
        self.0.read(offset, len)
    }

    pub(crate) fn read_fp32(&self, start: u64, count: u32) -> Vec<f32> {
        self.0.read_fp32(start, count)
    }

    pub(crate) fn gather(&self, rows: &[u32]) -> Self {
        Self(self.0.gather(rows))
    }

    pub(crate) fn rows(&self, start: u32, count: u32) -> Self {
        Self(self.0.rows(start, count))
    }

    pub(crate) fn top_k(&self, k: u32) -> Vec<Ranked> {
        let ranked = self.0.top_k(k).into_iter();
        ranked.map(|one| Ranked { index: one.index as usize, value: one.value }).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Writer(wit::Writer);

impl Writer {
    pub(crate) fn new(dtype: DType, shape: &[u32]) -> Self {
        Self(wit::Writer::new(dtype.into(), shape))
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }

    pub(crate) fn finish(self) -> Tensor {
        Tensor(self.0.finish())
    }
}
