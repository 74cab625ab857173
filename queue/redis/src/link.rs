//! A connection to one server or to a cluster, and its rule for retries: a command is sent again only if a node of a
//! cluster reported that it did not execute it.

use std::time::Duration;

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use tokio::time::sleep;

use super::tls_node::TlsNode;

/// The most repetitions of a command that a node of a cluster refused, and the pause before the first. The pause
/// doubles, so all of them take 1.3 s.
const TURNED_AWAY: u32 = 7;
const TURNED_AWAY_PAUSE: Duration = Duration::from_millis(10);

/// A connection to one server, or to a cluster.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
    TlsCluster(ClusterConnection<TlsNode>),
}

impl Link {
    /// Sets the time limit of replies; the client of a cluster keeps the limit of its creation.
    pub(super) fn answer_within(&mut self, at_most: Duration) {
        if let Self::One(link) = self {
            link.set_response_timeout(at_most);
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(link) => link.req_packed_command(command),
            Self::Cluster(link) => Box::pin(ask_cluster(link, command)),
            Self::TlsCluster(link) => Box::pin(ask_cluster(link, command)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(link) => link.req_packed_commands(commands, offset, count),
            Self::Cluster(link) => link.req_packed_commands(commands, offset, count),
            Self::TlsCluster(link) => link.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
            Self::TlsCluster(link) => link.get_db(),
        }
    }
}

/// Sends a command to a cluster, and repeats it if a node refused it. The client learns the new slots from the
/// refusal. By itself it repeats nothing, because a command without a reply may have been executed.
async fn ask_cluster(link: &mut impl ConnectionLike, command: &Cmd) -> RedisResult<Value> {
    let mut times = 0;
    loop {
        match link.req_packed_command(command).await {
            Err(error) if times < TURNED_AWAY && is_turned_away(&error) => {
                sleep(TURNED_AWAY_PAUSE * 2_u32.pow(times)).await;
                times += 1;
            }
            answer => return answer,
        }
    }
}

/// Returns true if `error` proves that the command was not executed and may succeed soon. ASK does not count: its
/// slot is being moved, and a command sent after it would see only a part of a shard. Nor do LOADING and MASTERDOWN,
/// which the client also returns for commands under way when it could not read the slots.
fn is_turned_away(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::ReadOnly
        )
    )
}
