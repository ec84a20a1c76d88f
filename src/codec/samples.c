/* Loops over samples that pay as vector code. In C for armv7, where stable Rust has no NEON: libjpeg's C is built with it
 * anyway (build.rs). Compilers make vectors of them as they are, on every processor. Lengths are samples.rs's matter. */

#include <stddef.h>
#include <stdint.h>

/* Takes pairs apart. */
void camd_split(const uint8_t *restrict pairs, uint8_t *restrict first, uint8_t *restrict second, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = pairs[2 * i];
        second[i] = pairs[2 * i + 1];
    }
}

/* A line with a weight, as the first of a sum. */
void camd_weigh(uint16_t *restrict sums, const uint8_t *restrict line, size_t count, uint16_t weight)
{
    for (size_t i = 0; i < count; i++)
        sums[i] = (uint16_t)(line[i] * weight);
}

/* A further line. */
void camd_add_weighed(uint16_t *restrict sums, const uint8_t *restrict line, size_t count, uint16_t weight)
{
    for (size_t i = 0; i < count; i++)
        sums[i] = (uint16_t)(sums[i] + line[i] * weight);
}

/* The means of pairs of sums, each of a weight of 256, rounded. */
void camd_halve(const uint16_t *restrict sums, uint8_t *restrict means, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t left = sums[2 * i], right = sums[2 * i + 1];
        /* In 16 bits, which a vector holds twice as many of: half of the sum, and 255 * 256 + 128 is the most. */
        uint16_t half = (left & right) + ((left ^ right) >> 1);

        means[i] = (uint16_t)(half + 128) >> 8;
    }
}
