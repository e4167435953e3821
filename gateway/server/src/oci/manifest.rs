//! The manifest of a plugin: the layout for WebAssembly that the CNCF's wasm working
//! group describes. An image manifest with a config of its own type and one layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, OciError};

/// The type of the manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of the config.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// The type of the layer: the component.
const LAYER_TYPE: &str = "application/wasm";

/// Bytes of a manifest. The specification lets registries refuse more than 4 MiB; ours
/// have a kilobyte.
pub(super) const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// The annotation with a detached signature of the component: `KEYNAME:BASE64`, as the
/// admin API's header `x-sluice-signature`.
pub const SIGNATURE_ANNOTATION: &str = "sh.sluice.signature";

/// What a manifest says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// Absent in an index, which is told apart by that.
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// What a plugin's config says, in the words of the layout.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    component: Component<'a>,
}

#[derive(Debug, Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// What is known about a component that is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// What it imports: `wasi:keyvalue/store@0.2.0-draft`.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Annotations of the manifest, by their full name: `org.opencontainers.image.title`.
    pub annotations: BTreeMap<String, String>,
    /// A detached signature, `KEYNAME:BASE64`.
    pub signature: Option<String>,
    /// When it was made, in RFC 3339.
    pub created: String,
}

/// A manifest that was made, and the config that belongs to it.
pub(super) struct Made {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
}

/// What a manifest says about the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) component: Digest,
    pub(super) size: u64,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Makes the manifest of a component.
pub(super) fn make(component: &[u8], description: &Description) -> serde_json::Result<Made> {
    let layer = Digest::of(component).to_string();
    let config = WasmConfig {
        created: &description.created,
        architecture: "wasm",
        os: "wasip2",
        layer_digests: vec![layer.clone()],
        component: Component { exports: &description.exports, imports: &description.imports },
    };
    let config = serde_json::to_vec(&config)?;
    let mut annotations = description.annotations.clone();
    if let Some(signature) = &description.signature {
        annotations.insert(SIGNATURE_ANNOTATION.to_owned(), signature.clone());
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        artifact_type: None,
        config: Some(Descriptor {
            media_type: CONFIG_TYPE.to_owned(),
            digest: Digest::of(&config).to_string(),
            size: config.len() as u64,
        }),
        layers: vec![Descriptor {
            media_type: LAYER_TYPE.to_owned(),
            digest: layer,
            size: component.len() as u64,
        }],
        annotations,
    };
    Ok(Made { manifest: serde_json::to_vec(&manifest)?, config })
}

/// Reads a manifest and checks that it is a plugin's.
///
/// # Errors
/// [`OciError::NotPlugin`], saying what it is instead.
pub(super) fn read(content: &[u8]) -> Result<Read, OciError> {
    let fault = |why: String| OciError::NotPlugin(why);
    let manifest: Manifest = serde_json::from_slice(content)
        .map_err(|error| fault(format!("its manifest is malformed: {error}")))?;
    if manifest.schema_version != 2 {
        return Err(fault(format!("its manifest has the schema version {}", manifest.schema_version)));
    }
    if let Some(other) = manifest.media_type.filter(|media_type| media_type != MANIFEST_TYPE) {
        return Err(fault(format!("its manifest is of type {}", short(&other))));
    }
    let Some(config) = manifest.config else {
        return Err(fault("it is an index of several; name the digest of one".to_owned()));
    };
    if config.media_type != CONFIG_TYPE {
        return Err(fault(format!(
            "its config is of type {} and not {CONFIG_TYPE}",
            short(&config.media_type)
        )));
    }
    let [layer] = &manifest.layers[..] else {
        return Err(fault(format!("it has {} layers and not one", manifest.layers.len())));
    };
    if layer.media_type != LAYER_TYPE {
        return Err(fault(format!("its layer is of type {} and not {LAYER_TYPE}", short(&layer.media_type))));
    }
    let component = Digest::parse(&layer.digest)
        .ok_or_else(|| fault("its layer has a digest that is not sha256: and 64 hex digits".to_owned()))?;
    Ok(Read { component, size: layer.size, annotations: manifest.annotations })
}

/// Enough of a text from outside to recognise it.
fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made() -> (Value, Value) {
        let description = Description {
            imports: vec!["wasi:keyvalue/store@0.2.0-draft".to_owned()],
            exports: vec!["sluice:plugin/preprocess@0.1.0".to_owned()],
            annotations: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "ranker".to_owned())]),
            signature: Some("team:AAAA".to_owned()),
            created: "2026-01-02T03:04:05Z".to_owned(),
        };
        let made = make(b"component", &description).expect("makes");
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).expect("JSON");
        (parse(&made.manifest), parse(&made.config))
    }

    #[test]
    fn a_manifest_has_the_cncf_layout() {
        let (manifest, config) = made();
        let layer = Digest::of(b"component").to_string();
        let expected = json!({
            "created": "2026-01-02T03:04:05Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [layer],
            "component": {
                "exports": ["sluice:plugin/preprocess@0.1.0"], "imports": ["wasi:keyvalue/store@0.2.0-draft"],
            },
        });
        assert_eq!(config, expected);
        assert_eq!(manifest["schemaVersion"], 2);
        assert_eq!(manifest["mediaType"], MANIFEST_TYPE);
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(
            manifest["layers"],
            json!([{"mediaType": "application/wasm", "digest": layer, "size": 9}])
        );
        assert_eq!(manifest["annotations"]["sh.sluice.signature"], "team:AAAA");
    }

    #[test]
    fn what_was_made_can_be_read() {
        let (manifest, _) = made();
        let read = read(manifest.to_string().as_bytes()).expect("reads");
        assert_eq!((read.component, read.size), (Digest::of(b"component"), 9));
        assert_eq!(read.annotations["org.opencontainers.image.title"], "ranker");
    }

    #[test]
    fn other_artifacts_are_told_apart() {
        let changed = |path: &str, value: Value| {
            let (mut manifest, _) = made();
            *manifest.pointer_mut(path).expect(path) = value;
            read(manifest.to_string().as_bytes())
        };
        let layer =
            json!({"mediaType": "application/wasm", "digest": Digest::of(b"x").to_string(), "size": 1});
        for (path, value) in [
            ("/schemaVersion", json!(1)),
            ("/mediaType", json!("application/vnd.oci.image.index.v1+json")),
            ("/config", json!(null)),
            ("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
            ("/layers", json!([])),
            ("/layers", json!([layer, layer])),
            ("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")),
            ("/layers/0/digest", json!("sha512:00")),
            ("/layers/0/size", json!(-1)),
        ] {
            assert!(matches!(changed(path, value.clone()), Err(OciError::NotPlugin(_))), "{path} {value}");
        }
        assert!(matches!(read(b"not json"), Err(OciError::NotPlugin(_))));
        assert!(matches!(read(&vec![b'['; 100_000]), Err(OciError::NotPlugin(_))));
    }
}
