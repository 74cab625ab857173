//! The scripts, each with the prelude before it.

use std::time::Duration;

use redis::Script;

use crate::{
    clock::millis,
    policy::{PROMOTE_AT_ONCE, Policy},
};

/// Declares the scripts by their file names.
macro_rules! scripts {
    ($($(#[$only:meta])* $name:ident),+ $(,)?) => {
        /// Every transition and every view, ready to be called.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $($(#[$only])* pub(super) $name: Script,)+
        }

        impl Scripts {
            /// The scripts under `policy`.
            pub(super) fn new(policy: &Policy) -> Self {
                let prelude = prelude(policy);
                let make = |text: &str| Script::new(&format!("{prelude}{text}"));
                Self {
                    $($(#[$only])* $name: make(include_str!(concat!("lua/", stringify!($name), ".lua"))),)+
                }
            }
        }
    };
}

scripts!(
    #[cfg(feature = "conformance")]
    audit,
    beat,
    cancel,
    conversations,
    emit,
    enqueue,
    forget,
    get,
    limits,
    list,
    pause,
    reap,
    reconcile,
    retry,
    stats,
    step,
    throttle,
);

fn prelude(policy: &Policy) -> String {
    let Policy { retention, max_stalls, max_dead } = policy;
    // A key must live for at least a millisecond to be written at all.
    let retention = millis((*retention).max(Duration::from_millis(1)));
    format!(
        "local RETENTION, MAX_STALLS, MAX_DEAD, AT_ONCE = \
         {retention}, {max_stalls}, {max_dead}, {PROMOTE_AT_ONCE}\n{}",
        include_str!("lua/prelude.lua")
    )
}
