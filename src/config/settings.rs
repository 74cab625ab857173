//! From the configuration to what each crate takes.
