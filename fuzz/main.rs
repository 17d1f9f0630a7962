//! libFuzzer over one target, which `KEEPSTEP_FUZZ_TARGET` names.
#![no_main]

#[path = "../tests/fuzz/targets.rs"]
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("KEEPSTEP_FUZZ_TARGET").expect("KEEPSTEP_FUZZ_TARGET names a target");
        let found = targets::TARGETS.into_iter().find(|(other, _)| *other == name);
        found.unwrap_or_else(|| panic!("{name} is no target")).1
    });
    target(data);
});
