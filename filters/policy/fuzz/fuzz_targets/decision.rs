#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kilocard_policy_fuzz::decision::run(data));
