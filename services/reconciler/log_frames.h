/* The container engine's log stream as lines. It is a row of frames, each with 8 bytes of header
 * (stream 1 = stdout or 2 = stderr, three zeros, length in big endian) and a payload (Docker Engine
 * API, "Attach to a container"), and comes in pieces cut anywhere. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

#define LOG_LINE_MAX_BYTES 8192 /* the rest of a longer line is dropped */

struct log_line_part {
    char text[LOG_LINE_MAX_BYTES];
    size_t len;
};

/* Zeroed = a stream that has not begun. */
struct log_frames {
    unsigned char header[8];
    size_t header_len;
    uint32_t left;                /* of the payload */
    struct log_line_part part[2]; /* stdout, stderr */
    bool broken;                  /* these are no frames: nothing more is read */
};

/* `text` is as it was printed, without its line end; borrowed until it returns. */
typedef void (*log_line_fn)(void *arg, bool error_stream, struct ec_span text);
void log_frames_feed(struct log_frames *frames, struct ec_span piece, log_line_fn line, void *arg);
void log_frames_end(struct log_frames *frames, log_line_fn line, void *arg); /* unended lines */
