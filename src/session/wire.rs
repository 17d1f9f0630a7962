//! What a session's frames travel on: a TCP connection; in a simulation, a pipe in memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// See the module.
#[derive(Debug)]
pub enum Wire {
    /// A client's connection.
    Tcp(TcpStream),
    /// A simulated client's.
    #[cfg(feature = "simulation")]
    Pipe(tokio::io::DuplexStream),
}

macro_rules! each {
    ($self:ident, $wire:ident => $work:expr) => {
        match $self.get_mut() {
            Wire::Tcp($wire) => $work,
            #[cfg(feature = "simulation")]
            Wire::Pipe($wire) => $work,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, wire => Pin::new(wire).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_shutdown(cx))
    }
}
