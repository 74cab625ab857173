use redis::RedisConnectionInfo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::Instant,
};

use super::*;
use causeway_queue::{JobId, LaneName, news::News};

/// Acts as a server that accepts a subscription and answers this number of pings, and then stays silent, like one
/// that failed without closing the connection.
async fn serve(mut client: DuplexStream, mut pings: usize) {
    let mut command = [0; 1024];
    loop {
        let length = client.read(&mut command).await.expect("the pipe is open");
        let command = String::from_utf8_lossy(&command[..length]);
        let answer = if command.contains("PSUBSCRIBE") {
            "*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n"
        } else if command.contains("PING") && pings > 0 {
            pings -= 1;
            "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
        } else {
            std::future::pending().await
        };
        client.write_all(answer.as_bytes()).await.expect("the pipe is open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_subscription_is_closed() {
    let board = Arc::new(Switchboard::default());
    let mut listener =
        board.listen(&JobId::new(Shard { lane: LaneName::default_lane(), index: 0 }));
    let (ours, theirs) = tokio::io::duplex(1024);
    let address = RedisConnectionInfo::default().set_skip_set_lib_name();
    let subscription = PubSub::new(&address, ours).await.expect("nothing is asked yet");
    let started = Instant::now();
    tokio::select! {
        () = serve(theirs, 2) => panic!("it serves for ever"),
        ended = follow(subscription, &board) => ended.expect("it was subscribed"),
    }
    assert_eq!(started.elapsed(), PING_INTERVAL * 3 + ANSWER);
    // The first at the start of the subscription, the second at its end.
    for _ in 0..2 {
        assert!(matches!(listener.at_hand(), Some(News::Missed)));
    }
}
