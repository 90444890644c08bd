/* The command's reader of event streams: events are the same however the bytes are cut into pieces,
 * each has data, and what it keeps is bounded. */
#include "base/mem.h"
#include "cli.h"
#include "fuzz.h"

/* main.c's table, which is not linked here. */
const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}};

struct seen {
    size_t count;
    uint64_t sum;
};

static void add(struct seen *seen, const char *text)
{
    for (const char *c = text; *c; c++) {
        seen->sum = (seen->sum ^ (unsigned char)*c) * 1099511628211u;
    }
    seen->sum = (seen->sum ^ 256) * 1099511628211u;
}

static bool on_event(void *arg, const struct sse_event *event)
{
    struct seen *seen = arg;
    check(event->id && event->name && event->data[0] && strlen(event->data) <= SSE_EVENT_MAX_BYTES);
    check(!strpbrk(event->id, "\r\n") && !strpbrk(event->name, "\r\n") &&
          !strchr(event->data, '\r'));
    seen->count++;
    add(seen, event->id);
    add(seen, event->name);
    add(seen, event->data);
    return strcmp(event->name, "end") != 0;
}

static struct seen feed(struct ec_span input, size_t piece_max)
{
    struct seen seen = {0, 14695981039346656037u};
    struct sse_reader reader;
    sse_init(&reader);
    bool go_on = true;
    while (input.len > 0 && go_on) {
        size_t len = input.len < piece_max ? input.len : piece_max;
        go_on = sse_feed(&reader, (struct ec_span){input.ptr, len}, on_event, &seen);
        check(reader.waiting.len <= SSE_EVENT_MAX_BYTES);
        input.ptr += len;
        input.len -= len;
    }
    sse_done(&reader);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const size_t pieces[] = {1, 3, 64};
    struct ec_span input = span_of_input(bytes, len);
    struct seen whole = feed(input, len + 1);
    for (size_t i = 0; i < EC_LEN(pieces); i++) {
        struct seen cut = feed(input, pieces[i]);
        check(cut.count == whole.count && cut.sum == whole.sum);
    }
    return 0;
}
