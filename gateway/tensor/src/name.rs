//! Names of models, plugins, pipelines and stores.

use crate::TensorError;

/// Most bytes a name may have: it becomes a metric label and a log field.
pub const NAME_BYTES_MAX: usize = 128;

/// Checks a name that came from outside: 1 to [`NAME_BYTES_MAX`] characters of
/// `A-Z a-z 0-9 _ . -`, the first a letter or digit. So no name can be a path.
///
/// # Errors
/// [`TensorError::Name`].
pub fn check_name(name: &str) -> Result<(), TensorError> {
    let first_is_plain = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let all_are_allowed =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first_is_plain && all_are_allowed && name.len() <= NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(TensorError::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for good in ["a", "rank-movies", "mlp_v1.2", "0"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a\\b", "a\0", "é", &"x".repeat(129)] {
            assert_eq!(check_name(bad), Err(TensorError::Name), "{bad}");
        }
    }
}
