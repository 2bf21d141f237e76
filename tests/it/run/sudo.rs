//! Through real sudo, as a real user: a private mount namespace has a user and a sudoers file of its own.
