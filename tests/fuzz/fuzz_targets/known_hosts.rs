//! Files of known hosts: see `crewtap_core::wire::ssh::known_hosts::fuzz_known_hosts` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::ssh::known_hosts::fuzz_known_hosts(data);
});
