//! The use-cases against a real store.
