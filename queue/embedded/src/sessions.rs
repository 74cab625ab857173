//! Sessions: the order of their jobs, and the turns of their conversations.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use causeway_queue::{
    clock::Millis,
    id::{SessionKey, TenantId},
    json::RawJson,
    session::{Conversation, Memory, ProfileChange, Turn},
};

/// The interval at which expired conversations are removed. Reads ignore them before that.
const SWEEP: Duration = Duration::from_secs(60);

/// The unfinished jobs of every session, in the order of acceptance; only the first may be ready,
/// leased or between attempts.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    order: HashMap<(TenantId, SessionKey), VecDeque<u128>>,
    memories: HashMap<(TenantId, SessionKey), Remembered>,
    sweep_at: Millis,
}

#[derive(Debug)]
struct Remembered {
    profile: RawJson,
    expires: Millis,
    turns: VecDeque<Turn>,
}

impl Sessions {
    /// Appends a job; whether it is the first, so may run.
    pub(super) fn join(&mut self, tenant: &TenantId, session: &SessionKey, job: u128) -> bool {
        let line = self.order.entry((tenant.clone(), session.clone())).or_default();
        line.push_back(job);
        line.len() == 1
    }

    /// Takes an ended job out; the job that is first now, if the ended one was first before.
    pub(super) fn leave(
        &mut self,
        tenant: &TenantId,
        session: &SessionKey,
        job: u128,
    ) -> Option<u128> {
        let key = (tenant.clone(), session.clone());
        let line = self.order.get_mut(&key)?;
        let was_first = line.front() == Some(&job);
        line.retain(|other| *other != job);
        let next = line.front().copied();
        if next.is_none() {
            self.order.remove(&key);
        }
        next.filter(|_| was_first)
    }

    /// Returns the number of jobs before this one.
    #[cfg(feature = "audit")]
    pub(super) fn place(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
        job: u128,
    ) -> Option<usize> {
        let line = self.order.get(&(tenant.clone(), session.clone()))?;
        line.iter().position(|other| *other == job)
    }

    /// The conversations that it holds, expired ones too.
    #[cfg(feature = "audit")]
    pub(super) fn held(&self) -> impl Iterator<Item = &(TenantId, SessionKey)> {
        self.memories.keys()
    }

    /// A message was accepted: the conversation is remembered for longer.
    pub(super) fn greet(
        &mut self,
        tenant: &TenantId,
        session: &SessionKey,
        memory: &Memory,
        now: Millis,
    ) {
        let key = (tenant.clone(), session.clone());
        self.renew(key, &memory.profile, memory.ttl(), now);
    }

    /// Changes the profile of a conversation, or creates the conversation. False: its profile is not the known one.
    pub(super) fn change_profile(
        &mut self,
        key: (TenantId, SessionKey),
        change: &ProfileChange,
        now: Millis,
    ) -> bool {
        let known = self.memories.get(&key).filter(|remembered| remembered.expires > now);
        let is_known = known.map(|remembered| &remembered.profile) == change.known.as_ref();
        if is_known {
            self.renew(key, &change.profile, change.ttl, now);
        }
        is_known
    }

    /// Has a conversation with this profile remembered for `ttl` from now; what is over is forgotten before.
    fn renew(
        &mut self,
        key: (TenantId, SessionKey),
        profile: &RawJson,
        ttl: Duration,
        now: Millis,
    ) {
        self.sweep(now);
        let fresh =
            Remembered { profile: RawJson::default(), expires: now, turns: VecDeque::new() };
        let remembered = self.memories.entry(key).or_insert(fresh);
        if remembered.expires <= now {
            remembered.turns.clear();
        }
        remembered.profile = profile.clone();
        remembered.expires = now.after(ttl);
    }

    /// Imports a conversation from another shard, unless its session has one here.
    pub(super) fn import(&mut self, tenant: &TenantId, conversation: &Conversation, now: Millis) {
        let Conversation { session, profile, expires_at, turns } = conversation.clone();
        if self.conversation(tenant, &session, now).is_none() {
            let remembered = Remembered { profile, expires: expires_at, turns: turns.into() };
            self.memories.insert((tenant.clone(), session), remembered);
        }
    }

    /// A message was answered: the turn is remembered, the oldest beyond `keep` forgotten. Nothing
    /// happens when the conversation was forgotten meanwhile.
    pub(super) fn remember(
        &mut self,
        tenant: &TenantId,
        session: &SessionKey,
        (turn, keep): (Turn, u32),
        now: Millis,
    ) {
        let remembered = self.memories.get_mut(&(tenant.clone(), session.clone()));
        let Some(remembered) = remembered.filter(|remembered| remembered.expires > now) else {
            return;
        };
        remembered.turns.push_back(turn);
        while remembered.turns.len() > keep as usize {
            remembered.turns.pop_front();
        }
    }

    /// Returns the messages of a conversation, the oldest first.
    pub(super) fn turns(&self, tenant: &TenantId, session: &SessionKey, now: Millis) -> Vec<Turn> {
        self.conversation(tenant, session, now).map(|found| found.turns).unwrap_or_default()
    }

    pub(super) fn conversation(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
        now: Millis,
    ) -> Option<Conversation> {
        let remembered = self.memories.get(&(tenant.clone(), session.clone()))?;
        (remembered.expires > now).then(|| Conversation {
            session: session.clone(),
            profile: remembered.profile.clone(),
            expires_at: remembered.expires,
            turns: remembered.turns.iter().cloned().collect(),
        })
    }

    pub(super) fn conversations(&self, tenant: &TenantId, now: Millis) -> Vec<Conversation> {
        let of_tenant = self.memories.keys().filter(|(owner, _)| owner == tenant);
        let mut found: Vec<Conversation> =
            of_tenant.filter_map(|(_, session)| self.conversation(tenant, session, now)).collect();
        found.sort_by(|a, b| (b.expires_at, &b.session).cmp(&(a.expires_at, &a.session)));
        found
    }

    pub(super) fn forget(&mut self, tenant: &TenantId, session: &SessionKey, now: Millis) -> bool {
        let removed = self.memories.remove(&(tenant.clone(), session.clone()));
        removed.is_some_and(|remembered| remembered.expires > now)
    }

    fn sweep(&mut self, now: Millis) {
        if now >= self.sweep_at {
            self.memories.retain(|_, remembered| remembered.expires > now);
            self.sweep_at = now.after(SWEEP);
        }
    }
}
