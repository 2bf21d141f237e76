//! stream: see `crewtap_core::mask::stream::fuzz_stream` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::mask::stream::fuzz_stream(data);
});
