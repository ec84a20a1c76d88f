//! Compiles what of the codec has to be C, against the headers of the libjpeg that mozjpeg-sys brings.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/encode/codec");
    println!("cargo::rerun-if-changed=src/picture/samples.c");
    let include = env::var_os("DEP_JPEG_INCLUDE").expect("mozjpeg-sys tells where its headers are");
    let mut build = cc::Build::new();
    build
        .files([
            "src/encode/codec/guard.c",
            "src/encode/codec/memory.c",
            "src/picture/samples.c",
        ])
        .includes(env::split_paths(&include))
        .std("c99")
        .extra_warnings(true);
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("arm") {
        // As mozjpeg-sys does for all of libjpeg.
        build.flag_if_supported("-mfpu=neon");
    }
    build.compile("camd_codec");
}
