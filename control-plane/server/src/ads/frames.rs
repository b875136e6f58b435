//! gRPC messages as lists of shared slices: a resource's bytes are made once and lie in memory once, however many streams
//! they are on their way to.
//!
//! A generated server encodes each message into a buffer of its own. A thousand proxies that are all sent the same megabyte
//! would hold a gigabyte, for as long as the slowest takes to read it. Here a [`Message`] refers to the bytes of the
//! snapshot, and HTTP/2 writes them to the socket from where they are.
//!
//! Framing is gRPC over HTTP/2, "Length-Prefixed-Message": a byte for "not compressed", four for the length, the message;
//! the status follows in the trailers.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tonic::Status;

/// Slices shorter than this are copied: a frame of its own costs more than copying so little.
const SHARED_FROM: usize = 4096;
/// Compression flag and length.
const PREFIX: usize = 5;

/// One gRPC message, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Message {
    parts: VecDeque<Bytes>,
}

/// A message being put together.
#[derive(Debug)]
pub(super) struct Assembly {
    parts: Vec<Bytes>,
    /// What follows the parts, not complete yet.
    own: BytesMut,
    /// The first part of all, with room for the prefix; empty while it is still `own`.
    first: Option<BytesMut>,
    length: usize,
}

impl Assembly {
    pub(super) fn new() -> Self {
        let mut own = BytesMut::with_capacity(1024);
        own.put_bytes(0, PREFIX);
        Self {
            parts: Vec::new(),
            own,
            first: None,
            length: 0,
        }
    }

    /// Appends a copy.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.own.extend_from_slice(bytes);
    }

    /// Appends a reference, or a copy if that is cheaper.
    pub(super) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM {
            self.copy(bytes);
            return;
        }
        self.length += bytes.len();
        let before = self.own.split();
        match self.first {
            None => self.first = Some(before),
            Some(_) if !before.is_empty() => self.parts.push(before.freeze()),
            Some(_) => {}
        }
        self.parts.push(bytes.clone());
    }

    /// The message. One beyond the 4 GiB that the prefix can tell breaks the stream: its client finds no sense in the rest.
    pub(super) fn finish(mut self) -> Message {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let mut first = match self.first.take() {
            Some(first) => {
                if !self.own.is_empty() {
                    self.parts.push(self.own.freeze());
                }
                first
            }
            None => self.own,
        };
        if let Some(prefix) = first.get_mut(1..PREFIX) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
        let mut parts = VecDeque::from(self.parts);
        parts.push_front(first.freeze());
        Message { parts }
    }
}

/// The body of a streaming response: messages as they come, then the status.
#[derive(Debug)]
pub(super) struct Frames {
    messages: mpsc::Receiver<Result<Message, Status>>,
    current: Message,
    ended: bool,
}

impl Frames {
    /// The messages of this channel; it ends with OK when the channel does.
    pub(super) fn new(messages: mpsc::Receiver<Result<Message, Status>>) -> Self {
        Self {
            messages,
            current: Message::default(),
            ended: false,
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(part) = this.current.parts.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            let status = match ready!(this.messages.poll_recv(context)) {
                Some(Ok(message)) => {
                    this.current = message;
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            this.ended = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(
                status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)),
            ));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use proptest::prelude::*;

    fn whole(message: Message) -> Vec<u8> {
        message.parts.into_iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn a_message_is_its_pieces_in_order_behind_their_length(
            pieces in proptest::collection::vec((any::<bool>(), 0usize..3 * SHARED_FROM), 0..12),
        ) {
            let (mut assembly, mut expected) = (Assembly::new(), Vec::new());
            for (place, (shared, length)) in pieces.into_iter().enumerate() {
                let piece = Bytes::from(vec![place as u8; length]);
                if shared { assembly.share(&piece) } else { assembly.copy(&piece) }
                expected.extend_from_slice(&piece);
            }
            let sent = whole(assembly.finish());
            prop_assert_eq!(&sent[..PREFIX], &[&[0], &(expected.len() as u32).to_be_bytes()[..]].concat()[..]);
            prop_assert_eq!(&sent[PREFIX..], &expected[..]);
        }
    }

    #[test]
    fn a_large_piece_is_sent_from_where_it_is() {
        let large = Bytes::from(vec![7; SHARED_FROM]);
        let mut assembly = Assembly::new();
        assembly.copy(b"head");
        assembly.share(&large);
        let message = assembly.finish();
        assert!(message.parts.iter().any(|part| part.as_ptr() == large.as_ptr()));
    }

    async fn frames(messages: Vec<Result<Message, Status>>) -> (Vec<u8>, HeaderMap) {
        let (sender, receiver) = mpsc::channel(messages.len().max(1));
        for message in messages {
            sender.send(message).await.unwrap();
        }
        drop(sender);
        let mut body = Box::pin(Frames::new(receiver));
        let all = futures::stream::poll_fn(move |context| body.as_mut().poll_frame(context));
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        for frame in all.collect::<Vec<_>>().await {
            match frame.unwrap().into_data() {
                Ok(part) => data.extend_from_slice(&part),
                Err(last) => trailers = last.into_trailers().unwrap(),
            }
        }
        (data, trailers)
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_status() {
        let message = |text: &[u8]| {
            let mut assembly = Assembly::new();
            assembly.copy(text);
            Ok(assembly.finish())
        };
        let (data, trailers) = frames(vec![message(b"a"), message(b"bc")]).await;
        assert_eq!(data, b"\0\0\0\0\x01a\0\0\0\0\x02bc");
        assert_eq!(trailers["grpc-status"], "0");
        let refused = Err(Status::resource_exhausted("too much"));
        let (data, trailers) = frames(vec![message(b"a"), refused, message(b"never sent")]).await;
        assert_eq!(data, b"\0\0\0\0\x01a");
        assert_eq!(trailers["grpc-status"], "8");
    }
}
