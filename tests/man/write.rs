//! Writes the manual pages in `deploy/man` anew: `cargo run --example man`

mod pages;

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/man");
    for (file, page) in pages::pages() {
        let path = folder.join(file);
        fs::write(&path, page)?;
        println!("{}", path.display());
    }
    Ok(())
}
