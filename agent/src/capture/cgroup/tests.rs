#![allow(clippy::unwrap_used)]

use super::mount_point_in;
use std::path::PathBuf;

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
