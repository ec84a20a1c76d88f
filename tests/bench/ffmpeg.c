/* A picture's way through libavcodec and libswscale, as a program that is built on them goes it: decoder, scaler and
 * encoder are made once, in one thread, each step is left out where it has nothing to do, and the JPEG decoder is told
 * to decode at 1/8 where that is enough. Its JPEG codec is ffmpeg's own, not libjpeg.
 *
 *   ffmpeg INPUT mjpeg|yuyv|yuyv-420 WIDTH HEIGHT TO_WIDTH TO_HEIGHT QSCALE EIGHTHS FRAMES OUTPUT
 *
 * Does the same FRAMES times, between two calls of getppid, writes the last JPEG to OUTPUT, and prints the nanoseconds of
 * CPU that this took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

enum { WARM_UP = 2 };

static void must(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, av_err2str(result));
        exit(1);
    }
}

static long long cpu_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static unsigned char *load(const char *path, int *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;

    if (!file || fseek(file, 0, SEEK_END) < 0) {
        perror(path);
        exit(1);
    }
    *size = ftell(file);
    rewind(file);
    /* The decoder reads a little past the end. */
    bytes = calloc(1, *size + AV_INPUT_BUFFER_PADDING_SIZE);
    if (!bytes || fread(bytes, 1, *size, file) != (size_t)*size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

static AVCodecContext *encoder(int width, int height, enum AVPixelFormat format, int qscale)
{
    AVCodecContext *context = avcodec_alloc_context3(avcodec_find_encoder(AV_CODEC_ID_MJPEG));

    context->width = width;
    context->height = height;
    context->pix_fmt = format;
    context->color_range = AVCOL_RANGE_JPEG;
    context->time_base = (AVRational){ 1, 30 };
    context->thread_count = 1;
    context->flags |= AV_CODEC_FLAG_QSCALE;
    context->global_quality = qscale * FF_QP2LAMBDA;
    /* The standard tables, as libjpeg uses them: the default, optimal ones, costs a second pass. */
    must(av_opt_set(context->priv_data, "huffman", "default", 0), "huffman");
    must(avcodec_open2(context, NULL, NULL), "encoder");
    return context;
}

int main(int argc, char **argv)
{
    if (argc != 11) {
        fprintf(stderr, "usage: ffmpeg INPUT mjpeg|yuyv|yuyv-420 WIDTH HEIGHT TO_WIDTH TO_HEIGHT QSCALE EIGHTHS FRAMES "
                        "OUTPUT\n");
        return 2;
    }
    int size, mjpeg = strcmp(argv[2], "mjpeg") == 0, coarse = strcmp(argv[2], "yuyv-420") == 0;
    unsigned char *input = load(argv[1], &size);
    int from_width = atoi(argv[3]), from_height = atoi(argv[4]), width = atoi(argv[5]), height = atoi(argv[6]);
    int qscale = atoi(argv[7]), eighths = atoi(argv[8]), frames = atoi(argv[9]);
    AVPacket *packet = av_packet_alloc(), *jpeg = av_packet_alloc();
    AVFrame *picture = av_frame_alloc(), *scaled = av_frame_alloc();
    AVCodecContext *from = NULL, *to = NULL;
    struct SwsContext *scaler = NULL;

    av_log_set_level(AV_LOG_ERROR);
    if (mjpeg) {
        from = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_MJPEG));
        /* 8/8 is 0, 4/8 is 1, and so on. */
        from->lowres = eighths <= 1 ? 3 : eighths <= 2 ? 2 : eighths <= 4 ? 1 : 0;
        from->thread_count = 1;
        must(avcodec_open2(from, NULL, NULL), "decoder");
    } else {
        picture->format = AV_PIX_FMT_YUYV422;
        picture->width = from_width;
        picture->height = from_height;
        must(av_image_fill_arrays(picture->data, picture->linesize, input, picture->format, from_width, from_height, 1),
             "input");
    }
    long long before = 0;
    for (int i = -WARM_UP; i < frames; i++) {
        AVFrame *encoded = picture;

        if (i == 0) {
            getppid();
            before = cpu_now();
        }
        if (mjpeg) {
            packet->data = input;
            packet->size = size;
            must(avcodec_send_packet(from, packet), "decode");
            must(avcodec_receive_frame(from, picture), "decode");
        }
        if (!mjpeg || picture->width != width || picture->height != height) {
            if (!scaler) {
                scaled->format = mjpeg ? picture->format : coarse ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_YUV422P;
                scaled->width = width;
                scaled->height = height;
                must(av_frame_get_buffer(scaled, 0), "buffer");
                scaler = sws_getContext(picture->width, picture->height, picture->format, width, height, scaled->format,
                                        SWS_AREA, NULL, NULL, NULL);
            }
            must(av_frame_make_writable(scaled), "buffer");
            sws_scale(scaler, (const uint8_t *const *)picture->data, picture->linesize, 0, picture->height, scaled->data,
                      scaled->linesize);
            encoded = scaled;
        }
        if (!to)
            to = encoder(width, height, encoded->format, qscale);
        encoded->quality = to->global_quality;
        encoded->pts = i;
        encoded->pict_type = AV_PICTURE_TYPE_NONE;
        av_packet_unref(jpeg);
        must(avcodec_send_frame(to, encoded), "encode");
        must(avcodec_receive_packet(to, jpeg), "encode");
    }
    printf("%lld\n", cpu_now() - before);
    getppid();
    FILE *output = fopen(argv[10], "wb");
    if (!output || fwrite(jpeg->data, 1, jpeg->size, output) != (size_t)jpeg->size || fclose(output)) {
        perror(argv[10]);
        return 1;
    }
    return 0;
}
