//! dns: see `crewtap_core::wire::dns::fuzz_dns` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::dns::fuzz_dns(data);
});
