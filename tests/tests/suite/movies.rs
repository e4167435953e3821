//! Placeholder while the guests are built.
