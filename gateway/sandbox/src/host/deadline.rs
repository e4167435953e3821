//! `sluice:plugin/deadline`: how much time is left.

use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::sluice::plugin::deadline::{self, Host};
use crate::state::State;

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    deadline::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl Host for State {
    fn left_ms(&mut self) -> wasmtime::Result<u32> {
        let of_request = self.call.deadline.saturating_duration_since(Instant::now());
        let left = of_request.min(self.budget.left());
        Ok(u32::try_from(left.as_millis()).unwrap_or(u32::MAX))
    }
}
