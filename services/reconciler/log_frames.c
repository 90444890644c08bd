/* Frames in, lines out. See log_frames.h. */
#include "log_frames.h"

#include <string.h>

#define HEADER_BYTES 8
#define STDERR_STREAM 2

static void end_line(struct log_line_part *part, bool error_stream, log_line_fn line, void *arg)
{
    bool carriage = part->len > 0 && part->text[part->len - 1] == '\r';
    line(arg, error_stream, (struct ec_span){part->text, part->len - (carriage ? 1 : 0)});
    part->len = 0;
}

static void add_text(struct log_frames *frames, struct ec_span text, log_line_fn line, void *arg)
{
    bool error_stream = frames->header[0] == STDERR_STREAM;
    struct log_line_part *part = &frames->part[error_stream];
    const char *end = text.ptr + text.len;
    for (const char *at = text.ptr; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        size_t room = LOG_LINE_MAX_BYTES - part->len;
        memcpy(part->text + part->len, at, len < room ? len : room);
        part->len += len < room ? len : room;
        at += len;
        if (newline) {
            end_line(part, error_stream, line, arg);
            at++;
        }
    }
}

/* Returns how many bytes of the piece the header took. */
static size_t take_header(struct log_frames *frames, struct ec_span piece)
{
    size_t need = HEADER_BYTES - frames->header_len;
    size_t take = piece.len < need ? piece.len : need;
    memcpy(frames->header + frames->header_len, piece.ptr, take);
    frames->header_len += take;
    if (frames->header_len == HEADER_BYTES) {
        const unsigned char *h = frames->header;
        frames->left =
            (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | (uint32_t)h[7];
        frames->broken = h[0] > STDERR_STREAM || h[1] || h[2] || h[3];
    }
    return take;
}

void log_frames_feed(struct log_frames *frames, struct ec_span piece, log_line_fn line, void *arg)
{
    while (piece.len > 0 && !frames->broken) {
        size_t took;
        if (frames->header_len < HEADER_BYTES) {
            took = take_header(frames, piece);
        } else {
            took = piece.len < frames->left ? piece.len : frames->left;
            add_text(frames, (struct ec_span){piece.ptr, took}, line, arg);
            frames->left -= (uint32_t)took;
        }
        if (frames->header_len == HEADER_BYTES && frames->left == 0) {
            frames->header_len = 0;
        }
        piece.ptr += took;
        piece.len -= took;
    }
}

void log_frames_end(struct log_frames *frames, log_line_fn line, void *arg)
{
    for (int i = 0; i < 2; i++) {
        if (frames->part[i].len > 0) {
            end_line(&frames->part[i], i == 1, line, arg);
        }
    }
}
