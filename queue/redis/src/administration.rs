//! Administration, conversations, outbox, orphans and registries on Redis.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::{
    RedisStore, keys, orphans, outbox, record, reply::Reply, server::Args, views, workers,
};
use causeway_queue::{
    backend::{Administration, Conversations, DirectoryStore, Orphans, Outbox, WorkerRegistry},
    clock::millis,
    directory::Directory,
    error::Error,
    id::{InvalidName, JobId, Layout, SessionKey, Shard, TenantId},
    json::RawJson,
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
    orphan::CallKey,
    session::{Conversation, ProfileChange},
    webhook::End,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

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
        self.server.call(shard, &self.server.scripts.set_limits, &args).await.map(drop)
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
        self.server.call(shard, &self.server.scripts.cool_down, args).await.map(drop)
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
        let answer =
            self.server.call(shard, &self.server.scripts.forget_conversation, args).await?;
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
        let answer = server.call(&keys::home(), &server.scripts.get_directory, args).await?;
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
