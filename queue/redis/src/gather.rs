//! Batches of small calls: while a call to the store is under way, new calls queue up and are sent together next. An
//! idle store receives each call at once; a busy one receives batches.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use causeway_queue::error::Error;

/// The most calls in the queue of a batcher; further callers wait for a free place.
const WAITING: usize = 4096;

/// The function that sends a batch; it returns one answer for each question, in order.
pub(super) type Send<Q, A> = Arc<
    dyn Fn(Vec<Q>) -> Pin<Box<dyn Future<Output = Result<Vec<A>, Error>> + std::marker::Send>>
        + std::marker::Send
        + Sync,
>;

type Waiting<Q, A> = (Q, oneshot::Sender<Result<A, Error>>);

/// The handle through which callers submit their questions.
#[derive(Debug)]
pub(super) struct Gather<Q, A>(mpsc::Sender<Waiting<Q, A>>);

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Gather<Q, A> {
    /// Returns a batcher, and the loop that the caller must run for it; at most `most` questions are sent together.
    pub(super) fn new(
        most: usize,
        send: Send<Q, A>,
    ) -> (Self, impl Future<Output = ()> + use<Q, A>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), run(most, send, receiver))
    }

    /// Submits a question and waits for the answer. Dropping the future does not cancel the call.
    pub(super) async fn ask(&self, question: Q) -> Result<A, Error> {
        let (sender, answer) = oneshot::channel();
        let gone = || Error::Unavailable("the store was closed".to_owned());
        self.0.send((question, sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run<Q, A>(most: usize, send: Send<Q, A>, mut receiver: mpsc::Receiver<Waiting<Q, A>>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, most).await > 0 {
        let (questions, waiting): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
        let answers = match send(questions).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => waiting.iter().map(|_| Err(again(&error))).collect::<Vec<_>>(),
        };
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // The caller may have dropped its future; the call was still made.
            drop(waiting.send(answer));
        }
    }
}

/// Returns the same failure for each caller of a batch. Errors cannot be cloned, and only these kinds concern a whole
/// batch.
pub(super) fn again(error: &Error) -> Error {
    match error {
        Error::Corrupt(what) => Error::Corrupt(what.clone()),
        Error::Unavailable(why) => Error::Unavailable(why.clone()),
        other => Error::Unavailable(other.to_string()),
    }
}
