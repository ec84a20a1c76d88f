use png::{BitDepth, Encoder};

use super::*;

/// A QImage of so many pixels, as `encode` writes it.
fn image(
    width: u32,
    height: u32,
    encode: impl FnOnce(&mut Encoder<'_, &mut Vec<u8>>) -> Vec<u8>,
) -> Vec<u8> {
    let mut out = picture::PRESENT.to_vec();
    let mut encoder = Encoder::new(&mut out, width, height);
    let data = encode(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&data).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn every_colour_type_and_depth_becomes_rgb() {
    let mut decoded = Decoded::default();
    let mut check = |what: &str, image: Vec<u8>, expected: &[u8]| {
        assert_eq!(decoded.take(&image), Ok((2, 1)), "{what}");
        assert_eq!(decoded.pixels, expected, "{what}");
    };
    let of = |color: ColorType, depth: BitDepth, data: &[u8]| {
        let data = data.to_vec();
        image(2, 1, |encoder| {
            encoder.set_color(color);
            encoder.set_depth(depth);
            data
        })
    };
    use BitDepth::{Eight, Four, One, Sixteen, Two};
    use ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    check(
        "rgb",
        of(Rgb, Eight, &[1, 2, 3, 4, 5, 6]),
        &[1, 2, 3, 4, 5, 6],
    );
    let deep = [1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9];
    check(
        "rgb of 16 bits",
        of(Rgb, Sixteen, &deep),
        &[1, 2, 3, 4, 5, 6],
    );
    check("grey", of(Grayscale, Eight, &[7, 8]), &[7, 7, 7, 8, 8, 8]);
    check(
        "grey of 16 bits",
        of(Grayscale, Sixteen, &[7, 1, 8, 1]),
        &[7, 7, 7, 8, 8, 8],
    );
    check(
        "grey of 4 bits",
        of(Grayscale, Four, &[0x0F]),
        &[0, 0, 0, 255, 255, 255],
    );
    check(
        "grey of 2 bits",
        of(Grayscale, Two, &[0b0110_0000]),
        &[85, 85, 85, 170, 170, 170],
    );
    check(
        "black and white",
        of(Grayscale, One, &[0b0100_0000]),
        &[0, 0, 0, 255, 255, 255],
    );
    check(
        "grey with alpha",
        of(GrayscaleAlpha, Eight, &[200, 255, 200, 51]),
        &[200, 200, 200, 40, 40, 40],
    );
    let rgba = [10, 20, 30, 255, 10, 20, 30, 0];
    check(
        "rgb with alpha",
        of(Rgba, Eight, &rgba),
        &[10, 20, 30, 0, 0, 0],
    );
    let palette = |depth, data: &[u8], transparent: bool| {
        let data = data.to_vec();
        image(2, 1, |encoder| {
            encoder.set_color(ColorType::Indexed);
            encoder.set_depth(depth);
            encoder.set_palette(vec![9, 8, 7, 250, 100, 50]);
            if transparent {
                encoder.set_trns(vec![255, 51]);
            }
            data
        })
    };
    check(
        "palette",
        palette(Eight, &[1, 0], false),
        &[250, 100, 50, 9, 8, 7],
    );
    check(
        "palette of 1 bit",
        palette(One, &[0b1000_0000], false),
        &[250, 100, 50, 9, 8, 7],
    );
    check(
        "palette with alpha",
        palette(Eight, &[1, 0], true),
        &[50, 20, 10, 9, 8, 7],
    );
}

#[test]
fn what_is_no_picture_is_an_error_and_the_last_one_stays() {
    let mut decoded = Decoded::default();
    let good = image(2, 2, |encoder| {
        encoder.set_color(ColorType::Rgb);
        (0..12).collect()
    });
    decoded.take(&good).unwrap();
    let pixels = decoded.pixels.clone();
    for cut in 0..good.len() - 16 {
        assert!(decoded.take(&good[..cut]).is_err(), "{cut}");
    }
    for at in 0..good.len() - 12 {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        // Each byte is under a checksum, or a part of the frame around it.
        assert!(decoded.take(&damaged).is_err(), "byte {at}");
    }
    let large = |width, height| {
        let mut large = good.clone();
        large[20..24].copy_from_slice(&u32::to_be_bytes(width));
        large[24..28].copy_from_slice(&u32::to_be_bytes(height));
        let crc = crc32fast::hash(&large[16..33]);
        large[33..37].copy_from_slice(&crc.to_be_bytes());
        large
    };
    assert!(
        decoded.take(&large(2, 2)).is_ok(),
        "the checksum is where it was thought"
    );
    for (width, height) in [(8193, 2), (2, 8193), (8192, 8192), (u32::MAX >> 1, 1)] {
        assert!(
            decoded.take(&large(width, height)).is_err(),
            "{width}x{height}"
        );
    }
    assert!(decoded.take(&[0; 4]).unwrap_err().contains("null image"));
    assert!(decoded.take(b"GIF89a").is_err());
    assert_eq!(decoded.pixels, pixels);
}
