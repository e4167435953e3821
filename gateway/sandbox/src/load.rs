//! From bytes to a plugin: checked, compiled, linked, tried.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::budget::Budget;
use crate::cache::{Sha, deserialize_verified, sha256};
use crate::call;
use crate::config::PluginLimits;
use crate::contract::{self, Exports};
use crate::engine::Shared;
use crate::error::{CallError, LoadError};
use crate::host;
use crate::host::files::Files;
use crate::plugin::{Inner, Plugin, PluginInfo, PluginOptions};
use crate::stacks::Stack;
use crate::types::CallContext;
use crate::verify::{self, Trust};
use crate::world::World;

/// Most bytes of a component that is loaded, whoever verified it. Python and JavaScript
/// components are 10 to 40 MiB; compiled code is larger still.
const COMPONENT_BYTES_MAX: usize = 128 << 20;

/// Where a component's native code comes from.
enum Code<'a> {
    /// It was in the cache.
    Cached(Component),
    /// [`verify::verify`] made it in a process of its own.
    Verified(&'a [u8]),
    /// It is yet to be compiled, here.
    Missing,
}

/// Loads what the cache holds, and what else it may.
pub(crate) fn load(shared: &Arc<Shared>, bytes: &[u8], options: PluginOptions) -> Result<Plugin, LoadError> {
    check_limits(shared, &options)?;
    verify::check_kind(bytes, COMPONENT_BYTES_MAX)?;
    let digest = sha256(bytes);
    let stack = shared.stacks.of(options.limits.stack_bytes)?;
    let cached = shared.cache.as_ref().and_then(|cache| cache.load(&stack.engine, &digest));
    let code = match cached {
        Some(component) => Code::Cached(component),
        None if shared.compile_in_process => Code::Missing,
        None => return Err(LoadError::NotCompiled),
    };
    finish((shared, stack), bytes, &digest, code, options)
}

/// Loads a component with the code that was made for it.
pub(crate) fn load_verified(
    shared: &Arc<Shared>,
    bytes: &[u8],
    code: &[u8],
    options: PluginOptions,
) -> Result<Plugin, LoadError> {
    check_limits(shared, &options)?;
    verify::check_kind(bytes, COMPONENT_BYTES_MAX)?;
    let stack = shared.stacks.of(options.limits.stack_bytes)?;
    finish((shared, stack), bytes, &sha256(bytes), Code::Verified(code), options)
}

fn finish(
    (shared, stack): (&Arc<Shared>, Arc<Stack>),
    bytes: &[u8],
    digest: &Sha,
    code: Code<'_>,
    options: PluginOptions,
) -> Result<Plugin, LoadError> {
    let trust = if matches!(code, Code::Missing) { Trust::Nothing } else { Trust::Valid };
    let is_new = matches!(code, Code::Verified(_));
    let facts = verify::examine(bytes, digest, trust)?;
    let version = contract::spoken(&facts.imports, &facts.exports)?.version;
    host::require_imports(&facts.imports, facts.world, &options.grants, options.wasi)?;
    facts.require_memory(options.limits.memory_bytes)?;
    let compiled_from_cache = matches!(code, Code::Cached(_));
    let component = component(shared, &stack.engine, bytes, digest, code)?;
    let pre = stack.linker.instantiate_pre(&component).map_err(|error| {
        LoadError::World(format!("an import has another type than the contract: {error:#}"))
    })?;
    let exports = Exports::find(version, &pre, &facts.exports)?;
    if facts.world == World::Command {
        host::command::check(&pre)?;
    }
    let files = Files::open(&options.grants.files)?;
    let info = PluginInfo {
        name: Arc::clone(&options.name),
        digest: facts.digest.clone(),
        world: facts.world,
        imports: facts.imports.clone(),
        size_bytes: bytes.len(),
        compiled_from_cache,
        facts: Arc::new(facts),
    };
    let inner = Arc::new(Inner::new((Arc::clone(shared), stack), options, info, pre, exports, files));
    if let Some(cache) = &shared.cache {
        cache.keep(digest, &inner.account);
    }
    let took = try_once(&inner)?;
    if is_new {
        check_start(took, &inner.options.limits)?;
    }
    Ok(Plugin(inner))
}

/// The component with its code, which the cache has from then on.
fn component(
    shared: &Shared,
    engine: &Engine,
    bytes: &[u8],
    digest: &Sha,
    code: Code<'_>,
) -> Result<Component, LoadError> {
    let refused = |error| verify::refused_by_compiler(&error);
    match code {
        Code::Cached(component) => Ok(component),
        Code::Verified(code) => {
            let component = deserialize_verified(engine, code).map_err(refused)?;
            if let Some(cache) = &shared.cache {
                cache.store(code, digest);
            }
            Ok(component)
        }
        Code::Missing => {
            let component = Component::from_binary(engine, bytes).map_err(refused)?;
            if let Some(cache) = &shared.cache {
                match component.serialize() {
                    Ok(code) => cache.store(&code, digest),
                    Err(error) => tracing::warn!(%error, "compiled plugin cannot be cached"),
                }
            }
            Ok(component)
        }
    }
}

/// Limits that cannot be kept are refused, not clamped.
fn check_limits(shared: &Shared, options: &PluginOptions) -> Result<(), LoadError> {
    let limits = &options.limits;
    if limits.memory_bytes > shared.memory_bytes_max {
        let message = format!("memory_bytes is {}, at most {}", limits.memory_bytes, shared.memory_bytes_max);
        return Err(LoadError::Limits(message));
    }
    if limits.memory_total_bytes < limits.memory_bytes {
        let (total, one) = (limits.memory_total_bytes, limits.memory_bytes);
        let message = format!("memory_total_bytes is {total}, less than the {one} of one instance");
        return Err(LoadError::Limits(message));
    }
    if limits.concurrency == 0 {
        return Err(LoadError::Limits("concurrency must be at least 1".to_owned()));
    }
    Ok(())
}

/// A component that is new here must start within the time of a call: the first call of each
/// instance starts it. What served before is not asked again, on a machine that may be busy.
fn check_start(took: Duration, limits: &PluginLimits) -> Result<(), LoadError> {
    if took <= limits.call_timeout {
        return Ok(());
    }
    Err(LoadError::Init(format!(
        "it takes {} ms to start, and a call, which may have to start it, {} at most: do less in init, or raise \
         call_timeout_ms",
        took.as_millis(),
        limits.call_timeout.as_millis()
    )))
}

/// Makes an instance on the guest threads, under the limits, and drops it. Gives the time
/// that it took to start.
fn try_once(plugin: &Arc<Inner>) -> Result<Duration, LoadError> {
    let (answer, answered) = mpsc::sync_channel(1);
    let trial = Arc::clone(plugin);
    plugin.shared.threads.spawn(async move {
        // Nobody listens only if the thread that loads is gone.
        let _ = answer.send(Box::pin(canary(&trial)).await);
    });
    answered.recv().unwrap_or_else(|_| Err(LoadError::Init("trial panicked".to_owned())))
}

async fn canary(plugin: &Arc<Inner>) -> Result<Duration, LoadError> {
    let limits = &plugin.options.limits;
    let deadline = Instant::now() + limits.init_timeout + limits.permit_wait_max;
    let place = tokio::time::timeout_at(deadline, plugin.shared.calls.acquire_many(plugin.places()));
    let _place = place.await.map_err(|_| LoadError::Init(CallError::Overloaded.to_string()))?;
    let context = CallContext {
        request_id: Arc::from("load"),
        pipeline: Arc::default(),
        plugin_version: Arc::default(),
        routing_key: None,
        priority: 0,
        tenant: None,
        parameters: Arc::default(),
        route: None,
        deadline,
        span: tracing::Span::none(),
    };
    let budget = Arc::new(Budget::start(limits.init_timeout));
    let started = call::within(&budget, deadline, call::start(plugin, context, Arc::clone(&budget)));
    match started.await {
        Ok(mut instance) => {
            let took = budget.used();
            plugin.note_made(instance.store.data().limiter.made());
            instance.check_exports(plugin).map_err(|error| {
                LoadError::World(format!("an export has another type than the contract: {error:#}"))
            })?;
            Ok(took)
        }
        Err(CallError::Init(message)) => Err(LoadError::Init(message)),
        Err(CallError::Memory) => Err(LoadError::Limits("needs more memory than it may have".to_owned())),
        Err(error) => Err(LoadError::Init(error.to_string())),
    }
}
