//! Invariant 12 from outside: with 200 handles and little memory, no kind of hostile load keeps
//! another tenant from its calls.

use std::{fs, net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    journeys::tenants::{new_key, tenants},
    support::{http::Client, process::Causeway, redis::RedisServer},
};

/// The handles of the process, and its memory limit.
const HANDLES: u32 = 200;
const MEMORY_KB: u64 = 256 << 10;

/// The number of connections of each kind of load: more than there are handles.
const LOAD: usize = 300;

/// The limit of the 99th percentile of the other tenant's calls, in addition to [`SLOWER`] times
/// the one without load: other tests share the machine.
const P99: Duration = Duration::from_secs(1);

/// The factor by which a call may be slower than without load.
const SLOWER: u32 = 4;

/// The number of calls by which the percentile is measured.
const CALLS: usize = 100;

/// Reads a line of a process's memory status.
fn memory_kb(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let found = status.lines().find_map(|text| text.strip_prefix(line)).expect("the line");
    found.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// An API with two tenants: ann attacks, bob calls.
struct Target {
    api: Causeway,
    address: SocketAddr,
    ann: Client,
    bob: Client,
    ann_key: String,
    _files: tempfile::TempDir,
    _redis: RedisServer,
}

impl Target {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let files = tempfile::tempdir().expect("a directory");
        let file = files.path().join("causeway.toml");
        let (ann_key, ann) = new_key().await;
        let (bob_key, bob) = new_key().await;
        tenants(&file, &[("ann", &ann), ("bob", &bob)]);
        let settings = [
            ("CAUSEWAY_CONFIG", file.to_str().expect("a path")),
            ("CAUSEWAY_API_MAX_BODY_MEMORY", "33554432"),
            ("TOKIO_WORKER_THREADS", "2"),
        ];
        let arguments = ["api", "--bind", "127.0.0.1:0", "--redis", &redis.url()];
        let api = Causeway::start_with_handles(HANDLES, &arguments, &settings).await;
        let client = api.client().await;
        let address = client.base().trim_start_matches("http://").parse().expect("an address");
        let (ann, bob) = (client.with_key(&ann_key), client.with_key(&bob_key));
        Self { ann, bob, api, address, ann_key, _files: files, _redis: redis }
    }

    /// Opens `LOAD` connections that send `bytes`, each as far as the server reads at once.
    async fn load(&self, bytes: &[u8]) -> Vec<TcpStream> {
        let mut load = Vec::with_capacity(LOAD);
        for _ in 0..LOAD {
            let Ok(mut stream) = TcpStream::connect(self.address).await else { continue };
            // A refused or unread connection is the server's defence.
            drop(timeout(Duration::from_millis(20), stream.write_all(bytes)).await);
            load.push(stream);
        }
        load
    }

    /// Calls as bob; returns the 99th percentile of the times of the calls.
    async fn p99(&self) -> Duration {
        let mut took = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            self.bob.submit("hello").await;
            took.push(start.elapsed());
        }
        took.sort_unstable();
        took[CALLS * 99 / 100 - 1]
    }

    /// Checks the latency of bob's calls against `quiet`, their latency without load, and the memory of the
    /// process.
    async fn withstands(&self, kind: &str, quiet: Duration) {
        let p99 = self.p99().await;
        assert!(p99 < P99 + SLOWER * quiet, "{kind}: bob's p99 is {p99:?}, without load {quiet:?}");
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.api.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < MEMORY_KB, "{kind}: the process took {peak} KiB");
    }
}

#[tokio::test]
async fn no_hostile_load_keeps_a_tenant_out() {
    let target = Target::start().await;
    let key = format!("authorization: Bearer {}\r\n", target.ann_key);
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let long_head = format!("{head}x-long: {}", "x".repeat(60 << 10));
    let body = format!("{head}{key}content-length: 20971520\r\n\r\n{}", " ".repeat(1 << 20));
    let pieces =
        format!("{head}{key}transfer-encoding: chunked\r\n\r\n{}", "1\r\n \r\n".repeat(50_000));
    let large = target.ann.submit(&"x".repeat(1 << 20)).await;
    let unread =
        format!("GET /v1/jobs/{large}?include=request HTTP/1.1\r\nhost: localhost\r\n{key}\r\n");
    let unread = unread.repeat(4);
    let socket = format!(
        "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\n{key}connection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    // A text frame of 1 MiB, of which one half is sent.
    let mut frame = socket.into_bytes();
    frame.extend([0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
    frame.extend(vec![b' '; 512 << 10]);
    let quiet = target.p99().await;
    for (kind, bytes) in [
        ("idle connections", &b""[..]),
        ("incomplete heads", long_head.as_bytes()),
        ("unfinished bodies", body.as_bytes()),
        ("bodies of one-byte pieces", pieces.as_bytes()),
        ("unread answers", unread.as_bytes()),
        ("unfinished frames", &frame),
    ] {
        let load = target.load(bytes).await;
        target.withstands(kind, quiet).await;
        drop(load);
    }
}

#[tokio::test]
async fn unknown_ids_leave_nothing_behind() {
    const IDS: u32 = 1500;
    // A former version kept 7.3 KB for each id for ever.
    const MOST_KB: u64 = 4 << 10;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let look_up = async |range: std::ops::Range<u32>| {
        for number in range {
            let id = format!("job_x{number}_123_0123456789abcdefghjkmnpqrs");
            client.get(&format!("/v1/jobs/{id}")).await.error(404);
        }
    };
    look_up(0..500).await;
    let before = memory_kb(api.id(), "VmRSS:");
    look_up(500..IDS).await;
    let grown = memory_kb(api.id(), "VmRSS:").saturating_sub(before);
    assert!(grown < MOST_KB, "{IDS} ids took {grown} KiB");
}
