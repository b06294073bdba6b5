//! A fuzzer for where there is none: `cargo run --example mutate TARGET SECONDS` changes the seeds in `corpus/TARGET`
//! at random, calls the target, and keeps in `artifacts/TARGET` what breaks it, once for each place of the program.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs, panic,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ondine_fuzz::targets;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [target, seconds] = arguments.as_slice() else { return Err("give TARGET and SECONDS".into()) };
    let Some(&(_, call, change)) = targets::CHANGED.iter().find(|(name, ..)| name == target) else {
        return Err(format!("the targets are {:?}", targets::CHANGED.map(|(name, ..)| name)).into());
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artifacts = root.join("artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let seeds = fs::read_dir(root.join("corpus").join(target))?.map(|entry| fs::read(entry?.path()));
    let seeds = seeds.collect::<Result<Vec<_>, _>>()?;
    let place = Arc::new(Mutex::new(String::new()));
    let seen = place.clone();
    panic::set_hook(Box::new(move |info| {
        *seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = info.to_string();
    }));
    let (begin, duration) = (Instant::now(), Duration::from_secs(seconds.parse()?));
    let (mut calls, mut random, mut known) = (0_u64, 1_usize, BTreeSet::new());
    while begin.elapsed() < duration {
        let mut input = seeds[calls as usize % seeds.len()].clone();
        for _ in 0..calls as usize / seeds.len() % 4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            input = change(&input, random >> 20).unwrap_or(input);
        }
        let start = Instant::now();
        let broken = panic::catch_unwind(|| call(&input)).is_err();
        let what =
            if broken { place.lock().map_or_else(|_| String::new(), |place| place.clone()) } else { "slow".into() };
        let is_new = (broken || start.elapsed() > Duration::from_secs(10)) && known.insert(what.clone());
        if is_new {
            println!("{calls}: {what}");
            fs::write(artifacts.join(calls.to_string()), &input)?;
        }
        calls += 1;
    }
    println!("{target}: {calls} calls, {} kinds of faults", known.len());
    Ok(())
}
