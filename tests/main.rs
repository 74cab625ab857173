//! Integration tests: real processes, a real redis-server.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod history;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod journeys;
#[cfg(test)]
mod leftovers;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod repairs;
#[cfg(test)]
mod server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upstreams;
