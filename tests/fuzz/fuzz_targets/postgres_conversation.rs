//! postgres_conversation: see `crewtap_core::wire::postgres::fuzz_postgres_conversation` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::postgres::fuzz_postgres_conversation(data);
});
