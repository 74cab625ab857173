//! A real `redis-server` on a free loopback port, killed when its value is dropped.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use ::redis::{Client, FromRedisValue, RedisResult, Value};

use super::{certificates::Certificates, eventually};

/// A running server and its directory.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts an empty server.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--save", ""])
    }

    /// Starts a server with further options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        loop {
            let port = free_port();
            // Another process may take the port in between: then the server ends, and the loop
            // tries another port.
            if let Some(child) = spawn(port, &directory, &options) {
                return Self { child, port, directory, options };
            }
        }
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command of an operator; returns the answer.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.expect("an answer")
    }

    /// Runs a command; returns the answer or the refusal.
    async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = Client::open(self.url()).expect("its URL");
        let mut link = client.get_multiplexed_async_connection().await.expect("it listens");
        ::redis::cmd(words[0]).arg(&words[1..]).query_async(&mut link).await
    }

    /// Makes `other` the master in its place, with all of its data. It becomes a replica without a
    /// master, and connections to it stay open.
    pub(crate) async fn hand_over_to(&self, other: &Self) {
        self.ask::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await;
        other.ask::<()>(&["REPLICAOF", "127.0.0.1", &self.port.to_string()]).await;
        let copied = async || {
            let link: Value = other.ask::<Vec<Value>>(&["ROLE"]).await.swap_remove(3);
            (link == Value::BulkString("connected".into())).then_some(())
        };
        eventually("a copy", copied).await;
        other.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
        // No server listens on port 1.
        self.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server can be waited for");
    }

    /// Starts the server again on the same port, with the data of its directory.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.options).expect("its port is free");
    }
}

/// Three masters that share the slots of a Redis Cluster.
pub(crate) struct RedisCluster {
    nodes: [RedisServer; 3],
    scheme: &'static str,
    /// The ports of the nodes for clients.
    ports: [u16; 3],
}

impl RedisCluster {
    /// Starts an empty cluster, and waits until every node serves.
    pub(crate) fn start() -> Self {
        let nodes = [(); 3].map(|()| Self::node(&["--save".to_owned(), String::new()]));
        let ports = nodes.each_ref().map(RedisServer::port);
        Self { nodes, scheme: "redis", ports }.meet(&[])
    }

    /// Starts a cluster with TLS.
    pub(crate) fn start_tls(certificates: &Certificates) -> Self {
        let ports = [(); 3].map(|()| free_port());
        let nodes = ports.map(|port| {
            let options = certificates.options("server", port);
            Self::node(&[options, vec!["--tls-cluster".to_owned(), "yes".to_owned()]].concat())
        });
        let ca = certificates.path("ca.pem");
        Self { nodes, scheme: "rediss", ports }.meet(&["--tls", "--cacert", &ca])
    }

    fn node(options: &[String]) -> RedisServer {
        let bus = free_port().to_string();
        let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
        all.extend(options.iter().map(String::as_str));
        RedisServer::start_with(&all)
    }

    /// Joins the nodes to one cluster.
    fn meet(self, options: &[&str]) -> Self {
        let made = Command::new("redis-cli")
            .args(options)
            .args(["--cluster", "create"])
            .args(self.ports.map(|port| format!("127.0.0.1:{port}")))
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli comes with redis-server");
        assert!(made.status.success(), "{made:?}");
        for node in &self.nodes {
            node.await_cluster();
        }
        self
    }

    /// Returns the URL, which names every node.
    pub(crate) fn url(&self) -> String {
        let nodes = self.ports.map(|port| format!("127.0.0.1:{port}"));
        format!("{}+cluster://{}", self.scheme, nodes.join(","))
    }

    /// Returns the masters.
    pub(crate) fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns the master that holds `key`; the others refuse it.
    pub(crate) async fn master_of(&self, key: &str) -> &RedisServer {
        for node in &self.nodes {
            if node.try_ask::<Value>(&["EXISTS", key]).await.is_ok() {
                return node;
            }
        }
        panic!("no node holds {key}");
    }

    /// Starts to move the slot of `key` to the third master, as `redis-cli --cluster reshard` does.
    pub(crate) async fn start_to_move(&self, key: &str) -> Move<'_> {
        let [_, _, to] = &self.nodes;
        let from = self.master_of(key).await;
        let slot = from.ask::<u16>(&["CLUSTER", "KEYSLOT", key]).await.to_string();
        let names = [to, from].map(|node| node.ask::<String>(&["CLUSTER", "MYID"]));
        let [there, here] = futures_util::future::join_all(names).await.try_into().expect("two");
        to.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &here]).await;
        from.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &there]).await;
        Move { cluster: self, from, slot, there }
    }
}

/// A slot that is being moved.
pub(crate) struct Move<'a> {
    cluster: &'a RedisCluster,
    from: &'a RedisServer,
    slot: String,
    there: String,
}

impl Move<'_> {
    /// Moves the keys of the slot, and notifies every node.
    pub(crate) async fn end(self) {
        let [one, two, to] = &self.cluster.nodes;
        let keys: Vec<String> =
            self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"]).await;
        let port = to.port.to_string();
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        self.from.ask::<()>(&words).await;
        // The new owner comes first: it then announces the slot with a new epoch.
        for node in [to, one, two] {
            node.ask::<()>(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.there]).await;
        }
    }
}

impl RedisServer {
    /// Waits until this node reports that the cluster is complete.
    fn await_cluster(&self) {
        let mut asking = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "-r", "-1", "-i", "0.02", "cluster", "info"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-cli comes with redis-server");
        let mut lines = BufReader::new(asking.stdout.take().expect("its output")).lines();
        let whole = lines.any(|line| line.is_ok_and(|line| line.contains("cluster_state:ok")));
        drop(asking.kill());
        drop(asking.wait());
        assert!(whole, "redis-cli ended before the cluster was whole");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns a port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Starts a server and waits until it accepts connections; returns `None` if it ended instead.
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
        // A thread reads the rest of the output, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    drop(child.wait());
    None
}
