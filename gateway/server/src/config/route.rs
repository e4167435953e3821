//! Paths that a pipeline answers beside the protocols' own.

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

/// Most parts of a route's path. Longer ones are no interface that people can read.
const SEGMENTS_MAX: usize = 16;

/// Most bytes of a route's path as the configuration writes it.
const PATH_BYTES_MAX: usize = 256;

/// What the protocols own: nothing else may be served below.
const PROTOCOLS: [&[&str]; 3] = [&["v2"], &["v1", "models"], &["openapi.json"]];

/// A path with places for parameters, such as `/v1/users/{user}/score`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: Arc<str>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    Parameter(String),
}

/// What a path says at the places of the parameters, decoded, by name.
pub type PathParameters = Vec<(String, String)>;

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('/').ok_or("must begin with `/`")?;
        if text.len() > PATH_BYTES_MAX {
            return Err(format!("is longer than {PATH_BYTES_MAX} bytes"));
        }
        let segments: Vec<Segment> = path.split('/').map(segment).collect::<Result<_, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(format!("has more than {SEGMENTS_MAX} parts"));
        }
        for (place, name) in segments.iter().enumerate() {
            if matches!(name, Segment::Parameter(_)) && segments[..place].contains(name) {
                return Err("names a parameter twice".to_owned());
            }
        }
        let template = Self { text: text.into(), segments };
        match PROTOCOLS.iter().find(|prefix| template.may_be_below(prefix)) {
            Some(prefix) => Err(format!("may be below /{}, which the protocols own", prefix.join("/"))),
            None => Ok(template),
        }
    }

    /// Whether a path could fit both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let agree = |pair: (&Segment, &Segment)| match pair {
            (Segment::Exactly(one), Segment::Exactly(other)) => one == other,
            _ => true,
        };
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(agree)
    }

    /// The parameters of a path that fits. A part that is empty or not UTF-8 fits nothing.
    pub fn matches(&self, path: &str) -> Option<PathParameters> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut parameters = PathParameters::new();
        for segment in &self.segments {
            let part = parts.next().filter(|part| !part.is_empty())?;
            let part = percent_decode_str(part).decode_utf8().ok()?;
            match segment {
                Segment::Exactly(text) if *text == part => {}
                Segment::Exactly(_) => return None,
                Segment::Parameter(name) => parameters.push((name.clone(), part.into_owned())),
            }
        }
        parts.next().is_none().then_some(parameters)
    }

    fn may_be_below(&self, prefix: &[&str]) -> bool {
        let agree = |(segment, text): (&Segment, &&str)| match segment {
            Segment::Exactly(exactly) => exactly == text,
            Segment::Parameter(_) => true,
        };
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(agree)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One part: letters, digits and `-._~:`, or `{name}`.
fn segment(text: &str) -> Result<Segment, String> {
    let is_plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    let parameter = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match parameter {
        Some(name) if is_plain(name, b"_") => Ok(Segment::Parameter(name.to_owned())),
        None if is_plain(text, b"-._~:") && !matches!(text, "." | "..") => {
            Ok(Segment::Exactly(text.to_owned()))
        }
        _ => Err("has a part that is empty or odd: use letters, digits and `-._~:`, or `{name}`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).expect("valid")
    }

    #[test]
    fn a_path_gives_its_parameters_decoded() {
        let users = template("/v1/users/{user}/score");
        let found = users.matches("/v1/users/a%2Fb%20c/score").expect("fits");
        assert_eq!(found, [("user".to_owned(), "a/b c".to_owned())]);
        for other in
            ["/v1/users/a/score/", "/v1/users//score", "/v1/users/a", "/v1/users/%ff/score", "v1", ""]
        {
            assert_eq!(users.matches(other), None, "{other}");
        }
        assert_eq!(template("/v1/chat/completions").matches("/v1/ch%61t/completions"), Some(Vec::new()));
    }

    #[test]
    fn paths_of_the_protocols_and_odd_ones_are_refused() {
        let long = format!("/{}", "a/".repeat(SEGMENTS_MAX));
        for bad in [
            "",
            "a",
            "/",
            "//a",
            "/a/",
            "/a b",
            "/é",
            "/..",
            "/{}",
            "/{a",
            "/{a}/{a}",
            "/{*rest}",
            "/a%20",
            &long,
            "/v2",
            "/v2/x",
            "/{x}",
            "/v1/models",
            "/v1/models/x",
            "/v1/{x}",
            "/{a}/{b}",
        ] {
            assert!(PathTemplate::parse(bad).is_err(), "{bad}");
        }
        assert!(PathTemplate::parse(&format!("/{}", "a".repeat(PATH_BYTES_MAX))).is_err());
        assert!(PathTemplate::parse("/v1/model/{x}").is_ok());
    }

    #[test]
    fn templates_overlap_where_a_path_could_fit_both() {
        assert!(template("/a/{x}").overlaps(&template("/a/b")));
        assert!(template("/a/{x}/c").overlaps(&template("/a/b/{y}")));
        assert!(!template("/a/{x}").overlaps(&template("/a/b/c")));
        assert!(!template("/a/b").overlaps(&template("/a/c")));
    }
}
