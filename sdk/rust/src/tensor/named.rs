//! Host tensors under their names.

use crate::{Error, HostTensor, Result};

/// Tensors that the host gives, under their names: a model's outputs, or what a V2
/// caller sent.
#[derive(Debug, Default)]
pub struct Tensors {
    tensors: Vec<(String, HostTensor)>,
}

impl Tensors {
    /// From names and tensors.
    pub fn new<N: Into<String>>(tensors: impl IntoIterator<Item = (N, HostTensor)>) -> Self {
        Self { tensors: tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect() }
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// 500 that names the tensors there are: the plugin and its model do not fit each
    /// other. (Where a V2 caller chooses the names, map it to a 400.)
    pub fn get(&self, name: &str) -> Result<&HostTensor> {
        let found = self.tensors.iter().find(|(given, _)| given == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| self.missing(name))
    }

    /// The only tensor, whatever its name.
    ///
    /// # Errors
    /// 500 if there are several, or none.
    pub fn only(&self) -> Result<&HostTensor> {
        match self.tensors.as_slice() {
            [(_, tensor)] => Ok(tensor),
            _ => Err(Error::internal(format!("one tensor is wanted here, there are {:?}", self.names()))),
        }
    }

    /// Takes the tensor of a name out, to pass it on.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn take(&mut self, name: &str) -> Result<HostTensor> {
        let at = self.tensors.iter().position(|(given, _)| given == name);
        at.map(|at| self.tensors.swap_remove(at).1).ok_or_else(|| self.missing(name))
    }

    /// The names, in the host's order.
    pub fn names(&self) -> Vec<&str> {
        self.tensors.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<(String, HostTensor)> {
        self.tensors
    }

    fn missing(&self, name: &str) -> Error {
        Error::internal(format!("no tensor {name:?}: there are {:?}", self.names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tensor_is_refused_by_name() {
        let logit = HostTensor::from_values(&[1], [0.5f32]).expect("fits");
        let mut tensors = Tensors::new([("logit", logit)]);
        let refusal = tensors.get("score").expect_err("not there");
        assert!(
            refusal.message().contains("\"score\"") && refusal.message().contains("\"logit\""),
            "{refusal}"
        );
        assert!(tensors.only().is_ok());
        assert!(tensors.take("logit").is_ok());
        assert!(tensors.is_empty() && tensors.only().is_err());
    }
}
