//! The engine inside the process.
