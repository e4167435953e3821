//! From bytes to a plugin: checked, compiled, linked, tried.

use std::sync::{Arc, mpsc};

use tokio::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::budget::Budget;
use crate::cache::{Sha, hex, sha256};
use crate::call;
use crate::engine::Shared;
use crate::error::{CallError, LoadError};
use crate::host;
use crate::plugin::{Inner, Plugin, PluginInfo, PluginOptions};
use crate::state::Exports;
use crate::types::CallContext;
use crate::world::World;

/// Most bytes of a component. Python and JavaScript components are 10 to 40
/// MiB; compiled code is larger still.
const COMPONENT_BYTES_MAX: usize = 128 << 20;

/// Bytes of a WebAssembly page.
const PAGE_BYTES: u64 = 64 << 10;

/// What a WebAssembly file starts with, and what follows for either kind.
const WASM_MAGIC: &[u8; 4] = b"\0asm";
const MODULE_VERSION: [u8; 4] = [1, 0, 0, 0];
const COMPONENT_VERSION: [u8; 4] = [13, 0, 1, 0];

pub(crate) fn load(shared: &Arc<Shared>, bytes: &[u8], options: PluginOptions) -> Result<Plugin, LoadError> {
    check_limits(shared, &options)?;
    check_kind(bytes)?;
    let digest = sha256(bytes);
    let (component, compiled_from_cache) = compile(shared, bytes, &digest)?;
    let world = world_of(&component)?;
    let imports = imports_of(&shared.engine, &component);
    for name in &imports {
        host::check_import(name, world, &options.grants, options.wasi)?;
    }
    check_resources(&component, options.limits.memory_bytes)?;
    let pre = shared.linker.instantiate_pre(&component).map_err(|error| {
        LoadError::World(format!("an import has another type than the contract: {error:#}"))
    })?;
    let exports = Exports::find(&pre);
    let info = PluginInfo {
        name: Arc::clone(&options.name),
        digest: hex(&digest),
        world,
        imports,
        size_bytes: bytes.len(),
        compiled_from_cache,
    };
    let inner = Arc::new(Inner::new(Arc::clone(shared), options, info, pre, exports));
    try_once(&inner)?;
    Ok(Plugin(inner))
}

/// Limits that cannot be kept are refused, not clamped.
fn check_limits(shared: &Shared, options: &PluginOptions) -> Result<(), LoadError> {
    let limits = &options.limits;
    if limits.memory_bytes > shared.memory_bytes_max {
        let message = format!("memory_bytes is {}, at most {}", limits.memory_bytes, shared.memory_bytes_max);
        return Err(LoadError::Limits(message));
    }
    if limits.concurrency == 0 {
        return Err(LoadError::Limits("concurrency must be at least 1".to_owned()));
    }
    Ok(())
}

/// Tells the kinds of file apart before the compiler does, with better words.
fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    let fail = |what: &str| Err(LoadError::NotComponent(what.to_owned()));
    if bytes.len() > COMPONENT_BYTES_MAX {
        let message = format!("component is {} bytes, at most {COMPONENT_BYTES_MAX}", bytes.len());
        return Err(LoadError::Limits(message));
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return fail("precompiled code is never accepted");
    }
    let Some(version) = bytes.strip_prefix(WASM_MAGIC) else {
        return fail("not WebAssembly");
    };
    if version.starts_with(&MODULE_VERSION) {
        return fail(
            "a core module: make it a component (`wasm-tools component new`, or a component target)",
        );
    }
    if !version.starts_with(&COMPONENT_VERSION) {
        return fail("an unknown version of WebAssembly");
    }
    Ok(())
}

fn compile(shared: &Shared, bytes: &[u8], digest: &Sha) -> Result<(Component, bool), LoadError> {
    if let Some(cache) = &shared.cache
        && let Some(component) = cache.load(&shared.engine, digest)
    {
        return Ok((component, true));
    }
    let component = Component::from_binary(&shared.engine, bytes).map_err(|error| {
        let message = format!("{error:#}");
        // wasmtime has no type for what does not fit the pool.
        if message.contains("exceeds the") { LoadError::Limits(message) } else { LoadError::Compile(message) }
    })?;
    if let Some(cache) = &shared.cache {
        cache.store(&component, digest);
    }
    Ok((component, false))
}

fn imports_of(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

fn world_of(component: &Component) -> Result<World, LoadError> {
    let has = |name: &str| component.get_export_index(None, name).is_some();
    let [preprocess, postprocess, handler] =
        ["preprocess", "postprocess", "handler"].map(|name| has(&format!("sluice:plugin/{name}@0.1.0")));
    World::from_exports(preprocess, postprocess, handler).ok_or_else(|| {
        LoadError::World(if handler {
            "exports both handler and hooks of sluice:plugin@0.1.0".to_owned()
        } else {
            "exports none of preprocess, postprocess and handler of sluice:plugin@0.1.0".to_owned()
        })
    })
}

/// What is known to be too much before anything runs. The sum over several
/// memories shows only when they are made: the trial meets the limiter.
fn check_resources(component: &Component, memory_bytes: usize) -> Result<(), LoadError> {
    let Some(required) = component.resources_required() else { return Ok(()) };
    let largest = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    if usize::try_from(largest).map_or(true, |bytes| bytes > memory_bytes) {
        return Err(LoadError::Limits(format!(
            "starts with {largest} bytes of memory, at most {memory_bytes}"
        )));
    }
    Ok(())
}

/// Makes an instance on the guest threads, under the limits, and drops it.
fn try_once(plugin: &Arc<Inner>) -> Result<(), LoadError> {
    let (answer, answered) = mpsc::sync_channel(1);
    let trial = Arc::clone(plugin);
    plugin.shared.threads.spawn(async move {
        // Nobody listens only if the thread that loads is gone.
        let _ = answer.send(Box::pin(canary(&trial)).await);
    });
    answered.recv().unwrap_or_else(|_| Err(LoadError::Init("trial panicked".to_owned())))
}

async fn canary(plugin: &Arc<Inner>) -> Result<(), LoadError> {
    let limits = &plugin.options.limits;
    let deadline = Instant::now() + limits.init_timeout + limits.permit_wait_max;
    let place = tokio::time::timeout_at(deadline, plugin.shared.calls.acquire());
    let _place = place.await.map_err(|_| LoadError::Init(CallError::Overloaded.to_string()))?;
    let context = CallContext {
        request_id: Arc::from("load"),
        pipeline: Arc::from(""),
        deadline,
        span: tracing::Span::none(),
    };
    let budget = Arc::new(Budget::start(limits.init_timeout));
    let started = call::within(&budget, deadline, call::start(plugin, context, Arc::clone(&budget)));
    match started.await {
        Ok(mut instance) => instance.check_exports(plugin).map_err(|error| {
            LoadError::World(format!("an export has another type than the contract: {error:#}"))
        }),
        Err(CallError::Init(message)) => Err(LoadError::Init(message)),
        Err(CallError::Memory) => Err(LoadError::Limits("needs more memory than it may have".to_owned())),
        Err(error) => Err(LoadError::Init(error.to_string())),
    }
}
