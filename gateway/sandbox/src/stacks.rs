//! How much stack guests may use. To wasmtime that is a setting of an engine, so there is an
//! engine for each of a few sizes, made when the first plugin asks for it and gone with the
//! last. All of them run the same compiled code, are moved on by one ticker, and take their
//! places from the same semaphores; what each has for itself is a linker and a pool, which
//! is address space until guests touch it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::Linker;
use wasmtime::{Engine, EngineWeak};

use crate::engine::engine_config;
use crate::error::LoadError;
use crate::state::State;

/// Stacks that a guest may have, in bytes. The least is enough for hooks without deep
/// recursion, the largest for recursive parsers of deeply nested input. Each has a pool for
/// as many instances as there may be at all, so that no place is promised that is not there:
/// some 18 TiB of addresses with the default of 1,000 calls at once, of 128 TiB that a
/// process has. With twice as many not all four fit, and a plugin that asks for the last
/// one is refused.
pub const STACK_BYTES: [usize; 4] = [128 << 10, 256 << 10, STACK_BYTES_DEFAULT, 1 << 20];

/// The stack of plugins that say nothing. Enough for every program that is not lost in
/// recursion; a guest that needs more gets 502 `plugin_stack`.
pub const STACK_BYTES_DEFAULT: usize = 512 << 10;

/// Stack for host functions, on top of the guest's.
pub(crate) const HOST_STACK_BYTES: usize = 512 << 10;

/// What depends on the size of guests' stacks.
pub(crate) struct Stack {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
}

/// The engines that there are, for whoever moves their epochs on.
#[derive(Clone, Default)]
pub(crate) struct Engines(Arc<Mutex<Vec<EngineWeak>>>);

impl Engines {
    fn add(&self, engine: &Engine) {
        let mut engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|engine| engine.upgrade().is_some());
        engines.push(engine.weak());
    }

    /// Gives whether there are any.
    pub(crate) fn increment_epochs(&self) -> bool {
        let engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = engines.iter().filter_map(EngineWeak::upgrade);
        there.map(|engine| engine.increment_epoch()).count() > 0
    }
}

/// See the module's description.
pub(crate) struct Stacks {
    slots: u32,
    memory_bytes_max: usize,
    default: Arc<Stack>,
    /// The other sizes, for as long as a plugin uses them. Held while one is made: two
    /// plugins that ask at once share it.
    others: Mutex<[Weak<Stack>; STACK_BYTES.len()]>,
    engines: Engines,
}

impl Stacks {
    pub(crate) fn new(slots: u32, memory_bytes_max: usize) -> Result<Self, LoadError> {
        let engines = Engines::default();
        let default = make(slots, memory_bytes_max, STACK_BYTES_DEFAULT)
            .map_err(|error| LoadError::Io(format!("engine settings are refused: {error:#}")))?;
        engines.add(&default.engine);
        Ok(Self { slots, memory_bytes_max, default: Arc::new(default), others: Mutex::default(), engines })
    }

    /// The engine of plugins that say nothing: the one whose settings code is kept for.
    pub(crate) fn engine(&self) -> &Engine {
        &self.default.engine
    }

    /// All engines, those to come as well.
    pub(crate) fn engines(&self) -> Engines {
        self.engines.clone()
    }

    /// What runs guests with this much stack.
    ///
    /// # Errors
    /// [`LoadError::Limits`] for a size that there is not, or for which the address space
    /// has no room.
    pub(crate) fn of(&self, bytes: usize) -> Result<Arc<Stack>, LoadError> {
        if bytes == STACK_BYTES_DEFAULT {
            return Ok(Arc::clone(&self.default));
        }
        let Some(index) = STACK_BYTES.iter().position(|size| *size == bytes) else {
            let message = format!("stack_bytes is {bytes}, must be one of {STACK_BYTES:?}");
            return Err(LoadError::Limits(message));
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stack) = others[index].upgrade() {
            return Ok(stack);
        }
        let stack = make(self.slots, self.memory_bytes_max, bytes).map_err(|error| {
            LoadError::Limits(format!("there is no room for guests with stack_bytes = {bytes}: {error:#}"))
        })?;
        self.engines.add(&stack.engine);
        let stack = Arc::new(stack);
        others[index] = Arc::downgrade(&stack);
        Ok(stack)
    }
}

fn make(slots: u32, memory_bytes_max: usize, bytes: usize) -> wasmtime::Result<Stack> {
    let engine = Engine::new(&engine_config(slots, memory_bytes_max, bytes))?;
    let mut linker = Linker::new(&engine);
    crate::host::link(&mut linker)?;
    Ok(Stack { engine, linker })
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    fn hash(engine: &Engine) -> u64 {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn all_stacks_run_the_same_code_and_are_there_while_they_are_used() {
        let stacks = Stacks::new(8, 16 << 20).expect("an engine");
        let small = stacks.of(STACK_BYTES[0]).expect("a size that there is");
        assert_eq!(hash(&small.engine), hash(stacks.engine()), "code is kept for all of them");
        let again = stacks.of(STACK_BYTES[0]).expect("a size that there is");
        assert!(Arc::ptr_eq(&small, &again));
        assert_eq!(stacks.engines.0.lock().expect("not poisoned").len(), 2);
        drop((small, again));
        let large = stacks.of(STACK_BYTES[3]).expect("a size that there is");
        assert_eq!(stacks.engines.0.lock().expect("not poisoned").len(), 2, "the small one is gone");
        drop((large, stacks.of(1).err().expect("no such size")));
        let engines = stacks.engines();
        assert!(engines.increment_epochs());
        drop(stacks);
        assert!(!engines.increment_epochs(), "the ticker ends");
    }
}
