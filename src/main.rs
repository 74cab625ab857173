//! The command line.

mod cli;
mod config;
mod experiment;

fn main() {}
