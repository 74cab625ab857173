//! The implementation of [`Backend`]: each method calls its script or its module.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::{
    RedisStore, enqueue, keys, news, orphans, outbox, record,
    reply::{self, Reply},
    server::{Args, GATHERED, MOST_LEASES},
    step, views, wake, workers,
};
use causeway_queue::{
    backend::{
        Administration, Backend, Conversations, DirectoryStore, Emission, ListQuery, Orphans,
        Outbox, Page, Reaped, Repairs, Stats, Transitions, Views, WorkerRegistry,
    },
    clock::millis,
    directory::Directory,
    error::Error,
    event::{Event, retrying},
    id::{IdempotencyKey, InvalidName, JobId, Layout, SessionKey, Shard, TenantId},
    job::{Accepted, Job, NewJob, worker_lost},
    json::RawJson,
    lease::{Beat, ClaimRequest, LeaseKey, Settlement, Step},
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    orphan::CallKey,
    session::{Conversation, ProfileChange},
    state::Status,
    webhook::End,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

#[async_trait]
impl Transitions for RedisStore {
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        if jobs.len() < enqueue::ACCEPTED_AT_ONCE {
            return self.gathers(shard).enqueue.ask(jobs).await?;
        }
        // A group that fills a call by itself is not batched with others.
        let gone = |_| Error::Unavailable("the store was closed".to_owned());
        let _turn = self.alone.acquire().await.map_err(gone)?;
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

    async fn beat(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Beat, Error> {
        let mut beat = Beat::default();
        for part in leases.chunks(MOST_LEASES) {
            let mut args = vec![millis(lease).to_string()];
            args.extend(part.iter().map(record::member));
            let answer = self.server.call(shard, &self.server.scripts.beat, &args).await?;
            for (key, letter) in part.iter().zip(reply::bytes(answer)?) {
                match letter {
                    // The letters of `lua/beat.lua`; any other means extended.
                    b'0' => beat.lost.push(key.clone()),
                    b'c' => beat.cancelled.push(key.clone()),
                    _ => {}
                }
            }
        }
        Ok(beat)
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
            // The letters of `lua/emit.lua`: 0 for a lease that is no longer held.
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

#[async_trait]
impl Administration for RedisStore {
    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        // The scripts read -1 as no limit.
        let bound = |bound: Option<u64>| bound.map_or(record::double(-1.0), record::double_of);
        let mut args = Args::with_capacity(1 + tenants.len() * 2);
        args.push(
            [
                bound(lane.max_running.map(Into::into)),
                record::double_of(lane.max_queued),
                bound(lane.requests_per_minute.map(Into::into)),
                bound(lane.tokens_per_minute),
            ]
            .concat(),
        );
        for (id, limits) in tenants {
            args.push(id.as_str().as_bytes().to_vec());
            args.push(
                [
                    record::double(limits.weight.clamp(1, 1000).into()),
                    bound(limits.max_running.map(Into::into)),
                    bound(limits.max_queued),
                    bound(limits.requests_per_minute.map(Into::into)),
                    bound(limits.tokens_per_minute),
                ]
                .concat(),
            );
        }
        self.server.call(shard, &self.server.scripts.limits, &args).await.map(drop)
    }

    async fn has_limits(&self, shard: &Shard) -> Result<bool, Error> {
        self.server.read(redis::cmd("EXISTS").arg(keys::bounded(shard))).await
    }

    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error> {
        let args = [tenant.map_or("", TenantId::as_str), if paused { "1" } else { "0" }];
        self.server.call(shard, &self.server.scripts.pause, args).await.map(drop)
    }

    async fn paused(&self, shard: &Shard) -> Result<Vec<Option<TenantId>>, Error> {
        let names: Vec<String> =
            self.server.read(redis::cmd("SMEMBERS").arg(keys::paused(shard))).await?;
        let corrupt = |error: InvalidName| Error::Corrupt(error.to_string());
        let named = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => TenantId::new(name).map(Some).map_err(corrupt),
        };
        names.iter().map(named).collect()
    }

    async fn stop(&self, shard: &Shard, delay: Duration) -> Result<(), Error> {
        let args = [millis(delay).to_string()];
        self.server.call(shard, &self.server.scripts.stop, args).await.map(drop)
    }

    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error> {
        self.gathers(shard).throttle.ask((format!("{tenant}:{name}"), rate)).await
    }

    async fn layouts(&self) -> Result<Vec<Layout>, Error> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(format!("{}layouts", keys::FLEET)).arg(0).arg(-1);
        let names: Vec<String> = self.server.read(&command).await?;
        let parsed = names.iter().map(|name| name.parse());
        parsed
            .collect::<Result<_, InvalidName>>()
            .map_err(|error| Error::Corrupt(error.to_string()))
    }

    async fn remember_layouts(&self, used: &[Layout]) -> Result<(), Error> {
        let args = used.iter().map(Layout::to_string);
        let script = &self.server.scripts.remember_layouts;
        let command = self.server.command_at(keys::FLEET, script, args);
        self.server.call_with(&command).await.map(drop)
    }

    async fn ping(&self) -> Result<(), Error> {
        let _pong: Value = self.server.ask(&redis::cmd("PING")).await?;
        // A replica answers a PING too, so test a write.
        let _none: i64 = self.server.ask(redis::cmd("DEL").arg(keys::NOTHING)).await?;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("Redis at {}", self.server.connections.address())
    }
}

#[async_trait]
impl Conversations for RedisStore {
    async fn conversations(
        &self,
        shard: &Shard,
        tenant: &TenantId,
    ) -> Result<Vec<Conversation>, Error> {
        views::conversations(&self.server, shard, tenant, None).await
    }

    async fn conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        let found = views::conversations(&self.server, shard, tenant, Some(session)).await?;
        Ok(found.into_iter().next())
    }

    async fn change_profile(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
        change: &ProfileChange,
    ) -> Result<bool, Error> {
        let ProfileChange { known, profile, ttl } = change;
        let known = known.as_ref().map_or("", RawJson::as_str);
        let ttl = millis(*ttl).max(1).to_string();
        let args = [tenant.as_str(), session.as_str(), known, profile.as_str(), &ttl];
        let answer = self.server.call(shard, &self.server.scripts.change_profile, args).await?;
        Ok(answer == Value::Int(1))
    }

    async fn import_conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        conversation: &Conversation,
    ) -> Result<(), Error> {
        let Conversation { session, profile, expires_at, turns } = conversation;
        let mut args = vec![
            tenant.to_string(),
            session.to_string(),
            profile.as_str().to_owned(),
            expires_at.0.to_string(),
        ];
        for turn in turns {
            let turn = serde_json::to_string(turn);
            args.push(turn.map_err(|error| Error::Corrupt(format!("a turn: {error}")))?);
        }
        self.server.call(shard, &self.server.scripts.import_conversation, &args).await.map(drop)
    }

    async fn forget(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<bool, Error> {
        let args = [tenant.as_str(), session.as_str()];
        let answer = self.server.call(shard, &self.server.scripts.forget, args).await?;
        Ok(answer == Value::Int(1))
    }
}

#[async_trait]
impl Outbox for RedisStore {
    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error> {
        outbox::read(&self.server, shard, most).await
    }

    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error> {
        outbox::take_out(&self.server, shard, ends).await
    }

    async fn postpone(&self, shard: &Shard, ends: &[End], delay: Duration) -> Result<(), Error> {
        outbox::postpone(&self.server, shard, ends, delay).await
    }
}

#[async_trait]
impl Orphans for RedisStore {
    async fn put_orphan(&self, call: &CallKey, job: &JobId, ttl: Duration) -> Result<(), Error> {
        orphans::put(&self.server, call, job, ttl).await
    }

    async fn take_orphan(&self, shard: &Shard, call: &CallKey) -> Result<Option<JobId>, Error> {
        orphans::take(&self.server, shard, call).await
    }

    async fn remove_orphan(&self, call: &CallKey, job: &JobId) -> Result<bool, Error> {
        orphans::remove(&self.server, call, job).await
    }
}

#[async_trait]
impl WorkerRegistry for RedisStore {
    async fn beat_worker(&self, id: &WorkerId, report: &WorkerReport) -> Result<bool, Error> {
        workers::beat(&self.server, id, report).await
    }

    async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error> {
        workers::remove(&self.server, id).await
    }

    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error> {
        workers::list(&self.server).await
    }
}

#[async_trait]
impl DirectoryStore for RedisStore {
    async fn directory(&self, known: u64) -> Result<Option<Directory>, Error> {
        let server = &self.server;
        let args = [known.to_string()];
        let answer = server.call(&keys::home(), &server.scripts.directory, args).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let mut reply = Reply::new(answer)?;
        let version = reply.text()?;
        let version = version
            .parse()
            .map_err(|_| Error::Corrupt(format!("the version of the directory: {version:?}")))?;
        Ok(Some(Directory { version, text: reply.text()? }))
    }

    async fn set_directory(&self, known: u64, new: &Directory) -> Result<bool, Error> {
        let server = &self.server;
        let args = [&known.to_string(), &new.version.to_string(), &new.text];
        let answer = server.call(&keys::home(), &server.scripts.set_directory, args).await?;
        Ok(answer == Value::Int(1))
    }
}

impl Backend for RedisStore {
    fn news(&self) -> &Arc<Switchboard> {
        &self.board
    }
}
