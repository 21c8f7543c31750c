//! A handler that asserts the order of its calls.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;

use crate::asks::Asked;
use crate::fuzz::packets::{elements, is_object};
use crate::handler::{Accepted, Connect, Event, Handler, Refused};
use crate::message::{Message, Outgoing};
use crate::reason::Reason;
use crate::socket::Socket;

/// The polls that a slow connect takes.
pub(super) const SLOW: usize = 3;

#[derive(Default)]
pub(super) struct Checks(Mutex<Calls>);

/// The calls so far.
#[derive(Default)]
struct Calls {
    /// The sockets that were accepted and have not ended.
    sockets: Vec<Called>,
    /// The events that a client is to answer.
    asked: Vec<Asked>,
    /// The calls of [`Handler::closed`].
    closed: usize,
}

/// A socket that was accepted.
struct Called {
    socket: Socket,
    is_connected: bool,
    /// It was disconnected by the handler.
    has_left: bool,
}

impl Checks {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the last call.
    pub(super) fn assert_finished(&self) {
        let mut calls = self.calls();
        assert_eq!((calls.sockets.len(), calls.closed), (0, 1), "each socket ends, and then the connection");
        let mut cx = Context::from_waker(Waker::noop());
        for asked in std::mem::take(&mut calls.asked) {
            let answer = pin!(asked).poll(&mut cx);
            assert!(answer.is_ready(), "no answer is awaited after the end");
            if let Poll::Ready(Ok(answer)) = answer {
                assert!(elements(&format!("[{}]", answer.args)).is_some(), "an answer is JSON");
            }
        }
    }
}

impl Calls {
    fn called(&mut self, socket: &Socket) -> Option<&mut Called> {
        self.sockets.iter_mut().find(|called| called.socket == *socket)
    }
}

impl Handler for Checks {
    type Connection = ();
    type Socket = ();

    async fn open(self: Arc<Self>, _: Parts) -> Result<(), Response> {
        Ok(())
    }

    /// The length of the namespace decides.
    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<()>, Refused> {
        let socket = connect.socket;
        assert!(connect.auth.is_none_or(|auth| is_object(&auth)), "auth is an object");
        let kind = socket.namespace().len() % 5;
        if matches!(kind, 2 | 4) {
            let mut polls = 0;
            poll_fn(|_| {
                polls += 1;
                if polls < SLOW { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
        if matches!(kind, 3 | 4) {
            return Err(Refused::unknown_namespace());
        }
        let event = |array| Message::event(socket.namespace(), array);
        socket.send(&event(r#"["held"]"#));
        let has_left = kind == 0;
        if has_left {
            socket.disconnect();
        }
        let accepted = Accepted { data: (), recoverable: kind == 2, missed: vec![event(r#"["missed"]"#)] };
        self.calls().sockets.push(Called { socket, is_connected: false, has_left });
        Ok(accepted)
    }

    fn connected(&self, socket: &Socket, (): &()) {
        let mut calls = self.calls();
        let called = calls.called(socket);
        assert!(called.as_ref().is_some_and(|called| !called.is_connected), "connected once, and after it was accepted");
        called.into_iter().for_each(|called| called.is_connected = true);
    }

    fn event(&self, socket: &Socket, (): &(), event: Event<'_>) {
        let mut calls = self.calls();
        let called = calls.called(socket);
        assert!(called.as_ref().is_some_and(|called| called.is_connected && !called.has_left), "an event of a connected socket");
        assert!(elements(&format!("[{}]", event.args)).is_some(), "arguments are JSON");
        assert!(event.attachments.is_empty() || event.is_binary, "only binary packets have attachments");
        assert!(event.attachments.iter().map(Bytes::len).sum::<usize>() <= 100, "attachments are bounded");
        let (name, args, attachments) = (&*event.name, event.args, &event.attachments[..]);
        let mut echo = Outgoing { namespace: socket.namespace(), name, args, attachments, ..Outgoing::default() };
        match event.ack {
            Some(id) => {
                socket.ack_with(id, args, attachments);
            }
            None if name == "leave" => {
                called.into_iter().for_each(|called| called.has_left = true);
                socket.disconnect();
            }
            None if name == "ask" => {
                let number = calls.asked.len() as u64;
                echo.ask = Some(number);
                calls.asked.extend(socket.ask(&echo.encode(), number));
            }
            None => {
                socket.send(&echo.encode());
            }
        }
    }

    fn disconnected(&self, socket: &Socket, (): (), _: Reason) {
        let mut calls = self.calls();
        let at = calls.sockets.iter().position(|called| called.socket == *socket);
        assert!(at.is_some(), "a socket ends once");
        at.map(|at| calls.sockets.swap_remove(at));
        assert!(!socket.is_connected(), "a socket has ended before its last call");
    }

    fn closed(&self, (): (), _: Reason) {
        let mut calls = self.calls();
        assert!(calls.sockets.is_empty(), "all sockets end before their connection");
        calls.closed += 1;
    }
}
