use super::*;

/// Returns id, name and arguments of the calls that result from `lists` of parts, one list per chunk.
fn calls(lists: &[&str]) -> Vec<(String, String, String)> {
    let deltas: Vec<String> =
        lists.iter().map(|list| format!(r#"{{"tool_calls":[{list}]}}"#)).collect();
    let deltas: Vec<&str> = deltas.iter().map(String::as_str).collect();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let message = message(&deltas);
    let calls = message["tool_calls"].as_array().unwrap();
    let texts = calls.iter().map(|call| {
        assert_eq!((&call["type"], call.get("index")), (&json!("function"), None));
        let function = &call["function"];
        (text(&call["id"]), text(&function["name"]), text(&function["arguments"]))
    });
    texts.collect()
}

fn wanted(calls: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    calls.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

/// A case: its name, the list of parts of each chunk, and the resulting calls.
type Row =
    (&'static str, &'static [&'static str], &'static [(&'static str, &'static str, &'static str)]);

const TWO: &[(&str, &str, &str)] = &[("a", "f", "{1}"), ("b", "g", "{2}")];

const ROWS: [Row; 14] = [
    (
        "as OpenAI sends them",
        &[
            r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}"#,
            r#"{"index":0,"function":{"arguments":"{1"}}"#,
            r#"{"index":0,"function":{"arguments":"}"}}"#,
            r#"{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{2}"}}"#,
        ],
        TWO,
    ),
    (
        "in turns",
        &[
            r#"{"index":0,"id":"a","function":{"name":"f"}},{"index":1,"id":"b","function":{"name":"g"}}"#,
            r#"{"index":1,"function":{"arguments":"{2"}},{"index":0,"function":{"arguments":"{1"}}"#,
            r#"{"index":0,"function":{"arguments":"}"}},{"index":1,"function":{"arguments":"}"}}"#,
        ],
        TWO,
    ),
    (
        "the second index first",
        &[
            r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{2}"}}"#,
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{1}"}}"#,
        ],
        TWO,
    ),
    (
        "all of index 0",
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{1}"}}"#,
            r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{2}"}}"#,
        ],
        TWO,
    ),
    (
        "without indexes",
        &[
            r#"{"id":"a","function":{"name":"f","arguments":"{1}"}},{"id":"b","function":{"name":"g","arguments":"{2}"}}"#,
        ],
        TWO,
    ),
    (
        "without indexes, in parts with ids",
        &[
            r#"{"id":"a","function":{"name":"f","arguments":"{1"}}"#,
            r#"{"id":"b","function":{"name":"g","arguments":"{2"}}"#,
            r#"{"id":"a","function":{"arguments":"}"}},{"id":"b","function":{"arguments":"}"}}"#,
        ],
        TWO,
    ),
    (
        "without indexes, in parts without ids",
        &[
            r#"{"id":"a","function":{"name":"f","arguments":"{1"}}"#,
            r#"{"function":{"arguments":"}"}}"#,
            r#"{"id":"b","function":{"name":"g","arguments":"{2"}}"#,
            r#"{"id":"","function":{"name":"","arguments":"}"}}"#,
        ],
        TWO,
    ),
    (
        "without indexes and ids",
        &[
            r#"{"function":{"name":"f","arguments":"{}"}}"#,
            r#"{"function":{"name":"f","arguments":"{2"}}"#,
            r#"{"function":{"arguments":"}"}}"#,
            r#"{"function":{"name":"g","arguments":"{3}"}}"#,
        ],
        &[("-", "f", "{}"), ("-", "f", "{2}"), ("-", "g", "{3}")],
    ),
    (
        "all of index 0, without ids",
        &[
            r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":0,"function":{"name":"g","arguments":"{}"}}"#,
        ],
        &[("-", "f", "{}"), ("-", "g", "{}")],
    ),
    (
        "id, type and name with every part",
        &[
            r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{1"}}"#,
            r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"}"}}"#,
        ],
        &[("a", "f", "{1}")],
    ),
    (
        "an id of its own with every part",
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{1"}}"#,
            r#"{"index":0,"id":"x","function":{"arguments":"}"}}"#,
            r#"{"index":0,"id":"y","function":{"name":null,"arguments":""}}"#,
        ],
        &[("a", "f", "{1}")],
    ),
    (
        "one id of two indexes",
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{1}"}}"#,
            r#"{"index":1,"id":"a","function":{"name":"g","arguments":"{2}"}}"#,
        ],
        &[("a", "f", "{1}"), ("a", "g", "{2}")],
    ),
    (
        "empty ids, names and null arguments",
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":null}}"#,
            r#"{"index":0,"id":"","type":null,"function":{"name":"","arguments":"{1}"}}"#,
        ],
        &[("a", "f", "{1}")],
    ),
    (
        "a name in parts, no arguments",
        &[
            r#"{"index":0,"id":"a","function":{"name":"get_"}}"#,
            r#"{"index":0,"function":{"name":"time"}}"#,
        ],
        &[("a", "get_time", "")],
    ),
];

#[test]
fn calls_are_separated() {
    for (name, lists, texts) in ROWS {
        assert_eq!(calls(lists), wanted(texts), "{name}");
    }
}
