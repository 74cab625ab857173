//! The totals of a server, for measurements.

/// The server's totals since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerStats {
    /// Executed commands, with those inside scripts.
    pub commands: u64,
    /// Commands that clients sent, without those inside scripts.
    pub calls: u64,
    /// The time that the server spent on commands of clients, in microseconds.
    pub busy_us: f64,
    /// The used memory, in bytes.
    pub memory_bytes: u64,
}

impl ServerStats {
    /// Adds the figures of one server. Replicas repeat the work of their masters, so they are left out.
    pub(super) fn add(&mut self, info: &str) {
        if info.lines().any(|line| line.trim_end() == "role:slave") {
            return;
        }
        for line in info.lines() {
            if let Some(bytes) = line.strip_prefix("used_memory:") {
                self.memory_bytes += bytes.trim().parse().unwrap_or(0);
            } else if let Some((name, counts)) =
                line.strip_prefix("cmdstat_").and_then(|rest| rest.split_once(':'))
            {
                self.add_command(name, counts);
            }
        }
    }

    fn add_command(&mut self, name: &str, counts: &str) {
        let number = |field: &str| {
            let of = |part: &str| part.strip_prefix(field)?.strip_prefix('=')?.parse().ok();
            counts.split(',').find_map(of).unwrap_or(0.0)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let calls = number("calls") as u64;
        self.commands += calls;
        // INFO counts commands inside a script also under their own names, and their time within the script's.
        if ["fcall", "bzpopmin", "ping"].contains(&name) {
            self.calls += calls;
            self.busy_us += number("usec");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_added_up_and_replicas_left_out() {
        let master = "role:master\r\nused_memory:1000\r\n\
                      cmdstat_fcall:calls=3,usec=60,usec_per_call=20.00\r\n\
                      cmdstat_zadd:calls=5,usec=10,usec_per_call=2.00\r\n";
        let mut stats = ServerStats::default();
        for info in [master, master, &master.replace("role:master", "role:slave")] {
            stats.add(info);
        }
        let twice = ServerStats { commands: 16, calls: 6, busy_us: 120.0, memory_bytes: 2000 };
        assert_eq!(stats, twice);
    }
}
