//! certificate: see `crewtap_core::wire::certificate::fuzz_certificate` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::certificate::fuzz_certificate(data);
});
