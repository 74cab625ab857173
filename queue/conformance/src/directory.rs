//! Promises about the document that all processes share.

use super::stage::Stage;
use causeway_queue::directory::Directory;

/// Of several writers with the same known version one succeeds, and readers receive the directory only if it is new
/// to them.
pub async fn a_directory_is_replaced_by_one_writer(stage: Stage) {
    let store = stage.store();
    let first = store.directory(1).await.unwrap().expect("it is another version");
    assert_eq!(store.directory(first.version).await.unwrap(), None);
    let written = |version: u64| Directory { version, text: format!("{{\"n\":{version}}}") };
    assert!(store.set_directory(first.version, &written(u64::MAX)).await.unwrap());
    assert!(!store.set_directory(first.version, &written(8)).await.unwrap());
    assert_eq!(store.directory(first.version).await.unwrap(), Some(written(u64::MAX)));
    assert_eq!(store.directory(u64::MAX).await.unwrap(), None);
    assert!(store.set_directory(u64::MAX, &written(9)).await.unwrap());
    assert_eq!(store.directory(u64::MAX).await.unwrap(), Some(written(9)));
}
