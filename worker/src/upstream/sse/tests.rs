use proptest::prelude::*;

use super::*;

/// Returns the names and data of the events of `pieces`, up to an event with the data `stop`.
fn read(pieces: &[&[u8]]) -> Vec<(String, String)> {
    let (mut reader, mut events) = (EventReader::new(1 << 20), Vec::new());
    for piece in pieces {
        let flow = reader.feed(piece, |event| {
            events.push((event.name.to_owned(), event.data.to_owned()));
            Ok(if event.data == "stop" {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        });
        if flow.unwrap().is_break() {
            break;
        }
    }
    events
}

fn events(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
}

/// A stream, and the names and data of its events.
type Row = (&'static [u8], &'static [(&'static str, &'static str)]);

#[test]
fn a_stream_is_read_by_the_standard() {
    let rows: [Row; 14] = [
        (b"data: a\n\ndata:b\r\rdata:  c\r\n\r\n", &[("", "a"), ("", "b"), ("", " c")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", &[("", "a")]),
        (b"\xef\xbb\xbf\ndata: a\n\n", &[("", "a")]),
        (b": hello\n\n:\n\ndata: a\n: between\ndata: b\n\n", &[("", "a\nb")]),
        (b"data\n\ndata\ndata\n\ndata:", &[("", ""), ("", "\n")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", &[("x", "a"), ("", "b")]),
        (b"event: x\n\ndata: a\n\n", &[("", "a")]),
        (b"event: x\nevent\ndata: a\n\n", &[("", "a")]),
        (b"id: 1\nretry: 5\nother: y\n\ndata: a\n\n", &[("", "a")]),
        (b"data: half\n", &[]),
        (b"data: \xff\xe4\xb8\n\n", &[("", "\u{fffd}\u{fffd}")]),
        (b"error: {\"code\":1}\n\ndata: a\n\n", &[("error", "{\"code\":1}"), ("", "a")]),
        (b"event: error\n\n", &[("error", "")]),
        (b"data: stop\n\ndata: a\n\n", &[("", "stop")]),
    ];
    for (stream, wanted) in rows {
        let text = String::from_utf8_lossy(stream);
        assert_eq!(read(&[stream]), events(wanted), "{text:?}");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), events(wanted), "{text:?} in bytes");
    }
}

/// True if a stream that repeats `piece` is refused after more than 1,000 bytes.
fn is_refused(piece: &[u8]) -> bool {
    let mut reader = EventReader::new(1000);
    let ignore = |_: StreamEvent<'_>| Ok(ControlFlow::Continue(()));
    let fed = (0..1000 / piece.len()).all(|_| reader.feed(piece, ignore).is_ok());
    fed && reader.feed(&[b'\n'; 1000], ignore) == Err(Failure::TooLarge(1000))
}

#[test]
fn all_bytes_count_against_the_bound() {
    for piece in [&b"x"[..], b"data: x\n", b"data: x\n\n", b": alive\n\n", b"\n", b"\r\n"] {
        assert!(is_refused(piece), "{piece:?}");
    }
}

#[test]
fn events_before_the_bound_are_read() {
    let mut reader = EventReader::new(15);
    let piece = b"data: [DONE]\n\nand more than there is room for";
    assert_eq!(reader.feed(piece, |_| Ok(ControlFlow::Break(()))), Ok(ControlFlow::Break(())));
}

/// Generates streams with the bytes that affect a parser.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 17] = [
        b"data: ",
        b"data",
        b"event: x",
        b"event: error",
        b"error: ",
        b"id: 1",
        b": comment",
        b":",
        b" ",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
        "ü世😀".as_bytes(),
        b"\xf0\x9f",
        b"stop",
    ];
    let part = prop::sample::select(parts.to_vec());
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn events_do_not_depend_on_the_pieces(
        stream in stream(),
        cuts in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        prop_assert_eq!(read(&pieces), read(&[&stream]));
    }
}
