//! The connections of a process, without sockets.

use super::*;
use crate::budget::SMALL;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn connections(most: usize) -> Arc<ConnectionRegistry> {
    ConnectionRegistry::new(most, Arc::new(Budgets::new(4 * SMALL)))
}

fn admit(connections: &Arc<ConnectionRegistry>) -> Option<Registered> {
    connections.admit(SocketAddr::from(([127, 0, 0, 1], 9)))
}

#[test]
fn a_new_connection_evicts_the_oldest_stranger() {
    let connections = connections(2);
    let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
    let third = admit(&connections).unwrap();
    assert!(first.0.is_evicted());
    assert!(!second.0.is_evicted() && !third.0.is_evicted());
}

#[test]
fn strangers_leave_before_idle_connections() {
    let connections = connections(3);
    let all: Vec<_> = (0..3).map(|_| admit(&connections).unwrap()).collect();
    let [answering, idle, unused] = [&all[0].0, &all[1].0, &all[2].0];
    answering.request_started();
    idle.reserve_place(&tenant("ann"), false).unwrap();
    idle.answer_ended();
    for next in [unused, answering, idle] {
        assert!(!next.is_evicted());
        assert!(connections.table().evict());
        assert!(next.is_evicted());
    }
    assert!(!connections.table().evict());
}

#[test]
fn an_evicted_connection_needs_no_place() {
    let connections = connections(2);
    let (stranger, idle) = (admit(&connections).unwrap(), admit(&connections).unwrap());
    idle.0.reserve_place(&tenant("ann"), false).unwrap();
    idle.0.answer_ended();
    drop(admit(&connections).unwrap());
    assert!(stranger.0.is_evicted());
    let _last = admit(&connections).unwrap();
    connections.free_handle();
    assert!(!idle.0.is_evicted(), "the stranger, which is about to end, makes room");
}

#[test]
fn an_evicted_connection_reuses_a_free_place() {
    let connections = connections(1);
    let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
    assert_eq!(first.0.reserve_place(&tenant("ann"), false), Err(NoPlace::Evicted));
    drop(second);
    assert_eq!(first.0.reserve_place(&tenant("ann"), false), Ok(()));
    assert!(!first.0.is_evicted());
}

#[test]
fn busy_connections_keep_their_places() {
    let connections = connections(2);
    let (busy, idle) = (admit(&connections).unwrap(), admit(&connections).unwrap());
    busy.0.reserve_place(&tenant("ann"), false).unwrap();
    idle.0.reserve_place(&tenant("ann"), false).unwrap();
    assert!(admit(&connections).is_none());
    idle.0.answer_ended();
    let newcomer = admit(&connections).unwrap();
    assert!(idle.0.is_evicted() && !busy.0.is_evicted());
    drop((idle, newcomer));
    assert!(admit(&connections).is_some());
}

#[test]
fn a_tenant_has_a_share_of_connections() {
    let connections = connections(5);
    let all: Vec<_> = (0..5).map(|_| admit(&connections).unwrap()).collect();
    for one in all.iter().take(4) {
        one.0.reserve_place(&tenant("ann"), true).unwrap();
    }
    assert_eq!(all[4].0.reserve_place(&tenant("ann"), true), Err(NoPlace::Share));
    all[4].0.reserve_place(&tenant("bob"), true).unwrap();
    all[0].0.answer_ended();
    all[0].0.reserve_place(&tenant("ann"), true).unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_heads_have_a_deadline() {
    let connection = admit(&connections(1)).unwrap();
    let connection = &connection.0;
    let left = || connection.deadline().map(|at| at.duration_since(Instant::now()));
    assert!(left().unwrap() < 2 * HEAD_TIMEOUT);
    connection.request_started();
    assert_eq!(left(), None);
    connection.answer_ended();
    assert!(left().unwrap() > 2 * HEAD_TIMEOUT);
    connection.bytes_received();
    assert!(left().unwrap() < 2 * HEAD_TIMEOUT);
}

#[test]
fn incomplete_messages_are_charged() {
    let connections = connections(2);
    let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
    for one in [&first, &second] {
        let payer = Payer { tenant: tenant("default"), shares: false };
        one.0.become_websocket(payer);
    }
    first.0.charge_message(SMALL).unwrap();
    first.0.charge_message(3 * SMALL).unwrap();
    assert_eq!(second.0.charge_message(SMALL + 1), Err(BudgetLimit::All));
    first.0.message_completed();
    second.0.charge_message(SMALL).unwrap();
}
