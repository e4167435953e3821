//! How code is made of components: in a child of its own, never in this process, except
//! for tools that compile what they brought themselves.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sandbox::{
    ComponentFacts, Inference, LoadError, LogSink, Plugin, PluginOptions, Verified, VerifyLimits,
};
use tokio::runtime::Handle;

use super::super::grants::Granted;
use super::super::samples::CaseModels;
use super::super::verify::{self, Verifier, VerifierOptions, Whose};
use super::super::{LoadedPlugin, PluginSlot};
use super::Builder;
use super::plugins::{options, wasi};
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};

/// What a fresh component has been turned into.
pub(in crate::catalog) type Compiled = Verified;

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compile {
    /// In a child: this program, started with `verify-plugin`.
    Child(PathBuf),
    /// In this process, without bounds. For the benchmark, which is another program.
    InProcess,
}

impl Default for Compile {
    fn default() -> Self {
        Self::Child(PathBuf::from("/proc/self/exe"))
    }
}

impl Compile {
    /// The verifier that a configuration asks for; none compiles in this process.
    pub fn verifier(self, config: &Config) -> Option<Verifier> {
        let Self::Child(program) = self else { return None };
        let verify = &config.verify;
        let limits = VerifyLimits {
            component_bytes: usize::try_from(config.sandbox.plugin_bytes_max).unwrap_or(usize::MAX),
            memory_bytes: config.sandbox.memory_bytes_max,
            cpu_seconds: verify.cpu.as_secs().max(1),
            address_space_bytes: verify.memory_bytes,
            wall_clock: verify.timeout,
            ..VerifyLimits::default()
        };
        let (children_max, waiting_max) = (verify.children_max, verify.waiting_max);
        Some(Verifier::new(VerifierOptions { program, limits, children_max, waiting_max }))
    }
}

impl Builder {
    /// Checks a component that somebody brings, and compiles it.
    ///
    /// # Errors
    /// The reason code of a 422, or 429 if too many wait.
    pub(in crate::catalog) async fn compile(&self, whose: Whose<'_>, component: Bytes) -> Result<Compiled> {
        match &self.verifier {
            Some(verifier) => verifier.verify_for(whose, component).await.map_err(verify::verify_error),
            None => {
                let limits = VerifyLimits::default();
                let work = move || sluice_sandbox::verify::verify(&component, &limits);
                let verified = tokio::task::spawn_blocking(work).await;
                let verified = verified.map_err(|_| Error::new(Kind::Internal, "internal error"))?;
                verified.map_err(|error| verify::load_error(&error))
            }
        }
    }

    /// Loads a component, compiling it first if the cache has nothing for it. Blocks.
    pub(super) fn load_component(
        &self,
        component: &[u8],
        options: PluginOptions,
        whose: Whose<'_>,
    ) -> Result<Plugin, String> {
        match (self.sandbox.load(component, options.clone()), &self.verifier) {
            (Err(LoadError::NotCompiled), Some(verifier)) => {
                let verifying = verifier.verify_for(whose, Bytes::copy_from_slice(component));
                let verified = Handle::current().block_on(verifying);
                let verified = verified.map_err(|error| error.to_string())?;
                let loaded = self.sandbox.load_verified(component, &verified.code, options);
                loaded.map_err(|error| error.to_string())
            }
            (loaded, _) => loaded.map_err(|error| error.to_string()),
        }
    }

    /// Loads a component that was just compiled, and tries it. Its models are behind those
    /// of its sample cases, which stand aside as soon as the cases were run. Blocks.
    pub(in crate::catalog) fn load_compiled(
        &self,
        config: &config::Plugin,
        version: Arc<str>,
        component: &[u8],
        compiled: &Compiled,
        granted: &Granted,
    ) -> Result<(Arc<LoadedPlugin>, Arc<CaseModels>), LoadError> {
        let log = self.log(config, &version);
        let mut grants = granted.grants(config);
        let cases = Arc::new(CaseModels::new(grants.inference.take()));
        if cases.has_real() {
            grants.inference = Some(Arc::clone(&cases) as Arc<dyn Inference>);
        }
        let options = options(config, grants, Arc::clone(&log) as Arc<dyn LogSink>);
        let plugin = self.sandbox.load_verified(component, &compiled.code, options)?;
        Ok((self.loaded(config, version, plugin, log, granted), cases))
    }
}

impl PluginSlot {
    /// What each import of a component gets under the plugin's grants: why not, if not.
    /// Nothing is opened for it.
    pub(in crate::catalog) fn verdicts(&self, facts: &ComponentFacts) -> Vec<(String, Option<String>)> {
        let (grants, wasi) = (self.granted.grants(&self.config), wasi(&self.config));
        let verdicts = sluice_sandbox::check_imports(&facts.imports, facts.world, &grants, wasi);
        verdicts.into_iter().map(|it| (it.name, (!it.granted).then_some(it.why))).collect()
    }
}
