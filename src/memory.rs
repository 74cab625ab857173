//! The memory that this process may use: that of the machine, or less if a control group or a
//! resource limit says so.

use std::{fs, ops::RangeInclusive, path::Path};

use rlimit::{INFINITY, Resource, getrlimit};

/// The control groups' memory limits: of version 2, and of the memory controller of version 1.
const GROUPS: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

/// The most parents of the process's control group that are read.
const MAX_PARENTS: usize = 16;

/// The divisor of the memory for answers in flight: they may use a quarter.
const ANSWER_DIVISOR: u64 = 4;

/// Returns the default limit of the memory for answers in flight, in bytes: on a small machine,
/// room for one answer.
pub(crate) fn share_of_answers() -> usize {
    let share = available().and_then(|bytes| usize::try_from(bytes / ANSWER_DIVISOR).ok());
    let defaults = causeway_worker::WorkerSettings::default();
    share.unwrap_or(defaults.max_response_memory).max(defaults.max_response_bytes)
}

/// The divisor of the memory for request bodies, and the range of the result in bytes.
const BODY_DIVISOR: u64 = 8;
const BODY_RANGE: RangeInclusive<u64> = 32 << 20..=128 << 20;

/// Returns the default limit of the memory for request bodies, in bytes.
pub(crate) fn share_of_bodies() -> usize {
    let share = available().map_or(*BODY_RANGE.end(), |bytes| bytes / BODY_DIVISOR);
    usize::try_from(share.clamp(*BODY_RANGE.start(), *BODY_RANGE.end())).unwrap_or(usize::MAX)
}

/// Returns the memory that this process may use, in bytes; `None` if the system does not say.
fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let path = group.as_deref().map_or("/", memory_group);
    let group_limit =
        GROUPS.iter().filter_map(|(root, file)| limit(Path::new(root), path, file)).min();
    let own = getrlimit(Resource::AS).ok().map(|(soft, _)| soft).filter(|soft| *soft != INFINITY);
    [machine, group_limit, own].into_iter().flatten().min()
}

/// Parses the `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the memory group of the process from `/proc/self/cgroup`, with lines such as
/// `0::/a.slice` or `4:memory:/docker/1`.
fn memory_group(text: &str) -> &str {
    let groups = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let is_memory = |controllers: &str| {
        controllers.is_empty() || controllers.split(',').any(|controller| controller == "memory")
    };
    let mut memory = groups.filter(|(controllers, _)| is_memory(controllers));
    memory.next().map_or("/", |(_, path)| path)
}

/// Returns the lowest limit of a group and its parents. Inside a container the group may be mounted
/// as the root.
fn limit(root: &Path, group: &str, file: &str) -> Option<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    let parents = group.ancestors().take(MAX_PARENTS).map(|group| root.join(group).join(file));
    let root = [root.join(file)];
    let texts = parents.chain(root).filter_map(|path| fs::read_to_string(path).ok());
    texts.filter_map(|text| text.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_bytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("MemFree: 1 kB"), None);
    }

    #[test]
    fn both_cgroup_versions_are_read() {
        assert_eq!(memory_group("0::/a.slice/b:c\n"), "/a.slice/b:c");
        assert_eq!(memory_group("5:cpu:/x\n4:pids,memory:/docker/1\n"), "/docker/1");
        assert_eq!(memory_group(""), "/");
    }

    #[test]
    fn the_lowest_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "4096\n").unwrap();
        fs::write(root.path().join("memory.max"), "8192\n").unwrap();
        assert_eq!(limit(root.path(), "/a/b", "memory.max"), Some(4096));
        assert_eq!(limit(root.path(), "/elsewhere", "memory.max"), Some(8192));
        assert_eq!(limit(&group, "/", "memory.max"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
