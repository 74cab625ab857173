//! Leases jobs, calls the models, settles what came of it.
