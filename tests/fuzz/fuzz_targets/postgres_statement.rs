//! postgres_statement: see `crewtap_core::wire::postgres::facts::fuzz_postgres_statement` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::postgres::facts::fuzz_postgres_statement(data);
});
