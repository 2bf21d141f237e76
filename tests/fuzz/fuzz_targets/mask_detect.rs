//! Masks: see `crewtap_core::mask::detect::fuzz_detect` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::mask::detect::fuzz_detect(data);
});
