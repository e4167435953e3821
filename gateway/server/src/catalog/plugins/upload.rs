//! A component comes in: received, checked in a child, loaded, tried, and acknowledged
//! when it is durable. Whatever goes wrong on the way leaves an audit line and nothing
//! else.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::super::LoadedPlugin;
use super::super::build::{Compiled, Loads};
use super::super::samples::CaseModels;
use super::super::store::{
    BlobWriter, Change, Store, StoreError, StoredBlob, VersionRecord, VersionSource, VersionState, timestamp,
};
use super::super::verify::{self, Whose};
use super::refusals::Attempt;
use super::room::make_room;
use super::{Actor, Plugins, panicked, trial};
use crate::config;
use crate::error::{Error, Kind, Result, UploadRefusal};
use crate::signature::Signature;

/// Version names that the configuration's own versions have.
const RESERVED: [&str; 3] = ["file", "oci", "native"];

/// Pieces of an upload between the connection and the disk.
const PIECES_MAX: usize = 4;

/// Most uploads under way at a time. Each holds a thread that waits for its bytes, and
/// there are 512 of those for everything that touches the disk. One more: 429.
pub(super) const UPLOADS_MAX: usize = 128;

/// Most uploads under way of one token, so that a team with slow or silent connections
/// keeps nobody else out. One more: 429.
const UPLOADS_PER_TOKEN_MAX: usize = 32;

/// What is to be uploaded.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The plugin's name.
    pub plugin: String,
    /// The version's name.
    pub version: String,
    /// Whose the plugin shall be, if it is new and an admin says so.
    pub owner: Option<String>,
    /// A detached signature.
    pub signature: Option<Signature>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// Whether the version is new; it was there with the same bytes otherwise.
    pub is_new: bool,
    /// The version's record.
    pub record: Arc<VersionRecord>,
    /// The oldest version, where it had to make room.
    pub evicted: Option<String>,
}

/// An upload, and what was found out about it.
struct Checked {
    upload: Upload,
    owner: Option<String>,
    /// The configuration that asked for it.
    config: Arc<config::Config>,
    bytes: Bytes,
    loaded: Arc<LoadedPlugin>,
}

/// How far an upload is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) state: VersionState,
    pub(super) started_at: String,
    pub(super) by: Arc<str>,
}

/// Shows an upload in lists until it is dropped.
struct UnderWay<'a> {
    plugins: &'a Plugins,
    key: (String, String),
}

impl UnderWay<'_> {
    fn reached(&self, state: VersionState) {
        let mut all = self.plugins.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = all.get_mut(&self.key) {
            progress.state = state;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.plugins.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Plugins {
    /// Takes a component in and brings it to `ready`.
    ///
    /// Idempotent by content. Cancel-safe: an upload whose caller leaves before it is
    /// acknowledged leaves nothing, or (in the last moment) the whole version.
    ///
    /// # Errors
    /// Not the actor's plugin, a name that is not one, too large, an upload of the same
    /// version under way, another content under that version, no room, or any reason code
    /// of a 422.
    pub async fn upload<S>(self: &Arc<Self>, actor: &Actor, upload: Upload, body: S) -> Result<Uploaded>
    where
        S: Stream<Item = Result<Bytes>> + Send,
    {
        let target = format!("{}/{}", upload.plugin, upload.version);
        let config = Arc::clone(&self.catalog.snapshot().config);
        let owner = match self.check_upload(actor, &upload) {
            Ok(owner) => owner,
            Err(error) => {
                self.refuse(actor, "upload", target, &error).await?;
                return Err(error);
            }
        };
        let store = Arc::clone(self.store()?);
        let attempt = Attempt::begin(self, actor, "upload", &target);
        let outcome = self.try_upload(&store, actor, &upload, (config, owner), body).await;
        attempt.ended();
        // What was only tried leaves no labels behind, however often somebody tries.
        self.keep_metrics();
        if let Err(error) = &outcome {
            self.refuse(actor, "upload", target, error).await?;
        }
        outcome
    }

    async fn try_upload<S>(
        self: &Arc<Self>,
        store: &Arc<Store>,
        actor: &Actor,
        upload: &Upload,
        (config, owner): (Arc<config::Config>, Option<String>),
        body: S,
    ) -> Result<Uploaded>
    where
        S: Stream<Item = Result<Bytes>> + Send,
    {
        let under_way = self.begin(actor, upload)?;
        let limit = self.catalog.snapshot().config.sandbox.plugin_bytes_max;
        let blob = receive(Arc::clone(store), limit, body).await?;
        if let Some(known) = known(store, upload, &blob)? {
            return Ok(Uploaded { is_new: false, record: known, evicted: None });
        }
        let (reader, digest) = (Arc::clone(store), blob.digest().clone());
        let bytes = blocking(move || Ok(Bytes::from(reader.read_blob(&digest)?))).await?;
        let signed_by = {
            let (this, upload, owner, bytes) =
                (Arc::clone(self), upload.clone(), owner.clone(), bytes.clone());
            blocking(move || this.check_signature(&upload, owner.as_deref(), &bytes)).await?
        };
        let whose = owner.as_deref().map_or(Whose::Operator, Whose::Owner);
        let compiled = self.builder.compile(whose, bytes.clone()).await?;
        under_way.reached(VersionState::Compiled);
        let facts = facts(&compiled)?;
        let busy = || Error::new(Kind::TenantLimit, "too many versions wait to be tried");
        let place = self.trials.place(whose).await.ok_or_else(busy)?;
        let (loaded, models) = self.try_out(upload, &bytes, compiled).await?;
        under_way.reached(VersionState::Canary);
        let samples = trial::run(&loaded, &models, &bytes).await?;
        drop(place);
        let record = VersionRecord {
            plugin: upload.plugin.clone(),
            version: upload.version.clone(),
            digest: blob.digest().clone(),
            size_bytes: blob.size_bytes(),
            owner: owner.clone(),
            state: VersionState::Ready,
            reason: None,
            facts,
            signed_by,
            samples,
            uploaded_by: actor.identity.name.to_string(),
            uploaded_at: timestamp::now(),
            source: VersionSource::Upload,
        };
        let checked = Checked { upload: upload.clone(), owner, config, bytes, loaded };
        self.admit(store, actor, checked, record, blob).await
    }

    /// Whether what was found out about an upload is still true: its bytes may have taken
    /// two minutes to come, and its plugin, its owner and what is asked of it may be others
    /// by now.
    fn recheck(&self, actor: &Actor, checked: &Checked) -> Result<()> {
        let changed = || Error::new(Kind::InUse, "the plugin was changed meanwhile: upload it again");
        if self.check_upload(actor, &checked.upload)? != checked.owner {
            return Err(changed());
        }
        let snapshot = self.catalog.snapshot();
        if Arc::ptr_eq(&snapshot.config, &checked.config) {
            return Ok(());
        }
        self.check_signature(&checked.upload, checked.owner.as_deref(), &checked.bytes)?;
        let config = self.config_of(&checked.upload.plugin, &snapshot.config);
        let granted = snapshot.granted(&checked.upload.plugin);
        let digest = checked.loaded.info().map(|info| info.digest.clone());
        let is_same = digest.is_some_and(|digest| checked.loaded.is_same(&config, &digest, &granted));
        if is_same { Ok(()) } else { Err(changed()) }
    }

    /// Whose the plugin is or will be, if the actor may upload to it.
    fn check_upload(&self, actor: &Actor, upload: &Upload) -> Result<Option<String>> {
        for (what, name) in [("plugin", &upload.plugin), ("version", &upload.version)] {
            sluice_tensor::check_name(name)
                .map_err(|error| Error::new(Kind::BadRequest, format!("the {what}: {error}")))?;
        }
        if RESERVED.contains(&upload.version.as_str()) {
            let message = format!("'{}' is what the configuration's own version is called", upload.version);
            return Err(Error::new(Kind::BadRequest, message));
        }
        let is_admin = actor.identity.is_admin();
        match self.owner_of(&upload.plugin) {
            Some(owner) => {
                actor.identity.check_owner(owner.as_deref())?;
                Ok(owner.as_deref().map(str::to_owned))
            }
            None if is_admin => Ok(upload.owner.clone()),
            // A new name belongs to whoever comes first.
            None => {
                actor.identity.check_owner(actor.identity.owner.as_deref())?;
                Ok(actor.identity.owner.as_deref().map(str::to_owned))
            }
        }
    }

    fn begin(&self, actor: &Actor, upload: &Upload) -> Result<UnderWay<'_>> {
        let key = (upload.plugin.clone(), upload.version.clone());
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&key) {
            return Err(Error::new(Kind::InUse, "this version is being uploaded already"));
        }
        let by = Arc::clone(&actor.identity.name);
        let own = all.values().filter(|progress| progress.by == by).count();
        if all.len() >= UPLOADS_MAX || own >= UPLOADS_PER_TOKEN_MAX {
            return Err(Error::new(Kind::TenantLimit, "too many uploads are under way"));
        }
        all.insert(key.clone(), Progress { state: VersionState::Uploaded, started_at: timestamp::now(), by });
        Ok(UnderWay { plugins: self, key })
    }

    /// The name of the key that vouches for the component, if one does or one must.
    fn check_signature(&self, upload: &Upload, owner: Option<&str>, bytes: &[u8]) -> Result<Option<String>> {
        let config = Arc::clone(&self.catalog.snapshot().config);
        let required = self.config_of(&upload.plugin, &config).require_signature;
        match config.trusted_keys().verify(bytes, upload.signature.as_ref(), owner) {
            Ok(vouched) => Ok(Some(vouched.key.to_string())),
            // A signature that was sent is meant to hold.
            Err(error) if required || upload.signature.is_some() => {
                let refused = Kind::UploadRefused(UploadRefusal::BadSignature);
                Err(Error::new(refused, error.to_string()))
            }
            Err(_) => Ok(None),
        }
    }

    fn config_of(&self, plugin: &str, config: &config::Config) -> config::Plugin {
        let declared = config.plugins.get(plugin).cloned();
        declared.unwrap_or_else(|| config.undeclared(&plugin.into()))
    }

    /// Loads it under the grants and limits of its plugin: its imports are checked, an
    /// instance is made and `init` runs.
    async fn try_out(
        self: &Arc<Self>,
        upload: &Upload,
        bytes: &Bytes,
        compiled: Compiled,
    ) -> Result<(Arc<LoadedPlugin>, Arc<CaseModels>)> {
        let snapshot = self.catalog.snapshot();
        let config = self.config_of(&upload.plugin, &snapshot.config);
        let (this, bytes, version) = (Arc::clone(self), bytes.clone(), Arc::from(upload.version.as_str()));
        let load = move || {
            let granted = snapshot.granted(&config.name);
            let loaded = this.builder.load_compiled(&config, version, &bytes, &compiled, &granted);
            loaded.map_err(|error| verify::load_error(&error))
        };
        blocking(load).await
    }

    /// Puts the version into the registry: from here on it exists.
    async fn admit(
        self: &Arc<Self>,
        store: &Arc<Store>,
        actor: &Actor,
        checked: Checked,
        record: VersionRecord,
        blob: StoredBlob,
    ) -> Result<Uploaded> {
        let (store, actor) = (Arc::clone(store), actor.clone());
        let turn = self.turns.swap_soon().await;
        let this = Arc::clone(self);
        blocking(move || {
            let _turn = turn;
            this.recheck(&actor, &checked)?;
            let target = format!("{}/{}", record.plugin, record.version);
            let to = Some(record.digest.to_string());
            let (plugin, version) = (record.plugin.clone(), record.version.clone());
            let decide = |change: &mut Change| {
                let evicted = make_room(change, &plugin, &actor)?;
                // The configuration's word on whose a plugin is may be newer than the record.
                if change.state().plugin(&plugin).is_some_and(|known| known.owner != record.owner) {
                    change.set_owner(&plugin, record.owner.clone())?;
                }
                let is_new = change.add_version(record)?;
                let line = is_new.then(|| actor.audit("upload", &target, None, to, "ok"));
                Ok::<_, StoreError>(((is_new, evicted.filter(|_| is_new)), line))
            };
            let (is_new, evicted) = store.update(decide)?;
            drop(blob);
            let record = store.snapshot().version(&plugin, &version).cloned();
            let record = record.ok_or_else(|| Error::new(Kind::Internal, "internal error"))?;
            if is_new {
                this.metrics.plugin_change("upload", "ok");
                let (actor, digest) = (&*actor.identity.name, record.digest.as_str());
                tracing::info!(plugin, version, actor, digest, "plugin uploaded");
                this.declare(&store, &plugin);
            }
            Ok(Uploaded { is_new, record, evicted })
        })
        .await
    }

    /// Puts a plugin that nobody knew into the snapshot, so that it shows in lists.
    fn declare(&self, store: &Store, plugin: &str) {
        let current = self.catalog.snapshot();
        let changed = BTreeSet::from([Arc::from(plugin)]);
        match self.builder.rebuild(&current, &store.snapshot(), &changed, None, Loads::Active) {
            Ok(built) => drop(built.commit(&self.catalog, &self.metrics)),
            Err(error) => tracing::warn!(%error, "the snapshot could not be rebuilt after an upload"),
        }
    }
}

/// The version, if it is there with the same bytes.
fn known(store: &Store, upload: &Upload, blob: &StoredBlob) -> Result<Option<Arc<VersionRecord>>> {
    match store.snapshot().version(&upload.plugin, &upload.version) {
        Some(record) if record.digest == *blob.digest() => Ok(Some(Arc::clone(record))),
        Some(_) => {
            Err(StoreError::DigestConflict { plugin: upload.plugin.clone(), version: upload.version.clone() }
                .into())
        }
        None => Ok(None),
    }
}

/// What is kept of what is known. Names of exports that no pipeline calls are the author's own
/// affair, and there may be many kilobytes of them.
fn facts(compiled: &Compiled) -> Result<serde_json::Value> {
    let mut facts = compiled.facts.clone();
    facts.exports.retain(|name| name.starts_with("sluice:") || name.starts_with("wasi:"));
    serde_json::to_value(&facts)
        .map_err(|error| Error::new(Kind::Internal, "internal error").with_detail(error.to_string()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()))
}

/// A piece of an upload, or its end: a connection that breaks off brings no end.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Writes a body to the disk as it comes. A body that breaks off leaves nothing.
async fn receive<S>(store: Arc<Store>, bytes_max: u64, body: S) -> Result<StoredBlob>
where
    S: Stream<Item = Result<Bytes>> + Send,
{
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let writing = tokio::task::spawn_blocking(move || write(store.begin_blob(bytes_max)?, receiver));
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        // The writer stops listening when it has failed: its error is the answer.
        if sender.send(Piece::Bytes(piece?)).await.is_err() {
            break;
        }
    }
    let _ = sender.send(Piece::End).await;
    writing.await.unwrap_or_else(|_| Err(panicked()))
}

fn write(mut blob: BlobWriter, mut pieces: mpsc::Receiver<Piece>) -> Result<StoredBlob> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => blob.write(&bytes)?,
            Some(Piece::End) => return Ok(blob.finish()?),
            None => return Err(Error::new(Kind::BadRequest, "the upload broke off")),
        }
    }
}
