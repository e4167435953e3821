//! `${VAR}` and `${VAR:-default}` in paths, so that one file serves many machines.
//!
//! Only paths are expanded: a secret has no business in this file, and a value that
//! changes what is served should be visible in it. Any other `$` stands for itself.

use std::collections::BTreeMap;

/// Replaces the variables of `text`. A variable that is unset or empty takes its
/// default.
///
/// # Errors
/// Words for the user: a variable without value or default, or a `${` without `}`.
pub(super) fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (inside, after) = after.split_once('}').ok_or_else(|| "`${` without `}`".to_owned())?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let value = environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let value =
            value.or(default).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_missing_ones_are_named() {
        let environment =
            BTreeMap::from([("DIR".to_owned(), "/d".to_owned()), ("EMPTY".to_owned(), String::new())]);
        let good = [
            ("a/b", "a/b"),
            ("${DIR}/m.onnx", "/d/m.onnx"),
            ("x${DIR}y${DIR}", "x/dy/d"),
            ("${NO:-../e}/m", "../e/m"),
            ("${EMPTY:-e}", "e"),
            ("$DIR costs $5", "$DIR costs $5"),
        ];
        for (text, expected) in good {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expected));
        }
        assert!(expand("${NO}/m", &environment).is_err_and(|message| message.contains("`NO`")));
        assert!(expand("${EMPTY}", &environment).is_err());
        assert!(expand("${DIR", &environment).is_err());
    }
}
