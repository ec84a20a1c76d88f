/* Loops over samples that pay as vector code. In C for armv7, where stable Rust has no NEON: libjpeg's C is built with it
 * anyway (build.rs). Compilers make vectors of them as they are, on every processor. Lengths are samples.rs's matter. */

#include <stddef.h>
#include <stdint.h>

/* How many bytes, in whole blocks of 256, have no 0xFF that is followed by another byte than 0: what of a JPEG's scan has
 * no marker in it. One more than count is looked at. */
size_t camd_unmarked(const uint8_t *bytes, size_t count)
{
    size_t at = 0;
    for (; at + 256 <= count; at += 256) {
        uint8_t any = 0;
        for (size_t i = at; i < at + 256; i++)
            any |= (bytes[i] == 0xFF) & (bytes[i + 1] != 0);
        if (any)
            break;
    }
    return at;
}

/* Takes pairs apart. */
void camd_split(const uint8_t *restrict pairs, uint8_t *restrict first, uint8_t *restrict second, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = pairs[2 * i];
        second[i] = pairs[2 * i + 1];
    }
}

/* Takes the pairs of two lines apart, and makes one of each two: their mean, rounded. */
void camd_split_means(const uint8_t *restrict above, const uint8_t *restrict below, uint8_t *restrict first,
                      uint8_t *restrict second, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = (above[2 * i] + below[2 * i] + 1) >> 1;
        second[i] = (above[2 * i + 1] + below[2 * i + 1] + 1) >> 1;
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

/* The means that sums of a weight of 256 are, rounded. */
void camd_round(const uint16_t *restrict sums, uint8_t *restrict means, size_t count)
{
    for (size_t i = 0; i < count; i++)
        /* At most 255 * 256 + 128. */
        means[i] = (uint16_t)(sums[i] + 128) >> 8;
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

static uint8_t clamp(int16_t sample)
{
    return sample < 0 ? 0 : sample > 255 ? 255 : sample;
}

/* Samples from the DC coefficients of blocks: eight times a sample, from -128 on. */
void camd_means(const int16_t *restrict dc, uint16_t quantizer, size_t count, uint8_t *restrict line)
{
    for (size_t i = 0; i < count; i++)
        line[i] = clamp(((int16_t)(dc[i] * quantizer + 4) >> 3) + 128);
}

/* Two lines of samples from the coefficients (0,0), (0,1), (1,0) and (1,1) of blocks. Over the four samples of eight that
 * one stands for, the cosine of (0,1) has a mean of 0.906 of that of (0,0), and the two of (1,1) have 0.906 squared. */
void camd_quarters(const int16_t *restrict c00, const int16_t *restrict c01, const int16_t *restrict c10,
                   const int16_t *restrict c11, const uint16_t *restrict quantizers, size_t count,
                   uint8_t *restrict top, uint8_t *restrict bottom)
{
    uint16_t q00 = quantizers[0], q01 = quantizers[1], q10 = quantizers[2], q11 = quantizers[3];

    for (size_t i = 0; i < count; i++) {
        int16_t mean = c00[i] * q00 + 4, across = c01[i] * q01, down = c10[i] * q10, both = c11[i] * q11;
        int16_t above, below, left, right;

        across += (across >> 5) - (across >> 3);
        down += (down >> 5) - (down >> 3);
        both += (both >> 5) - (both >> 3);
        both += (both >> 5) - (both >> 3);
        above = mean + down, below = mean - down;
        left = across + both, right = across - both;
        top[2 * i] = clamp(((int16_t)(above + left) >> 3) + 128);
        top[2 * i + 1] = clamp(((int16_t)(above - left) >> 3) + 128);
        bottom[2 * i] = clamp(((int16_t)(below + right) >> 3) + 128);
        bottom[2 * i + 1] = clamp(((int16_t)(below - right) >> 3) + 128);
    }
}

static uint8_t limit(int32_t sample)
{
    return sample < 0 ? 0 : sample > 255 ? 255 : sample;
}

/* The coefficients of JFIF 1.02 (ITU-R BT.601, full range), times 65536. */
enum { CR_TO_R = 91881, CB_TO_G = 22554, CR_TO_G = 46802, CB_TO_B = 116130, HALF = 32768 };

/* Pairs of pixels that share their colour, as three bytes each: red is byte `red`, 0 or 2, and blue the other. */
static inline void colours(const uint8_t *restrict y, const uint8_t *restrict cb, const uint8_t *restrict cr,
                           size_t pairs, uint8_t *restrict pixels, int red)
{
    for (size_t i = 0; i < pairs; i++) {
        int32_t b = cb[i] - 128, r = cr[i] - 128;
        int32_t to_red = (CR_TO_R * r + HALF) >> 16;
        int32_t to_green = (-CB_TO_G * b - CR_TO_G * r + HALF) >> 16;
        int32_t to_blue = (CB_TO_B * b + HALF) >> 16;

        for (int j = 0; j < 2; j++) {
            uint8_t luma = y[2 * i + j];

            pixels[6 * i + 3 * j + red] = limit(luma + to_red);
            pixels[6 * i + 3 * j + 1] = limit(luma + to_green);
            pixels[6 * i + 3 * j + 2 - red] = limit(luma + to_blue);
        }
    }
}

void camd_rgb(const uint8_t *restrict y, const uint8_t *restrict cb, const uint8_t *restrict cr, size_t pairs,
              uint8_t *restrict pixels)
{
    colours(y, cb, cr, pairs, pixels, 0);
}

void camd_bgr(const uint8_t *restrict y, const uint8_t *restrict cb, const uint8_t *restrict cr, size_t pairs,
              uint8_t *restrict pixels)
{
    colours(y, cb, cr, pairs, pixels, 2);
}
