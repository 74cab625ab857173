//! N users who send one message each at the same moment.
//!
//! Each user opens a connection at that moment, not before, and the user's wait counts from then
//! until the whole answer has arrived. The number of concurrent users is not limited.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::target::Target;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The load of an experiment.
#[derive(Debug)]
pub(super) struct Plan {
    /// The address to which the users post.
    pub(super) target: Target,
    /// The number of users.
    pub(super) users: u32,
    /// The time after which a user gives up.
    pub(super) timeout: Duration,
}

/// The result of one user's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VisitOutcome {
    /// The answer arrived.
    Completed,
    /// No answer arrived before the user gave up.
    TimedOut,
    /// The message failed; the text is the kind of failure, by which failures are counted.
    Failed(String),
}

/// The result and wait of one user.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// The time from the common moment to the end of the answer, or to the failure.
    pub(super) wait: Duration,
    /// The result.
    pub(super) outcome: VisitOutcome,
}

/// Sends all messages, and calls `done` as each ends. The results are in no particular order.
pub(super) async fn run(plan: Plan, mut done: impl FnMut(&Visit)) -> Vec<Visit> {
    let plan = Arc::new(plan);
    // All tasks exist before the common moment: their creation is no part of a wait.
    let (press_enter, moment) = watch::channel(None);
    let mut users = JoinSet::new();
    for user in 0..plan.users {
        let (plan, mut moment) = (Arc::clone(&plan), moment.clone());
        users.spawn(async move {
            match moment.wait_for(Option::is_some).await.map(|start| *start) {
                Ok(Some(start)) => visit(&plan, user, start).await,
                Ok(None) | Err(_) => failed("never started"),
            }
        });
    }
    press_enter.send_replace(Some(Instant::now()));
    let mut visits = Vec::with_capacity(plan.users as usize);
    while let Some(visit) = users.join_next().await {
        let visit = visit.unwrap_or_else(|_| failed("the client task failed"));
        done(&visit);
        visits.push(visit);
    }
    visits
}

fn failed(kind: &str) -> Visit {
    Visit { wait: Duration::ZERO, outcome: VisitOutcome::Failed(kind.to_owned()) }
}

async fn visit(plan: &Plan, user: u32, start: Instant) -> Visit {
    let exchange = timeout_at(start + plan.timeout, exchange(plan, user)).await;
    let outcome = match exchange {
        Ok(Ok((status, body))) => classify(status, &body),
        Ok(Err(failure)) => VisitOutcome::Failed(failure),
        Err(_) => VisitOutcome::TimedOut,
    };
    Visit { wait: start.elapsed(), outcome }
}

/// Sends one request over a new connection; the error is the kind of failure.
async fn exchange(plan: &Plan, user: u32) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(plan.target.address).await.map_err(|error| of_io(&error))?;
    stream.set_nodelay(true).map_err(|error| of_io(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| of_http(&error))?;
    let request = Request::post(&plan.target.path)
        .header(header::HOST, &plan.target.host)
        .header(header::CONTENT_TYPE, "application/json")
        // A user's next message would use another connection.
        .header(header::CONNECTION, "close")
        .body(Full::new(message(user)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| of_http(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast_ref() {
            Some(error) => of_http(error),
            None => "an answer of more than 1 MiB".to_owned(),
        })?;
        Ok((status, body.to_bytes()))
    };
    // hyper needs the connection to be polled while the answer is awaited; it may end first.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        closed = &mut connection => match closed {
            Ok(()) => answer.await,
            Err(error) => Err(of_http(&error)),
        },
    }
}

fn message(user: u32) -> Bytes {
    let message = serde_json::json!({
        "user_id": format!("user-{user}"),
        "username": format!("User {user}"),
        "message": "Hello, is anybody there?",
        "room": "The Tower",
    });
    message.to_string().into()
}

/// Classifies an answer: it counts if it is a 200 with a `response`, as the bridge promises.
fn classify(status: StatusCode, body: &[u8]) -> VisitOutcome {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let answered = body.get("response").is_some_and(serde_json::Value::is_string);
    match status {
        StatusCode::OK if answered => VisitOutcome::Completed,
        StatusCode::ACCEPTED if !answered => {
            VisitOutcome::Failed("accepted, no answer yet".to_owned())
        }
        StatusCode::OK => VisitOutcome::Failed("200 without a `response`".to_owned()),
        other => VisitOutcome::Failed(format!("HTTP {}", other.as_u16())),
    }
}

fn of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

fn of_http(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match source {
        Some(error) => of_io(error),
        None if error.is_incomplete_message() => "connection closed without an answer".to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn only_a_response_counts_as_completed() {
        let failed = |kind: &str| VisitOutcome::Failed(kind.to_owned());
        for (status, body, outcome) in [
            (200, r#"{"response":"hi"}"#, VisitOutcome::Completed),
            (200, r#"{"text":"hi"}"#, failed("200 without a `response`")),
            (202, r#"{"job_id":"job_1"}"#, failed("accepted, no answer yet")),
            (429, r#"{"error":{}}"#, failed("HTTP 429")),
            (500, "no JSON", failed("HTTP 500")),
        ] {
            assert_eq!(classify(StatusCode::from_u16(status).unwrap(), body.as_bytes()), outcome);
        }
    }

    /// Answers the n-th connection with the n-th text and closes it; `None` keeps it open.
    async fn serve(listener: TcpListener, answers: [Option<&'static str>; 4]) {
        let mut kept = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            match answer {
                Some(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                None => kept.push(stream),
            }
        }
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn every_user_is_counted_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = Plan {
            target: Target {
                address: listener.local_addr().unwrap(),
                host: "test".to_owned(),
                path: "/bridge/chat".to_owned(),
            },
            users: 4,
            timeout: Duration::from_millis(300),
        };
        let with_length = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"response\":\"hi\"}";
        let until_close = "HTTP/1.0 200 OK\r\n\r\n{\"response\":\"hi\"}";
        let answers = [Some(with_length), Some(until_close), Some(""), None];
        let mut seen = 0;
        let visits = tokio::select! {
            visits = run(plan, |_| seen += 1) => visits,
            () = serve(listener, answers) => unreachable!("the server never stops"),
        };
        let count =
            |outcome: &VisitOutcome| visits.iter().filter(|v| v.outcome == *outcome).count();
        assert_eq!((seen, visits.len()), (4, 4));
        assert_eq!(count(&VisitOutcome::Completed), 2, "{visits:?}");
        assert_eq!(count(&VisitOutcome::TimedOut), 1, "{visits:?}");
        let closed = VisitOutcome::Failed("connection closed without an answer".to_owned());
        assert_eq!(count(&closed), 1, "{visits:?}");
    }
}
