//! A thread with a user's permissions on files, for a while. Never changes another thread's, and never the user that a
//! process is.

use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// This thread opens and makes files as a user until it is dropped. The thread's supplementary groups stay, which are root's.
#[derive(Debug)]
pub struct AsUser {
    before: (Uid, Gid),
    /// Not to be sent to another thread, which has its own.
    _here: std::marker::PhantomData<*const ()>,
}

impl AsUser {
    /// Takes the permissions of this user and group.
    ///
    /// # Errors
    /// When they are not in force: the system calls themselves cannot tell.
    pub fn new(uid: u32, gid: u32) -> io::Result<Self> {
        const ASK: u32 = u32::MAX;
        // The group first: without root's permissions it could not be changed any more.
        let before_gid = setfsgid(Gid::from_raw(gid));
        let before_uid = setfsuid(Uid::from_raw(uid));
        let changed = Self { before: (before_uid, before_gid), _here: std::marker::PhantomData };
        let now = (setfsuid(Uid::from_raw(ASK)).as_raw(), setfsgid(Gid::from_raw(ASK)).as_raw());
        if now == (uid, gid) {
            return Ok(changed);
        }
        Err(io::Error::other("this thread cannot take the permissions of the user"))
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        let (uid, gid) = self.before;
        let _changed = (setfsuid(uid), setfsgid(gid));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_holds_for_this_thread_and_this_while() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let open = || std::fs::File::open(file.path()).map(drop).map_err(|error| error.kind());
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            // Begun before: a new thread begins with the permissions of the one that makes it.
            let other = scope.spawn(|| {
                barrier.wait();
                open()
            });
            let as_user = AsUser::new(65534, 65534).unwrap();
            let here = open();
            barrier.wait();
            let there = other.join().unwrap();
            drop(as_user);
            assert_eq!((here, there), (Err(io::ErrorKind::PermissionDenied), Ok(())));
        });
        assert_eq!(open(), Ok(()));
    }
}
