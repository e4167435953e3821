//! The engine alone: what it can do with nothing around it, at given batch sizes.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use sluice_engine::{EngineChoice, EngineSearch, Interrupt, LoadOptions};
use sluice_tensor::{DType, Dim, NamedTensor, Shape, Tensor, TensorSpec};

/// How long one batch size is measured, each time.
const MEASURED: Duration = Duration::from_millis(500);

/// Rows per second of a model, run over and over on one thread of our own with batches
/// of `rows` rows.
///
/// # Errors
/// The engine or the model is not there.
pub fn rows_per_second(
    search: &EngineSearch,
    model: &str,
    threads: usize,
    rows: usize,
) -> Result<f64, String> {
    let folder = std::env::var_os("SLUICE_BENCH_DIR").ok_or("SLUICE_BENCH_DIR is not set")?;
    let path = PathBuf::from(folder).join("models").join(model);
    let (engine, _) = sluice_engine::select(EngineChoice::Auto, search).map_err(|error| error.to_string())?;
    let options = LoadOptions { threads, spinning: false, max_batch_size: rows };
    let model = engine.load(&path, &options).map_err(|error| error.to_string())?;
    let inputs =
        model.signature().inputs.iter().map(|spec| input(spec, rows)).collect::<Result<Vec<_>, _>>()?;
    let mut instance = model.instance().map_err(|error| error.to_string())?;
    let interrupt = Interrupt::default();
    let mut run = || instance.run(&[&inputs], &interrupt).map_err(|error| error.to_string());
    for _ in 0..20 {
        run()?;
    }
    let started = tokio::time::Instant::now();
    let mut runs = 0u32;
    while started.elapsed() < MEASURED {
        run()?;
        runs += 1;
    }
    Ok(f64::from(runs) * rows as f64 / started.elapsed().as_secs_f64())
}

/// Zeros of the right shape; small ids are valid everywhere.
fn input(spec: &TensorSpec, rows: usize) -> Result<NamedTensor, String> {
    let dims: Vec<usize> = spec
        .dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) => rows,
        })
        .collect();
    let shape = Shape::new(&dims).map_err(|error| error.to_string())?;
    let data = match spec.dtype {
        DType::I64 => (0..shape.elements()).flat_map(|id| ((id % 997) as u64).to_le_bytes()).collect(),
        _ => {
            (0..shape.elements()).flat_map(|number| ((number % 7) as f32).to_le_bytes()).collect::<Vec<u8>>()
        }
    };
    let tensor = Tensor::dense(spec.dtype, shape, Bytes::from(data)).map_err(|error| error.to_string())?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}
