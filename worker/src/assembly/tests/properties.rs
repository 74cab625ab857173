use proptest::prelude::*;

use super::*;
use crate::{
    assembly::chunk::{StreamChunk, array},
    upstream::sse::EventReader,
};

/// Generates chunks with the parts that affect joining and merging.
fn chunk() -> impl Strategy<Value = String> {
    let delta = prop::sample::select(vec![
        r#"{"content":"a"}"#,
        r#"{"content":" b\n"}"#,
        r#"{"content":"\ud83d"}"#,
        r#"{"content":"\ude00"}"#,
        r#"{"content":"ü世😀"}"#,
        r#"{"content":""}"#,
        r#"{"content":null}"#,
        r#"{"role":"assistant","content":"c"}"#,
        r#"{"content":[{"type":"text","text":"p"}]}"#,
        r#"{"reasoning_content":"r"}"#,
        r#"{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"u","function":{"name":"g","arguments":"1"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"2"}}]}"#,
        "{}",
    ]);
    let beside = prop::sample::select(vec![
        "",
        "",
        "",
        r#","logprobs":{"content":[{"token":"a","logprob":-0.1}]}"#,
        r#","token_ids":[11]"#,
        r#","finish_reason":null"#,
        r#","finish_reason":"stop""#,
    ]);
    let top = prop::sample::select(vec![
        "",
        "",
        "",
        r#","usage":null"#,
        r#","usage":{"prompt_tokens":1}"#,
        r#","created":1"#,
        r#","created":2"#,
        r#","citations":["u"]"#,
        r#","x":12345678901234567890123"#,
    ]);
    (0_u64..2, delta, beside, top).prop_map(|(index, delta, beside, top)| {
        format!(
            r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":{index},"delta":{delta}{beside}}}]{top}}}"#
        )
    })
}

/// Generates content without meaning between two events.
fn noise() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "",
        "",
        ": alive\n\n",
        "event: ping\ndata:\n\n",
        "\r\n",
        "id: 1\n\n",
    ])
}

fn stream() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    let ends = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    (prop::collection::vec((chunk(), noise()), 1..30), ends).prop_map(|(chunks, end)| {
        let mut bytes = Vec::new();
        for (chunk, noise) in &chunks {
            bytes.extend_from_slice(format!("data: {chunk}{end}{end}{noise}").as_bytes());
        }
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        (chunks.into_iter().map(|(chunk, _)| chunk).collect(), bytes)
    })
}

/// Feeds `bytes` in pieces of `sizes`; returns the chunks for readers, and the answer.
fn fed(bytes: &[u8], sizes: &[usize]) -> (Vec<StreamChunk>, String) {
    let (mut reader, mut assembly) = (EventReader::new(MAX), Assembly::new(CHAT, MAX));
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        let flow = reader.feed(piece, |event| match assembly.take(event)? {
            ControlFlow::Break(chunk) => {
                chunks.extend(chunk);
                Ok(ControlFlow::Break(()))
            }
            ControlFlow::Continue(chunk) => {
                chunks.extend(chunk);
                Ok(ControlFlow::Continue(()))
            }
        });
        if flow.unwrap().is_break() {
            break;
        }
        rest = behind;
    }
    (chunks, assembly.finish().unwrap().as_str().to_owned())
}

/// Returns the chunks as they are stored, joined within windows of these sizes.
fn joined(chunks: Vec<StreamChunk>, windows: &[usize]) -> Vec<String> {
    let (mut stored, mut window) = (Vec::new(), Vec::<StreamChunk>::new());
    let mut sizes = windows.iter().cycle();
    let mut room = *sizes.next().unwrap();
    let mut store = |window: &mut Vec<StreamChunk>| {
        let all = array(&std::mem::take(window));
        stored.extend(
            causeway_queue::json::items(all.as_str()).unwrap().into_iter().map(str::to_owned),
        );
    };
    for chunk in chunks {
        let apart = match window.last_mut() {
            Some(last) => last.join(chunk),
            None => Some(chunk),
        };
        window.extend(apart);
        room -= 1;
        if room == 0 {
            store(&mut window);
            room = *sizes.next().unwrap();
        }
    }
    store(&mut window);
    stored
}

/// Returns a chunk without its text.
fn without_text(chunk: &str) -> String {
    let mut chunk: Value = serde_json::from_str(&repair_surrogates(chunk)).unwrap();
    if let Some(content) = chunk.pointer_mut("/choices/0/delta/content").filter(|it| it.is_string())
    {
        *content = json!("");
    }
    chunk.to_string()
}

proptest! {
    #[test]
    fn pieces_and_windows_change_nothing(
        (events, bytes) in stream(),
        sizes in prop::collection::vec(1_usize..200, 1..10),
        windows in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let whole = assembled(CHAT, &[events.as_slice(), &["[DONE]".to_owned()]].concat()).unwrap();
        let (chunks, of_pieces) = fed(&bytes, &sizes);
        prop_assert_eq!(&of_pieces, &whole);
        let stored = joined(chunks, &windows);
        let again = assembled(CHAT, &[stored.as_slice(), &["[DONE]".to_owned()]].concat()).unwrap();
        prop_assert_eq!(again, whole);
        // Only texts are joined; all other chunks are stored as they arrived.
        let mut kinds: Vec<String> = events.iter().map(|event| without_text(event)).collect();
        kinds.dedup();
        let mut kept: Vec<String> = stored.iter().map(|chunk| without_text(chunk)).collect();
        kept.dedup();
        prop_assert_eq!(kept, kinds);
    }

    #[test]
    fn no_stream_panics(events in prop::collection::vec("[\\[\\]{}\",:a-z0-9 \\\\]{0,40}", 0..10)) {
        for url in [CHAT, TEXT, MESSAGES, RESPONSES, "/other"] {
            drop(assembled(url, &events));
        }
    }
}
