//! The plugin's own table of the gateway's configuration.

use serde::de::DeserializeOwned;

/// What the gateway's configuration says under this plugin's `config`, as JSON.
#[derive(Debug, Clone)]
pub struct Config {
    json: String,
}

impl Config {
    /// A configuration from JSON text; an empty text means an empty table.
    pub fn from_json(json: impl Into<String>) -> Self {
        let json = json.into();
        Self { json: if json.trim().is_empty() { "{}".to_owned() } else { json } }
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Reads the table into a type. Mark it `#[serde(deny_unknown_fields)]`, so that
    /// a misspelt key is an error and not silence.
    ///
    /// # Errors
    /// A text for the operator; returned from `init`, it keeps the plugin from being
    /// served.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.json).map_err(|error| format!("the plugin's config does not fit: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(default)]
        width: u32,
    }

    #[test]
    fn an_absent_table_is_an_empty_one() {
        assert_eq!(Config::from_json("").parse::<Settings>().expect("defaults").width, 0);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let refusal = Config::from_json(r#"{"widht": 3}"#).parse::<Settings>().expect_err("unknown key");
        assert!(refusal.contains("widht"), "{refusal}");
    }
}
