//! The file of a simulated model.
//!
//! ```json
//! {
//!   "inputs":  [{"name": "x", "dtype": "FP32", "dims": [-1, 4]}],
//!   "outputs": [{"name": "y", "rule": "echo", "from": "x"},
//!               {"name": "s", "rule": "sum", "from": "x"},
//!               {"name": "n", "rule": "batch_rows"}],
//!   "latency_us": {"base": 100, "per_row": 10},
//!   "instances_max": 2,
//!   "rows_max": 64,
//!   "faults": [{"when": {"every": 3}, "then": "fail"},
//!              {"when": {"value": 666}, "then": "hang"}]
//! }
//! ```

use std::time::Duration;

use serde::Deserialize;
use sluice_tensor::{DType, Dim, Signature, TensorSpec};

use crate::EngineError;

/// A checked program.
pub(super) struct Program {
    pub(super) signature: Signature,
    /// One for each output.
    pub(super) rules: Vec<Rule>,
    pub(super) latency_base: Duration,
    pub(super) latency_per_row: Duration,
    pub(super) instances_max: usize,
    pub(super) rows_max: usize,
    pub(super) faults: Vec<Fault>,
}

/// How an output comes about; `usize` is the place of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The input as it is.
    Echo(usize),
    /// For each row the sum of its elements, as FP32.
    Sum(usize),
    /// For each row how many rows ran together, as INT64.
    BatchRows,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) when: When,
    pub(super) then: Then,
}

/// When it goes wrong. Runs are counted from 1 over all instances of the model.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    /// Each run whose number is a multiple.
    Every(u64),
    /// This run.
    Run(u64),
    /// A run in which an element of any input has this value.
    Value(f64),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    /// The run fails.
    Fail,
    /// The run fails because of its input.
    Refuse,
    /// The run fails for lack of memory.
    OutOfMemory,
    /// The run panics.
    Panic,
    /// The run does not end before it is interrupted.
    Hang,
    /// The run never ends, and cannot be interrupted.
    HangDeaf,
    /// The outputs lack their last row.
    WrongRows,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramFile {
    inputs: Vec<InputFile>,
    outputs: Vec<OutputFile>,
    #[serde(default)]
    latency_us: LatencyFile,
    instances_max: Option<usize>,
    rows_max: Option<usize>,
    #[serde(default)]
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFile {
    name: String,
    dtype: String,
    dims: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputFile {
    name: String,
    rule: RuleFile,
    from: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RuleFile {
    Echo,
    Sum,
    BatchRows,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LatencyFile {
    base: u64,
    per_row: u64,
}

impl Program {
    /// Reads and checks a program.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`], with the line or the name.
    pub(super) fn parse(text: &str) -> Result<Self, EngineError> {
        let file: ProgramFile =
            serde_json::from_str(text).map_err(|error| EngineError::Corrupt(error.to_string()))?;
        let inputs: Vec<TensorSpec> = file.inputs.iter().map(input).collect::<Result<_, _>>()?;
        let outputs = file.outputs.iter().map(|output| rule(output, &inputs));
        let (rules, outputs) = outputs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        if file.faults.iter().any(|fault| matches!(fault.when, When::Every(0))) {
            return Err(EngineError::Corrupt("a fault every 0 runs".to_owned()));
        }
        Ok(Self {
            signature: Signature { inputs, outputs },
            rules,
            latency_base: Duration::from_micros(file.latency_us.base),
            latency_per_row: Duration::from_micros(file.latency_us.per_row),
            instances_max: file.instances_max.unwrap_or(usize::MAX),
            rows_max: file.rows_max.unwrap_or(usize::MAX),
            faults: file.faults,
        })
    }
}

fn input(file: &InputFile) -> Result<TensorSpec, EngineError> {
    let dtype = DType::from_name(&file.dtype)
        .ok_or_else(|| EngineError::Corrupt(format!("'{}' has unknown dtype {}", file.name, file.dtype)))?;
    let dims = file.dims.iter().map(|dim| usize::try_from(*dim).map_or(Dim::Any(None), Dim::Fixed));
    Ok(TensorSpec { name: file.name.as_str().into(), dtype, dims: dims.collect() })
}

fn rule(file: &OutputFile, inputs: &[TensorSpec]) -> Result<(Rule, TensorSpec), EngineError> {
    let corrupt = |what: &str| EngineError::Corrupt(format!("output '{}' {what}", file.name));
    let place = || {
        let from = file.from.as_deref().ok_or_else(|| corrupt("needs 'from'"))?;
        let place = inputs.iter().position(|input| &*input.name == from);
        place.ok_or_else(|| corrupt("is from no input"))
    };
    let rows = inputs.first().and_then(|input| input.dims.first()).cloned().unwrap_or(Dim::Any(None));
    let (rule, dtype, dims) = match file.rule {
        RuleFile::Echo => {
            let place = place()?;
            (Rule::Echo(place), inputs[place].dtype, inputs[place].dims.clone())
        }
        RuleFile::Sum => {
            let place = place()?;
            if matches!(inputs[place].dtype, DType::Bool | DType::Bytes) {
                return Err(corrupt("is the sum of what has none"));
            }
            (Rule::Sum(place), DType::F32, vec![rows])
        }
        RuleFile::BatchRows => (Rule::BatchRows, DType::I64, vec![rows]),
    };
    Ok((rule, TensorSpec { name: file.name.as_str().into(), dtype, dims }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_makes_no_sense_is_refused() {
        let inputs = r#""inputs": [{"name": "x", "dtype": "FP32", "dims": [-1, 4]}]"#;
        let good = format!(r#"{{{inputs}, "outputs": [{{"name": "y", "rule": "echo", "from": "x"}}]}}"#);
        let program = Program::parse(&good).expect("valid");
        assert_eq!((program.rules, program.instances_max), (vec![Rule::Echo(0)], usize::MAX));
        for bad in [
            "not json".to_owned(),
            good.replace("FP32", "FP8"),
            good.replace("\"from\": \"x\"", "\"from\": \"z\""),
            good.replace(", \"from\": \"x\"", ""),
            good.replace("\"echo\"", "\"double\""),
            good.replace("}]}", r#"}], "faults": [{"when": {"every": 0}, "then": "fail"}]}"#),
            good.replace("}]}", r#"}], "color": 1}"#),
        ] {
            assert!(matches!(Program::parse(&bad), Err(EngineError::Corrupt(_))), "{bad}");
        }
    }
}
