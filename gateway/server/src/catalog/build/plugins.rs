//! Plugins of a snapshot: for each name the versions that serve, that served before, and
//! that are tried, each loaded once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use sluice_sandbox::{Grants, LogSink, PluginLimits, PluginOptions, WasiPolicy};

use super::super::files;
use super::super::grants::Granted;
use super::super::model::Model;
use super::super::plugin_log::PluginLog;
use super::super::store::VersionRecord;
use super::super::verify::Whose;
use super::super::{LoadedPlugin, PluginSlot, Snapshot};
use super::{Build, Builder, Loads, Problem};
use tokio::runtime::Handle;

use crate::config::{self, PluginSource};
use crate::oci::{self, OciSettings, Pulled, Reference};
use crate::signature::Signature;

/// The version that a configured file is.
pub(in crate::catalog) const FILE_VERSION: &str = "file";

/// The version that a configured reference into a registry is.
pub(in crate::catalog) const OCI_VERSION: &str = "oci";

/// The version that native code in place of a plugin is.
const NATIVE_VERSION: &str = "native";

/// Bytes of a signature that lies beside a component: base64, and the name of its key.
const SIGNATURE_BYTES_MAX: u64 = 1 << 10;

type Named<T> = BTreeMap<Arc<str>, Arc<T>>;

/// What a version's bytes are, and where they can be had.
pub(in crate::catalog) struct Component<'a> {
    pub(in crate::catalog) version: Arc<str>,
    pub(in crate::catalog) digest: String,
    pub(in crate::catalog) bytes: &'a dyn Fn() -> Result<Vec<u8>, String>,
}

impl PluginSlot {
    /// Whether requests would see no difference between the two.
    pub(super) fn serves_like(&self, other: &Self) -> bool {
        let same = |old: Option<&Arc<LoadedPlugin>>, new: Option<&Arc<LoadedPlugin>>| match (old, new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        let versions = self.versions.len() == other.versions.len()
            && self.versions.iter().all(|(version, old)| same(Some(old), other.versions.get(version)));
        versions && same(self.active.as_ref(), other.active.as_ref())
    }
}

impl Build<'_> {
    pub(super) fn plugins(&mut self, models: &Named<Model>) -> Named<PluginSlot> {
        let config = Arc::clone(&self.config);
        let declared = config.plugins.keys().cloned();
        let uploaded = self.registry.plugins().map(|record| Arc::from(record.name.as_str()));
        let names: BTreeSet<Arc<str>> = declared.chain(uploaded).collect();
        let mut slots = BTreeMap::new();
        for name in names {
            let declared = config.plugins.get(&name);
            let plugin = declared.cloned().unwrap_or_else(|| config.undeclared(&name));
            let granted = self.granted(&plugin, models);
            let slot = self.slot(name, declared.is_some(), plugin, granted);
            slots.insert(Arc::clone(&slot.name), slot);
        }
        slots
    }

    /// The same when the configuration and its grants are those of `previous`, and so are
    /// the versions of all but these plugins.
    pub(super) fn plugins_again(
        &mut self,
        previous: &Snapshot,
        changed: &BTreeSet<Arc<str>>,
    ) -> Named<PluginSlot> {
        let mut slots = previous.plugins.clone();
        let uploaded: BTreeSet<Arc<str>> =
            self.registry.plugins().map(|record| Arc::from(record.name.as_str())).collect();
        // A plugin whose last version was removed is gone, unless the configuration has it.
        slots.retain(|name, slot| slot.is_declared || uploaded.contains(name));
        for name in changed {
            if !slots.contains_key(name) && !uploaded.contains(name) {
                continue;
            }
            let name = Arc::clone(name);
            let old = previous.plugins.get(&name);
            // Nothing is opened again: others wait, and what was opened still serves.
            let (is_declared, config, granted) = match old {
                Some(slot) => (slot.is_declared, slot.config.clone(), slot.granted.clone()),
                None => (false, self.config.undeclared(&name), Granted::default()),
            };
            let slot = self.slot(name, is_declared, config, granted);
            slots.insert(Arc::clone(&slot.name), slot);
        }
        slots
    }

    fn slot(
        &mut self,
        name: Arc<str>,
        is_declared: bool,
        config: config::Plugin,
        granted: Granted,
    ) -> Arc<PluginSlot> {
        let mut slot = PluginSlot {
            name: Arc::clone(&name),
            is_declared,
            config,
            granted: granted.clone(),
            active: None,
            previous: None,
            versions: BTreeMap::new(),
            problem: None,
        };
        if let Some(native) = self.builder.natives.get(&name) {
            let version: Arc<str> = NATIVE_VERSION.into();
            let native = self.builder.native(&slot.config, &version, Arc::clone(native));
            slot.versions.insert(version, Arc::clone(&native));
            slot.active = Some(native);
            return Arc::new(slot);
        }
        // No pipeline can use what the configuration does not name, so nothing of it is loaded:
        // whoever may upload does not thereby decide what memory holds.
        if !slot.is_declared {
            return Arc::new(slot);
        }
        let granted = &granted;
        let configured = self.configured(&mut slot, granted);
        let active = self.registry.active(&name).cloned();
        match &active {
            Some(record) => self.activate(&mut slot, record, granted),
            None => slot.active.clone_from(&configured),
        }
        self.add_previous(&mut slot, configured.as_ref(), active.is_some(), granted);
        self.add_candidates(&mut slot, granted);
        if slot.active.is_none() && slot.problem.is_none() {
            slot.problem = Some("no version is active".to_owned());
        }
        Arc::new(slot)
    }

    /// The version that the configuration names itself.
    fn configured(&mut self, slot: &mut PluginSlot, granted: &Granted) -> Option<Arc<LoadedPlugin>> {
        if self.loads < Loads::Everything {
            return self.configured_before(slot);
        }
        let loaded = match &slot.config.source {
            PluginSource::Uploads => return None,
            PluginSource::File(file) => self.read_file(slot, file, granted),
            PluginSource::Oci(reference) => self.pull(slot, reference, granted),
        };
        // A registry that is away keeps nothing else from being served at the start; the
        // reloads that follow try again.
        if let (PluginSource::Oci(_), None, Err(what)) = (&slot.config.source, self.previous, &loaded) {
            tracing::error!(plugin = &*slot.name, what, "plugin is not served");
            slot.problem = Some(what.clone());
            return None;
        }
        let name = &slot.name;
        let loaded = self.keep(loaded.map_err(|what| Problem::new(format!("plugins.{name}"), what)))?;
        slot.versions.insert(Arc::clone(&loaded.version), Arc::clone(&loaded));
        Some(loaded)
    }

    /// The same as it is served, for changes that have nothing to do with it.
    fn configured_before(&self, slot: &mut PluginSlot) -> Option<Arc<LoadedPlugin>> {
        let before = self.previous?.plugins.get(&slot.name)?;
        let name = match &slot.config.source {
            PluginSource::Uploads => return None,
            PluginSource::File(_) => FILE_VERSION,
            PluginSource::Oci(_) => OCI_VERSION,
        };
        let Some(loaded) = before.versions.get(name) else {
            // A registry that is away; the next reload tries again.
            slot.problem.clone_from(&before.problem);
            return None;
        };
        slot.versions.insert(Arc::clone(&loaded.version), Arc::clone(loaded));
        Some(Arc::clone(loaded))
    }

    fn read_file(
        &self,
        slot: &PluginSlot,
        file: &Path,
        granted: &Granted,
    ) -> Result<Arc<LoadedPlugin>, String> {
        // A change of the registry or of models is no reload.
        let before = self.previous.filter(|_| !self.is_reload);
        let before = before.and_then(|snapshot| snapshot.plugins.get(&slot.name)?.versions.get(FILE_VERSION));
        if let Some(loaded) = before {
            return Ok(Arc::clone(loaded));
        }
        let content = files::read(file, self.config.sandbox.plugin_bytes_max)?;
        self.check_file(slot, file, &content)?;
        let component = Component {
            version: FILE_VERSION.into(),
            digest: files::digest(&content),
            bytes: &|| Ok(content.clone()),
        };
        self.version(&slot.config, &component, granted)
    }

    /// A file is the operator's, but who writes it may be somebody else: what is asked of
    /// uploads is asked of it. Its signature is within it, or lies beside it.
    fn check_file(&self, slot: &PluginSlot, file: &Path, content: &[u8]) -> Result<(), String> {
        if !slot.config.require_signature {
            return Ok(());
        }
        let mut beside = file.as_os_str().to_owned();
        beside.push(".sig");
        let detached = files::read(Path::new(&beside), SIGNATURE_BYTES_MAX).ok();
        let detached = detached.as_deref().map(|text| String::from_utf8_lossy(text).trim().to_owned());
        let detached = detached.as_deref().map(Signature::from_header).transpose();
        let detached = detached.map_err(|error| format!("{}: {error}", Path::new(&beside).display()))?;
        let owner = slot.config.owner.as_deref();
        let verified = self.config.trusted_keys().verify(content, detached.as_ref(), owner);
        verified.map(drop).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// The same reference is the same component, so one that is loaded needs no registry.
    fn pull(
        &self,
        slot: &PluginSlot,
        reference: &Reference,
        granted: &Granted,
    ) -> Result<Arc<LoadedPlugin>, String> {
        let mut before = self.loaded_before(&slot.name, OCI_VERSION);
        if let Some(loaded) = before.find(|it| it.is_same_reference(&slot.config, granted)) {
            return Ok(Arc::clone(loaded));
        }
        tracing::info!(plugin = &*slot.name, %reference, "pulling plugin");
        let settings = OciSettings::new(&self.config);
        let pulling = oci::pull(reference, &settings, self.config.sandbox.plugin_bytes_max);
        let pulled = Handle::current().block_on(pulling).map_err(|error| error.to_string())?;
        self.check_pulled(slot, &pulled)?;
        let component = Component {
            version: OCI_VERSION.into(),
            digest: pulled.digest.hex(),
            bytes: &|| Ok(pulled.component.to_vec()),
        };
        self.version(&slot.config, &component, granted)
    }

    /// Whoever can write to a registry is not thereby trusted.
    fn check_pulled(&self, slot: &PluginSlot, pulled: &Pulled) -> Result<(), String> {
        let signature = pulled.signature.as_deref().map(Signature::from_header).transpose();
        let signature = signature.map_err(|error| error.to_string())?;
        let owner = slot.config.owner.as_deref();
        match self.config.trusted_keys().verify(&pulled.component, signature.as_ref(), owner) {
            Err(error) if slot.config.require_signature => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// The uploaded version that serves. One that cannot be loaded keeps a reload or an
    /// activation from happening; at the start there is nothing to keep, so its pipelines
    /// are not ready and say why.
    fn activate(&mut self, slot: &mut PluginSlot, record: &VersionRecord, granted: &Granted) {
        match self.uploaded(slot, record, granted, Loads::Active) {
            Ok(loaded) => slot.active = Some(loaded),
            Err(what) => {
                let what = format!("version '{}', which is active: {what}", record.version);
                if self.previous.is_some() {
                    self.problems.push(Problem::new(format!("plugins.{}", slot.name), what));
                } else {
                    tracing::error!(
                        plugin = &*slot.name,
                        version = record.version,
                        what,
                        "plugin is not served"
                    );
                    slot.problem = Some(what);
                }
            }
        }
    }

    /// Versions that were active before, as many as are kept; the newest of them is what
    /// a rollback serves.
    fn add_previous(
        &self,
        slot: &mut PluginSlot,
        configured: Option<&Arc<LoadedPlugin>>,
        is_uploaded: bool,
        granted: &Granted,
    ) {
        let name = Arc::clone(&slot.name);
        let history = self.registry.plugin(&name).map_or(&[][..], |record| record.history.as_slice());
        for version in history.iter().rev().take(self.config.state.versions_kept) {
            let Some(record) = self.registry.version(&name, version) else { continue };
            if let Ok(loaded) = self.uploaded(slot, record, granted, Loads::Uploads)
                && slot.previous.is_none()
            {
                slot.previous = Some(loaded);
            }
        }
        if slot.previous.is_none() && is_uploaded {
            slot.previous = configured.cloned();
        }
    }

    /// Versions that a split or a shadow names.
    fn add_candidates(&self, slot: &mut PluginSlot, granted: &Granted) {
        let name = Arc::clone(&slot.name);
        let routes = self.registry.routes().filter(|route| *route.plugin == *name);
        let named: BTreeSet<&String> = routes
            .flat_map(|route| route.split.keys().chain(route.shadow.iter().map(|shadow| &shadow.version)))
            .collect();
        for version in named {
            let Some(record) = self.registry.version(&name, version) else { continue };
            if let Err(what) = self.uploaded(slot, record, granted, Loads::Uploads) {
                tracing::error!(plugin = &*name, version, what, "candidate cannot be loaded");
            }
        }
    }

    /// A version of the registry, loaded into the slot if this build loads such.
    fn uploaded(
        &self,
        slot: &mut PluginSlot,
        record: &VersionRecord,
        granted: &Granted,
        needed: Loads,
    ) -> Result<Arc<LoadedPlugin>, String> {
        let version: Arc<str> = record.version.as_str().into();
        if let Some(loaded) = slot.versions.get(&version) {
            return Ok(Arc::clone(loaded));
        }
        if self.loads < needed {
            let before = {
                let mut before = self.loaded_before(&slot.name, &version);
                before.find(|it| it.is_same(&slot.config, record.digest.hex(), granted)).cloned()
            };
            let before = before.ok_or("it is not loaded yet")?;
            slot.versions.insert(version, Arc::clone(&before));
            return Ok(before);
        }
        let store = self.builder.store.as_ref().ok_or("there is no state directory")?;
        let component = Component {
            version: Arc::clone(&version),
            digest: record.digest.hex().to_owned(),
            bytes: &|| store.read_blob(&record.digest).map_err(|error| error.to_string()),
        };
        let loaded = self.version(&slot.config, &component, granted)?;
        slot.versions.insert(version, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// A version, taken over from the snapshot before if nothing about it differs.
    fn version(
        &self,
        config: &config::Plugin,
        component: &Component<'_>,
        granted: &Granted,
    ) -> Result<Arc<LoadedPlugin>, String> {
        let mut before = self.loaded_before(&config.name, &component.version);
        match before.find(|before| before.is_same(config, &component.digest, granted)) {
            Some(before) => Ok(Arc::clone(before)),
            None => self.builder.load(config, component, granted, self.whose(config)),
        }
    }

    /// Whose turn a component that has to be compiled takes: what a token brings in waits with
    /// the uploads of its owner.
    fn whose<'c>(&self, config: &'c config::Plugin) -> Whose<'c> {
        match (self.loads, config.owner.as_deref()) {
            (Loads::Uploads, Some(owner)) => Whose::Owner(owner),
            (Loads::Uploads, None) => Whose::Operator,
            (Loads::Active | Loads::Everything, _) => Whose::Gateway,
        }
    }

    /// A version as it is served, and as it was loaded for an earlier try.
    fn loaded_before<'s>(
        &'s self,
        plugin: &'s str,
        version: &'s str,
    ) -> impl Iterator<Item = &'s Arc<LoadedPlugin>> {
        let places = [self.previous, self.prepared].into_iter().flatten();
        places.filter_map(move |snapshot| snapshot.plugins.get(plugin)?.versions.get(version))
    }
}

impl Builder {
    /// Loads and tries one version of a plugin. Blocks.
    pub(in crate::catalog) fn load(
        &self,
        config: &config::Plugin,
        component: &Component<'_>,
        granted: &Granted,
        whose: Whose<'_>,
    ) -> Result<Arc<LoadedPlugin>, String> {
        let version = Arc::clone(&component.version);
        tracing::info!(plugin = %config.name, %version, "loading plugin");
        let bytes = (component.bytes)()?;
        let log = self.log(config, &version);
        let options = options(config, granted.grants(config), Arc::clone(&log) as Arc<dyn LogSink>);
        let plugin = self.load_component(&bytes, options, whose)?;
        Ok(self.loaded(config, version, plugin, log, granted))
    }

    /// A version that the sandbox has loaded.
    pub(in crate::catalog) fn loaded(
        &self,
        config: &config::Plugin,
        version: Arc<str>,
        plugin: sluice_sandbox::Plugin,
        log: Arc<PluginLog>,
        granted: &Granted,
    ) -> Arc<LoadedPlugin> {
        Arc::new(LoadedPlugin {
            name: Arc::clone(&config.name),
            metrics: self.metrics.plugin(&config.name, &version),
            version,
            hook: Arc::new(plugin.clone()),
            plugin: Some(plugin),
            log,
            config: config.clone(),
            granted: granted.clone(),
        })
    }

    /// Where a version's lines go.
    pub(in crate::catalog) fn log(&self, config: &config::Plugin, version: &Arc<str>) -> Arc<PluginLog> {
        let metrics = self.metrics.plugin(&config.name, version);
        Arc::new(PluginLog::new(Arc::clone(version), metrics))
    }

    fn native(
        &self,
        config: &config::Plugin,
        version: &Arc<str>,
        hook: Arc<dyn crate::pipeline::Hook>,
    ) -> Arc<LoadedPlugin> {
        Arc::new(LoadedPlugin {
            name: Arc::clone(&config.name),
            version: Arc::clone(version),
            hook,
            plugin: None,
            metrics: self.metrics.plugin(&config.name, version),
            log: self.log(config, version),
            config: config.clone(),
            granted: Granted::default(),
        })
    }
}

/// How much of WASI a plugin has without a grant by name.
pub(super) fn wasi(config: &config::Plugin) -> WasiPolicy {
    match (config.strict, config.sockets) {
        (true, _) => WasiPolicy::Refuse,
        (false, true) => WasiPolicy::EmptyWithSockets,
        (false, false) => WasiPolicy::Empty,
    }
}

/// How the sandbox runs a plugin.
pub(in crate::catalog) fn options(
    config: &config::Plugin,
    grants: Grants,
    log: Arc<dyn LogSink>,
) -> PluginOptions {
    let limits = PluginLimits {
        memory_bytes: config.memory_bytes,
        call_timeout: config.call_timeout,
        concurrency: config.concurrency,
        init_timeout: config.init_timeout,
        host_wait_max: config.host_wait_max,
        permit_wait_max: config.permit_wait_max,
        hostcall_bytes: config.hostcall_bytes,
        log_bytes_per_call: config.log_bytes_per_call,
        answer_parts_max: config.answer_parts_max,
        answer_bytes_max: config.answer_bytes_max,
        resources: config.resources,
        memory_total_bytes: config.memory_total_bytes,
        stack_bytes: config.stack_bytes,
    };
    PluginOptions {
        name: Arc::clone(&config.name),
        config_json: config.config.to_string(),
        reuse: config.reuse,
        wasi: wasi(config),
        limits,
        grants,
        log,
    }
}
