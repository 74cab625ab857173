//! Many small calls as one large one: while a call to the store is under way, those that come
//! gather, and go together next. An idle store sees each call at once; a busy one sees batches.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::error::Error;

/// Most calls that wait to be gathered; more wait before they are let in.
const WAITING: usize = 4096;

/// What sends a batch: answers one for each question, in order.
pub(super) type Send<Q, A> = Arc<
    dyn Fn(Vec<Q>) -> Pin<Box<dyn Future<Output = Result<Vec<A>, Error>> + std::marker::Send>>
        + std::marker::Send
        + Sync,
>;

type Waiting<Q, A> = (Q, oneshot::Sender<Result<A, Error>>);

/// Where callers hand in their questions.
#[derive(Debug)]
pub(super) struct Gather<Q, A>(mpsc::Sender<Waiting<Q, A>>);

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Gather<Q, A> {
    /// A gatherer, and the loop that somebody has to run for it; `most` questions go together.
    pub(super) fn new(
        most: usize,
        send: Send<Q, A>,
    ) -> (Self, impl Future<Output = ()> + use<Q, A>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), run(most, send, receiver))
    }

    /// Asks, and waits for the answer. Whoever stops waiting does not stop the call.
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
            // Whoever asked may have gone away; the call was made all the same.
            drop(waiting.send(answer));
        }
    }
}

/// The same failure for each of those who asked together.
pub(super) fn again(error: &Error) -> Error {
    match error {
        Error::Corrupt(what) => Error::Corrupt(what.clone()),
        Error::Unavailable(why) => Error::Unavailable(why.clone()),
        other => Error::Unavailable(other.to_string()),
    }
}
