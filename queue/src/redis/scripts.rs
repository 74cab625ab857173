//! The scripts, each with what it stands on before it: every one with `lua/base.lua`, those that
//! change jobs or look at the order with the engine too.
//!
//! Redis's Lua is 5.1, where every constant is a variable that each function has to capture. So the
//! scripts declare numbers as Lua 5.4 does, `local RUNNING <const> = 3`, and the loader puts them in.

use std::{collections::HashMap, time::Duration};

use redis::Script;

use crate::{
    clock::millis,
    policy::{PROMOTE_AT_ONCE, Policy},
};

/// Declares the scripts by their file names, after what stands above each.
macro_rules! scripts {
    ($($above:ident: [$($(#[$only:meta])* $name:ident),+ $(,)?]),+ $(,)?) => {
        /// Every transition and every view, ready to be called.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $($($(#[$only])* pub(super) $name: Script,)+)+
        }

        impl Scripts {
            /// The scripts under `policy`.
            pub(super) fn new(policy: &Policy) -> Self {
                let above = Above::new(policy);
                let make = |above: &str, text: &str| Script::new(&inlined(&format!("{above}{text}")));
                Self {
                    $($($(#[$only])* $name: make(
                        &above.$above,
                        include_str!(concat!("lua/", stringify!($name), ".lua")),
                    ),)+)+
                }
            }
        }
    };
}

scripts!(
    base: [beat, conversations, emit, forget, throttle],
    engine: [
        #[cfg(feature = "conformance")]
        audit,
        cancel,
        enqueue,
        get,
        limits,
        list,
        pause,
        reap,
        reconcile,
        retry,
        stats,
        step,
    ],
);

/// What stands above scripts.
struct Above {
    base: String,
    engine: String,
}

impl Above {
    fn new(policy: &Policy) -> Self {
        let base = include_str!("lua/base.lua").to_owned();
        let Policy { retention, max_stalls, max_dead } = policy;
        // A key must live for at least a millisecond to be written at all.
        let retention = millis((*retention).max(Duration::from_millis(1)));
        let engine = format!(
            "{base}local RETENTION, MAX_STALLS, MAX_DEAD, AT_ONCE = \
         {retention}, {max_stalls}, {max_dead}, {PROMOTE_AT_ONCE}\n{}{}{}",
            include_str!("lua/flows.lua"),
            include_str!("lua/jobs.lua"),
            include_str!("lua/ends.lua")
        );
        Self { base, engine }
    }
}

/// `script` with its constants put in; every line stays where it was.
fn inlined(script: &str) -> String {
    let mut constants = HashMap::new();
    let mut lines = Vec::new();
    for line in script.lines() {
        match line.strip_prefix("local ").filter(|rest| rest.contains("<const>")) {
            Some(rest) => {
                let (names, values) = rest.split_once('=').unwrap_or_default();
                let names = names.split(',').map(|name| name.replace("<const>", ""));
                let values = values.split(',').map(str::trim);
                constants.extend(names.map(|name| name.trim().to_owned()).zip(values));
                lines.push(String::new());
            }
            None => lines.push(replaced(line, &constants)),
        }
    }
    lines.join("\n")
}

/// `line` with each word that is a constant's name replaced by its value.
fn replaced(line: &str, constants: &HashMap<String, &str>) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let in_word = rest.starts_with(is_word);
        let end = rest.find(|c| is_word(c) != in_word).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        text.push_str(constants.get(part).unwrap_or(&part));
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stand_where_their_names_stood() {
        let script = "local A <const>, B_C <const> = 1, 22\nlocal AB = t[A + B_C] .. 'x'\nreturn A";
        assert_eq!(inlined(script), "\nlocal AB = t[1 + 22] .. 'x'\nreturn 1");
    }
}
