//! WMI over DCOM: no arguments make a call panic, whatever operation of whatever interface they are
//! for, and no call leaves more behind than a few objects.
#![no_main]

#[path = "../../crates/wire-dcom/tests/wire/shop.rs"]
#[allow(dead_code)]
mod shop;

use shop::Shop;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

/// Time passes at once, so that what is waited for without end is over soon.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true);
    builder.build().expect("a runtime")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let shop = Shop::small();
    RUNTIME.block_on(shop::fuzz(&shop, data));
    assert!(shop.held() < 32);
});
