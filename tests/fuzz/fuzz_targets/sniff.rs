//! sniff: see `crewtap_core::sniff::fuzz_sniff` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::sniff::fuzz_sniff(data);
});
