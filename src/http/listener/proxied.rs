//! The PROXY protocol, versions 1 and 2: the header that a load balancer sends first, with the client's address.

use std::{io, net::IpAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// The first 12 bytes of a header of version 2. No header of version 1 is shorter.
const VERSION_2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_1: &[u8] = b"PROXY ";
/// Maximum sizes of headers. One of version 2 may have fields behind the addresses, which are ignored.
const LONGEST_1: usize = 107;
const LONGEST_2: usize = 4_096;

/// Reads the header and not one byte more. None: the load balancer's own connection (a health check).
///
/// # Errors
/// It isn't a header, or is too long; or the connection's own.
pub(super) async fn client(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut head = VERSION_2.to_vec();
    stream.read_exact(&mut head).await?;
    if head == VERSION_2 {
        let (version, length) = (stream.read_u16().await?, stream.read_u16().await?);
        if usize::from(length) > LONGEST_2 {
            return Err(malformed("the head is too long"));
        }
        head.extend(version.to_be_bytes());
        head.extend(length.to_be_bytes());
        head.resize(head.len() + usize::from(length), 0);
        stream.read_exact(&mut head[VERSION_2.len() + 4..]).await?;
    } else if head.starts_with(VERSION_1) {
        // Byte by byte: what follows the line is the client's.
        while !head.ends_with(b"\r\n") {
            if head.len() >= LONGEST_1 {
                return Err(malformed("the head is too long"));
            }
            head.push(stream.read_u8().await?);
        }
    } else {
        return Err(malformed("there is none"));
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(&head, config) {
        Ok((header, length)) if length == head.len() => {
            Ok(header.proxied_address().map(|address| address.source.ip().to_canonical()))
        }
        _ => Err(malformed("the head can't be read")),
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[path = "../../../tests/unit/http/listener/proxied.rs"]
mod tests;
