//! The HTTP surface in front of the queue.
