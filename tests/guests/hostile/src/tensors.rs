//! Tensors that do not fit, reads past the end, and handles without end.

use sluice_sdk::{
    Answer, DType, Error, Inputs, Result, SparseRows, Tensor, TensorValue, TensorWriter, Tensors,
};

/// Inputs that fit no model whose input is `[rows, columns]` floats.
pub(crate) fn wrong_inputs(what: &str, input: &str, columns: u32) -> Option<Result<Inputs>> {
    let width = columns as usize;
    let row = || Tensor::f32(&[1, width], vec![0.0; width]);
    let value = |dtype, shape: &[u32], bytes: usize| {
        Ok(Inputs::new().with(input, TensorValue { dtype, shape: shape.to_vec(), data: vec![0; bytes] }))
    };
    Some(match what {
        "wrong-name" => row().map(|tensor| Inputs::new().with("no-such-input", tensor)),
        "no-inputs" => Ok(Inputs::new()),
        "same-name-twice" => row().and_then(|first| Ok(Inputs::new().with(input, first).with(input, row()?))),
        "one-too-many" => row().and_then(|first| Ok(Inputs::new().with(input, first).with("extra", row()?))),
        "wrong-dtype" => value(DType::Int64, &[1, columns], width * 8),
        "wrong-rank" => value(DType::Fp32, &[columns], width * 4),
        "wrong-width" => value(DType::Fp32, &[1, columns + 1], (width + 1) * 4),
        "no-rows" => value(DType::Fp32, &[0, columns], 0),
        "no-dimensions" => value(DType::Fp32, &[], 4),
        "nine-dimensions" => value(DType::Fp32, &[1; 9], 4),
        "short-data" => value(DType::Fp32, &[1, columns], width * 4 - 1),
        "long-data" => value(DType::Fp32, &[1, columns], width * 4 + 1),
        "overflowing-shape" => value(DType::Fp32, &[u32::MAX; 8], 0),
        "zero-times-overflow" => value(DType::Fp32, &[u32::MAX, u32::MAX, u32::MAX, 0], 0),
        "broken-bytes" => value(DType::Bytes, &[1, columns], 7),
        "many-rows" => value(DType::Fp32, &[4096, columns], 4096 * width * 4),
        "sparse-column" | "sparse-offsets" | "sparse-lengths" | "sparse-width" | "sparse-huge" => {
            Ok(Inputs::new().with(input, wrong_sparse(what, columns)))
        }
        _ => return None,
    })
}

fn wrong_sparse(what: &str, columns: u32) -> SparseRows {
    let mut rows = Tensor::sparse_rows(columns);
    rows.row([(0, 1.0)]);
    match what {
        "sparse-column" => rows.own_columns[0] = columns,
        "sparse-offsets" => rows.row_offsets = vec![0, 5, 1],
        "sparse-lengths" => rows.own_values.clear(),
        "sparse-huge" => rows.row_offsets = vec![0; 1024 * 1024],
        _ => rows.columns = u32::MAX,
    }
    rows
}

/// Reads of the model's outputs that must trap.
pub(crate) fn misread(what: &str, outputs: &Tensors) -> Option<Result<Answer>> {
    let first = || outputs.only();
    Some(match what {
        "read-past-end" => first().map(|tensor| Answer::bytes("x", tensor.read(tensor.byte_len(), 1))),
        "read-overflow" => first().map(|tensor| Answer::bytes("x", tensor.read(u64::MAX, u32::MAX))),
        "rows-past-end" => first().map(|tensor| Answer::tensors([("rows", tensor.rows(u32::MAX, u32::MAX))])),
        "top-all" => first().and_then(|tensor| Ok(Answer::text(tensor.top_k(u32::MAX)?.len().to_string()))),
        "tensors-for-v1" => first().map(|tensor| Answer::tensors([("rows", tensor.rows(0, 1))])),
        _ => return None,
    })
}

/// Host memory, by way of handles and writers. `None` if it is nothing of these.
pub(crate) fn waste(what: &str, amount: u32) -> Option<Result<Answer>> {
    Some(match what {
        "leak-handles" => leak(amount),
        "huge-writer" => writer(&[u32::MAX as usize, u32::MAX as usize]),
        "large-writers" => large(amount),
        "write-past-end" => TensorWriter::new(DType::Fp32, &[4]).map(|mut writer| {
            writer.write(u64::MAX, &[0; 4]);
            Answer::text("wrote")
        }),
        "bytes-writer" => TensorWriter::new(DType::Bytes, &[4]).map(|_| Answer::text("started")),
        _ => return None,
    })
}

fn leak(amount: u32) -> Result<Answer> {
    for _ in 0..amount {
        std::mem::forget(TensorWriter::new(DType::Uint8, &[1])?);
    }
    Ok(Answer::text("leaked"))
}

fn writer(shape: &[usize]) -> Result<Answer, Error> {
    let finished = TensorWriter::new(DType::Fp64, shape)?.finish();
    Ok(Answer::text(finished.byte_len().to_string()))
}

/// Each of 16 MiB, all kept.
fn large(amount: u32) -> Result<Answer> {
    let kept: Vec<_> =
        (0..amount).map(|_| TensorWriter::new(DType::Uint8, &[16 << 20])).collect::<Result<_>>()?;
    Ok(Answer::text(kept.len().to_string()))
}
