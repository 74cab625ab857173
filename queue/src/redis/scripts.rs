//! The scripts: the files of `lua/`, one library of functions (FUNCTION LOAD, Redis 7.0). A server
//! makes a library's closures once, when it loads it; a script of EVALSHA makes all of them anew for
//! each call.
//!
//! Redis's Lua is 5.1, where every constant is a variable that each function has to capture. So the
//! scripts declare numbers as Lua 5.4 does, `local RUNNING <const> = 3`, and the loader puts them in.

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    clock::millis,
    fair::{MOST_COMPLETION_OF_MEAN, MOST_TOKENS},
    health::{
        CALM, FAILURES, FIRST_COOL_DOWN, KEPT_BACK, LONGEST_COOL_DOWN, MOST_PASSED_OVER,
        PROBE_AFTER, PROOF, SAME_JOB_AFTER, SUSPECTS,
    },
    policy::{LAYOUT_GRACE, PROMOTE_AT_ONCE, Policy},
    workers::{FORGET_AFTER, MAX_WORKERS},
};

/// Declares the functions by their file names, after the flags of FUNCTION LOAD; each file puts the
/// function that it is named for into `functions`.
macro_rules! functions {
    ($($flags:literal: [$($(#[$only:meta])* $name:ident),+ $(,)?]),+ $(,)?) => {
        /// Every transition and every view, by the name under which the server knows it.
        #[derive(Debug)]
        pub(super) struct Scripts {
            /// The library, as FUNCTION LOAD takes it.
            pub(super) library: String,
            $($($(#[$only])* pub(super) $name: String,)+)+
        }

        impl Scripts {
            /// The scripts under `policy`.
            pub(super) fn new(policy: &Policy) -> Self {
                let mut library = Library::new(policy);
                $($($(#[$only])* library.add(
                    stringify!($name),
                    $flags,
                    include_str!(concat!("lua/", stringify!($name), ".lua")),
                );)+)+
                let (name, library) = library.finished();
                Self {
                    library,
                    $($($(#[$only])* $name: format!("{name}_{}", stringify!($name)),)+)+
                }
            }
        }
    };
}

functions!(
    // New work is refused by a server that has reached its bound of memory.
    "": [change_profile, enqueue, retry, throttle],
    // Work that was accepted goes on even then.
    "'allow-oom'": [
        beat, beat_worker, cancel, conversations, delete, emit, expire_keys, forget, import_conversation, limits, pause,
        postpone, put_orphan, reap, reconcile, remember_layouts, set_directory, step, stop, take_orphan,
    ],
    // These need no memory.
    "'no-writes'": [
        #[cfg(feature = "conformance")]
        audit,
        directory,
        get,
        list,
        outbox,
        ready,
        stats,
        workers,
    ],
);

/// The library as it grows.
struct Library {
    /// What runs with the first call: while a library is loaded, Lua has neither its own functions nor
    /// Redis's.
    made: String,
    /// What runs when it is loaded.
    registered: String,
}

impl Library {
    fn new(policy: &Policy) -> Self {
        let Policy { retention, give_up_after, max_stalls, max_dead, .. } = policy;
        let deliveries = policy.tenant_deliveries.max(1);
        let give_up = millis(*give_up_after);
        let (first, longest) = (millis(FIRST_COOL_DOWN), millis(LONGEST_COOL_DOWN));
        let (calm, kept_back) = (millis(CALM), millis(KEPT_BACK));
        let (forget_worker, layout_grace) = (millis(FORGET_AFTER), millis(LAYOUT_GRACE));
        let (probe_after, probe_spread) = PROBE_AFTER;
        // A key must live for at least a millisecond to be written at all.
        let retention = millis((*retention).max(Duration::from_millis(1)));
        let made = format!(
            "local RETENTION <const>, GIVE_UP <const>, MAX_STALLS <const>, MAX_DEAD <const> = \
             {retention}, {give_up}, {max_stalls}, {max_dead}\n\
             local DELIVERIES <const>, DELIVERIES_QUEUED <const> = {deliveries}, {}\n\
             local AT_ONCE <const>, MOST_TOKENS <const>, MOST_COMPLETION_OF_MEAN <const> = \
             {PROMOTE_AT_ONCE}, {MOST_TOKENS}, {MOST_COMPLETION_OF_MEAN}\n\
             local FAILURES <const>, SUSPECTS <const>, PROOF <const> = {FAILURES}, {SUSPECTS}, {PROOF}\n\
             local MOST_PASSED_OVER <const> = {MOST_PASSED_OVER}\n\
             local FIRST_COOL_DOWN <const>, LONGEST_COOL_DOWN <const>, CALM <const> = {first}, {longest}, {calm}\n\
             local PROBE_AFTER <const>, PROBE_SPREAD <const>, SAME_JOB_AFTER <const>, KEPT_BACK <const> = \
             {probe_after}, {probe_spread}, {SAME_JOB_AFTER}, {kept_back}\n\
             local FORGET_WORKER <const>, MAX_WORKERS <const> = {forget_worker}, {MAX_WORKERS}\n\
             local LAYOUT_GRACE <const> = {layout_grace}\n\
             {}{}{}{}{}{}{}{}{}",
            policy.tenant_deliveries_queued,
            include_str!("lua/base.lua"),
            include_str!("lua/flows.lua"),
            include_str!("lua/estimate.lua"),
            include_str!("lua/jobs.lua"),
            include_str!("lua/ends.lua"),
            include_str!("lua/health.lua"),
            include_str!("lua/waiting.lua"),
            include_str!("lua/serve.lua"),
            include_str!("lua/begin.lua"),
        );
        Self { made, registered: String::new() }
    }

    /// Adds a function; what its file declares besides is its own.
    fn add(&mut self, name: &str, flags: &str, file: &str) {
        self.made += &format!("do\n{file}end\n");
        self.registered += &format!(
            "redis.register_function({{ function_name = LIBRARY .. '_{name}', flags = {{ {flags} }},\n\
             callback = function(keys, args)\n\
             if not functions then begin, functions = make() end\n\
             begin(keys[1], args[1])\n\
             return functions.{name}(args)\nend }})\n"
        );
    }

    /// Its name and its text. The name tells what is in it, so that processes of several versions or
    /// policies share a server.
    fn finished(self) -> (String, String) {
        let made = inlined(&self.made);
        let digest = Sha256::digest(format!("{made}{}", self.registered));
        let name = digest[..8]
            .iter()
            .fold("causeway_".to_owned(), |name, byte| format!("{name}{byte:02x}"));
        let text = format!(
            "#!lua name={name}\nlocal LIBRARY, begin, functions = '{name}', nil, nil\n\
             local function make()\n{made}\nreturn begin, functions\nend\n{}",
            self.registered
        );
        (name, text)
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
