//! The implementation of [`Backend`]: each method calls its script or its module.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::{
    RedisStore, enqueue, keys, news, record,
    reply::{self, Reply},
    server::{Args, GATHERED, MOST_LEASES},
    step, views, wake,
};
use causeway_queue::{
    backend::{Backend, Emission, ListQuery, Page, Reaped, Repairs, Stats, Transitions, Views},
    clock::millis,
    error::Error,
    event::{Event, retrying},
    id::{IdempotencyKey, JobId, Shard, TenantId},
    job::{Accepted, Job, NewJob, worker_lost},
    lease::{ClaimRequest, Extended, LeaseKey, Settlement, Step},
    news::Switchboard,
    state::Status,
};

#[async_trait]
impl Transitions for RedisStore {
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        if jobs.len() < enqueue::ACCEPTED_AT_ONCE {
            return self.gathers(shard).enqueue.ask(jobs).await?;
        }
        // A group that fills a call by itself is not batched with others.
        let gone = |_| Error::Unavailable("the store was closed".to_owned());
        let _turn = self.bulk_permits.acquire().await.map_err(gone)?;
        let mut answers = enqueue::try_enqueue(&self.server, shard, vec![jobs]).await?;
        let missing = || Err(Error::Corrupt("enqueue returned nothing".to_owned()));
        answers.pop().unwrap_or_else(missing)
    }

    async fn accepted(&self, shard: &Shard, jobs: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error> {
        enqueue::accepted_before(&self.server, shard, jobs).await
    }

    async fn expire_keys(
        &self,
        shard: &Shard,
        keys: &[(TenantId, IdempotencyKey)],
        ttl: Duration,
    ) -> Result<(), Error> {
        let mut args = vec![millis(ttl).to_string()];
        args.extend(keys.iter().map(|(tenant, key)| format!("{tenant}:{key}")));
        self.server.call(shard, &self.server.scripts.expire_keys, &args).await.map(drop)
    }

    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error> {
        step::step(&self.server, shard, settlements, claim).await
    }

    async fn claim_when_woken(
        &self,
        shard: &Shard,
        at_most: Duration,
        claim: ClaimRequest,
        stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Result<Step, Error> {
        wake::claim_when_woken(self, shard, at_most, claim, stop).await
    }

    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error> {
        wake::wait(self, shard, at_most).await
    }

    async fn extend_leases(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Extended, Error> {
        let mut extended = Extended::default();
        for part in leases.chunks(MOST_LEASES) {
            let mut args = vec![millis(lease).to_string()];
            args.extend(part.iter().map(record::member));
            let answer = self.server.call(shard, &self.server.scripts.extend_leases, &args).await?;
            for (key, letter) in part.iter().zip(reply::bytes(answer)?) {
                match letter {
                    // The letters of `lua/calls/extend_leases.lua`; any other means extended.
                    b'0' => extended.lost.push(key.clone()),
                    b'c' => extended.cancelled.push(key.clone()),
                    _ => {}
                }
            }
        }
        Ok(extended)
    }

    async fn reap(&self, shard: &Shard) -> Result<Reaped, Error> {
        let lost = worker_lost(0);
        let (_, event) = retrying(Duration::ZERO, &lost);
        let error =
            serde_json::to_string(&lost).map_err(|error| Error::Corrupt(error.to_string()))?;
        let args = [error.as_str(), event.as_str()];
        let mut reply =
            Reply::new(self.server.call(shard, &self.server.scripts.reap, args).await?)?;
        let ids = |mut keys: Reply| {
            let mut ids = Vec::with_capacity(keys.len());
            while keys.len() > 0 {
                ids.push(record::job_id(shard, &keys.text()?)?);
            }
            Ok::<_, Error>(ids)
        };
        Ok(Reaped { requeued: ids(reply.array()?)?, ended: ids(reply.array()?)? })
    }

    async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let key = id.key();
        let args = [key.as_str(), tenant.as_str()];
        let answer = self.server.call(id.shard(), &self.server.scripts.cancel, args).await?;
        Ok(answer == Value::Int(1))
    }

    async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let found = views::get(&self.server, id.shard(), std::slice::from_ref(id)).await?;
        let spec = found.into_iter().flatten().next().map(|job| job.spec);
        let idempotency = spec.and_then(|spec| spec.idempotency_key);
        let idempotency = idempotency.as_ref().map_or("", IdempotencyKey::as_str);
        let key = id.key();
        let args = [key.as_str(), tenant.as_str(), idempotency];
        let answer = self.server.call(id.shard(), &self.server.scripts.retry, args).await?;
        let mut reply = Reply::new(answer)?;
        match reply.text()?.as_str() {
            "ok" => Ok(true),
            "none" => Ok(false),
            "full" => Err(enqueue::full(&mut reply)?),
            _ => {
                let letter = reply.bytes()?.first().copied().unwrap_or_default();
                let status = Status::from_code(letter).unwrap_or(Status::Queued);
                Err(Error::NotRetryable { id: id.clone(), status })
            }
        }
    }

    async fn delete(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let key = id.key();
        let args = [key.as_str(), tenant.as_str()];
        let answer = self.server.call(id.shard(), &self.server.scripts.delete, args).await?;
        Ok(answer == Value::Int(1))
    }

    async fn attach(&self, id: &JobId, bytes: Bytes) -> Result<(), Error> {
        let mut command = redis::cmd("SET");
        command.arg(keys::attached(id)).arg(&bytes[..]);
        self.server.ask(command.arg("PX").arg(millis(self.server.attached_for).max(1))).await
    }

    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error> {
        let mut lost = Vec::new();
        for part in emissions.chunks(MOST_LEASES) {
            let mut args = Args::with_capacity(part.len() * 3);
            for one in part {
                args.push(record::member(&one.lease).into_bytes());
                let (letter, repeated) =
                    (news::letter(one.kind), if one.repeated { "+" } else { "" });
                args.push(format!("{}{}{repeated}", char::from(letter), one.number).into_bytes());
                args.push(one.data.as_str().as_bytes().to_vec());
            }
            let answer = self.server.call(shard, &self.server.scripts.emit, &args).await?;
            let letters = super::reply::bytes(answer)?;
            // The letters of `lua/calls/emit.lua`: 0 for a lease that is no longer held.
            let gone = part.iter().zip(letters).filter(|(_, letter)| *letter == b'0');
            lost.extend(gone.map(|(one, _)| one.lease.clone()));
        }
        Ok(lost)
    }

    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error> {
        let mut repairs = Repairs::default();
        let mut cursor = "0".to_owned();
        loop {
            let script = &self.server.scripts.reconcile;
            let mut reply = Reply::new(self.server.call(shard, script, [&cursor]).await?)?;
            cursor = reply.text()?;
            repairs.running += reply.count()?.unwrap_or(0);
            repairs.queued += reply.count()?.unwrap_or(0);
            repairs.flows += reply.count()?.unwrap_or(0);
            if cursor == "0" {
                return Ok(repairs);
            }
        }
    }
}

#[async_trait]
impl Views for RedisStore {
    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        if let Some(gathers) = self.known_gathers(shard) {
            let asked = ids.iter().map(|id| gathers.get.ask(id.clone()));
            return futures_util::future::try_join_all(asked).await;
        }
        let mut jobs = Vec::with_capacity(ids.len());
        for part in ids.chunks(GATHERED) {
            jobs.extend(views::get(&self.server, shard, part).await?);
        }
        if jobs.iter().any(Option::is_some) {
            // The shard exists: further reads are batched.
            self.gathers(shard);
        }
        Ok(jobs)
    }

    async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error> {
        views::body(&self.server, id).await
    }

    async fn attached(&self, id: &JobId) -> Result<Option<Bytes>, Error> {
        let bytes: Option<Vec<u8>> =
            self.server.ask(redis::cmd("GET").arg(keys::attached(id))).await?;
        Ok(bytes.map(Bytes::from))
    }

    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error> {
        let mut command = redis::cmd("XRANGE");
        // An entry's id is `1-SEQ`, so a number is found without a scan.
        command.arg(keys::events(id)).arg(format!("1-{from}")).arg("+");
        views::events(Reply::new(self.server.read(&command).await?)?)
    }

    async fn list(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        query: &ListQuery,
    ) -> Result<Page, Error> {
        views::list(&self.server, shard, tenant, query).await
    }

    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        views::stats(&self.server, shard, tenant).await
    }

    async fn ready(&self, shard: &Shard) -> Result<[u64; 3], Error> {
        views::ready(&self.server, shard).await
    }
}

impl Backend for RedisStore {
    fn news(&self) -> &Arc<Switchboard> {
        &self.board
    }
}
