//! Steps of a plugin in the trace of the request: `let _step = span!("score", rows = 3);`
//!
//! They go where the gateway sends its traces; without that they cost next to nothing and
//! are lost. The gateway cuts what is too long and leaves out what is too much: 64 spans a
//! call, 32 attributes and 32 events a span. A plugin never fails for its spans.

use crate::imp;

/// The value of an attribute. Numbers, truth values and texts convert.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Cut at 256 bytes.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A truth value.
    Bool(bool),
}

macro_rules! values {
    ($($type:ty => $value:ident $convert:expr),+ $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                let convert: fn($type) -> _ = $convert;
                Self::$value(convert(value))
            }
        })+
    };
}

values! {
    &str => Text str::to_owned,
    &String => Text String::clone,
    String => Text |text| text,
    i32 => Integer i64::from,
    i64 => Integer |number| number,
    u32 => Integer i64::from,
    // No count of anything in a sandbox comes near the limit.
    u64 => Integer |number| i64::try_from(number).unwrap_or(i64::MAX),
    usize => Integer |number| i64::try_from(number).unwrap_or(i64::MAX),
    f32 => Number f64::from,
    f64 => Number |number| number,
    bool => Bool |value| value,
}

/// A step that takes time: from here until it is dropped, inside the innermost one that
/// has not ended. What the host does meanwhile, such as a model call, appears inside it.
#[derive(Debug)]
#[must_use = "a span that nobody holds ends at once"]
pub struct Span(imp::Span);

impl Span {
    /// Begins a step. The name should be one of a few, cut at 64 bytes; what varies goes
    /// into attributes. The [`span!`] macro does both.
    pub fn new(name: &str) -> Self {
        Self(imp::Span::new(name))
    }

    /// Sets an attribute; the last value of a key counts.
    pub fn set(&self, key: &str, value: impl Into<Value>) {
        self.0.set(key, value.into());
    }

    /// Records that something happened now.
    pub fn event<const N: usize>(&self, name: &str, attributes: [(&str, Value); N]) {
        let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.0.event(name, attributes);
    }
}

/// Begins a [`Span`] with attributes: `span!("score", rows = 3, model = "mlp")`. Bind it
/// to a name: `let _ = …` ends it at once.
#[doc(hidden)]
#[macro_export]
macro_rules! __span {
    ($name:expr $(, $key:ident = $value:expr)* $(,)?) => {{
        let span = $crate::trace::Span::new($name);
        $(span.set(::std::stringify!($key), $value);)*
        span
    }};
}

#[doc(inline)]
pub use crate::__span as span;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn spans_end_when_they_are_dropped_and_keep_what_was_told() {
        {
            let outer = span!("outer", rows = 3usize, model = "mlp");
            let inner = span!("inner");
            inner.event("cache miss", [("keys", 2.into())]);
            drop(inner);
            outer.set("exact", true);
        }
        let [inner, outer] = testing::spans().try_into().expect("two spans");
        assert_eq!((inner.name.as_str(), inner.parent.as_deref()), ("inner", Some("outer")));
        assert_eq!(inner.events, ["cache miss"]);
        let attributes = [
            ("rows".to_owned(), Value::Integer(3)),
            ("model".to_owned(), Value::Text("mlp".to_owned())),
            ("exact".to_owned(), Value::Bool(true)),
        ];
        assert_eq!((outer.attributes, outer.parent), (attributes.to_vec(), None));
    }
}
