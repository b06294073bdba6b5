//! Makes the seeds that `fuzz/seeds` does not copy: `cargo run --example seeds CORPUS ARCHIVES`.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [corpus, archives] = arguments.as_slice() else { return Err("give the folders CORPUS and ARCHIVES".into()) };
    ondine_fuzz::seeds::write(Path::new(corpus), Path::new(archives))
}
