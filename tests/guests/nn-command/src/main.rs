//! A program that knows nothing of the gateway: it loads a model by name, reads its input
//! from a folder that was opened for it, and prints the largest results. Wasmtime's own
//! test programs for wasi-nn do the same with the same imports.
//!
//! Arguments: the model's name, the input's name, its dimensions as `1x3x4`, and the file.
//! Without a file the input comes from standard input. `load FILE INPUT DIMENSIONS` brings
//! the model's own bytes instead of its name. Beside that: `args`, `exit CODE`,
//! `flood` and `write FILE`, for the tests.

use std::io::{Read, Write};

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/wasi-nn", world: "ml" });
}

use bindings::wasi::nn::errors::Error;
use bindings::wasi::nn::graph::{self, ExecutionTarget, Graph, GraphEncoding};
use bindings::wasi::nn::tensor::{Tensor, TensorType};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["args", ..] => {
            let environment: Vec<_> =
                std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
            println!("{} {}", arguments[1..].join(","), environment.join(","));
            Ok(())
        }
        ["exit", code] => std::process::exit(code.parse().map_err(|_| "no code")?),
        ["flood"] => loop {
            std::io::stdout().write_all(&[b'x'; 4096]).map_err(|error| error.to_string())?;
        },
        ["write", file] => std::fs::write(file, "x").map_err(|error| error.to_string()),
        ["load"] => match graph::load(&[vec![1, 2, 3]], GraphEncoding::Onnx, ExecutionTarget::Cpu) {
            Ok(_) => Err("a model was loaded".to_owned()),
            Err(error) => Err(told(error)),
        },
        ["load", model, input, dimensions] => {
            let model = std::fs::read(model).map_err(|error| format!("{model}: {error}"))?;
            let loaded = graph::load(&[model], GraphEncoding::Onnx, ExecutionTarget::Cpu);
            classify(&loaded.map_err(told)?, input, dimensions, None)
        }
        [model, input, dimensions, ref file @ ..] => {
            let graph = graph::load_by_name(model).map_err(told)?;
            classify(&graph, input, dimensions, file.first().copied())
        }
        _ => Err("model, input and dimensions are wanted".to_owned()),
    }
}

fn told(error: Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}

fn classify(graph: &Graph, input: &str, dimensions: &str, file: Option<&str>) -> Result<(), String> {
    let context = graph.init_execution_context().map_err(told)?;
    let mut bytes = Vec::new();
    match file {
        Some(file) => bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?,
        None => drop(std::io::stdin().read_to_end(&mut bytes).map_err(|error| error.to_string())?),
    }
    let dimensions: Result<Vec<u32>, _> = dimensions.split('x').map(str::parse).collect();
    let tensor = Tensor::new(&dimensions.map_err(|_| "no dimensions")?, TensorType::Fp32, &bytes);
    let outputs = context.compute(vec![(input.to_owned(), tensor)]).map_err(told)?;
    for (name, tensor) in &outputs {
        let data = tensor.data();
        let values =
            data.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let mut ranked: Vec<(usize, f32)> = values.enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        println!("{name} {:?} {:?}: {:?}", tensor.ty(), tensor.dimensions(), &ranked[..ranked.len().min(5)]);
    }
    Ok(())
}
