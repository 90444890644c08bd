/* Two passes over a head: the scan finds its end, line by line, while it comes in; the parse takes
 * it apart when all of it is there. */
#include "net/http_parse.h"

#include <string.h>

#define SIZE_DIGITS_MAX 8 /* of a chunk: far above every limit on bodies */
#define EXTENSION_MAX_BYTES 256

static const struct ec_guard_fault good;

static struct ec_guard_fault bad(const char *detail)
{
    return (struct ec_guard_fault){400, "bad_request", detail};
}

/* ---- the end of a head ---- */

/* A line has ended at `feed`; false when it is bad. */
static bool line_fits(const struct ec_head_scan *scan, struct ec_span bytes, size_t feed,
                      struct ec_guard_fault *ret_fault)
{
    char first = bytes.ptr[scan->line];
    if (feed == scan->line || bytes.ptr[feed - 1] != '\r') {
        *ret_fault = bad("a line ends with LF alone: lines end with CR LF");
        return false;
    }
    if (scan->first_done && (first == ' ' || first == '\t')) {
        *ret_fault = bad("a header is folded over lines");
        return false;
    }
    return true;
}

static enum ec_scan too_long(const struct ec_head_scan *scan, struct ec_guard_fault *ret_fault)
{
    *ret_fault = scan->first_done
                     ? (struct ec_guard_fault){431, "headers_too_large",
                                               "request line and headers have more than 32 KiB"}
                     : (struct ec_guard_fault){414, "target_too_long",
                                               "the request line has more than 32 KiB"};
    return EC_SCAN_BAD;
}

enum ec_scan ec_head_scan(struct ec_head_scan *scan, struct ec_span bytes, size_t *ret_len,
                          struct ec_guard_fault *ret_fault)
{
    size_t most = bytes.len < EC_HEAD_MAX_BYTES ? bytes.len : EC_HEAD_MAX_BYTES;
    while (scan->at < most) {
        const char *feed = memchr(bytes.ptr + scan->at, '\n', most - scan->at);
        if (!feed) {
            scan->at = most;
            break;
        }
        size_t at = (size_t)(feed - bytes.ptr);
        if (!line_fits(scan, bytes, at, ret_fault)) {
            return EC_SCAN_BAD;
        }
        bool empty = at == scan->line + 1;
        scan->at = scan->line = at + 1;
        if (empty && !scan->first_done) {
            *ret_fault = bad("the request line is empty");
            return EC_SCAN_BAD;
        }
        if (empty) {
            *ret_len = at + 1;
            return EC_SCAN_HEAD;
        }
        scan->first_done = true;
    }
    return most == EC_HEAD_MAX_BYTES ? too_long(scan, ret_fault) : EC_SCAN_MORE;
}

/* ---- its parts ---- */

/* RFC 9110 §5.6.2 */
static bool is_token_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct ec_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_byte((unsigned char)text.ptr[i])) {
            return false;
        }
    }
    return text.len > 0;
}

static bool is_visible(struct ec_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= ' ' || c >= 0x7f) {
            return false;
        }
    }
    return text.len > 0;
}

/* What is before the mark; *rest begins behind it. False: there is none. */
static bool split(struct ec_span *rest, char mark, struct ec_span *ret_part)
{
    const char *at = rest->len > 0 ? memchr(rest->ptr, mark, rest->len) : NULL;
    if (!at) {
        return false;
    }
    *ret_part = (struct ec_span){rest->ptr, (size_t)(at - rest->ptr)};
    *rest = (struct ec_span){at + 1, rest->len - ret_part->len - 1};
    return true;
}

static struct ec_guard_fault parse_request_line(struct ec_span line, struct ec_head *head)
{
    struct ec_span method, target;
    if (!split(&line, ' ', &method) || !split(&line, ' ', &target)) {
        return bad("the request line is not \"METHOD target HTTP/1.1\"");
    }
    if (!is_token(method) || method.len > EC_METHOD_MAX_BYTES) {
        return bad("the method is not a word of at most 32 letters");
    }
    if (!is_visible(target)) {
        return bad("the request target contains bytes that must be percent-encoded");
    }
    head->method = method;
    head->target = target;
    head->http_1_0 = ec_span_is(line, "HTTP/1.0");
    if (!head->http_1_0 && !ec_span_is(line, "HTTP/1.1")) {
        return (struct ec_guard_fault){505, "version_not_supported",
                                       "this server speaks HTTP/1.1 only"};
    }
    return good;
}

static struct ec_span trimmed(struct ec_span text)
{
    while (text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

static bool has_control(struct ec_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return true;
        }
    }
    return false;
}

static struct ec_guard_fault parse_header(struct ec_span line, struct ec_head *head)
{
    struct ec_span name;
    if (!split(&line, ':', &name) || !is_token(name)) {
        return bad("a header line is not \"Name: value\"");
    }
    if (has_control(line)) {
        return bad("a header contains control characters");
    }
    if (head->header_count == EC_REQUEST_HEADERS_MAX) {
        return (struct ec_guard_fault){431, "too_many_headers",
                                       "the request has more than 100 headers"};
    }
    head->headers[head->header_count++] = (struct ec_head_line){name, trimmed(line)};
    return good;
}

struct ec_guard_fault ec_head_parse(struct ec_span bytes, struct ec_head *ret_head)
{
    struct ec_span line;
    ret_head->method = ret_head->target = (struct ec_span){"", 0};
    ret_head->http_1_0 = false;
    ret_head->header_count = 0;
    bool first = true;
    while (split(&bytes, '\n', &line)) {
        line.len -= line.len > 0 && line.ptr[line.len - 1] == '\r';
        if (line.len == 0) {
            break;
        }
        struct ec_guard_fault fault =
            first ? parse_request_line(line, ret_head) : parse_header(line, ret_head);
        if (fault.status != 0) {
            return fault;
        }
        first = false;
    }
    return good;
}

/* ---- chunked bodies ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static enum ec_chunk_state after_size_byte(struct ec_chunks *chunks, char c)
{
    int digit = hex_digit(c);
    if (digit >= 0 && chunks->digits < SIZE_DIGITS_MAX) {
        chunks->digits++;
        chunks->left = chunks->left * 16 + (unsigned)digit;
        return EC_CHUNK_SIZE;
    }
    if (chunks->digits > 0 && digit < 0 && (c == '\r' || c == ';')) {
        chunks->overhead_bytes = 0;
        return c == '\r' ? EC_CHUNK_SIZE_LF : EC_CHUNK_EXTENSION;
    }
    return EC_CHUNK_BAD;
}

/* A byte of text that is passed over: an extension, a trailer. */
static enum ec_chunk_state after_text_byte(struct ec_chunks *chunks, char c, size_t max_bytes,
                                           enum ec_chunk_state at_cr)
{
    bool control = ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
    if (c == '\r') {
        return at_cr;
    }
    return control || ++chunks->overhead_bytes > max_bytes ? EC_CHUNK_BAD : chunks->state;
}

static enum ec_chunk_state after_size_line(struct ec_chunks *chunks)
{
    chunks->digits = 0;
    chunks->overhead_bytes = 0;
    return chunks->left > 0 ? EC_CHUNK_DATA : EC_CHUNK_TRAILER;
}

static enum ec_chunk_state after_byte(struct ec_chunks *chunks, char c)
{
    switch (chunks->state) {
    case EC_CHUNK_SIZE:
        return after_size_byte(chunks, c);
    case EC_CHUNK_EXTENSION:
        return after_text_byte(chunks, c, EXTENSION_MAX_BYTES, EC_CHUNK_SIZE_LF);
    case EC_CHUNK_SIZE_LF:
        return c == '\n' ? after_size_line(chunks) : EC_CHUNK_BAD;
    case EC_CHUNK_DATA_CR:
        return c == '\r' ? EC_CHUNK_DATA_LF : EC_CHUNK_BAD;
    case EC_CHUNK_DATA_LF:
        return c == '\n' ? EC_CHUNK_SIZE : EC_CHUNK_BAD;
    case EC_CHUNK_TRAILER:
        if (c == '\r') {
            return EC_CHUNK_LAST_LF;
        }
        /* Counted, else lines of one byte would be free. */
        return !is_token_byte((unsigned char)c) || ++chunks->overhead_bytes > EC_TRAILER_MAX_BYTES
                   ? EC_CHUNK_BAD
                   : EC_CHUNK_TRAILER_LINE;
    case EC_CHUNK_TRAILER_LINE:
        return after_text_byte(chunks, c, EC_TRAILER_MAX_BYTES, EC_CHUNK_TRAILER_LF);
    case EC_CHUNK_TRAILER_LF:
        return c == '\n' ? EC_CHUNK_TRAILER : EC_CHUNK_BAD;
    case EC_CHUNK_LAST_LF:
        return c == '\n' ? EC_CHUNK_END : EC_CHUNK_BAD;
    default:
        return EC_CHUNK_BAD;
    }
}

size_t ec_chunks_take(struct ec_chunks *chunks, struct ec_span bytes, struct ec_span *ret_data)
{
    size_t at = 0;
    *ret_data = (struct ec_span){"", 0};
    while (at < bytes.len && chunks->state < EC_CHUNK_END) {
        if (chunks->state == EC_CHUNK_DATA) {
            size_t len = bytes.len - at < chunks->left ? bytes.len - at : (size_t)chunks->left;
            *ret_data = (struct ec_span){bytes.ptr + at, len};
            chunks->left -= len;
            chunks->state = chunks->left > 0 ? EC_CHUNK_DATA : EC_CHUNK_DATA_CR;
            return at + len;
        }
        chunks->state = after_byte(chunks, bytes.ptr[at++]);
    }
    return at;
}
