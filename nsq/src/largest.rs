//! The maximum message size of an nsqd. nsqd reports it only to a client that sends a larger message, and then before
//! it has read the message or created its topic. So this client sends the size of a message, but not the message.

use crate::connection::{Connection, ConnectionError};
use crate::frame::{self, MAX_FRAME_BYTES, error_code, valid_name};
use crate::identify::{ConnectOptions, Wishes};

/// Why the limit is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LargestError(String);

impl From<ConnectionError> for LargestError {
    fn from(error: ConnectionError) -> Self {
        Self(error.to_string())
    }
}

/// Asks the nsqd at `tcp_addr` for its `--max-msg-size`, in bytes, over a connection of its own. Names `topic`, but
/// neither creates it nor publishes to it; see [`valid_name`]. If an nsqd accepts more than this client can send,
/// returns what the client can send: 64 MiB.
///
/// # Errors
/// If nsqd can't be reached, or answers otherwise than nsqd 1.3.0, within twice `options.connect_timeout`.
pub async fn largest_message(
    tcp_addr: &str,
    options: &ConnectOptions,
    topic: &str,
) -> Result<usize, LargestError> {
    if !valid_name(topic) {
        return Err(LargestError(format!("{topic:?} can't name a topic; use 1 to 64 of .a-zA-Z0-9_-")));
    }
    let (mut connection, _) = Connection::open(tcp_addr, options, Wishes::default()).await?;
    frame::put_pub_of(&mut connection.out, topic, MAX_FRAME_BYTES + 1);
    let answer = tokio::time::timeout(options.connect_timeout, async {
        connection.flush().await?;
        // An nsqd that accepts so much would wait for the message.
        connection.shutdown().await;
        connection.expect_ok().await
    });
    match answer.await {
        Ok(Err(ConnectionError::Refused(text))) => limit_in(&text).ok_or_else(|| {
            LargestError(format!("{tcp_addr} refused a message that is too large with {text:?}"))
        }),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(())) => Err(LargestError(format!("{tcp_addr} took a message that wasn't there"))),
        Err(_elapsed) => {
            let timeout = options.connect_timeout;
            Err(LargestError(format!(
                "{tcp_addr} said nothing about a message that is too large within {timeout:?}"
            )))
        }
    }
}

/// Parses `E_BAD_MESSAGE PUB message too big 67108865 > 1048576`, or the error that the accepted message didn't come.
fn limit_in(text: &str) -> Option<usize> {
    if error_code(text) != "E_BAD_MESSAGE" {
        return None;
    }
    if text.ends_with("failed to read message body") {
        return Some(MAX_FRAME_BYTES);
    }
    let (said, limit) = text.rsplit_once(" > ")?;
    said.contains("too big").then(|| limit.trim().parse().ok())?
}

#[cfg(test)]
#[path = "../tests/unit/largest.rs"]
mod tests;
