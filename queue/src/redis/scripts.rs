//! The scripts, each with what it stands on before it: every one with `lua/base.lua`, those that
//! change jobs or look at the order with the engine too.

use std::time::Duration;

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
                let make = |above: &str, text: &str| Script::new(&format!("{above}{text}"));
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
