//! Loops over samples that pay as vector code. They are C (`codec/samples.c`), since stable Rust has no NEON on armv7.

unsafe extern "C" {
    fn camd_split(pairs: *const u8, first: *mut u8, second: *mut u8, count: usize);
    fn camd_weigh(sums: *mut u16, line: *const u8, count: usize, weight: u16);
    fn camd_add_weighed(sums: *mut u16, line: *const u8, count: usize, weight: u16);
    fn camd_halve(sums: *const u16, means: *mut u8, count: usize);
}

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

#[cfg(test)]
mod tests {
    use super::*;

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

                let (a, b) = (random.u16(..=128), random.u16(..=128));
                let mut sums = vec![9; start + 2 * count + 1];
                weigh(&mut sums[start..], &bytes[..2 * count], a);
                add_weighed(&mut sums[start..][..2 * count], bytes, b);
                let sums = &sums[start..];
                for i in 0..2 * count {
                    assert_eq!(sums[i], u16::from(bytes[i]) * (a + b));
                }
                assert_eq!(sums[2 * count], 9);

                let mut means = vec![6; count + 1];
                halve(&sums[..2 * count], &mut means);
                for i in 0..count {
                    let sum = u32::from(sums[2 * i]) + u32::from(sums[2 * i + 1]);
                    assert_eq!(u32::from(means[i]), (sum + 256) / 512);
                }
                assert_eq!(means[count], 6);
            }
        }
    }
}
