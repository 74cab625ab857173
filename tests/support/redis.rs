//! A real `redis-server` on a free loopback port, ended with the value that stands for it.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// A running server and its directory.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts a server with nothing in it.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--save", ""])
    }

    /// Starts a server with further options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        loop {
            let port = free_port();
            // Another process may take the port in between: then the server ends, and we go on.
            if let Some(child) = spawn(port, &directory, &options) {
                return Self { child, port, directory, options };
            }
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server can be waited for");
    }

    /// Starts it again on the same port, with what its directory holds.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.options).expect("its port is free");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Starts a server and waits until it accepts connections; `None` when it ended instead.
fn spawn(port: u16, directory: &tempfile::TempDir, options: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory.path())
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is not installed; `make test` installs it");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let ready =
        lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
    if ready {
        // The rest of its output is read, so that the server never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    drop(child.wait());
    None
}
