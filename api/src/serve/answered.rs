//! The body of an answer on its way to the client: it keeps its connection busy, and its bytes charged, until the
//! client has taken them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::connection::Connection;
use crate::budget::{Charge, charged};

/// An answer's body.
#[derive(Debug)]
pub(super) struct Answered {
    body: Body,
    busy: Arc<Busy>,
    /// Of an answer whose length is known.
    charge: Option<Charge>,
}

/// Keeps a connection busy until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Option<Arc<Connection>>);

impl Busy {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        connection.begins();
        Self(Some(Arc::clone(connection)))
    }

    /// The connection stays busy to its end.
    pub(super) fn stay(&mut self) {
        self.0 = None;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.ends();
        }
    }
}

impl Answered {
    pub(super) fn new(body: Body, busy: Busy, charge: Option<Charge>) -> Self {
        Self { body, busy: Arc::new(busy), charge }
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // The connection drops a body when it has its last frame, which may be far from sent.
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            Ok(match self.charge.take() {
                None => frame,
                Some(charge) => {
                    let busy = Arc::clone(&self.busy);
                    frame.map_data(|data| charged(data, (busy, charge)))
                }
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
