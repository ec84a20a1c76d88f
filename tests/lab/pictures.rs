//! The pictures of `cargo bench --bench codec`, made in the guest: see `tests/bench/work.rs` and `pictures.py`.

#[path = "../bench/work.rs"]
mod work;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    work::run(&arguments);
}
