//! Misbehaving upstreams, each a row of a file in `upstreams/`: its answers, and the right result
//! by a standard or by the SDKs. All rows run at the same time, each in a lane of its own.

mod raw;
mod row;

use std::fmt::Write as _;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use self::{raw::RawUpstream, row::Row};
use crate::support::{http::Client, process::Causeway, redis::RedisServer, system::Store};

/// Retries without delay.
const RETRY: &str = "[retry]\nbase = \"10ms\"\nmax = \"20ms\"\n";

/// Makes one test of a file on each store.
macro_rules! rows {
    ($($name:ident: $file:literal;)+) => {
        $crate::on_both_stores! { $($name;)+ }
        $(async fn $name(store: Store) { run(store, include_str!($file)).await; })+
    };
}

rows! {
    answers_are_checked: "upstreams/answers.toml";
    errors_are_charged_to_their_owner: "upstreams/errors.toml";
    streams_are_assembled: "upstreams/streams.toml";
}

/// Runs every row, and panics with all rows of unexpected results.
async fn run(store: Store, file: &str) {
    let rows = Row::read(file);
    let upstreams: Vec<RawUpstream> =
        join_all(rows.iter().map(|row| RawUpstream::start(row.answers()))).await;
    let lanes = rows.iter().zip(&upstreams).enumerate();
    let config = lanes.fold(RETRY.to_owned(), |mut config, (place, (row, upstream))| {
        let (name, url) = (&row.name, upstream.url());
        write!(
            config,
            "[[lane]]\nname = \"c{place}\"\nmodels = [{name:?}]\nupstream = \"{url}\"\n"
        )
        .expect("a text takes more");
        config
    });
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(&file, config).expect("the file can be written");
    let settings = [("CAUSEWAY_CONFIG", file.path().to_str().expect("a path"))];
    let redis = RedisServer::start();
    let url = redis.url();
    let stored = ["--bind", "127.0.0.1:0", "--redis", &url];
    let arguments = if store == Store::Redis { &stored[..] } else { &stored[..2] };
    let up = Causeway::start(&[&["up"], arguments].concat(), &settings).await;
    let client = up.client().await;
    let jobs = join_all(rows.iter().map(|row| job(&client, row))).await;
    let mut wrong = String::new();
    for ((row, upstream), job) in rows.iter().zip(&upstreams).zip(jobs) {
        for difference in row.differences(&job, upstream.calls()) {
            writeln!(wrong, "{} ({}): {difference}", row.name, row.source)
                .expect("a text takes more");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Returns the ended job of a row.
async fn job(client: &Client, row: &Row) -> Value {
    let mut body = json!({ "model": row.name, "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in &row.request {
        body[name] = value.clone();
    }
    let mut job = json!({ "body": body });
    if let Some(url) = &row.url {
        job["url"] = json!(url);
    }
    if let Some(most) = row.max_attempts {
        job["max_attempts"] = json!(most);
    }
    let id = client.post("/v1/jobs", &job).await.id();
    client.get(&format!("/v1/jobs/{id}?wait=30")).await.ok()
}
