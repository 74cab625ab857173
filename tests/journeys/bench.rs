//! `causeway bench queue` on a shared Redis, and `causeway experiment`.

use serde_json::{Map, Value};

use crate::support::{
    eventually,
    process::Causeway,
    redis::{RedisCluster, RedisServer},
    upstream::Upstream,
};

/// The figures of every measurement of a Redis; bench/peers reads these names.
const FIGURES: [&str; 11] = [
    "drained_per_s",
    "enqueued_per_s",
    "jobs",
    "pickup_p50_ms",
    "pickup_p99_ms",
    "redis_bytes_per_queued_job",
    "redis_calls_per_job",
    "redis_commands_per_job",
    "redis_cpu_us_per_enqueue",
    "redis_cpu_us_per_job",
    "store",
];

/// Returns the arguments of a measurement of the store at `url`.
fn bench<'a>(url: &'a str, jobs: &'a str) -> [&'a str; 7] {
    ["bench", "queue", "--json", "--store", url, "--jobs", jobs]
}

/// Measures the store at `url` with 500 jobs; returns the printed object.
async fn measured(url: &str) -> Map<String, Value> {
    let printed = Causeway::command(&bench(url, "500"), &[]).await;
    let figures: Map<String, Value> = serde_json::from_str(&printed).expect("one JSON object");
    let mut names: Vec<&str> = figures.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, FIGURES, "{printed}");
    let is_counted = |name: &&str| figures[*name].as_f64().is_some_and(|figure| figure > 0.0);
    assert!(FIGURES[..10].iter().all(is_counted), "{printed}");
    figures
}

/// Returns the names of all keys of measurements.
async fn left(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = server.ask(&["KEYS", "cw:{b-*"]).await;
    keys.sort_unstable();
    keys
}

/// Waits until a measurement has enqueued its first jobs.
async fn first_jobs(server: &RedisServer) {
    let look = async || Some(left(server).await).filter(|keys| !keys.is_empty());
    eventually("the first jobs", look).await;
}

#[tokio::test]
async fn a_measurement_leaves_a_shared_store_clean() {
    let server = RedisServer::start();
    let upstream = Upstream::echo().await;
    let api = Causeway::api(&server.url(), &[]).await;
    let _worker = Causeway::worker(&server.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    let id = client.submit("hello").await;
    client.end_of(&id).await;
    measured(&server.url()).await;
    assert_eq!(upstream.seen().len(), 1, "no worker but its own took a job");
    assert_eq!(left(&server).await, [] as [String; 0]);
    let known: Vec<String> = server.ask(&["ZRANGE", "cw:{fleet}:layouts", "0", "-1"]).await;
    assert!(known.iter().all(|layout| !layout.contains("bench")), "{known:?}");
}

#[tokio::test]
async fn an_interrupted_measurement_removes_its_keys() {
    let server = RedisServer::start();
    let url = server.url();
    let mut measuring = Causeway::launch(&bench(&url, "1000000"), &[]);
    first_jobs(&server).await;
    measuring.terminate();
    let status = measuring.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        measuring.text().contains("SIGTERM: the measurement was stopped"),
        "{}",
        measuring.text()
    );
    assert_eq!(server.ask::<u64>(&["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn a_measurement_reports_missing_jobs() {
    let server = RedisServer::start();
    let url = server.url();
    let mut measuring = Causeway::launch(&bench(&url, "50000"), &[]);
    first_jobs(&server).await;
    server.ask::<()>(&["FLUSHALL"]).await;
    assert_eq!(measuring.ended().await.code(), Some(1));
    assert!(measuring.text().contains("of 50000 jobs came back"), "{}", measuring.text());
}

#[tokio::test]
async fn a_cluster_is_measured_as_one_store() {
    let cluster = RedisCluster::start();
    measured(&cluster.url()).await;
    for node in cluster.nodes() {
        assert_eq!(left(node).await, [] as [String; 0]);
    }
}

#[tokio::test]
async fn an_experiment_prints_its_report_as_json() {
    let arguments = ["experiment", "--users", "2", "--call", "0.1", "--json"];
    let printed = Causeway::command(&arguments, &[]).await;
    let json = printed.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let report: Map<String, Value> = serde_json::from_str(json).expect("one JSON object");
    assert_eq!(
        (&report["completed"], report["visits"].as_array().map(Vec::len)),
        (&2.into(), Some(2))
    );
}
