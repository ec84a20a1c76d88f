//! Compiles what of the codec has to be C, against the headers of the libjpeg that mozjpeg-sys brings.

fn main() {
    println!("cargo::rerun-if-changed=src/codec");
    let include =
        std::env::var_os("DEP_JPEG_INCLUDE").expect("mozjpeg-sys tells where its headers are");
    cc::Build::new()
        .files(["src/codec/guard.c", "src/codec/memory.c"])
        .includes(std::env::split_paths(&include))
        .std("c99")
        .extra_warnings(true)
        .compile("camd_codec");
}
