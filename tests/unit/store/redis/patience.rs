use tokio::{net::TcpListener, net::TcpStream, time::Instant};

use super::*;

const LIMIT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn what_never_comes_is_given_up() {
    let begun = Instant::now();
    assert_eq!(within(LIMIT, std::future::pending::<()>()).await, None);
    assert!(begun.elapsed() >= LIMIT);
    assert_eq!(within(LIMIT, async { 7 }).await, Some(7));
}

#[tokio::test]
async fn what_came_while_the_process_stood_still_is_no_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let answer = tokio::spawn(async move { client.readable().await });
    let stands_still = async {
        tokio::time::sleep(LIMIT / 8).await;
        assert_eq!(server.try_write(b"!").unwrap(), 1);
        std::thread::sleep(LIMIT * 2);
    };
    let (answered, ()) = tokio::join!(within(LIMIT, answer), stands_still);
    answered.expect("it is no time-out").unwrap().unwrap();
}
