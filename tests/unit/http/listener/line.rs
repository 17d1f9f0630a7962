use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

use super::*;

async fn pair(patience: Duration, unread: Unread) -> (Line, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Line::new(listener.accept().await.unwrap().0, patience, unread), client)
}

/// More than the system takes by itself.
const MUCH: usize = 32 << 20;

#[tokio::test]
async fn a_client_that_takes_little_is_cut_off_however_it_does_it() {
    let (mut line, mut client) = pair(Duration::from_millis(500), Unread::default()).await;
    let reads = tokio::spawn(async move {
        // A byte now and then isn't a pace.
        while client.read_u8().await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let written = timeout(Duration::from_secs(20), line.write_all(&vec![0; MUCH])).await.expect("an end");
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    reads.abort();
}

#[tokio::test]
async fn a_client_that_takes_all_in_its_time_gets_all() {
    let (mut line, mut client) = pair(Duration::from_millis(500), Unread::default()).await;
    let reads = tokio::spawn(async move {
        let (mut all, mut some) = (0, vec![0; MUCH / 30]);
        while let Ok(count @ 1..) = client.read(&mut some).await {
            all += count;
            sleep(Duration::from_millis(50)).await;
        }
        all
    });
    // Several answers, each of which is waited for, and nothing between them: that is no slowness.
    for _ in 0..2 {
        line.write_all(&vec![0; MUCH / 2]).await.unwrap();
        line.flush().await.unwrap();
        sleep(Duration::from_millis(700)).await;
    }
    line.shutdown().await.unwrap();
    assert_eq!(reads.await.unwrap(), MUCH);
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_answer() {
    let unread = Unread::default();
    unread.note();
    let (mut line, mut client) = pair(Duration::from_secs(5), unread.clone()).await;
    client.write_all(&[0; 100_000]).await.unwrap();
    let answers = tokio::spawn(async move {
        line.write_all(b"no").await.unwrap();
        line.shutdown().await.unwrap();
    });
    sleep(Duration::from_millis(100)).await;
    client.write_all(&[0; 100_000]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "no");
    drop(client);
    timeout(Duration::from_secs(5), answers).await.expect("it ends with the client").unwrap();
    // And without: by itself.
    let (mut line, client) = pair(Duration::from_secs(5), unread).await;
    timeout(Duration::from_secs(5), line.shutdown()).await.expect("it ends").unwrap();
    drop(client);
}
