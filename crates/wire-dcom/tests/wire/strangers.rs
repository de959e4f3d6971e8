//! Arguments that no client sends: nothing panics, nothing waits for ever, nothing is kept.

use crate::shop::{self, Shop};

/// The committed corpus of the fuzz target: what it once found stays found.
#[tokio::test(start_paused = true)]
async fn the_fuzzing_corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/wmi_call");
    let mut answered = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        let answer = shop::fuzz(&Shop::small(), &input).await;
        answered += usize::from(matches!(answer, Some(Ok(_))));
        // Many a cut and many a changed byte of it.
        for at in (2..input.len()).step_by(11) {
            let shop = Shop::small();
            shop::fuzz(&shop, &input[..at]).await;
            let mut changed = input.clone();
            changed[at] ^= 0x81;
            shop::fuzz(&shop, &changed).await;
            assert!(shop.held() < 32);
        }
    }
    assert!(answered >= 10, "{answered} of the corpus are whole calls");
}
