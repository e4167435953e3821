//! What a request at a model holds while it is there.
