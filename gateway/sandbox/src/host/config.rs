//! `wasi:config/store`: the plugin's table in the configuration, value by value.

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::config::wasi::config::store::{self, Error, Host};
use crate::error::HostFault;
use crate::state::State;

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.grants.config.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let values = &self.grants.config;
        let total = values.iter().map(|(key, value)| key.len() + value.len()).fold(0, usize::saturating_add);
        if total > self.hostcall_bytes {
            let message = format!("configuration of {total} bytes is above the limit of one call");
            return Err(HostFault::Output(message).into());
        }
        Ok(Ok(values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
