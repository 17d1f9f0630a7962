use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;

async fn read(head: &[u8]) -> Result<(Option<String>, String), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    out.write_all(head).await.unwrap();
    out.write_all(b"GET /").await.unwrap();
    out.shutdown().await.unwrap();
    let client = client(&mut stream).await.map_err(|error| error.to_string())?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    Ok((client.map(|address| address.to_string()), rest))
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&VERSION_2[..], &[command, family], &length, rest].concat()
}

#[tokio::test]
async fn heads_of_both_versions_say_whose_a_connection_is() {
    let v4 = [203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[15] = 7;
    // A field behind the addresses, as clouds add it.
    let with_field = [&v4[..], &[0xea, 0, 3, 1, b'v', b'p']].concat();
    for (head, client) in [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(), Some("203.0.113.7")),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), Some("2001:db8::7")),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n".to_vec(), Some("203.0.113.7")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (version_2(0x21, 0x11, &v4), Some("203.0.113.7")),
        (version_2(0x21, 0x11, &with_field), Some("203.0.113.7")),
        (version_2(0x21, 0x21, &v6), Some("2001:db8::7")),
        (version_2(0x20, 0x00, &[]), None),
        (version_2(0x20, 0x11, &v4), None),
        (version_2(0x21, 0x31, &[0; 216]), None),
    ] {
        let said = String::from_utf8_lossy(&head).into_owned();
        assert_eq!(read(&head).await, Ok((client.map(str::to_owned), "GET /".to_owned())), "{said}");
    }
}

#[tokio::test]
async fn anything_else_is_refused() {
    let long = format!("PROXY TCP4 {} 127.0.0.1 1 2\r\n", "1".repeat(100));
    for head in [
        b"GET /v1/chats HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4711\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.700 127.0.0.1 4711 80\r\n".to_vec(),
        b"PROXY TCP5 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(),
        b"proxy TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(),
        long.into_bytes(),
        version_2(0x21, 0x11, &[203, 0, 113, 7]),
        version_2(0x31, 0x11, &[0; 12]),
        version_2(0x22, 0x11, &[0; 12]),
        version_2(0x21, 0x11, &[0; 5_000]),
    ] {
        let said = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
        assert!(read(&head).await.is_err(), "{said}");
    }
}
