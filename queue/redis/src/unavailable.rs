//! The words of an error of the server.

use causeway_queue::error::Error;

/// The rights that the user of the store needs.
const RIGHTS: &str = "~cw:* &cw:* +@all -@admin -@dangerous";

/// Returns true if the server reports that the user lacks a right.
fn is_denied(why: &str) -> bool {
    why.contains("NoPerm") || why.contains("NOPERM") || why.contains("can't publish to the channel")
}

/// Returns the message of an error without the additions of the pool and the operating system.
fn in_plain_words(why: &str) -> String {
    let why = why.strip_prefix("Error occurred while creating a new object: ").unwrap_or(why);
    let why = why.split(" (os error").next().unwrap_or_default();
    if why == "Connection refused" {
        return "the connection is refused: start a Redis there, or correct the address".to_owned();
    }
    why.to_owned()
}

/// Returns the error of a store that cannot do its work, with advice where the cause is known.
pub(super) fn unavailable(error: impl std::fmt::Display) -> Error {
    let why = in_plain_words(&error.to_string());
    let is_full = why.contains("used memory > 'maxmemory'");
    Error::Unavailable(if is_denied(&why) {
        format!(
            "its user lacks a right: grant `{RIGHTS}` (ACL SETUSER; a new user has no channels, which is \
             `resetchannels`): {why}"
        )
    } else if is_full {
        format!(
            "its memory is full, so it accepts no new work, nor processes of another version, retention, \
             max_stalls or max_dead: raise maxmemory, or wait until ended jobs expire: {why}"
        )
    } else {
        why
    })
}
