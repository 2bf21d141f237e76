//! Both sides of SFTP: see `crewtap_core::wire::ssh::sftp::fuzz_sftp` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::ssh::sftp::fuzz_sftp(data);
});
