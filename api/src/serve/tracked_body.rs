//! The body of an answer. It keeps its connection busy, and its bytes charged, until the client has read them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::connection::Connection;
use crate::budget::{BudgetCharge, charged};

/// The body of an answer, which holds its connection and charge.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    busy: Arc<Busy>,
    /// The charge of an answer of known length.
    charge: Option<BudgetCharge>,
}

/// A guard that keeps a connection busy until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Option<Arc<Connection>>);

impl Busy {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        connection.request_started();
        Self(Some(Arc::clone(connection)))
    }

    /// Keeps the connection busy to its end.
    pub(super) fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.answer_ended();
        }
    }
}

impl TrackedBody {
    pub(super) fn new(body: Body, busy: Busy, charge: Option<BudgetCharge>) -> Self {
        Self { body, busy: Arc::new(busy), charge }
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // hyper drops a body after its last frame, which may not be sent yet, so the frame carries the charge.
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
