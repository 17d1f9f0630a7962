//! Fuzzing in stable Rust, without instruments: everything in `corpus/` again, and then its mutations for a while. `scripts/fuzz`
//! does the same with libFuzzer, which finds new paths by itself.
//!
//! `KEEPSTEP_FUZZ_SECONDS` says how long each target is tried (5). A finding is left in `target/fuzz`; put it into the corpus
//! with its mend.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use targets::{TARGETS, Target};

/// Longer inputs say nothing new.
const LONGEST: usize = 4096;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the corpus").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a file of the corpus")).collect()
}

/// Says what is wrong, and keeps the input.
fn tries(name: &str, target: Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz").join(name);
        std::fs::create_dir_all(&folder).expect("a folder for findings");
        let file = folder.join(format!("{:08x}", crc32fast::hash(input)));
        std::fs::write(&file, input).expect("keep a finding");
        panic!("{name}: a finding, kept as {}", file.display());
    }
}

fn mutated(random: &mut SmallRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"null",
        b"true",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\u0000",
        b"\\ud83d",
        b"18446744073709551616",
        b"-1",
        b"\xff\xff\xff\xff",
    ];
    let mut input = corpus.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => input.insert(at, random.random()),
            3 => {
                let end = (at + random.random_range(0..16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let word = WORDS.choose(random).copied().unwrap_or_default();
                input.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = (at + random.random_range(0..64)).min(input.len());
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let other = corpus.choose(random).map(Vec::as_slice).unwrap_or_default();
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
        input.truncate(LONGEST);
    }
    input
}

fn fuzz(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(other, _)| *other == name).expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "there is no corpus");
    corpus.iter().for_each(|input| tries(name, target, input));
    let seconds = std::env::var("KEEPSTEP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = rand::rng().next_u64();
    let (mut random, end, mut count) =
        (SmallRng::seed_from_u64(seed), Instant::now() + Duration::from_secs(seconds), 0u64);
    while Instant::now() < end {
        for _ in 0..64 {
            tries(name, target, &mutated(&mut random, &corpus));
            count += 1;
        }
    }
    println!("{name}: {count} mutations of {} inputs, seed {seed}", corpus.len());
}

#[test]
fn frames_of_clients() {
    fuzz("frames");
}

#[test]
fn tokens_of_strangers() {
    fuzz("tokens");
}

#[test]
fn bodies_of_calls() {
    fuzz("bodies");
}

#[test]
fn frames_of_an_nsqd() {
    fuzz("nsq");
}
