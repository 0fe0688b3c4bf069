use proptest::prelude::*;

use super::*;
use crate::keys::Key;

/// Returns the keys in the notation of the settings file, and other events by name.
fn describe(event: &Event) -> String {
    match event {
        Event::Key(key) => Key::from_event(*key).to_string(),
        Event::Paste(text) => format!("paste:{text}"),
        Event::Mouse(mouse) => format!("{:?}@{},{}", mouse.kind, mouse.column, mouse.row),
        other => format!("{other:?}"),
    }
}

/// Returns the events of bytes that arrive in one read, with a pause after them.
fn decoded(bytes: &[u8]) -> String {
    let mut decoder = Decoder::default();
    decoder.add(bytes);
    let mut events = Vec::new();
    loop {
        match decoder.next_event() {
            Some(event) => events.push(describe(&event)),
            None if decoder.is_incomplete() => events.extend(decoder.time_out().as_ref().map(describe)),
            None => return events.join(" "),
        }
    }
}

#[test]
fn keys_and_sequences_are_decoded() {
    for (bytes, expected) in [
        ("q", "q"),
        ("G", "G"),
        ("\r\t\x7f", "enter tab backspace"),
        ("\x03\x12\x00\x1f", "ctrl-c ctrl-r ctrl-space ctrl-7"),
        ("é€😀", "é € 😀"),
        ("\x1b[A\x1b[B\x1b[C\x1b[D", "up down right left"),
        ("\x1bOA\x1bOH\x1bOF", "up home end"),
        ("\x1bOP\x1bOQ\x1bOR\x1bOS", "f1 f2 f3 f4"),
        ("\x1b[[A\x1b[[E", "f1 f5"),
        ("\x1b[5~\x1b[6~\x1b[3~\x1b[1~\x1b[4~", "pageup pagedown delete home end"),
        ("\x1b[15~\x1b[17~\x1b[24~", "f5 f6 f12"),
        ("\x1b[Z", "backtab"),
        ("\x1b[1;2D\x1b[1;3C\x1b[1;5A", "shift-left alt-right ctrl-up"),
        ("\x1b[1;2R\x1b[3;5~", "shift-f3 ctrl-delete"),
        ("\x1b[97;5u\x1b[27u", "ctrl-a esc"),
        ("\x1b[200~a b\nc\x1b[201~q", "paste:a b\nc q"),
        ("\x1b[<0;5;3M\x1b[<0;5;3m", "Down(Left)@4,2 Up(Left)@4,2"),
        (
            "\x1b[<64;1;1M\x1b[<65;1;1M\x1b[<35;2;2M",
            "ScrollUp@0,0 ScrollDown@0,0 Moved@1,1",
        ),
        ("\x1b[M !!", "Down(Left)@0,0"),
        ("\x1b[32;4;5M", "Down(Left)@3,4"),
    ] {
        assert_eq!(decoded(bytes.as_bytes()), expected, "{bytes:?}");
    }
}

/// The event loop takes a key with Alt for Escape and the key, if no action has it.
#[test]
fn no_key_after_escape_is_swallowed() {
    for (bytes, expected) in [
        ("\x1b", "esc"),
        ("\x1b\x1b", "esc esc"),
        ("\x1bq", "alt-q"),
        ("\x1b2\r", "alt-2 enter"),
        ("\x1b\r", "alt-enter"),
        ("\x1b\x1b[B", "esc down"),
        ("\x1b\x1bOB", "esc down"),
        ("\x1b[", "alt-["),
        ("\x1bO", "alt-O"),
        ("\x1b[q", "alt-[ q"),
        ("\x1bOx", "alt-O x"),
        ("\x1b[\r", "alt-[ enter"),
        ("\x1bé", "alt-é"),
        ("\x1b\x12", "ctrl-alt-r"),
    ] {
        assert_eq!(decoded(bytes.as_bytes()), expected, "{bytes:?}");
    }
}

/// Focus reports, answers of the terminal, bytes that are not UTF-8, and sequences that were cut off.
#[test]
fn what_is_no_key_is_left_out_and_the_next_key_is_not() {
    for bytes in [
        "\x1b[I".as_bytes(),
        b"\x1b[O",
        b"\x1b[?62;c",
        b"\x1b[12;40R",
        b"\x1b[99~",
        b"\xff\xfe",
        b"\x1b[1;",
    ] {
        let mut decoder = Decoder::default();
        decoder.add(bytes);
        decoder.add(b"\x1b[A");
        let events: Vec<_> = std::iter::from_fn(|| decoder.next_event())
            .map(|e| describe(&e))
            .collect();
        assert_eq!(events, ["up"], "{bytes:?}");
    }
}

#[test]
fn a_paste_without_an_end_is_not_kept_forever() {
    let mut decoder = Decoder::default();
    decoder.add(b"\x1b[200~abc");
    assert_eq!(decoder.next_event(), None);
    assert!(decoder.is_in_paste());
    assert_eq!(decoder.time_out(), Some(Event::Paste("abc".to_owned())));
    decoder.add(b"\x1b[200~");
    decoder.add(&vec![b'x'; PASTE_BYTES_MAX + 1]);
    assert!(matches!(decoder.next_event(), Some(Event::Paste(text)) if text.len() == PASTE_BYTES_MAX + 1));
    assert!(!decoder.is_incomplete());
}

proptest! {
    /// However a terminal or a connection cuts the bytes, the events are the same.
    #[test]
    fn events_do_not_depend_on_the_reads(
        parts in prop::collection::vec(
            prop::sample::select(vec!["q", "\x1b[A", "\x1bOP", "\x1b[1;5C", "é", "\x1b[<0;12;3M", "\x1bx", "\x1b[200~hi\x1b[201~", "\r"]),
            1..12,
        ),
        cuts in prop::collection::vec(1usize..6, 1..80),
    ) {
        let bytes = parts.concat().into_bytes();
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (read, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            decoder.add(read);
            events.extend(std::iter::from_fn(|| decoder.next_event()).map(|event| describe(&event)));
            rest = left;
        }
        prop_assert_eq!(events.join(" "), decoded(&bytes));
    }

    #[test]
    fn no_bytes_panic_or_wait_forever(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decoded(&bytes);
    }
}
