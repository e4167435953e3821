//! The bounds of the registry. Each answers with a typed refusal; none is reached by
//! a team that cleans up after itself.

/// Most plugins. Each is a name in the snapshot that every request sees; a thousand
/// is ten times what one gateway was seen to serve. One more: 507.
pub const PLUGINS_MAX: usize = 1_000;

/// Most plugins of one owner, so that no team takes all names. A quarter of all of them;
/// what an operator uploads for nobody in particular is not counted. One more: 507.
pub const PLUGINS_PER_OWNER_MAX: usize = PLUGINS_MAX / 4;

/// Most bytes of all components of one owner, so that no team fills the disk. Five hundred
/// of the largest that the default lets in. One more: 507.
pub const BYTES_PER_OWNER_MAX: u64 = 8 << 30;

/// Most versions of all plugins of one owner: what is known of each is kept in memory, and
/// told whenever somebody lists plugins. Eight for each plugin that an owner may have. One
/// more: 507.
pub const VERSIONS_PER_OWNER_MAX: usize = PLUGINS_PER_OWNER_MAX * 8;

/// Most versions of one plugin, whatever their state. A team that deploys twenty
/// times a day fills it in a week; retired versions are what to delete. One more: 507.
pub const VERSIONS_PER_PLUGIN_MAX: usize = 128;

/// Most splits and shadows: one for each plugin of a pipeline. One more: 507.
pub const ROUTES_MAX: usize = 4_000;

/// How many previous versions a plugin remembers for rolling back; the oldest is
/// forgotten. These stay compiled, so this bounds memory too.
pub const HISTORY_MAX: usize = 8;

/// Most versions one split may name. More arms than this say nothing about any. 400.
pub const SPLIT_VERSIONS_MAX: usize = 16;

/// Most weight of one version in a split, so that sums stay far from overflow. 400.
pub const SPLIT_WEIGHT_MAX: u32 = 1_000_000;

/// Audit lines that are kept; with each new one the oldest goes, of whoever has most. Ten
/// thousand are some months of a busy team, and about 3 MiB.
pub const AUDIT_ENTRIES_MAX: u64 = if cfg!(test) { 100 } else { 10_000 };

/// Most audit lines that one query gives, however many it asks for.
pub const AUDIT_PAGE_MAX: usize = 1_000;

/// Longest text in an audit line or a reason; longer ones are cut at a character.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Longest facts of a version, as JSON: what the verifier found out about a
/// component. The imports and exports of a large one take some 20 KiB. 507.
pub const FACTS_BYTES_MAX: usize = 256 << 10;

/// Longest blob, whatever its writer was given: reading one back takes this much
/// memory. Longer uploads get 413.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Cuts a text to [`TEXT_BYTES_MAX`], at a character.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
