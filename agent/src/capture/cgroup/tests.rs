#![allow(clippy::unwrap_used)]

use super::{Cgroup, is_captured, mount_point_in};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

#[test]
fn the_root_of_cgroup2_is_found_beside_v1() {
    let hybrid = "34 26 0:28 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu
35 26 0:29 /user.slice /mnt/part rw - cgroup2 cgroup2 rw
36 26 0:29 / /sys/fs/cgroup/uni\\040fied rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    assert_eq!(mount_point_in(hybrid), Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
    let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw";
    assert_eq!(mount_point_in(pure), Some(PathBuf::from("/sys/fs/cgroup")));
    assert_eq!(mount_point_in("34 26 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
}

#[test]
fn whoever_is_in_any_generation_is_captured() {
    assert!(!is_captured(std::process::id()));
    assert!(!is_captured(1));
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    assert!(!is_captured(pid));
    // Another store's, of which this process knows nothing.
    let generation = Cgroup::create_at_root(&format!("crewtap-other{}.7", std::process::id())).unwrap();
    let below = generation.create_child("run").unwrap().create_child("below").unwrap();
    below.add(pid).unwrap();
    assert!(is_captured(pid));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(is_captured(pid), "nobody knows where a process is that is gone");
    generation.remove().unwrap();
}
