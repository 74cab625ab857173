//! The program. The library of this package has everything but the allocator.

use std::process::ExitCode;

/// Ten thousand waiting requests are many small allocations, made on one thread and freed on
/// another: the system's allocator spends a third of the processor's time on locks there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    causeway::main()
}
