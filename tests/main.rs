//! Integration tests: real processes, a real redis-server.
