//! What authors and toolchains write into custom sections: kept, cut and bounded. Broken
//! sections are left out: they are for information only.

use wasmparser::{ComponentName, CustomSectionReader, KnownCustom, ProducersSectionReader};

use super::facts::{Metadata, Producer};
use crate::host::logging::clean;

/// Most bytes of one text: a paragraph.
const TEXT_BYTES_MAX: usize = 512;

/// Most bytes of a tool's name or version.
const PRODUCER_BYTES_MAX: usize = 128;

/// Most tools of a kind. A component that was composed of others names some ten.
const PRODUCERS_MAX: usize = 32;

/// Collects metadata from the custom sections of a component.
#[derive(Default)]
pub(super) struct Collector(Metadata);

impl Collector {
    /// Takes a custom section of the component itself.
    pub(super) fn take(&mut self, section: &CustomSectionReader<'_>) {
        if let KnownCustom::ComponentName(names) = section.as_known() {
            let name = names.into_iter().find_map(|name| match name {
                Ok(ComponentName::Component { name, .. }) => Some(name),
                _ => None,
            });
            self.0.name = self.0.name.take().or_else(|| name.map(text));
        }
        let metadata = &mut self.0;
        // The names that `wasm-tools metadata` and the OCI annotations use.
        let place = match section.name() {
            "version" => &mut metadata.version,
            "description" => &mut metadata.description,
            "authors" => &mut metadata.authors,
            "licenses" => &mut metadata.licenses,
            "source" => &mut metadata.source,
            "homepage" => &mut metadata.homepage,
            "revision" => &mut metadata.revision,
            _ => return self.take_producers(section),
        };
        if place.is_none() {
            *place = std::str::from_utf8(section.data()).ok().map(text);
        }
    }

    /// Takes a custom section of a part of the component: only its tools matter.
    pub(super) fn take_producers(&mut self, section: &CustomSectionReader<'_>) {
        if let KnownCustom::Producers(producers) = section.as_known() {
            self.add_producers(producers);
        }
    }

    fn add_producers(&mut self, producers: ProducersSectionReader<'_>) {
        for field in producers.into_iter().map_while(Result::ok).take(PRODUCERS_MAX) {
            let known = match field.name {
                "language" => &mut self.0.language,
                "sdk" => &mut self.0.sdk,
                _ => &mut self.0.processed_by,
            };
            for value in field.values.into_iter().map_while(Result::ok).take(PRODUCERS_MAX) {
                let producer = Producer {
                    name: clean(value.name, PRODUCER_BYTES_MAX),
                    version: clean(value.version, PRODUCER_BYTES_MAX),
                };
                if known.len() < PRODUCERS_MAX && !known.contains(&producer) {
                    known.push(producer);
                }
            }
        }
    }

    pub(super) fn finish(self) -> Metadata {
        self.0
    }
}

fn text(text: &str) -> String {
    clean(text, TEXT_BYTES_MAX)
}
