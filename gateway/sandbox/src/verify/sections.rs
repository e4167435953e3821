//! The sections of a component, and custom ones among them.

use crate::error::LoadError;

/// The custom section with a plugin's sample cases.
pub const SAMPLES_SECTION: &str = "sluice:samples";

/// Magic and version.
const HEADER_BYTES: usize = 8;

/// The kind of custom sections.
const CUSTOM: u8 = 0;

/// Most bytes of a 32-bit number.
const NUMBER_BYTES_MAX: usize = 5;

/// A section of the outermost component.
struct Section<'a> {
    kind: u8,
    content: &'a [u8],
    /// With its kind and size.
    whole: &'a [u8],
}

/// A 32-bit number as WebAssembly writes it, and what follows.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value: u64 = 0;
    for (index, &byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

/// The first section of what is left, and what follows; `None` where it is cut.
fn next(bytes: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (size, rest) = number(rest)?;
    let (content, rest) = rest.split_at_checked(size)?;
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some((Section { kind, content, whole }, rest))
}

/// The name and the data of a custom section.
fn custom<'a>(section: &Section<'a>) -> Option<(&'a [u8], &'a [u8])> {
    if section.kind != CUSTOM {
        return None;
    }
    let (size, rest) = number(section.content)?;
    rest.split_at_checked(size)
}

fn cut() -> LoadError {
    LoadError::NotWasm("it ends within a section: the file was cut".to_owned())
}

/// Checks that the last section ends where the file does.
pub(super) fn check_whole(component: &[u8]) -> Result<(), LoadError> {
    each(component, |_| Ok(()))
}

fn each<'a>(
    component: &'a [u8],
    mut visit: impl FnMut(&Section<'a>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut rest = component.get(HEADER_BYTES..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (section, after) = next(rest).ok_or_else(cut)?;
        visit(&section)?;
        rest = after;
    }
    Ok(())
}

/// The data of a custom section of the component itself, not of its parts.
///
/// # Errors
/// [`LoadError::NotWasm`] for a component that is cut, [`LoadError::Invalid`] when it has
/// two sections of that name: which one counts would be anybody's guess.
pub fn custom_section<'a>(component: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, LoadError> {
    let mut found = None;
    each(component, |section| {
        if let Some((known, data)) = custom(section)
            && known == name.as_bytes()
            && found.replace(data).is_some()
        {
            return Err(LoadError::Invalid(format!("it has two custom sections named {name}")));
        }
        Ok(())
    })?;
    Ok(found)
}

/// The component with a custom section of that name: appended, in place of any that it
/// had.
///
/// # Errors
/// [`LoadError::NotWasm`] for a component that is cut, [`LoadError::Limits`] for data that
/// no section can hold.
pub fn with_custom_section(component: &[u8], name: &str, data: &[u8]) -> Result<Vec<u8>, LoadError> {
    let mut out = Vec::with_capacity(component.len().saturating_add(data.len()).saturating_add(64));
    out.extend_from_slice(component.get(..HEADER_BYTES).ok_or_else(cut)?);
    each(component, |section| {
        if custom(section).is_none_or(|(known, _)| known != name.as_bytes()) {
            out.extend_from_slice(section.whole);
        }
        Ok(())
    })?;
    let mut content = Vec::new();
    write_number(&mut content, name.len())?;
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    out.push(CUSTOM);
    write_number(&mut out, content.len())?;
    out.extend(content);
    Ok(out)
}

fn write_number(out: &mut Vec<u8>, value: usize) -> Result<(), LoadError> {
    let mut left = u32::try_from(value)
        .map_err(|_| LoadError::Limits(format!("a section of {value} bytes is too large")))?;
    loop {
        let [low, ..] = (left & 0x7f).to_le_bytes();
        left >>= 7;
        if left == 0 {
            out.push(low);
            return Ok(());
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_section_is_appended_found_and_replaced() {
        let long = vec![7; 300];
        let one = with_custom_section(EMPTY, "a", b"1").expect("fits");
        let two = with_custom_section(&one, "b", &long).expect("fits");
        assert_eq!(custom_section(&two, "a"), Ok(Some(&b"1"[..])));
        assert_eq!(custom_section(&two, "b"), Ok(Some(&long[..])));
        assert_eq!(custom_section(&two, "c"), Ok(None));
        let three = with_custom_section(&two, "a", b"").expect("fits");
        assert_eq!(custom_section(&three, "a"), Ok(Some(&b""[..])));
        assert_eq!(three.len(), two.len() - 1);
    }

    #[test]
    fn two_sections_of_one_name_are_refused() {
        let one = with_custom_section(EMPTY, "a", b"1").expect("fits");
        let twice = [&one[..], &one[EMPTY.len()..]].concat();
        assert!(matches!(custom_section(&twice, "a"), Err(LoadError::Invalid(_))));
        assert_eq!(custom_section(&twice, "b"), Ok(None));
    }

    #[test]
    fn a_cut_is_seen_wherever_it_is() {
        let whole = with_custom_section(EMPTY, "name", &[1; 200]).expect("fits");
        for end in (0..whole.len()).filter(|end| *end != EMPTY.len()) {
            assert!(custom_section(&whole[..end], "name").is_err(), "{end}");
        }
        let huge = [EMPTY, &[0, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
        assert!(check_whole(&huge).is_err());
        let endless = [EMPTY, &[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]].concat();
        assert!(check_whole(&endless).is_err());
    }
}
