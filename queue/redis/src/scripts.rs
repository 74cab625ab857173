//! The scripts: the files of `lua/`, loaded as one library of functions (FUNCTION LOAD, Redis 7.0): each file of
//! `calls/` is one function, and `lib/` holds what they share. A server creates the closures of a library once, at its
//! first call; a script of EVALSHA creates all of them at each call.
//!
//! Lua 5.1, the version in Redis, has no constants: each is a variable that every function must capture. So the
//! scripts declare numbers as Lua 5.4 does, `local RUNNING <const> = 3`, and the loader inserts the values.

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};

use causeway_queue::{
    clock::millis,
    fair::{
        DRAIN_GAPS, DRAIN_OUTDATED_MS, DRAIN_WINDOW_MS, FIRST_COMPLETION_GUESS, LEARNING_RATE,
        MOST_COMPLETION_OF_MEAN, MOST_TOKENS,
    },
    health::{
        CALM, FAILURES, FIRST_COOL_DOWN, KEPT_BACK, LONGEST_COOL_DOWN, MOST_PASSED_OVER,
        PROBE_AFTER, PROOF, SAME_JOB_AFTER, SUSPECTS,
    },
    id::KEY_CHARS,
    job::MAX_ERRORS,
    limits::MINUTE_MS,
    policy::{LAYOUT_GRACE, PROMOTE_AT_ONCE, Policy},
    workers::{FORGET_AFTER, MAX_WORKERS},
};

/// Declares the functions by their file names, grouped by the flags of FUNCTION LOAD. Each file stores the function
/// with its name in `functions`.
macro_rules! functions {
    ($($flags:literal: [$($(#[$only:meta])* $name:ident),+ $(,)?]),+ $(,)?) => {
        /// All transitions and views, by the names of their functions on the server.
        #[derive(Debug)]
        pub(super) struct Scripts {
            /// The text of the library for FUNCTION LOAD.
            pub(super) library: String,
            $($($(#[$only])* pub(super) $name: String,)+)+
        }

        impl Scripts {
            /// Returns the scripts with the constants of `policy`.
            pub(super) fn new(policy: &Policy) -> Self {
                let mut library = Library::new(policy);
                $($($(#[$only])* library.add(
                    stringify!($name),
                    $flags,
                    include_str!(concat!("lua/calls/", stringify!($name), ".lua")),
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
    // A server at its memory limit refuses new work.
    "": [change_profile, enqueue, retry, throttle],
    // Accepted work continues even then.
    "'allow-oom'": [
        cancel, conversations, cool_down, delete, emit, expire_keys, extend_leases, forget_conversation,
        import_conversation, pause, postpone, put_orphan, reap, reconcile, remember_layouts, set_directory, set_limits,
        step, take_orphan, worker_heartbeat,
    ],
    // These need no memory.
    "'no-writes'": [
        #[cfg(feature = "audit")]
        audit,
        count_ready,
        get,
        get_directory,
        list,
        list_workers,
        read_outbox,
        stats,
    ],
);

/// The library under construction.
struct Library {
    /// The code that runs at the first call: while a library is loaded, Lua has neither its own functions nor those
    /// of Redis.
    made: String,
    /// The code that runs when the library is loaded.
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
        // Redis writes a key only with an expiry of at least a millisecond.
        let retention = millis((*retention).max(Duration::from_millis(1)));
        // A member of `leases`, as `record::member` writes it; Lua counts from 1.
        let (epoch_at, class_at) = (KEY_CHARS + 1, KEY_CHARS + 9);
        let (epoch_end, tenant_at) = (class_at - 1, class_at + 2);
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
             local ID_BYTES <const>, EPOCH_AT <const>, EPOCH_END <const> = {KEY_CHARS}, {epoch_at}, {epoch_end}\n\
             local CLASS_AT <const>, TENANT_AT <const> = {class_at}, {tenant_at}\n\
             local LEARNING_RATE <const>, FIRST_COMPLETION_GUESS <const> = {LEARNING_RATE}, {FIRST_COMPLETION_GUESS}\n\
             local DRAIN_WINDOW <const>, DRAIN_OUTDATED <const>, DRAIN_GAPS <const> = \
             {DRAIN_WINDOW_MS}, {DRAIN_OUTDATED_MS}, {DRAIN_GAPS}\n\
             local INTERVAL <const>, MAX_ERRORS <const> = {MINUTE_MS}, {MAX_ERRORS}\n\
             {}{}{}{}{}{}{}{}{}",
            policy.tenant_deliveries_queued,
            include_str!("lua/lib/base.lua"),
            include_str!("lua/lib/flows.lua"),
            include_str!("lua/lib/estimate.lua"),
            include_str!("lua/lib/jobs.lua"),
            include_str!("lua/lib/finish.lua"),
            include_str!("lua/lib/health.lua"),
            include_str!("lua/lib/gates.lua"),
            include_str!("lua/lib/claim.lua"),
            include_str!("lua/lib/begin.lua"),
        );
        Self { made, registered: String::new() }
    }

    /// Adds a function; other declarations in its file are local to it.
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

    /// Returns the name and the text of the library. The name contains a digest of the text, so processes of several
    /// versions or policies can share a server.
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

/// Returns `script` with its constants inserted; line numbers do not change.
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

/// Returns `line` with each name of a constant replaced by its value.
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
