//! Models as they look to clients, and folders that models come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sluice_tensor::DType;

/// A folder of models as Triton lays it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// The folder.
    pub path: PathBuf,
    /// What loads and unloads its models.
    pub control: ModelControl,
    /// How often it is looked at, where that is what loads models.
    pub poll: Duration,
    /// The models that are loaded at the start, where requests load the others; `*` is all.
    pub load: Vec<String>,
    /// Whether the start, and a reload that adds the folder, fail with any of its models.
    pub exit_on_error: bool,
}

/// What loads and unloads the models of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelControl {
    /// The start.
    #[default]
    None,
    /// Changes of the folder.
    Poll,
    /// Requests.
    Explicit,
}

impl ModelControl {
    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Poll => "poll",
            Self::Explicit => "explicit",
        }
    }
}

/// The names of an output's classes, in order.
pub type Labels = Arc<[Arc<str>]>;

/// How a model looks to clients, and what it does before it is ready.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Presentation {
    /// Whether the batch size is to be chosen once the model file is known.
    pub is_batching_open: bool,
    /// The repository it comes from, if it does.
    pub repository: Option<Arc<str>>,
    /// Inputs and outputs, where they are declared.
    pub inputs: Vec<DeclaredTensor>,
    /// The same of outputs: those that are given.
    pub outputs: Vec<DeclaredTensor>,
    /// Names of classes, by output.
    pub labels: BTreeMap<Arc<str>, Labels>,
    /// What is run before it is ready.
    pub warmup: Vec<Warmup>,
    /// What its `config.pbtxt` sets.
    pub triton: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
    /// Free words of its `config.pbtxt`.
    pub parameters: BTreeMap<String, String>,
    /// The digest of all files of the version, where it has more than the model's own.
    pub files_digest: Option<String>,
}

/// An input or output as the configuration declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTensor {
    /// As the model file has it.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DType,
    /// The dimensions, without that of the batch if there are batches; none is any size.
    pub dims: Vec<Option<usize>>,
    /// The model file's own, where they differ.
    pub reshape: Option<Vec<Option<usize>>>,
}

impl DeclaredTensor {
    /// From dimensions as Triton writes them: sizes above 0, or -1 for any.
    ///
    /// # Errors
    /// What is wrong with it, to be read behind its name.
    pub fn new(name: &str, dtype: DType, dims: &[i64], reshape: Option<&[i64]>) -> Result<Self, String> {
        let one = |dim: &i64| match usize::try_from(*dim) {
            Ok(size) if size > 0 => Ok(Some(size)),
            _ if *dim == -1 => Ok(None),
            _ => Err(format!("has a dimension {dim}: allowed are -1 and numbers from 1")),
        };
        if dims.is_empty() {
            return Err("has no dims".to_owned());
        }
        let all = |dims: &[i64]| dims.iter().map(one).collect::<Result<Vec<_>, _>>();
        let (dims, reshape) = (all(dims)?, reshape.map(all).transpose()?);
        Ok(Self { name: name.into(), dtype, dims, reshape })
    }
}

/// The labels of a text: one in each line.
pub fn label_lines(text: &str) -> Labels {
    text.lines().map(|line| Arc::from(line.trim_end_matches('\r'))).collect()
}

/// A run before a model is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Warmup {
    /// For the log.
    pub name: String,
    /// Rows of the batch.
    pub rows: usize,
    /// How often.
    pub count: u32,
    /// Inputs; those that are absent are random, in the dimensions of the model's file, with
    /// 1 for any size.
    pub inputs: Vec<WarmupInput>,
}

/// An input of a warm-up.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupInput {
    /// The input.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DType,
    /// The dimensions of a row; of the whole where there are no batches.
    pub dims: Vec<usize>,
    /// What is in it.
    pub data: WarmupData,
}

/// What is in an input of a warm-up.
#[derive(Debug, Clone, PartialEq)]
pub enum WarmupData {
    /// Zeros, or empty strings.
    Zero,
    /// Random numbers, or random strings.
    Random,
    /// One row of a file.
    File(Bytes),
}

/// Models joined by the names of tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ensemble {
    /// The repository it comes from, if it does.
    pub repository: Option<Arc<str>>,
    /// Most rows of a request; that of its models if absent.
    pub max_batch_size: Option<usize>,
    /// What it takes, where that is declared; else what its steps take and none of them gives.
    pub inputs: Vec<DeclaredTensor>,
    /// What it gives, in this order; what no step takes if this is empty.
    pub outputs: Vec<EnsembleOutput>,
    /// Names of classes, by output; where there are none, those of the models that give it.
    pub labels: BTreeMap<Arc<str>, Labels>,
    /// Its versions, ascending, which are all the same; if there are none it is version 1.
    pub versions: Vec<String>,
    /// Its models.
    pub steps: Vec<Step>,
    /// What its `config.pbtxt` sets.
    pub triton: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
}

/// An output of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnsembleOutput {
    /// As the step that gives it has it.
    Named(Arc<str>),
    /// As it is declared.
    Declared(DeclaredTensor),
}

/// One model of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The model.
    pub model: Arc<str>,
    /// Its version; the latest if absent.
    pub version: Option<String>,
    /// The ensemble's tensor for each of the model's inputs.
    pub inputs: BTreeMap<Arc<str>, Arc<str>>,
    /// The ensemble's name for those of its outputs that are used.
    pub outputs: BTreeMap<Arc<str>, Arc<str>>,
}
