//! Waiting for work of a shard, on a dedicated connection.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use redis::{Cmd, RedisError, Value};
use tokio::time::timeout;

use super::{
    RedisStore,
    connector::ANSWER,
    keys,
    pool::Held,
    server::{breaks, is_replaced, lock},
    step,
    unavailable::unavailable,
};
use causeway_queue::{
    backend::wait_then_claim,
    error::Error,
    id::Shard,
    lease::{ClaimRequest, Step},
};

/// The time within which an unblocked wait must end before it is unblocked again.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(50);

/// Returns the command that waits.
fn command(shard: &Shard, at_most: Duration) -> Cmd {
    // Half of the reply's time limit, so that a wait without work is no time-out. Zero would wait for ever.
    let seconds = at_most.min(ANSWER / 2).as_secs_f64().max(0.001);
    let mut command = redis::cmd("BZPOPMIN");
    command.arg(keys::wake(shard)).arg(format!("{seconds:.3}"));
    command
}

/// Returns a connection for waiting on work of `shard`.
async fn connection(store: &RedisStore, shard: &Shard) -> Result<Held, Error> {
    let kept = lock(&store.waiting).remove(shard);
    match kept.and_then(|held| store.server.connections.if_current(held)) {
        Some(held) => Ok(held),
        None => store.server.connections.dedicated().await,
    }
}

/// Closes a connection after `error`.
fn give_up(store: &RedisStore, held: Held, error: &RedisError) {
    if is_replaced(error) {
        store.server.connections.retire(held.generation);
    }
    held.break_off();
}

/// Keeps a connection for the next wait.
fn keep(store: &RedisStore, shard: &Shard, held: Held) {
    lock(&store.waiting).insert(shard.clone(), held);
}

/// Waits for work; see [`Backend::wait_for_work`](causeway_queue::backend::Backend::wait_for_work).
pub(super) async fn wait(
    store: &RedisStore,
    shard: &Shard,
    at_most: Duration,
) -> Result<(), Error> {
    let mut held = connection(store, shard).await?;
    let wait = command(shard, at_most);
    match wait.query_async::<Value>(&mut held.link).await {
        // A time-out is a reply too: nil.
        Ok(_popped) => {
            keep(store, shard, held);
            Ok(())
        }
        Err(error) => {
            give_up(store, held, &error);
            Err(unavailable(error))
        }
    }
}

/// Waits and claims; see [`Backend::claim_when_woken`](causeway_queue::backend::Backend::claim_when_woken).
pub(super) async fn claim_when_woken(
    store: &RedisStore,
    shard: &Shard,
    at_most: Duration,
    claim: ClaimRequest,
    stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
) -> Result<Step, Error> {
    let held = connection(store, shard).await?;
    // Without the connection's id, `stop` could not end the blocked wait.
    let Some(client_id) = held.client_id else {
        keep(store, shard, held);
        return wait_then_claim(store, shard, at_most, claim, stop).await;
    };
    // The server holds the next command of a blocked client, and runs it at the wake-up. That saves a round trip.
    let mut both = redis::pipe();
    both.add_command(command(shard, at_most)).ignore();
    let patience = at_most.min(ANSWER / 2) + ANSWER;
    both.add_command(step::command(&store.server, shard, claim, patience));
    // The clone shares the connection; `held` is kept or closed after the reply.
    let mut link = held.link.clone();
    link.answer_within(patience);
    let mut asked = pin!(both.query_async::<(Value,)>(&mut link));
    let answer = tokio::select! {
        answer = &mut asked => answer,
        () = stop => loop {
            let mut unblock = redis::cmd("CLIENT");
            unblock.arg("UNBLOCK").arg(client_id);
            drop(store.server.ask::<Value>(&unblock).await);
            // Repeat: the wait may not have reached the server yet.
            if let Ok(answer) = timeout(UNBLOCK_AGAIN, &mut asked).await {
                break answer;
            }
        }
    };
    let mut settlements = Vec::new();
    let step = match answer {
        Ok((answer,)) => {
            keep(store, shard, held);
            step::read(&store.server, shard, answer, &mut settlements).await
        }
        Err(error) if breaks(&error) => {
            give_up(store, held, &error);
            Err(unavailable(error))
        }
        // Any other error, above all a server without the scripts: a plain step loads them.
        Err(_) => step::step(&store.server, shard, &mut settlements, claim).await,
    };
    if !settlements.is_empty() {
        let claim = ClaimRequest { max: 0, ..claim };
        // If this fails, the leases expire.
        drop(step::step(&store.server, shard, &mut settlements, claim).await);
    }
    step
}
