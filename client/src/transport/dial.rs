//! How a client comes by its sockets.

use std::sync::Arc;

use reqwest::Url;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{ConnectError, Socket};

/// A stream that a socket can stand on.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A TCP or TLS stream.
pub type BoxedStream = Box<dyn Duplex>;

/// Opens sockets: [`Dial`] over TCP, a simulation over pipes.
pub trait Connect: Send + 'static {
    /// What the sockets stand on.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Opens a socket with this device token.
    fn connect(
        &mut self,
        token: &str,
    ) -> impl Future<Output = Result<Socket<Self::Stream>, ConnectError>> + Send;
}

/// Where the token goes in the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credential {
    /// Into the header `Authorization`.
    #[default]
    Header,
    /// Into the subprotocols, as browsers have to.
    Subprotocol,
}

/// Opens sockets over TCP, and over TLS for `https`.
#[derive(Debug, Clone)]
pub struct Dial {
    url: Url,
    credential: Credential,
}

impl Dial {
    /// Returns a dialer for the server at `url`: `http://host:port` or `https://host`.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(url: &str) -> Result<Self, ConnectError> {
        let unusable = || ConnectError::Unusable(format!("{url} isn't http://host:port or https://host"));
        let parsed = Url::parse(url.trim()).map_err(|_| unusable())?;
        let is_usable = matches!(parsed.scheme(), "http" | "https") && parsed.host_str().is_some();
        if is_usable { Ok(Self { url: parsed, credential: Credential::default() }) } else { Err(unusable()) }
    }

    /// Puts the token elsewhere.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    async fn stream(&self) -> Result<BoxedStream, ConnectError> {
        let host = self.url.host_str().unwrap_or_default();
        // An IPv6 address stands in brackets in an URL, and without them everywhere else.
        let plain = host.trim_matches(|c| c == '[' || c == ']');
        let port = self.url.port_or_known_default().unwrap_or(80);
        let away = |error: std::io::Error| ConnectError::Unreachable(format!("{host}:{port}: {error}"));
        let stream = TcpStream::connect((plain, port)).await.map_err(away)?;
        stream.set_nodelay(true).map_err(away)?;
        if !self.is_secure() {
            return Ok(Box::new(stream));
        }
        let name = rustls::pki_types::ServerName::try_from(plain.to_owned())
            .map_err(|error| ConnectError::Unusable(error.to_string()))?;
        let stream = tls()?.connect(name, stream).await.map_err(away)?;
        Ok(Box::new(stream))
    }
}

/// TLS with the roots of this machine.
fn tls() -> Result<TlsConnector, ConnectError> {
    use rustls_platform_verifier::ConfigVerifierExt;

    crate::http::install_crypto_provider();
    let config = rustls::ClientConfig::with_platform_verifier()
        .map_err(|error| ConnectError::Unusable(format!("no TLS on this machine: {error}")))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Connect for Dial {
    type Stream = BoxedStream;

    async fn connect(&mut self, token: &str) -> Result<Socket<BoxedStream>, ConnectError> {
        let mut url =
            self.url.join("/v1/socket").map_err(|error| ConnectError::Unusable(error.to_string()))?;
        // The standard library of URLs knows both schemes, so this can't fail.
        let _ = url.set_scheme(if self.is_secure() { "wss" } else { "ws" });
        let header = match self.credential {
            Credential::Header => ("Authorization", format!("Bearer {token}")),
            Credential::Subprotocol => ("Sec-WebSocket-Protocol", format!("keepstep.v1, bearer.{token}")),
        };
        let stream = self.stream().await?;
        Socket::handshake(stream, url.as_str(), &[(header.0, &header.1)], None).await
    }
}
