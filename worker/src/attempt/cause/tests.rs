use causeway_queue::RawJson;

use super::*;
use crate::failure::ErrorResponse;

const CHAT: &str = "/v1/chat/completions";

fn json(text: &str) -> RawJson {
    RawJson::parse(text.to_owned()).unwrap_or_else(|_| RawJson::string(text))
}

fn refusal(status_code: u16, body: &str) -> ErrorResponse {
    ErrorResponse { status_code, body: json(body), ..ErrorResponse::default() }
}

fn answered(status_code: u16, body: &str) -> Failure {
    Failure::Refused(Box::new(refusal(status_code, body)))
}

fn of(failure: &Failure) -> Cause {
    cause(failure, CHAT).0
}

#[test]
fn every_status_has_its_cause() {
    let rows = [
        (400, Cause::Refused),
        (401, Cause::KeyRefused),
        (402, Cause::BudgetSpent),
        (403, Cause::KeyRefused),
        (404, Cause::ModelMissing),
        (405, Cause::EndpointMissing),
        (407, Cause::KeyRefused),
        (408, Cause::TimedOut),
        (409, Cause::Conflict),
        (413, Cause::Refused),
        (422, Cause::Refused),
        (425, Cause::Conflict),
        (429, Cause::RateLimited),
        (498, Cause::RateLimited),
        (500, Cause::ServerError),
        (501, Cause::Refused),
        (502, Cause::Unavailable),
        (503, Cause::Unavailable),
        (504, Cause::Unavailable),
        (507, Cause::ServerError),
        (520, Cause::Unavailable),
        (524, Cause::Unavailable),
        (529, Cause::Unavailable),
        (599, Cause::ServerError),
    ];
    for (status, wanted) in rows {
        assert_eq!(of(&answered(status, "{}")), wanted, "{status}");
    }
}

#[test]
fn a_named_delay_makes_overload_busy() {
    let after = |status_code, seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        let refusal = ErrorResponse { retry_after, ..refusal(status_code, "{}") };
        cause(&Failure::Refused(Box::new(refusal)), CHAT)
    };
    let three = Some(Duration::from_secs(3));
    assert_eq!(after(503, 3), (Cause::Busy, three));
    assert_eq!(after(529, 3), (Cause::Busy, three));
    assert_eq!(after(503, 0), (Cause::Unavailable, Some(Duration::ZERO)));
    for status in [500, 502, 504] {
        let (cause, named) = after(status, 3);
        assert!(matches!(
            cause.disposition(named),
            Disposition::Upstream { after, .. } | Disposition::Unclear(after) if after == three
        ));
    }
    let google = r#"[{"error":{"code":503,"details":[{"retryDelay":"3s"}]}}]"#;
    assert_eq!(cause(&answered(503, google), CHAT), (Cause::Busy, three));
}

#[test]
fn a_rate_wait_has_a_minimum() {
    let wait = |after| Cause::RateLimited.disposition(after);
    assert_eq!(wait(None), Disposition::Rate(DEFAULT_RATE_WAIT));
    assert_eq!(wait(Some(Duration::ZERO)), Disposition::Rate(DEFAULT_RATE_WAIT));
    assert_eq!(wait(Some(Duration::from_millis(1))), Disposition::Rate(SHORTEST_RATE_WAIT));
    assert_eq!(wait(Some(Duration::from_secs(7))), Disposition::Rate(Duration::from_secs(7)));
}

#[test]
fn a_404_is_classified_by_its_body() {
    let rows = [
        (
            CHAT,
            r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#,
            Cause::ModelMissing,
        ),
        (CHAT, "404 page not found", Cause::ModelMissing),
        (
            CHAT,
            r#"{"error":{"message":"File with id 'file-1' not found","code":null}}"#,
            Cause::Refused,
        ),
        (
            "/v1/responses",
            r#"{"error":{"message":"Previous response with id 'r' not found.","param":"previous_response_id","code":"previous_response_not_found"}}"#,
            Cause::Refused,
        ),
        (
            "/v1/responses",
            r#"{"error":{"message":"Item with id 'rs_1' not found."}}"#,
            Cause::Refused,
        ),
        ("/v1/responses", r#"{"detail":"Not Found"}"#, Cause::EndpointMissing),
        ("/v1/embeddings", r#"{"error":{"message":"m","param":"model"}}"#, Cause::ModelMissing),
        (
            "/v1/embeddings",
            r#"{"error":{"message":"model \"m\" not found, try pulling it first"}}"#,
            Cause::ModelMissing,
        ),
        (
            "/v1/messages",
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#,
            Cause::ModelMissing,
        ),
        (
            "/v1/messages",
            r#"{"type":"error","error":{"type":"not_found_error","message":"File not found: file_1"}}"#,
            Cause::Refused,
        ),
        ("/v1/nothing", r#"{"detail":"Not Found"}"#, Cause::Refused),
        ("/v1/images/generations", r#"{"error":{"code":"model_not_found"}}"#, Cause::ModelMissing),
    ];
    for (url, body, wanted) in rows {
        assert_eq!(cause(&answered(404, body), url).0, wanted, "{url} {body}");
    }
}

#[test]
fn key_and_budget_outweigh_the_status() {
    let rows = [
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: x"}"#,
            Cause::KeyRefused,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
            Cause::KeyRefused,
        ),
        (400, r#"{"error":{"message":"role 'Incorrect API key' is unknown"}}"#, Cause::Refused),
        (
            403,
            r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403}}"#,
            Cause::Refused,
        ),
        (
            403,
            r#"{"error":{"message":"Country, region, or territory not supported"}}"#,
            Cause::KeyRefused,
        ),
        (
            429,
            r#"{"error":{"message":"m","type":"insufficient_quota","code":429}}"#,
            Cause::BudgetSpent,
        ),
        (
            400,
            r#"{"error":{"message":"Your credit balance is too low to access the Anthropic API."}}"#,
            Cause::BudgetSpent,
        ),
    ];
    for (status, body, wanted) in rows {
        assert_eq!(of(&answered(status, body)), wanted, "{status} {body}");
    }
}

#[test]
fn an_error_under_200_is_classified() {
    let rows = [
        (r#"{"error":{"message":"m","code":502}}"#, Cause::Unavailable),
        (r#"{"error":{"message":"m","code":"overloaded"}}"#, Cause::Unavailable),
        (r#"{"error":{"message":"m","code":400}}"#, Cause::Refused),
        (r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, Cause::BudgetSpent),
        (r#"{"error":{"message":"m","type":"authentication_error"}}"#, Cause::KeyRefused),
        (r#"{"error":{"message":"m"}}"#, Cause::UnknownError),
        (r#"{"detail":"m"}"#, Cause::UnknownError),
    ];
    for (body, wanted) in rows {
        assert_eq!(of(&answered(200, body)), wanted, "{body}");
    }
}

#[test]
fn an_error_in_a_stream_is_classified() {
    let rows = [
        (
            r#"{"error":{"object":"error","message":"m","type":"BadRequestError","code":400}}"#,
            Cause::Refused,
        ),
        (r#"{"error":{"message":"m","code":"400"}}"#, Cause::Refused),
        (
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            Cause::Refused,
        ),
        (
            r#"{"error":{"message":"m","type":"authentication_error","code":401}}"#,
            Cause::KeyRefused,
        ),
        (
            r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#,
            Cause::BudgetSpent,
        ),
        (r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, Cause::RateLimited),
        (r#"{"choices":[],"error":{"code":502,"message":"m"}}"#, Cause::ServerError),
        (r#"{"error":{"code":"server_error","message":"m"}}"#, Cause::ServerError),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            Cause::ServerError,
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}"#,
            Cause::Refused,
        ),
        (r#"{"object":"error","message":"m","code":40303}"#, Cause::Refused),
        (r#"{"choices":null,"error_type":"BadRequestError","error_message":"m"}"#, Cause::Refused),
        (r#"{"detail":"m","status_code":500}"#, Cause::ServerError),
        (r#"{"error":{}}"#, Cause::ServerError),
    ];
    for (event, wanted) in rows {
        assert_eq!(of(&Failure::InStream(json(event))), wanted, "{event}");
    }
}

#[test]
fn should_retry_applies_to_job_failures() {
    let advised = |status_code, should_retry| {
        let refusal =
            ErrorResponse { should_retry: Some(should_retry), ..refusal(status_code, "{}") };
        of(&Failure::Refused(Box::new(refusal)))
    };
    assert_eq!(advised(400, true), Cause::RetryAdvised);
    assert_eq!(advised(501, true), Cause::RetryAdvised);
    assert_eq!(advised(500, true), Cause::ServerError);
    assert_eq!(advised(500, false), Cause::RetryDiscouraged);
    assert_eq!(advised(409, false), Cause::RetryDiscouraged);
    assert_eq!(advised(429, false), Cause::RateLimited);
    for status in [502, 503, 504] {
        assert_eq!(advised(status, false), Cause::Unavailable, "{status}");
    }
    assert_eq!(advised(400, false), Cause::Refused);
    assert_eq!(advised(401, false), Cause::KeyRefused);
}

#[test]
fn every_other_failure_has_its_cause() {
    let second = Duration::from_secs(1);
    let why = || "x".to_owned();
    let no_answer = |what| Failure::NoAnswer { status_code: Some(200), what };
    let rows = [
        (Failure::Connect(why()), Cause::Unreachable),
        (Failure::ConnectTimeout, Cause::Unreachable),
        (Failure::FirstByteTimeout(second), Cause::Silent),
        (Failure::Stalled(second), Cause::TimedOut),
        (Failure::TotalTimeout(second), Cause::TimedOut),
        (Failure::Cut(why()), Cause::Cut),
        (Failure::TooLarge(1), Cause::TooLarge),
        (Failure::TooMany(1), Cause::TooLarge),
        (Failure::Unsendable(why()), Cause::Unsendable),
        (Failure::Exhausted(why()), Cause::Exhausted),
        (no_answer(NoAnswer::Redirect(None)), Cause::Redirected),
        (no_answer(NoAnswer::Empty), Cause::NoAnswer),
        (no_answer(NoAnswer::WebPage(None)), Cause::NoAnswer),
        (no_answer(NoAnswer::Coding(why())), Cause::Unreadable),
        (no_answer(NoAnswer::Unreadable(why())), Cause::Unreadable),
        (no_answer(NoAnswer::Stream(why())), Cause::Unreadable),
        (no_answer(NoAnswer::Whole), Cause::Unreadable),
    ];
    for (failure, wanted) in rows {
        assert_eq!(of(&failure), wanted, "{failure:?}");
    }
}

/// Every cause with its description in the table of ARCHITECTURE.md. A test checks the leading statuses of each.
const TABLE: [(Cause, &str); 23] = [
    (Cause::Unreachable, "no connection: refused, no route, DNS, TLS, `timeouts.connect`"),
    (Cause::Silent, "no first byte within `timeouts.first_byte`"),
    (Cause::Unavailable, "502, 504, 508, 511, 520 to 530; 503 and 529 that name no time"),
    (Cause::Busy, "a time that 503 or 529 names"),
    (Cause::RateLimited, "429, 498"),
    (Cause::BudgetSpent, "402; a spent budget under any status, by code, type or words"),
    (Cause::KeyRefused, "401, 403, 407; a refused key under any status"),
    (
        Cause::ModelMissing,
        "404; of other endpoints than chat and completions if it names the model",
    ),
    (Cause::EndpointMissing, "405; a 404 of embeddings, responses or messages that names no model"),
    (Cause::Redirected, "a redirect (3xx), which is not followed"),
    (Cause::NoAnswer, "no body, 1xx, 204, 205; a web page"),
    (Cause::Unreadable, "a body that is not the endpoint's JSON, or in an unknown coding; no HTTP"),
    (
        Cause::UnknownError,
        "an error under 200 that states no status; one that does is judged by it",
    ),
    (Cause::ServerError, "500; every other 5xx; a 5xx within a stream"),
    (Cause::Cut, "an answer that breaks off: connection, stream, JSON or coding"),
    (Cause::TimedOut, "408; silence for `timeouts.between_bytes`; `timeouts.total`"),
    (Cause::Conflict, "409, 425"),
    (Cause::RetryAdvised, "`x-should-retry: true` where the job would fail"),
    (
        Cause::Refused,
        "400, 413, 422, 501; every other 4xx; a 404 of an object or endpoint that only the job names",
    ),
    (
        Cause::RetryDiscouraged,
        "`x-should-retry: false` where the failure would be unclear or retried",
    ),
    (Cause::TooLarge, "an answer above `max_response_bytes`"),
    (Cause::Unsendable, "a request that cannot be sent"),
    (Cause::Exhausted, "no file, port or memory left to the worker"),
];

const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");

fn owner(cause: Cause) -> &'static str {
    match cause.disposition(None) {
        Disposition::Rate(_) => "rate",
        Disposition::Unavailable(_) => "lane, until then",
        Disposition::Upstream { at_once: false, .. } => "lane",
        Disposition::Upstream { at_once: true, .. } => "lane, at once",
        Disposition::Unclear(_) => "unclear",
        Disposition::Retry(_) => "job, retried",
        Disposition::Fatal => "job",
        Disposition::Released(_) => "worker",
    }
}

/// Returns the rows of the document's table with this head.
fn rows(head: &str) -> Vec<&'static str> {
    let lines = ARCHITECTURE.lines().skip_while(move |line| *line != head).skip(2);
    lines.take_while(|line| line.starts_with('|')).collect()
}

#[test]
fn the_table_of_owners_equals_the_match() {
    let row = |(cause, words): (Cause, &str)| {
        format!("| {words} | {} | `{}` |", owner(cause), cause.code())
    };
    assert_eq!(rows("| cause | owner | `error.code` |"), TABLE.map(row));
}

#[test]
fn every_owner_has_its_consequence() {
    let mut owners: Vec<&str> = TABLE.iter().map(|(cause, _)| owner(*cause)).collect();
    owners.sort_unstable();
    owners.dedup();
    let mut documented: Vec<&str> =
        rows("| owner | then |").iter().filter_map(|row| row.split(" | ").next()).collect();
    documented.iter_mut().for_each(|owner| *owner = owner.trim_start_matches("| "));
    documented.sort_unstable();
    assert_eq!(documented, owners);
}

#[test]
fn the_table_states_the_right_statuses() {
    let mut count = 0;
    for (cause, words) in TABLE {
        for status in statuses(words) {
            assert_eq!(of(&answered(status, "{}")), cause, "{status}");
            count += 1;
        }
    }
    assert_eq!(count, 31);
}

/// Returns the statuses at the beginning of a text, such as 1, 4, 5 and 6 of `1, 4 to 6; 9 is another`.
fn statuses(words: &str) -> Vec<u16> {
    let list = words.split(';').next().unwrap_or_default();
    let range = |part: &str| match part.split_once(" to ") {
        Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
        None => part.parse().ok().map(|status| status..=status),
    };
    list.split(", ").map_while(range).flatten().collect()
}
