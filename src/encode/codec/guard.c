/* What libjpeg calls back, and the way out of it.
 *
 * libjpeg reports errors by calling `error_exit`, which must not return. Here it jumps back (longjmp) into the function
 * of this file through which libjpeg was entered, and that returns -1. So a jump crosses libjpeg's frames and this
 * file's, which have nothing to tidy up; no Rust function is ever called from within libjpeg. That is why the callbacks
 * are here too. Unwinding from them instead would need `-fexceptions` in libjpeg and forbid `panic = "abort"`.
 *
 * The reason stays in `err->msg_code`. */

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>
#include <transupp.h>

/* Codes beyond libjpeg's own; the same in libjpeg.rs. */
enum { OUTPUT_FULL = 1000, INPUT_ENDS, MANY_SCANS };

/* Scans of a progressive JPEG; encoders write about ten. Each costs a pass over the whole picture, however short it is: so
 * many are read if all of them together have no more than so many pixels, and some of every picture. */
enum { SCANS = 64, SCANS_LEAST = 16, SCAN_PIXELS = 64 * 1920 * 1080 };

/* The same in libjpeg.rs. */
struct lib {
    struct jpeg_error_mgr error; /* first: `cinfo->err` points here */
    jmp_buf *back;
    struct jpeg_compress_struct compress;
    struct jpeg_decompress_struct decompress;
    struct jpeg_destination_mgr destination;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
};

void camd_jpeg_use_memory(j_common_ptr cinfo, unsigned char *bytes, size_t size);

/* In each function that enters libjpeg. The buffer ends with the function, but nothing jumps once libjpeg was left. */
#define GUARD(cinfo)                                    \
    jmp_buf back;                                       \
    ((struct lib *)(cinfo)->err)->back = &back;         \
    if (setjmp(back))                                   \
        return -1

static void error_exit(j_common_ptr cinfo)
{
    longjmp(*((struct lib *)cinfo->err)->back, 1);
}

/* Warnings and traces: the default would print the first warning to stderr, for each picture. */
static void emit_message(j_common_ptr cinfo, int level)
{
    (void)cinfo, (void)level;
}

static void nothing_to_send(j_compress_ptr cinfo)
{
    (void)cinfo;
}

static boolean empty_output_buffer(j_compress_ptr cinfo)
{
    ERREXIT(cinfo, OUTPUT_FULL);
    return FALSE;
}

static void nothing_to_fetch(j_decompress_ptr cinfo)
{
    (void)cinfo;
}

/* The JPEG has been read to its end, and more is needed. */
static boolean fill_input_buffer(j_decompress_ptr cinfo)
{
    ERREXIT(cinfo, INPUT_ENDS);
    return FALSE;
}

static void skip_input_data(j_decompress_ptr cinfo, long count)
{
    /* libjpeg.txt: zero or a negative number skip nothing. */
    if (count <= 0)
        return;
    if ((size_t)count > cinfo->src->bytes_in_buffer)
        ERREXIT(cinfo, INPUT_ENDS);
    cinfo->src->next_input_byte += count;
    cinfo->src->bytes_in_buffer -= count;
}

/* Called while a picture is read, some times per scan. Only the decompress object has it. */
static void limit_scans(j_common_ptr cinfo)
{
    j_decompress_ptr from = (j_decompress_ptr)cinfo;
    /* Both are below 65,536, and were checked to be none of 0. */
    int most = (int)(SCAN_PIXELS / ((unsigned)from->image_width * from->image_height));
    if (most > SCANS)
        most = SCANS;
    if (most < SCANS_LEAST)
        most = SCANS_LEAST;
    if (from->input_scan_number > most)
        ERREXIT(cinfo, MANY_SCANS);
}

/* Makes both objects in `lib`, which is all zeros, and gives them their memory. 1, or -1 after an error. `size` is that
 * of Rust's idea of the struct. */
int camd_jpeg_create(struct lib *lib, size_t size, unsigned char *compress_memory, size_t compress_bytes,
                     unsigned char *decompress_memory, size_t decompress_bytes)
{
    if (size != sizeof *lib)
        return 0;
    lib->compress.err = lib->decompress.err = jpeg_std_error(&lib->error);
    lib->error.error_exit = error_exit;
    lib->error.emit_message = emit_message;
    GUARD(&lib->compress);

    jpeg_create_compress(&lib->compress);
    camd_jpeg_use_memory((j_common_ptr)&lib->compress, compress_memory, compress_bytes);
    jpeg_c_set_int_param(&lib->compress, JINT_COMPRESS_PROFILE, JCP_FASTEST);
    lib->destination.init_destination = nothing_to_send;
    lib->destination.empty_output_buffer = empty_output_buffer;
    lib->destination.term_destination = nothing_to_send;
    lib->compress.dest = &lib->destination;

    jpeg_create_decompress(&lib->decompress);
    camd_jpeg_use_memory((j_common_ptr)&lib->decompress, decompress_memory, decompress_bytes);
    lib->source.init_source = nothing_to_fetch;
    lib->source.fill_input_buffer = fill_input_buffer;
    lib->source.skip_input_data = skip_input_data;
    lib->source.resync_to_restart = jpeg_resync_to_restart;
    lib->source.term_source = nothing_to_fetch;
    lib->decompress.src = &lib->source;
    lib->progress.progress_monitor = limit_scans;
    lib->decompress.progress = &lib->progress;
    return 1;
}

/* The size of a component as it is decoded, known once started: scaling may have changed it, for each in its own way. */
struct plane {
    JDIMENSION width, height;
    JDIMENSION line;  /* samples that are written of each line: whole blocks */
    JDIMENSION lines; /* in a row of MCUs */
};

void camd_jpeg_plane(const struct jpeg_decompress_struct *cinfo, int component, struct plane *plane)
{
    const jpeg_component_info *info = &cinfo->comp_info[component];

    plane->width = info->downsampled_width;
    plane->height = info->downsampled_height;
    plane->line = info->width_in_blocks * info->DCT_scaled_size;
    plane->lines = info->v_samp_factor * info->DCT_scaled_size;
}

/* The same as in libjpeg.rs: a scan, and what its Huffman codes are. */
struct scan {
    const JOCTET *data;
    size_t bytes;
    unsigned restart_interval;
    struct {
        const JHUFF_TBL *dc, *ac;
        int dc_number, ac_number;
        UINT16 quantizers[4]; /* of the coefficients (0,0), (0,1), (1,0), (1,1) */
    } components[3];
};

/* The scan that the header just read ends with. 0: it is not one scan for all of three components, of sequential Huffman
 * codes and 8 bits, or a table is missing. */
int camd_jpeg_scan(const struct jpeg_decompress_struct *cinfo, struct scan *scan)
{
    if (cinfo->num_components != 3 || cinfo->comps_in_scan != 3 || cinfo->data_precision != 8 || cinfo->progressive_mode
        || cinfo->arith_code || cinfo->unread_marker != 0)
        return 0;
    for (int i = 0; i < 3; i++) {
        const jpeg_component_info *info = &cinfo->comp_info[i];
        const JQUANT_TBL *quantizers = cinfo->quant_tbl_ptrs[info->quant_tbl_no & 3];

        if (cinfo->cur_comp_info[i] != info || info->dc_tbl_no > 3 || info->ac_tbl_no > 3 || info->quant_tbl_no > 3)
            return 0;
        scan->components[i].dc_number = info->dc_tbl_no;
        scan->components[i].ac_number = info->ac_tbl_no;
        scan->components[i].dc = cinfo->dc_huff_tbl_ptrs[info->dc_tbl_no];
        scan->components[i].ac = cinfo->ac_huff_tbl_ptrs[info->ac_tbl_no];
        if (!scan->components[i].dc || !scan->components[i].ac || !quantizers)
            return 0;
        for (int j = 0; j < 4; j++)
            scan->components[i].quantizers[j] = quantizers->quantval[j / 2 * DCTSIZE + j % 2];
    }
    scan->data = cinfo->src->next_input_byte;
    scan->bytes = cinfo->src->bytes_in_buffer;
    scan->restart_interval = cinfo->restart_interval;
    return 1;
}

/* libjpeg's words for the error that was last. `text` has room for JMSG_LENGTH_MAX (200) bytes. */
void camd_jpeg_message(struct lib *lib, char *text)
{
    lib->error.format_message((j_common_ptr)&lib->compress, text);
}

/* The following do what libjpeg's functions do; -1 after an error. */

int camd_jpeg_configure(j_compress_ptr cinfo, int quality)
{
    GUARD(cinfo);
    jpeg_set_defaults(cinfo);
    /* It clamps the quality itself. The last argument: no quantizer above 255, as baseline JPEG demands. */
    jpeg_set_quality(cinfo, quality, TRUE);
    return 1;
}

int camd_jpeg_start_compress(j_compress_ptr cinfo)
{
    GUARD(cinfo);
    jpeg_start_compress(cinfo, TRUE);
    return 1;
}

int camd_jpeg_write_scanline(j_compress_ptr cinfo, const JSAMPLE *line)
{
    JSAMPROW row = (JSAMPROW)line;

    GUARD(cinfo);
    return jpeg_write_scanlines(cinfo, &row, 1);
}

int camd_jpeg_write_raw_data(j_compress_ptr cinfo, JSAMPIMAGE lines, JDIMENSION count)
{
    GUARD(cinfo);
    return jpeg_write_raw_data(cinfo, lines, count);
}

int camd_jpeg_finish_compress(j_compress_ptr cinfo)
{
    GUARD(cinfo);
    jpeg_finish_compress(cinfo);
    return 1;
}

int camd_jpeg_read_header(j_decompress_ptr cinfo)
{
    GUARD(cinfo);
    /* The last argument: tables without a picture are an error. */
    return jpeg_read_header(cinfo, TRUE);
}

int camd_jpeg_start_decompress(j_decompress_ptr cinfo)
{
    GUARD(cinfo);
    return jpeg_start_decompress(cinfo);
}

int camd_jpeg_read_scanline(j_decompress_ptr cinfo, JSAMPLE *line)
{
    JSAMPROW row = line;

    GUARD(cinfo);
    return jpeg_read_scanlines(cinfo, &row, 1);
}

/* Always one row of MCUs. */
int camd_jpeg_read_raw_data(j_decompress_ptr cinfo, JSAMPIMAGE lines)
{
    GUARD(cinfo);
    return jpeg_read_raw_data(cinfo, lines, cinfo->max_v_samp_factor * cinfo->min_DCT_scaled_size);
}

int camd_jpeg_finish_decompress(j_decompress_ptr cinfo)
{
    GUARD(cinfo);
    return jpeg_finish_decompress(cinfo);
}

/* A quantized DC coefficient of 8-bit samples is within these, and the difference of two has a code in the standard
 * Huffman tables. Damage in a source adds up to anything. */
enum { DC_MIN = -1024, DC_MAX = 1023 };

static void limit_dc(j_decompress_ptr from, j_compress_ptr to, jvirt_barray_ptr *coefficients)
{
    for (int i = 0; i < to->num_components; i++) {
        const jpeg_component_info *info = &to->comp_info[i];

        for (JDIMENSION y = 0; y < info->height_in_blocks; y++) {
            JBLOCKROW row = from->mem->access_virt_barray((j_common_ptr)from, coefficients[i], y, 1, TRUE)[0];

            for (JDIMENSION x = 0; x < info->width_in_blocks; x++) {
                JCOEF dc = row[x][0];

                row[x][0] = dc < DC_MIN ? DC_MIN : dc > DC_MAX ? DC_MAX : dc;
            }
        }
    }
}

/* The same in libjpeg.rs: a part of a picture, in pixels. */
struct area {
    unsigned x, y, width, height;
};

/* Where jtransform takes a side of the part to be, which begins at `*at`. `whole`: the turned picture's side; `mcu`: of its
 * MCUs. What is mirrored begins with the last whole MCU there: what is left of one is not before it, but behind. `*more`:
 * that many pixels come out before the part, for whole MCUs. 0: the part has some of what is not mirrored. */
static int place(int mirror, unsigned whole, int mcu, unsigned at, JDIMENSION *offset, unsigned *more)
{
    unsigned rest = mirror ? whole % mcu : 0;

    if (at < rest)
        return 0;
    *offset = at - rest;
    *more = *offset % mcu;
    return 1;
}

/* Turns the picture whose header was read, on its coefficients: jpegtran's way, with its functions. `crop`, if there is
 * one: only this part of the turned picture, and what came out. 1; 0 if an edge to be mirrored has a part of an MCU only,
 * before anything was decoded; -1 after an error. */
int camd_jpeg_turn(j_decompress_ptr from, j_compress_ptr to, int transpose, int mirror_x, int mirror_y,
                   struct area *crop)
{
    static const JXFORM_CODE transforms[2][2][2] = {
        { { JXFORM_NONE, JXFORM_FLIP_H }, { JXFORM_FLIP_V, JXFORM_ROT_180 } },
        { { JXFORM_TRANSPOSE, JXFORM_ROT_90 }, { JXFORM_ROT_270, JXFORM_TRANSVERSE } },
    };
    jpeg_transform_info info = { .transform = transforms[transpose][mirror_y][mirror_x], .perfect = TRUE };
    jvirt_barray_ptr *source, *turned;
    unsigned before_x = 0, before_y = 0;

    GUARD(from);
    if (crop) {
        int single = from->num_components == 1;
        int h = single ? DCTSIZE : from->max_h_samp_factor * DCTSIZE;
        int v = single ? DCTSIZE : from->max_v_samp_factor * DCTSIZE;
        unsigned width = transpose ? from->image_height : from->image_width;
        unsigned height = transpose ? from->image_width : from->image_height;

        if (!place(mirror_x, width, transpose ? v : h, crop->x, &info.crop_xoffset, &before_x)
            || !place(mirror_y, height, transpose ? h : v, crop->y, &info.crop_yoffset, &before_y))
            return 0;
        info.perfect = FALSE;
        info.crop = TRUE;
        info.crop_width = crop->width;
        info.crop_height = crop->height;
        info.crop_width_set = info.crop_height_set = info.crop_xoffset_set = info.crop_yoffset_set = JCROP_POS;
        crop->x -= before_x;
        crop->y -= before_y;
        crop->width += before_x;
        crop->height += before_y;
    }
    if (!jtransform_request_workspace(from, &info))
        return 0;
    source = jpeg_read_coefficients(from);
    jpeg_copy_critical_parameters(from, to);
    turned = jtransform_adjust_parameters(from, to, source, &info);
    jpeg_write_coefficients(to, turned);
    jtransform_execute_transform(from, to, source, &info);
    limit_dc(from, to, turned);
    jpeg_finish_compress(to);
    jpeg_finish_decompress(from);
    return 1;
}
