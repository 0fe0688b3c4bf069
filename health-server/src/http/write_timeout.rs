//! A write timeout for clients that stop reading the response, and a bounded send buffer for those that read the feed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    feed::limit_send_buffer,
    http::open_connection::OpenConnection,
    tls::{Connection, socket},
};

/// A connection whose writes fail if the client accepts no byte for the length of the timeout.
///
/// Without it, a client that sends requests and does not read the responses would occupy a connection for ever. The
/// timeout does not hold for the feed: a client that reads it slowly costs no more than a bounded send buffer.
#[derive(Debug)]
pub(crate) struct WriteTimeout {
    stream: Connection,
    timeout: Duration,
    /// Runs while a write waits. On the heap, so that connections without such a write do not carry a timer.
    timer: Option<Pin<Box<Sleep>>>,
    open: Arc<OpenConnection>,
    has_send_buffer_of_feed: bool,
}

impl WriteTimeout {
    pub(crate) fn new(stream: Connection, timeout: Duration, open: Arc<OpenConnection>) -> Self {
        Self {
            stream,
            timeout,
            timer: None,
            open,
            has_send_buffer_of_feed: false,
        }
    }

    /// Prepares a write.
    fn prepare(&mut self) {
        if self.open.is_stream() && !self.has_send_buffer_of_feed {
            self.has_send_buffer_of_feed = true;
            limit_send_buffer(socket(&self.stream));
        }
    }

    /// Starts the timer if a write has to wait, and turns its end into an error.
    fn check<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.open.is_stream() {
            self.timer = None;
            return written;
        }
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        timer.as_mut().poll(cx).map(|()| {
            let message = format!("the client did not read its response for {timeout:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.prepare();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.prepare();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
