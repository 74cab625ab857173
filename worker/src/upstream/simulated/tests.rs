use causeway_queue::clock::Millis;

use super::*;

fn all(settings: SimulatedSettings, body: &Value) -> (Duration, Vec<String>) {
    let mut reply =
        SimulatedUpstream::new(settings).reply("/v1/chat/completions", body.to_string().as_bytes());
    let (mut time, mut pieces) = (Duration::ZERO, Vec::new());
    while let Some((after, data)) = reply.next_piece() {
        time += after;
        pieces.push(data);
    }
    (time, pieces)
}

fn request(stream: bool) -> Value {
    json!({ "messages": [{ "role": "user", "content": "hello" }], "stream": stream,
        "max_tokens": 4, "stream_options": { "include_usage": true } })
}

#[test]
fn an_answer_is_marked_and_timed() {
    let settings = SimulatedSettings { tokens_per_s: 10.0, ..SimulatedSettings::default() };
    let (time, pieces) = all(settings.clone(), &request(false));
    assert_eq!(time, Duration::from_millis(500));
    let body: Value = serde_json::from_str(&pieces[0]).unwrap();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text, "Simulated answer to: hello and so the");
    assert_eq!(body["usage"]["completion_tokens"], 4);
    let (time, pieces) = all(settings, &request(true));
    assert_eq!(time, Duration::from_millis(500));
    assert_eq!(pieces.len(), 4 + 3);
    assert_eq!(pieces.last().unwrap(), "[DONE]");
}

#[test]
fn a_call_has_its_fixed_duration() {
    let call = Some(Duration::from_secs(4));
    let settings = SimulatedSettings { call, ..SimulatedSettings::default() };
    for stream in [false, true] {
        assert_eq!(all(settings.clone(), &request(stream)).0, Duration::from_secs(4));
    }
}

#[test]
fn stamps_hold_number_and_due_time() {
    let simulated =
        SimulatedUpstream::new(SimulatedSettings { stamps: true, ..Default::default() });
    let mut reply = simulated.reply("/v1/chat/completions", request(true).to_string().as_bytes());
    for wanted in 0..4 {
        let before = simulated.clock.now();
        let (after, data) = reply.next_piece().unwrap();
        let chunk: Value = serde_json::from_str(&data).unwrap();
        let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap();
        let (number, due) = text.trim().split_once('@').unwrap();
        assert_eq!(number, wanted.to_string());
        let due = Millis(due.parse().unwrap());
        assert!((before.after(after)..=simulated.clock.now().after(after)).contains(&due));
    }
}

#[test]
fn a_seed_fixes_the_failures() {
    let failures = FailureMix { rate_limited: 0.2, error: 0.3, ..FailureMix::default() };
    let statuses = || {
        let settings = SimulatedSettings { failures, ..SimulatedSettings::default() };
        let simulated = SimulatedUpstream::new(settings);
        let status = |_| simulated.reply("/v1/chat/completions", b"{}").status_code;
        (0..2000).map(status).collect::<Vec<u16>>()
    };
    let first = statuses();
    let count = |wanted: u16| first.iter().filter(|status| **status == wanted).count();
    assert!((300..500).contains(&count(429)), "{}", count(429));
    assert!((500..700).contains(&count(500)), "{}", count(500));
    assert_eq!(first, statuses());
}
