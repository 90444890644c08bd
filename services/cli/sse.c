/* Server-sent events (WHATWG HTML, 9.2), as far as our API sends them: lines end with "\n" or
 * "\r\n", an event with an empty line. */
#include <string.h>

#include "base/mem.h"
#include "cli.h"

void sse_init(struct sse_reader *reader)
{
    *reader = (struct sse_reader){0};
    ec_buf_init(&reader->waiting, SSE_EVENT_MAX_BYTES);
}

void sse_done(struct sse_reader *reader)
{
    ec_buf_done(&reader->waiting);
}

static void take_line(struct sse_event *event, struct ec_buf *data, const char *line)
{
    if (strncmp(line, "id:", 3) == 0) {
        event->id = line + 3 + (line[3] == ' ');
    } else if (strncmp(line, "event:", 6) == 0) {
        event->name = line + 6 + (line[6] == ' ');
    } else if (strncmp(line, "data:", 5) == 0) {
        if (data->len > 0) {
            ec_buf_add_text(data, "\n");
        }
        ec_buf_add_text(data, line + 5 + (line[5] == ' '));
    }
}

static bool take_event(struct sse_reader *reader, char *text, sse_fn on_event, void *arg)
{
    struct sse_event event = {.id = "", .name = "message"};
    ec_cleanup(ec_buf_done) struct ec_buf data;
    ec_buf_init(&data, SSE_EVENT_MAX_BYTES);
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        line[strcspn(line, "\r")] = '\0';
        take_line(&event, &data, line);
    }
    event.data = data.ptr;
    if (event.id[0] && strlen(event.id) < sizeof reader->last_id) {
        snprintf(reader->last_id, sizeof reader->last_id, "%s", event.id);
    }
    return data.len == 0 || on_event(arg, &event);
}

/* Where the first complete event ends: behind its last line's "\n"; 0 = not yet. Looks at each byte
 * once, however small the pieces are. */
static size_t event_end(struct sse_reader *reader)
{
    const char *text = reader->waiting.ptr;
    for (; reader->looked_at < reader->waiting.len; reader->looked_at++) {
        if (text[reader->looked_at] == '\n' && reader->line_empty) {
            return reader->looked_at;
        }
        if (text[reader->looked_at] != '\r') {
            reader->line_empty = text[reader->looked_at] == '\n';
        }
    }
    return 0;
}

bool sse_feed(struct sse_reader *reader, struct ec_span piece, sse_fn on_event, void *arg)
{
    ec_buf_add_span(&reader->waiting, piece);
    for (size_t end; (end = event_end(reader)) > 0;) {
        reader->waiting.ptr[end] = '\0';
        bool go_on = take_event(reader, reader->waiting.ptr, on_event, arg);
        reader->began = true;
        ec_buf_drop_front(&reader->waiting, end + 1);
        reader->looked_at = 0;
        reader->line_empty = false;
        if (!go_on) {
            return false;
        }
    }
    return true;
}
