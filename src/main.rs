//! The command line.

mod cli;
mod config;

fn main() {}
