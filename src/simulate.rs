//! `causeway simulate`: the simulated upstream as a server, in the OpenAI wire format.
//!
//! The worker crate decides the content and timing of answers; this file serves them over HTTP.

use std::{convert::Infallible, io::Write as _, net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, OriginalUri, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use causeway_worker::{
    SimulatedUpstream,
    upstream::{
        SIMULATED,
        simulated::{Ending, MODEL, SimulatedReply},
    },
};
use futures_util::stream;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    config::{Config, Environment},
    listen, logging, open_files,
    signals::Signals,
};

/// The largest request body, in bytes.
const MAX_BODY: usize = 64 << 20;

/// The number of connections for which the limit of open files is raised.
const CONNECTIONS: u64 = 20_000;

/// Serves until a signal arrives.
///
/// # Errors
/// If the port cannot be bound.
pub(crate) async fn run(config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    logging::start(&config.log, environment)?;
    open_files::raise(CONNECTIONS);
    let mut signals = Signals::listen().context("cannot install the signal handlers")?;
    let listener = listen::listen(SocketAddr::new(config.simulated.host, config.simulated.port))?;
    let address = listener.local_addr().context("the listener has no address")?;
    let banner = format!(
        "causeway {}: a SIMULATED upstream, whose answers are made up\n  serving   \
         http://{address}/v1\n  try       causeway up --upstream http://{address}/v1\n",
        env!("CARGO_PKG_VERSION")
    );
    // A process serves even if its standard output is closed.
    drop(std::io::stdout().write_all(banner.as_bytes()));
    tokio::select! {
        ended = serve(listener, SimulatedUpstream::new(config.simulation())) => ended?,
        _ = signals.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(listener: TcpListener, simulated: SimulatedUpstream) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(answer))
        .route("/v1/completions", post(answer))
        .route("/v1/embeddings", post(answer))
        .route("/v1/messages", post(answer))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(simulated));
    axum::serve(listener, routes.into_make_service()).await.context("the server failed")
}

async fn models() -> impl IntoResponse {
    let model = json!({
        "id": MODEL, "object": "model", "created": 0, "owned_by": "causeway-simulated",
    });
    Json(json!({ "object": "list", "data": [model] }))
}

async fn answer(
    State(simulated): State<Arc<SimulatedUpstream>>,
    OriginalUri(uri): OriginalUri,
    body: Bytes,
) -> Response {
    let reply = simulated.reply(uri.path(), &body);
    let mut response = if reply.stream { streamed(reply) } else { whole(reply).await };
    response.headers_mut().insert(SIMULATED, HeaderValue::from_static("true"));
    response
}

async fn whole(mut reply: SimulatedReply) -> Response {
    let mut body = None;
    if let Some((after, data)) = reply.next_piece() {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        body = Some(data);
    }
    match reply.ending {
        Ending::Complete => {}
        // Only the client's time-out ends this call.
        Ending::Hang => std::future::pending().await,
        Ending::Cut => return cut(),
    }
    let status = StatusCode::from_u16(reply.status_code).unwrap_or(StatusCode::OK);
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (status, kind, body.unwrap_or_default()).into_response();
    if let Some(after) = reply.retry_after {
        // The header has whole seconds, and 0 would mean at once.
        let seconds = HeaderValue::from(after.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Returns an answer that breaks off after its first bytes.
fn cut() -> Response {
    let started: Result<Bytes, std::io::Error> = Ok(Bytes::from_static(b"{\"id\":"));
    let broken = Err(std::io::Error::other("simulated cut"));
    Body::from_stream(stream::iter([started, broken])).into_response()
}

fn streamed(reply: SimulatedReply) -> Response {
    let events = stream::unfold(Some(reply), |reply| async move {
        let mut reply = reply?;
        if let Some((after, data)) = reply.next_piece() {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            return Some((Ok(Bytes::from(format!("data: {data}\n\n"))), Some(reply)));
        }
        match reply.ending {
            Ending::Complete => None,
            Ending::Hang => {
                std::future::pending::<Option<Infallible>>().await.map(|never| match never {})
            }
            Ending::Cut => Some((Err(std::io::Error::other("simulated cut")), None)),
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(events)).into_response()
}
