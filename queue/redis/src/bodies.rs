//! Bodies that are stored apart from their records, fetched in pieces. Many large bodies in one reply would exceed
//! the time limit of a reply over a slow link, and the whole claim would fail again and again.

use std::time::Duration;

use tokio::time::Instant;

use super::{connector::ANSWER, keys, record::INLINE_BODY_BYTES, server::Server};
use causeway_queue::{
    error::Error,
    job::{AttemptError, Output},
    lease::{Lease, Outcome, Settlement},
};

/// The bytes of bodies that are requested at once: the default limit of one body. A larger body is fetched alone.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// The time after the first piece within which further pieces are started. The remaining jobs are handed back then:
/// with the last started piece it is 10 s, which is less than the leases of the fetched jobs.
const START_WITHIN: Duration = ANSWER;

/// A body to fetch: the index of its lease, and the most bytes that it has, as far as is known.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) place: usize,
    pub(super) most_bytes: u64,
}

/// Returns the number of the first bodies of `apart` that are fetched together.
fn piece(apart: &[Apart]) -> usize {
    let mut bytes = 0_u64;
    let fits = apart.iter().take_while(|one| {
        // A delivery's estimate does not depend on its body.
        bytes = bytes.saturating_add(one.most_bytes.max(INLINE_BODY_BYTES as u64));
        bytes <= PIECE_BYTES
    });
    fits.count().max(1)
}

/// Fetches the bodies of `leases` that are `apart`. A job without a body fails. If a body cannot be fetched, its job
/// is handed back; that is an error only if no job is left to run.
pub(super) async fn fetch(
    server: &Server,
    leases: &mut [Option<Lease>],
    mut apart: Vec<Apart>,
    settlements: &mut Vec<Settlement>,
) -> Result<(), Error> {
    // A job with damaged turns has already lost its lease.
    apart.retain(|one| leases[one.place].is_some());
    let started = Instant::now();
    let (mut rest, mut failure) = (&apart[..], None);
    while !rest.is_empty() && started.elapsed() < START_WITHIN {
        let (first, later) = rest.split_at(piece(rest));
        match fetch_piece(server, leases, first).await {
            Ok(lost) => settlements.extend(lost),
            Err(error) => {
                // The next pieces would fail too, and their jobs are to be handed back in time.
                failure = Some(error);
                break;
            }
        }
        rest = later;
    }
    let handed_back = rest.iter().filter_map(|one| leases[one.place].take());
    let at_once = || Outcome::Released { delay: Duration::ZERO };
    settlements.extend(handed_back.map(|lease| lease.settle(at_once(), None)));
    match failure {
        Some(error) if leases.iter().all(Option::is_none) => Err(error),
        Some(error) => {
            let handed_back = rest.len();
            tracing::warn!(%error, handed_back, "cannot fetch the bodies of jobs, so the jobs are handed back");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Fetches bodies in one call, and returns the settlements of jobs without a body.
async fn fetch_piece(
    server: &Server,
    leases: &mut [Option<Lease>],
    apart: &[Apart],
) -> Result<Vec<Settlement>, Error> {
    let mut command = redis::cmd("MGET");
    for lease in apart.iter().filter_map(|one| leases[one.place].as_ref()) {
        command.arg(keys::body(&lease.key.job));
    }
    let bodies: Vec<Option<Vec<u8>>> = server.read(&command).await?;
    let mut lost = Vec::new();
    for (one, body) in apart.iter().zip(bodies) {
        match (body, &mut leases[one.place]) {
            (Some(body), Some(lease)) => lease.body = body.into(),
            // A missing body does not return, so the job ends.
            (None, lease) => lost.extend(lease.take().map(without_body)),
            (Some(_), None) => {}
        }
    }
    Ok(lost)
}

/// Returns the settlement of an attempt without a body.
fn without_body(lease: Lease) -> Settlement {
    let message = "the store has lost the job's body; submit the job again";
    let outcome = failed(lease.attempt, "body_lost", message);
    lease.settle(outcome, None)
}

/// Returns the outcome of an attempt that failed because of the store.
pub(super) fn failed(attempt: u32, code: &str, message: &str) -> Outcome {
    let (code, message) = (code.to_owned(), message.to_owned());
    let error = AttemptError { attempt, code, message, status_code: None };
    Outcome::Failed { output: Output { error: Some(error), ..Output::default() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the numbers of bodies in each piece, for bodies of these sizes.
    fn pieces(bytes: &[u64]) -> Vec<usize> {
        let apart = bytes.iter().map(|bytes| Apart { place: 0, most_bytes: *bytes });
        let apart: Vec<Apart> = apart.collect();
        let (mut rest, mut pieces) = (&apart[..], Vec::new());
        while !rest.is_empty() {
            pieces.push(piece(rest));
            rest = &rest[piece(rest)..];
        }
        pieces
    }

    #[test]
    fn pieces_are_bounded_by_their_bytes() {
        const HALF: u64 = PIECE_BYTES / 2;
        assert_eq!(pieces(&[HALF, HALF, HALF]), [2, 1]);
        assert_eq!(pieces(&[HALF, HALF + 1, HALF]), [1, 1, 1]);
        assert_eq!(pieces(&[PIECE_BYTES + 1, u64::MAX, u64::MAX, 1]), [1, 1, 1, 1]);
        assert_eq!(pieces(&[3000; 1000]), [1000]);
        assert_eq!(pieces(&[4; 3000]), [2048, 952]);
    }
}
