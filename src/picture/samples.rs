//! Loops over samples that pay as vector code. They are C (`codec/samples.c`), since stable Rust has no NEON on armv7.

unsafe extern "C" {
    fn camd_unmarked(bytes: *const u8, count: usize) -> usize;
    fn camd_split(pairs: *const u8, first: *mut u8, second: *mut u8, count: usize);
    fn camd_split_means(
        above: *const u8,
        below: *const u8,
        first: *mut u8,
        second: *mut u8,
        count: usize,
    );
    fn camd_weigh(sums: *mut u16, line: *const u8, count: usize, weight: u16);
    fn camd_add_weighed(sums: *mut u16, line: *const u8, count: usize, weight: u16);
    fn camd_round(sums: *const u16, means: *mut u8, count: usize);
    fn camd_halve(sums: *const u16, means: *mut u8, count: usize);
    fn camd_means(dc: *const i16, quantizer: u16, count: usize, line: *mut u8);
    fn camd_quarters(
        c00: *const i16,
        c01: *const i16,
        c10: *const i16,
        c11: *const i16,
        quantizers: *const [u16; 4],
        count: usize,
        top: *mut u8,
        bottom: *mut u8,
    );
    fn camd_rgb(y: *const u8, cb: *const u8, cr: *const u8, pairs: usize, pixels: *mut u8);
    fn camd_bgr(y: *const u8, cb: *const u8, cr: *const u8, pairs: usize, pixels: *mut u8);
}

/// How many bytes at the beginning have no marker of a JPEG, which is a 0xFF that is followed by another byte than 0; in
/// steps of [`UNMARKED`], so that there may be some more.
pub fn unmarked(bytes: &[u8]) -> usize {
    let count = bytes.len().saturating_sub(1);
    // SAFETY: there are so many and one more.
    unsafe { camd_unmarked(bytes.as_ptr(), count) }
}

/// See [`unmarked`].
pub const UNMARKED: usize = 256;

/// Takes pairs apart, as many as there are and fit.
pub fn split(pairs: &[u8], first: &mut [u8], second: &mut [u8]) {
    let count = (pairs.len() / 2).min(first.len()).min(second.len());
    // SAFETY: each has so many, and no two overlap, being borrowed as they are.
    unsafe {
        camd_split(
            pairs.as_ptr(),
            first.as_mut_ptr(),
            second.as_mut_ptr(),
            count,
        )
    }
}

/// Takes the pairs of two lines apart, as many as both have and fit, and makes one sample of each two: their mean,
/// rounded up. The lines may be the same one.
pub fn split_means(above: &[u8], below: &[u8], first: &mut [u8], second: &mut [u8]) {
    let pairs = (above.len() / 2).min(below.len() / 2);
    let count = pairs.min(first.len()).min(second.len());
    // SAFETY: each has so many, and what is written overlaps nothing, being borrowed as it is. What is only read may
    // overlap, as C's `restrict` is about objects that are written.
    unsafe {
        camd_split_means(
            above.as_ptr(),
            below.as_ptr(),
            first.as_mut_ptr(),
            second.as_mut_ptr(),
            count,
        )
    }
}

/// Sets sums to the samples of a line, each times `weight`. Of unequal lengths the shorter counts.
pub fn weigh(sums: &mut [u16], line: &[u8], weight: u16) {
    // SAFETY: both have so many, and do not overlap.
    unsafe {
        camd_weigh(
            sums.as_mut_ptr(),
            line.as_ptr(),
            sums.len().min(line.len()),
            weight,
        )
    }
}

/// Adds the samples of a line, each times `weight`. Sums above `u16::MAX` wrap.
pub fn add_weighed(sums: &mut [u16], line: &[u8], weight: u16) {
    // SAFETY: both have so many, and do not overlap.
    unsafe {
        camd_add_weighed(
            sums.as_mut_ptr(),
            line.as_ptr(),
            sums.len().min(line.len()),
            weight,
        )
    }
}

/// The means that sums are, each of which is 256 times a sample; as many as there are and fit.
pub fn round(sums: &[u16], means: &mut [u8]) {
    // SAFETY: there are so many of both, and they do not overlap.
    unsafe {
        camd_round(
            sums.as_ptr(),
            means.as_mut_ptr(),
            means.len().min(sums.len()),
        )
    }
}

/// The means of pairs of sums, each of which is 256 times a sample; as many as there are and fit.
pub fn halve(sums: &[u16], means: &mut [u8]) {
    // SAFETY: there are so many means and twice as many sums, and they do not overlap.
    unsafe {
        camd_halve(
            sums.as_ptr(),
            means.as_mut_ptr(),
            means.len().min(sums.len() / 2),
        )
    }
}

/// The samples that blocks of a JPEG are at 1/8: a line of them, from their DC coefficients.
pub fn means(dc: &[i16], quantizer: u16, line: &mut [u8]) {
    // SAFETY: both have so many, and do not overlap.
    unsafe {
        camd_means(
            dc.as_ptr(),
            quantizer,
            dc.len().min(line.len()),
            line.as_mut_ptr(),
        )
    }
}

/// The samples that blocks of a JPEG are at 2/8: two lines of them, from their coefficients (0,0), (0,1), (1,0) and
/// (1,1).
pub fn quarters(
    coefficients: [&[i16]; 4],
    quantizers: &[u16; 4],
    top: &mut [u8],
    bottom: &mut [u8],
) {
    let blocks = coefficients.map(<[_]>::len).into_iter().min();
    let count = blocks.unwrap_or(0).min(top.len() / 2).min(bottom.len() / 2);
    let [c00, c01, c10, c11] = coefficients.map(<[_]>::as_ptr);
    // SAFETY: there are so many of each, in each line twice as many samples, and the lines overlap nothing.
    unsafe {
        camd_quarters(
            c00,
            c01,
            c10,
            c11,
            quantizers,
            count,
            top.as_mut_ptr(),
            bottom.as_mut_ptr(),
        )
    }
}

/// Pixels of three bytes, red first or blue first, from a line of luma and one of each colour, which two pixels share;
/// as many whole pairs as there are and fit. Numbers are taken as JFIF means them (full range).
pub fn colours(y: &[u8], cb: &[u8], cr: &[u8], pixels: &mut [u8], blue_first: bool) {
    let pairs = (y.len() / 2).min(cb.len()).min(cr.len());
    let pairs = pairs.min(pixels.len() / 6);
    let convert = if blue_first { camd_bgr } else { camd_rgb };
    // SAFETY: each has so many, and `pixels` overlaps none of the others, being borrowed as it is.
    unsafe {
        convert(
            y.as_ptr(),
            cb.as_ptr(),
            cr.as_ptr(),
            pairs,
            pixels.as_mut_ptr(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_seen_wherever_it_is_and_nothing_else_is() {
        for length in [0, 1, 255, 256, 257, 513, 1000] {
            let mut bytes = vec![0xFE; length];
            // Stuffed ones are none, nor is the last byte, which nothing follows.
            for at in (0..length.saturating_sub(1)).step_by(3) {
                (bytes[at], bytes[at + 1]) = (0xFF, 0);
            }
            let whole = length.saturating_sub(1) / UNMARKED * UNMARKED;
            assert_eq!(unmarked(&bytes), whole, "{length} bytes");
            for at in 0..length.saturating_sub(1) {
                let kept = (bytes[at], bytes[at + 1]);
                (bytes[at], bytes[at + 1]) = (0xFF, 0xD9);
                let expected = (at / UNMARKED * UNMARKED).min(whole);
                let first = at.saturating_sub(1) / UNMARKED * UNMARKED;
                let got = unmarked(&bytes);
                // A stuffed one just before it is a marker now.
                assert!(
                    got == expected || got == first.min(whole),
                    "{got}: at {at} of {length}"
                );
                assert!(got <= at);
                (bytes[at], bytes[at + 1]) = kept;
            }
        }
    }

    /// For every length about that of vectors, and every place in memory: what the sums say, and nothing beyond the end.
    #[test]
    fn loops_do_what_they_say_and_stay_within() {
        let mut random = fastrand::Rng::with_seed(5);
        for count in 0..70 {
            for start in 0..4 {
                let mut bytes = vec![0; start + 2 * count + 1];
                random.fill(&mut bytes);
                let bytes = &bytes[start..];

                let (mut first, mut second) = (vec![7; start + count + 1], vec![8; count + 1]);
                split(&bytes[..2 * count], &mut first[start..], &mut second);
                for i in 0..count {
                    assert_eq!(
                        (first[start + i], second[i]),
                        (bytes[2 * i], bytes[2 * i + 1])
                    );
                }
                assert_eq!((first[start + count], second[count]), (7, 8));

                let (mut first, mut second) = (vec![7; start + count + 1], vec![8; count + 1]);
                let mut below = vec![0; 2 * count];
                random.fill(&mut below);
                split_means(
                    &bytes[..2 * count],
                    &below,
                    &mut first[start..],
                    &mut second,
                );
                for i in 0..count {
                    let mean =
                        |at: usize| (bytes[at] / 2 + below[at] / 2) + (bytes[at] | below[at]) % 2;
                    assert_eq!(
                        (first[start + i], second[i]),
                        (mean(2 * i), mean(2 * i + 1))
                    );
                }
                assert_eq!((first[start + count], second[count]), (7, 8));

                let (a, b) = (random.u16(..=128), random.u16(..=128));
                let mut sums = vec![9; start + 2 * count + 1];
                weigh(&mut sums[start..], &bytes[..2 * count], a);
                add_weighed(&mut sums[start..][..2 * count], bytes, b);
                let sums = &sums[start..];
                for i in 0..2 * count {
                    assert_eq!(sums[i], u16::from(bytes[i]) * (a + b));
                }
                assert_eq!(sums[2 * count], 9);

                let mut means = vec![6; start + 2 * count + 1];
                round(&sums[..2 * count], &mut means[start..]);
                for i in 0..2 * count {
                    let sum = u32::from(sums[i]);
                    assert_eq!(u32::from(means[start + i]), (sum + 128) / 256);
                }
                assert_eq!(means[start + 2 * count], 6);

                let mut means = vec![6; count + 1];
                halve(&sums[..2 * count], &mut means);
                for i in 0..count {
                    let sum = u32::from(sums[2 * i]) + u32::from(sums[2 * i + 1]);
                    assert_eq!(u32::from(means[i]), (sum + 256) / 512);
                }
                assert_eq!(means[count], 6);

                let mut pixels = vec![4; start + 6 * count + 1];
                let (y, cb, cr) = (&bytes[..2 * count], &bytes[count..], &bytes[1..]);
                for blue_first in [false, true] {
                    colours(y, cb, cr, &mut pixels[start..], blue_first);
                    for (i, pixel) in pixels[start..][..6 * count].chunks(3).enumerate() {
                        let [y, b, r] = [y[i], cb[i / 2], cr[i / 2]].map(f64::from);
                        let (b, r) = (b - 128.0, r - 128.0);
                        // JFIF 1.02, "Conversion to and from RGB".
                        let rgb: [f64; 3] =
                            [y + 1.402 * r, y - 0.34414 * b - 0.71414 * r, y + 1.772 * b];
                        let order = if blue_first { [2, 1, 0] } else { [0, 1, 2] };
                        for (got, channel) in pixel.iter().zip(order) {
                            let off = f64::from(*got) - rgb[channel].clamp(0.0, 255.0);
                            assert!(off.abs() < 0.51, "{i}: {pixel:?}, not {rgb:?}");
                        }
                    }
                    assert_eq!(pixels[start + 6 * count], 4);
                }

                let mut low = [(); 4].map(|()| vec![0i16; start + count]);
                for c in &mut low {
                    c.fill_with(|| random.i16(-40..=40));
                }
                let low = low.each_ref().map(|c| &c[start..]);
                let quantizers = [0; 4].map(|_| random.u16(1..=20));
                let at = |c: usize, i: usize| f64::from(low[c][i]) * f64::from(quantizers[c]) / 8.0;
                let mut line = vec![5; count + 1];
                super::means(low[0], quantizers[0], &mut line);
                let [mut top, mut bottom] = [(); 2].map(|()| vec![5; start + 2 * count + 1]);
                quarters(low, &quantizers, &mut top[start..], &mut bottom);
                for i in 0..count {
                    let mean = (128.0 + at(0, i) + 0.01).round().clamp(0.0, 255.0);
                    assert_eq!(f64::from(line[i]), mean, "{i}");
                    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                        let sign = |bit| if bit == 0 { 0.90613 } else { -0.90613 };
                        let (across, down) = (sign(x), sign(y));
                        let sum = at(0, i) + at(1, i) * across + at(2, i) * down;
                        let expected = 128.0 + sum + at(3, i) * across * down;
                        let got = [top[start + 2 * i + x], bottom[2 * i + x]][y];
                        let off = expected.clamp(0.0, 255.0) - f64::from(got);
                        assert!(off.abs() < 1.0, "{i}, {x},{y}: {expected}, not {got}");
                    }
                }
                assert_eq!(line[count], 5);
                assert_eq!((top[start + 2 * count], bottom[2 * count]), (5, 5));
            }
        }
    }
}
