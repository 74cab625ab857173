//! The directory.

use std::fmt;

use async_trait::async_trait;

use crate::{directory::Directory, error::Error};

/// The directory of tenants, which belongs to no shard.
#[async_trait]
pub trait DirectoryStore: fmt::Debug + Send + Sync {
    /// Returns the directory; `None` if its version is `known`.
    async fn directory(&self, known: u64) -> Result<Option<Directory>, Error>;

    /// Replaces the directory by `new`; `false` if its version is no longer `known`.
    async fn set_directory(&self, known: u64, new: &Directory) -> Result<bool, Error>;
}
