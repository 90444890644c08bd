/* The bytes of a connection: a head, then a chunked body. Whatever pieces they come in (the first
 * byte says how large), the outcome is the same; what is accepted has one meaning only. */
#include "fuzz.h"
#include "net/http_parse.h"

struct outcome {
    enum ec_scan found;
    size_t end;
    int status;
};

static struct outcome scan_in(struct ec_span text, size_t step)
{
    struct ec_head_scan scan = {0};
    struct ec_guard_fault fault = {0};
    struct outcome out = {EC_SCAN_MORE, 0, 0};
    for (size_t have = 0; have < text.len && out.found == EC_SCAN_MORE;) {
        have = text.len - have < step ? text.len : have + step;
        out.found = ec_head_scan(&scan, (struct ec_span){text.ptr, have}, &out.end, &fault);
        check(scan.line <= scan.at && scan.at <= have);
    }
    out.status = fault.status;
    return out;
}

static bool clean(struct ec_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == 0x7f || (c < 0x20 && c != '\t')) {
            return false;
        }
    }
    return true;
}

static void check_head(struct ec_span text)
{
    struct ec_head head;
    struct ec_guard_fault fault = ec_head_parse(text, &head);
    check(head.header_count <= EC_REQUEST_HEADERS_MAX);
    if (fault.status != 0) {
        check((fault.status == 400 || fault.status == 431 || fault.status == 505) && fault.detail);
        return;
    }
    check(head.method.len > 0 && head.method.len <= EC_METHOD_MAX_BYTES && head.target.len > 0);
    check(clean(head.target) && !memchr(head.target.ptr, ' ', head.target.len));
    for (size_t i = 0; i < head.header_count; i++) {
        struct ec_span name = head.headers[i].name, value = head.headers[i].value;
        check(name.len > 0 && clean(name) && clean(value));
        check(!memchr(name.ptr, ' ', name.len) && name.ptr + name.len < text.ptr + text.len);
        check(value.len == 0 || (value.ptr[0] != ' ' && value.ptr[value.len - 1] != ' '));
    }
}

struct body {
    enum ec_chunk_state state;
    size_t taken, made;
    uint64_t hash;
};

static struct body chunks_in(struct ec_span text, size_t step)
{
    struct ec_chunks chunks = {0};
    struct body body = {.hash = 1};
    while (body.taken < text.len && chunks.state < EC_CHUNK_END) {
        size_t part = text.len - body.taken < step ? text.len - body.taken : step;
        struct ec_span data;
        size_t used = ec_chunks_take(&chunks, (struct ec_span){text.ptr + body.taken, part}, &data);
        check(used > 0 && used <= part && data.len <= used);
        for (size_t i = 0; i < data.len; i++) {
            body.hash = body.hash * 31 + (unsigned char)data.ptr[i];
        }
        body.made += data.len;
        body.taken += used;
    }
    body.state = chunks.state;
    return body;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) {
        return 0;
    }
    size_t step = bytes[0] % 64 + 1;
    struct ec_span text = span_of_input(bytes + 1, len - 1);
    struct outcome whole = scan_in(text, text.len + 1), pieces = scan_in(text, step);
    check(whole.found == pieces.found && whole.status == pieces.status);
    struct ec_span rest = text;
    if (whole.found == EC_SCAN_HEAD) {
        check(whole.end == pieces.end && whole.end >= 4 && whole.end <= EC_HEAD_MAX_BYTES);
        check(memcmp(text.ptr + whole.end - 4, "\r\n\r\n", 4) == 0);
        check_head((struct ec_span){text.ptr, whole.end});
        rest = (struct ec_span){text.ptr + whole.end, text.len - whole.end};
    } else { /* a part of a head: only its request line is of use */
        struct ec_head head;
        (void)ec_head_parse(text, &head);
        check(head.method.len == 0 || head.target.len > 0);
    }
    struct body once = chunks_in(rest, rest.len + 1), parts = chunks_in(rest, step);
    check(once.state == parts.state && once.made == parts.made && once.hash == parts.hash);
    check(once.state == EC_CHUNK_BAD || once.taken == parts.taken);
    return 0;
}
