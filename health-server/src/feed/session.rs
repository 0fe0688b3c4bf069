//! One feed connection over TCP: executes commands and sends events, in the order in which they happen.

use std::{future::pending, io, net::IpAddr, ops::ControlFlow, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use health_core::{FEED_PROTOCOL, FeedEvent};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::timeout,
};
use tokio_util::codec::FramedRead;

use crate::{
    app::App,
    feed::{
        BYE_TIMEOUT,
        access::StreamEnd,
        command::{self, Command},
        encoding::Encoding,
        lines::{LineDecoder, LineError},
        login::Login,
        outbox::{Due, Next, Outbox},
        subscribe::SubscribeOptions,
    },
};

/// The first size of the input buffer. Most clients send one short line.
const INPUT_BUFFER_BYTES: usize = 64;

/// One feed connection over TCP.
pub(crate) struct Session<'a, S> {
    app: &'a App,
    input: FramedRead<ReadHalf<S>, LineDecoder>,
    input_ended: bool,
    output: WriteHalf<S>,
    outbox: Outbox,
    login: Login<'a>,
}

/// What a client sends.
type Line = Option<Result<Bytes, LineError>>;

impl<'a, S: AsyncRead + AsyncWrite> Session<'a, S> {
    pub(crate) fn new(stream: S, peer: IpAddr, app: &'a Arc<App>) -> Self {
        let (input, output) = tokio::io::split(stream);
        let login = Login::new(app, peer);
        Self {
            app,
            input: FramedRead::with_capacity(input, LineDecoder, INPUT_BUFFER_BYTES),
            input_ended: false,
            output,
            outbox: Outbox::new(Arc::clone(app), Encoding::JsonLines, login.anonymous()),
            login,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        self.outbox.push(&FeedEvent::Hello {
            protocol: FEED_PROTOCOL.into(),
            auth: self.app.authenticator.is_token_needed(),
            cursor: self.app.health.cursor(),
        });
        loop {
            let next = match self.write().await? {
                Some(end) => Next::Due(Due::End(end)),
                None => self.next().await,
            };
            let flow = match next {
                Next::Command(line) => self.take_line(line).await?,
                Next::Due(due) => self.outbox.push_due(due),
            };
            if flow.is_break() {
                return self.finish().await;
            }
        }
    }

    /// Waits for the next thing to handle. Cancelling it loses nothing.
    ///
    /// A line is read only after the SUBSCRIBE before it was answered. So each command gets its answer, in the order of
    /// the commands, also if a client sends many at once.
    async fn next(&mut self) -> Next<Line> {
        let reads_lines = self.outbox.is_confirmed() && !self.input_ended;
        let input = &mut self.input;
        let line = async {
            if reads_lines {
                input.next().await
            } else {
                pending().await
            }
        };
        self.outbox.next(line).await
    }

    /// Handles a line, or the end of the input. Returns `Break` if the session is over.
    async fn take_line(&mut self, line: Line) -> io::Result<ControlFlow<()>> {
        match line {
            Some(Ok(line)) => return Ok(self.execute_line(&line).await),
            Some(Err(LineError::Io(error))) => return Err(error),
            Some(Err(error @ LineError::TooLong)) => {
                self.outbox.push_error(error.to_string());
                return Ok(ControlFlow::Break(()));
            }
            None => {
                self.input_ended = true;
                // Without a subscription, no event can follow any more.
                if !self.outbox.is_subscribed() {
                    return Ok(self.outbox.push_bye("the input ended without a SUBSCRIBE command"));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn execute_line(&mut self, line: &[u8]) -> ControlFlow<()> {
        match command::parse(line) {
            Ok(None) => {}
            Ok(Some(Command::Subscribe(options))) => self.subscribe(options),
            Ok(Some(Command::Ping)) => self.outbox.push(&FeedEvent::Pong),
            Ok(Some(Command::Auth(secret))) => return self.authenticate(&secret).await,
            Ok(Some(Command::Quit)) => return self.outbox.push_bye("the client sent QUIT"),
            Err(reason) => self.outbox.push_error(reason),
        }
        ControlFlow::Continue(())
    }

    fn subscribe(&mut self, options: SubscribeOptions) {
        match self.login.users_of_subscription(self.outbox.access(), options.users) {
            Ok(users) => self.outbox.subscribe(SubscribeOptions { users, ..options }),
            Err(reason) => self.outbox.push_error(reason),
        }
    }

    /// Checks a token. A refused one ends the session.
    async fn authenticate(&mut self, secret: &str) -> ControlFlow<()> {
        if !self.app.authenticator.is_token_needed() {
            self.login.warn_of_unneeded_token();
            self.outbox.push_error("this server needs no token".to_owned());
            return ControlFlow::Continue(());
        }
        match self.login.authenticate(secret).await {
            Ok(access) => {
                self.outbox.set_access(access);
                ControlFlow::Continue(())
            }
            Err(reason) => {
                self.outbox.push_error(reason);
                ControlFlow::Break(())
            }
        }
    }

    /// Writes the unwritten events. Returns the end of the stream if it came before the client read them.
    async fn write(&mut self) -> io::Result<Option<StreamEnd>> {
        if self.outbox.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.outbox.lend();
        let end = tokio::select! {
            biased; // Events that the system accepts at once are written even if the server is closing.
            written = self.output.write_all_buf(&mut bytes) => {
                written?;
                self.outbox.take_back(bytes);
                return Ok(None);
            }
            end = self.outbox.ended() => end,
        };
        if let StreamEnd::Access(_) = end {
            drop_unsent_lines(&mut bytes);
        }
        self.outbox.take_back_unsent(bytes);
        Ok(Some(end))
    }

    /// Writes the last events, then waits until the client closes the connection.
    ///
    /// If the server closed a connection with unread bytes, the system would reset it, and the client could lose
    /// the last events.
    async fn finish(mut self) -> io::Result<()> {
        let exchange = async {
            self.output.write_all_buf(&mut self.outbox.lend()).await?;
            self.output.shutdown().await?;
            let mut ignored = [0; 512];
            while !self.input_ended && self.input.get_mut().read(&mut ignored).await? > 0 {}
            Ok(())
        };
        timeout(BYE_TIMEOUT, exchange).await.unwrap_or(Ok(()))
    }
}

/// Keeps only the rest of a line whose beginning may be written already.
fn drop_unsent_lines(bytes: &mut BytesMut) {
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    bytes.truncate(line_end.map_or(0, |end| end + 1));
}
