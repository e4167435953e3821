//! Models joined by the names of tensors: what one gives is what another takes. Checked
//! when it is built, so that a request can only fail for its values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_tensor::{Dim, Signature, TensorSpec};

use super::Model;
use super::exposed::check_labels;
use crate::config::defaults::MODEL_VERSION;
use crate::config::{self, DeclaredTensor, EnsembleOutput, Labels};
use crate::observe::Statistics;

/// A checked ensemble.
pub struct Ensemble {
    /// How it was configured.
    pub config: Arc<config::Ensemble>,
    /// What it takes and gives.
    pub signature: Signature,
    /// Most rows of a request; 0 where it takes no batches.
    pub max_batch_size: usize,
    /// Its steps; each can run when its inputs are there.
    pub steps: Vec<Step>,
    /// Its versions, ascending; at least one. All run alike: what differs is who counts.
    pub(super) versions: Vec<EnsembleVersion>,
}

/// A version of an ensemble.
pub struct EnsembleVersion {
    /// As clients name it.
    pub version: Arc<str>,
    /// What Triton's statistics extension shows of it.
    pub statistics: Arc<Statistics>,
}

/// Finds what stands under a name, or a version of it.
type Find<'a> = &'a dyn Fn(&str, Option<&str>) -> Option<Target>;

/// Finds what is counted for a version of a name.
pub(super) type Count<'a> = &'a dyn Fn(&Arc<str>, &str) -> Arc<Statistics>;

/// Ensembles by their names.
pub(super) type Joined = BTreeMap<Arc<str>, Arc<Ensemble>>;

/// One model of an ensemble.
pub struct Step {
    /// What runs.
    pub target: Target,
    /// The version of it that is asked for, if one is.
    pub version: Option<Arc<str>>,
    /// For each input of the model, in its order, the ensemble's tensor.
    pub inputs: Vec<(Arc<str>, Arc<str>)>,
    /// The outputs of the model that are used, each with the ensemble's name of it.
    pub outputs: Vec<(Arc<str>, Arc<str>)>,
    /// Whether all of its inputs are the caller's.
    pub is_first: bool,
}

/// What takes tensors and gives tensors: a step of an ensemble runs it, or a caller asks for
/// it.
#[derive(Clone)]
pub enum Target {
    /// A model.
    Model(Arc<Model>),
    /// An ensemble in the ensemble.
    Ensemble(Arc<Ensemble>),
}

impl Target {
    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        match self {
            Self::Model(model) => model.signature(),
            Self::Ensemble(ensemble) => &ensemble.signature,
        }
    }

    /// Most rows of a request; 0 where it takes no batches.
    pub fn max_batch_size(&self) -> usize {
        match self {
            Self::Model(model) => model.max_batch_size(),
            Self::Ensemble(ensemble) => ensemble.max_batch_size,
        }
    }

    /// The names of an output's classes, if it has some.
    pub fn labels(&self, output: &str) -> Option<&Labels> {
        match self {
            Self::Model(model) => model.labels(output),
            Self::Ensemble(ensemble) => ensemble.labels(output),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Model(model) => model.is_ready(),
            Self::Ensemble(ensemble) => ensemble.is_ready(),
        }
    }
}

/// A tensor of an ensemble: where it comes from, and what it is.
struct Wire {
    from: String,
    spec: TensorSpec,
}

impl Ensemble {
    /// Whether all of its models can answer.
    pub fn is_ready(&self) -> bool {
        self.steps.iter().all(|step| step.target.is_ready())
    }

    /// A version of it that is served; the latest if none is named.
    pub fn version(&self, version: Option<&str>) -> &EnsembleVersion {
        let named = version.and_then(|version| self.versions.iter().find(|one| *one.version == *version));
        named.unwrap_or_else(|| &self.versions[self.versions.len() - 1])
    }

    /// The names of an output's classes: its own, or those of the model that gives it.
    pub fn labels(&self, output: &str) -> Option<&Labels> {
        self.config.labels.get(output).or_else(|| {
            self.steps.iter().find_map(|step| {
                let (own, _) = step.outputs.iter().find(|(_, name)| **name == *output)?;
                step.target.labels(own)
            })
        })
    }

    /// Joins models.
    ///
    /// # Errors
    /// A model that is not served, tensors that do not fit, or that nothing gives.
    fn new(
        name: &Arc<str>,
        config: &Arc<config::Ensemble>,
        find: Find<'_>,
        count: Count<'_>,
    ) -> Result<Self, String> {
        let mut targets = Vec::with_capacity(config.steps.len());
        for step in &config.steps {
            let target = find(&step.model, step.version.as_deref());
            let version =
                step.version.as_ref().map_or_else(String::new, |version| format!(" version {version}"));
            let target = target
                .ok_or_else(|| format!("needs model '{}'{version}, which is not served", step.model))?;
            targets.push(target);
        }
        let most = targets.iter().map(Target::max_batch_size).min().unwrap_or(0);
        let max_batch_size = config.max_batch_size.unwrap_or(most);
        for (step, target) in config.steps.iter().zip(&targets) {
            check_batch(max_batch_size, &step.model, target)?;
        }
        let has_batch = max_batch_size > 0;
        let mut wires = wires(config, &targets, has_batch)?;
        let outputs = outputs(config, &wires, has_batch)?;
        let steps = config.steps.iter().zip(targets);
        let steps =
            steps.map(|(step, target)| join(step, target, &mut wires)).collect::<Result<Vec<_>, _>>()?;
        check_order(&steps, &wires)?;
        let names = inputs_of(config);
        let inputs = names.iter().filter_map(|name| Some(wires.get(name)?.spec.clone())).collect();
        let signature = Signature { inputs, outputs };
        check_labels(config.labels.keys(), &signature)?;
        let numbers = config.versions.iter().map(String::as_str);
        let numbers = numbers.chain(config.versions.is_empty().then_some(MODEL_VERSION));
        let version =
            |number: &str| EnsembleVersion { version: number.into(), statistics: count(name, number) };
        let versions = numbers.map(version).collect();
        Ok(Self { config: Arc::clone(config), signature, max_batch_size, steps, versions })
    }
}

fn check_batch(rows: usize, model: &str, target: &Target) -> Result<(), String> {
    let most = target.max_batch_size();
    if rows > 0 && most > 0 && most < rows {
        return Err(format!("takes batches of {rows} rows, and model '{model}' of {most}"));
    }
    Ok(())
}

/// The tensors that the caller gives: those that are declared, or else those that no step
/// gives.
fn inputs_of(config: &config::Ensemble) -> Vec<Arc<str>> {
    if !config.inputs.is_empty() {
        return config.inputs.iter().map(|input| Arc::clone(&input.name)).collect();
    }
    let given: BTreeSet<&Arc<str>> = config.steps.iter().flat_map(|step| step.outputs.values()).collect();
    let taken = config.steps.iter().flat_map(|step| step.inputs.values());
    let mut names = Vec::new();
    for name in taken.filter(|name| !given.contains(name)) {
        if !names.contains(name) {
            names.push(Arc::clone(name));
        }
    }
    names
}

/// All tensors: the caller's, and what steps give. Each comes from one place.
fn wires(
    config: &config::Ensemble,
    targets: &[Target],
    has_batch: bool,
) -> Result<BTreeMap<Arc<str>, Wire>, String> {
    let mut wires: BTreeMap<Arc<str>, Wire> = BTreeMap::new();
    for input in &config.inputs {
        let wire = Wire { from: "the caller".to_owned(), spec: declared(input, has_batch) };
        wires.insert(Arc::clone(&input.name), wire);
    }
    for (step, target) in config.steps.iter().zip(targets) {
        for (output, name) in &step.outputs {
            let spec = target.signature().outputs.iter().find(|spec| spec.name == *output);
            let spec = spec.ok_or_else(|| format!("model '{}' has no output '{output}'", step.model))?;
            let spec = TensorSpec { name: Arc::clone(name), ..spec.clone() };
            let from = format!("output '{output}' of model '{}'", step.model);
            if let Some(other) = wires.get(name) {
                return Err(format!("tensor '{name}' comes from {} and from {from}", other.from));
            }
            wires.insert(Arc::clone(name), Wire { from, spec });
        }
    }
    if config.inputs.is_empty() {
        for name in inputs_of(config) {
            let taker = config.steps.iter().zip(targets).find_map(|(step, target)| {
                let (input, _) = step.inputs.iter().find(|(_, tensor)| **tensor == name)?;
                target.signature().inputs.iter().find(|spec| spec.name == *input)
            });
            let Some(spec) = taker else { continue };
            let spec = TensorSpec { name: Arc::clone(&name), ..spec.clone() };
            wires.insert(name, Wire { from: "the caller".to_owned(), spec });
        }
    }
    Ok(wires)
}

/// What it gives: what is declared, what is listed, or what no step takes.
fn outputs(
    config: &config::Ensemble,
    wires: &BTreeMap<Arc<str>, Wire>,
    has_batch: bool,
) -> Result<Vec<TensorSpec>, String> {
    let given = |name: &Arc<str>| wires.get(name).ok_or_else(|| format!("no step gives the output '{name}'"));
    let mut outputs = Vec::new();
    for output in &config.outputs {
        match output {
            EnsembleOutput::Named(name) => outputs.push(given(name)?.spec.clone()),
            EnsembleOutput::Declared(output) => {
                let (wire, spec) = (given(&output.name)?, declared(output, has_batch));
                fit(&wire.spec, &spec, &wire.from, &format!("output '{}'", output.name))?;
                outputs.push(spec);
            }
        }
    }
    if outputs.is_empty() {
        let taken: BTreeSet<&Arc<str>> = config.steps.iter().flat_map(|step| step.inputs.values()).collect();
        let made = config.steps.iter().flat_map(|step| step.outputs.values());
        for name in made.filter(|name| !taken.contains(name)) {
            outputs.push(given(name)?.spec.clone());
        }
    }
    match outputs.is_empty() {
        true => Err("gives nothing".to_owned()),
        false => Ok(outputs),
    }
}

fn join(step: &config::Step, target: Target, wires: &mut BTreeMap<Arc<str>, Wire>) -> Result<Step, String> {
    let model = &step.model;
    let mut inputs = Vec::new();
    for spec in &target.signature().inputs {
        let name = step.inputs.get(&spec.name);
        let name = name.ok_or_else(|| format!("input '{}' of model '{model}' is not mapped", spec.name))?;
        let what = format!("input '{}' of model '{model}'", spec.name);
        let wire = wires.get(name).ok_or_else(|| format!("no step gives '{name}', which {what} is"))?;
        fit(&wire.spec, spec, &wire.from, &what)?;
        inputs.push((Arc::clone(&spec.name), Arc::clone(name)));
    }
    if let Some(unknown) = step.inputs.keys().find(|name| !inputs.iter().any(|(input, _)| input == *name)) {
        return Err(format!("model '{model}' has no input '{unknown}'"));
    }
    let outputs = step.outputs.iter().map(|(output, name)| (Arc::clone(output), Arc::clone(name))).collect();
    let is_first =
        inputs.iter().all(|(_, name)| wires.get(name).is_some_and(|wire| wire.from == "the caller"));
    let version = step.version.as_deref().map(Arc::from);
    Ok(Step { target, version, inputs, outputs, is_first })
}

/// Every step must be able to run: a circle of steps never could.
fn check_order(steps: &[Step], wires: &BTreeMap<Arc<str>, Wire>) -> Result<(), String> {
    let callers = wires.iter().filter(|(_, wire)| wire.from == "the caller").map(|(name, _)| name);
    let mut known: BTreeSet<&Arc<str>> = callers.collect();
    let mut waiting: Vec<&Step> = steps.iter().collect();
    loop {
        let before = waiting.len();
        waiting.retain(|step| {
            let can_run = step.inputs.iter().all(|(_, name)| known.contains(name));
            if can_run {
                known.extend(step.outputs.iter().map(|(_, name)| name));
            }
            !can_run
        });
        match waiting.first() {
            None => return Ok(()),
            Some(step) if waiting.len() == before => {
                let names: Vec<&str> = step.inputs.iter().map(|(_, name)| &**name).collect();
                return Err(format!("its steps wait for each other: {}", names.join(", ")));
            }
            Some(_) => {}
        }
    }
}

/// Whether what is given can be what is taken. Dimensions of any size are left to the
/// check of each request.
fn fit(given: &TensorSpec, taken: &TensorSpec, from: &str, to: &str) -> Result<(), String> {
    if given.dtype != taken.dtype {
        return Err(format!("{from} is {}, and {to} is {}", given.dtype, taken.dtype));
    }
    let fits = given.dims.len() == taken.dims.len()
        && given.dims.iter().zip(&taken.dims).all(|dims| match dims {
            (Dim::Fixed(given), Dim::Fixed(taken)) => given == taken,
            _ => true,
        });
    if fits {
        return Ok(());
    }
    let show = |spec: &TensorSpec| format!("{:?}", spec.dims.iter().map(Dim::to_wire).collect::<Vec<_>>());
    Err(format!("{from} has the shape {}, and {to} {}", show(given), show(taken)))
}

fn declared(tensor: &DeclaredTensor, has_batch: bool) -> TensorSpec {
    let batch = has_batch.then_some(Dim::Any(None));
    let dims = tensor.dims.iter().map(|dim| dim.map_or(Dim::Any(None), Dim::Fixed));
    TensorSpec {
        name: Arc::clone(&tensor.name),
        dtype: tensor.dtype,
        dims: batch.into_iter().chain(dims).collect(),
    }
}

/// Joins all ensembles of a configuration, those inside others first. What cannot be joined
/// comes with the reason.
pub(super) fn join_all(
    configs: &BTreeMap<Arc<str>, Arc<config::Ensemble>>,
    find: Find<'_>,
    count: Count<'_>,
) -> (Joined, BTreeMap<Arc<str>, String>) {
    let mut joined: BTreeMap<Arc<str>, Arc<Ensemble>> = BTreeMap::new();
    loop {
        let mut failed = BTreeMap::new();
        let before = joined.len();
        for (name, config) in configs {
            if joined.contains_key(name) {
                continue;
            }
            let inside = |model: &str, version: Option<&str>| {
                let Some(ensemble) = joined.get(model) else { return find(model, version) };
                let is_it =
                    version.is_none_or(|version| *ensemble.version(Some(version)).version == *version);
                is_it.then(|| Target::Ensemble(Arc::clone(ensemble)))
            };
            match Ensemble::new(name, config, &inside, count) {
                Ok(ensemble) => drop(joined.insert(Arc::clone(name), Arc::new(ensemble))),
                Err(what) => drop(failed.insert(Arc::clone(name), what)),
            }
        }
        if joined.len() == before {
            return (joined, failed);
        }
    }
}
