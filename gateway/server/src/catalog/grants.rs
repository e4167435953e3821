//! What one plugin is granted: the models and stores that its configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sandbox::{Grants, KeyValue};

use super::caller::GrantedModels;
use super::files::StoreFile;
use super::model::Model;

/// Capabilities that a version was loaded with. They are compared by identity: a model
/// that was loaded again is another one.
#[derive(Clone, Default)]
pub(super) struct Granted {
    pub(super) models: Vec<Arc<Model>>,
    pub(super) stores: Vec<(Arc<str>, Arc<StoreFile>)>,
}

impl Granted {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let models = self.models.len() == other.models.len()
            && self.models.iter().zip(&other.models).all(|(old, new)| Arc::ptr_eq(old, new));
        let stores = self.stores.len() == other.stores.len()
            && self
                .stores
                .iter()
                .zip(&other.stores)
                .all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(&old.1, &new.1));
        models && stores
    }

    /// As the sandbox takes them.
    pub(super) fn grants(&self, _config: &crate::config::Plugin) -> Grants {
        let keyvalue = self.stores.iter();
        let keyvalue =
            keyvalue.map(|(name, store)| (name.to_string(), Arc::clone(&store.store) as Arc<dyn KeyValue>));
        let callable: BTreeMap<_, _> =
            self.models.iter().map(|model| (Arc::clone(model.name()), Arc::clone(model))).collect();
        let inference = (!callable.is_empty()).then(|| Arc::new(GrantedModels(callable)) as _);
        Grants { keyvalue: keyvalue.collect(), inference, ..Grants::default() }
    }
}
