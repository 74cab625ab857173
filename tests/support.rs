//! What the tests stand on: real servers, started and ended by the test that needs them.

pub(crate) mod redis;
