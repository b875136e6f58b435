#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kilocard_xds_fuzz::conversation::run(data));
