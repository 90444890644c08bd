/* One loop over the text, with a stack of the open lists and objects. Texts are most of any webhook
 * body, so they are passed over sixteen bytes at a time until something needs a look. */
#include "base/tape.h"

#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "base/plain.h"

#define FIRST_NODES_MAX 4096
#define TEXT_MAX_BYTES ((size_t)32 << 20)

struct reader {
    const char *at, *end;
    struct ec_arena *arena;
    struct ec_tape *tape;
    uint32_t room;
    uint32_t open[EC_TAPE_DEPTH_MAX]; /* indexes of the lists and objects we are inside of */
    unsigned depth;
    const char *fault;
};

static bool fail(struct reader *r, const char *what)
{
    r->fault = what;
    return false;
}

/* ---- nodes ---- */

static bool grow(struct reader *r)
{
    struct ec_tape *tape = r->tape;
    uint32_t room = r->room * 2;
    struct ec_node *more = ec_arena_try_raw(r->arena, room * sizeof *more);
    if (!more) {
        return fail(r, "holds too many values");
    }
    memcpy(more, tape->nodes, tape->count * sizeof *more);
    tape->nodes = more;
    r->room = room;
    return true;
}

static inline struct ec_node *add(struct reader *r, enum ec_tape_kind kind, const char *at,
                                  size_t len)
{
    struct ec_tape *tape = r->tape;
    if (tape->count == r->room && !grow(r)) {
        return NULL;
    }
    struct ec_node *node = &tape->nodes[tape->count++];
    *node = (struct ec_node){.at = (uint32_t)(at - tape->text.ptr),
                             .len = (uint32_t)len,
                             .next = tape->count,
                             .kind = (uint8_t)kind};
    return node;
}

static inline void skip_space(struct reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
}

/* ---- texts ---- */

/* Four hex digits; -1 otherwise. */
static int hex4(const char *at, const char *end)
{
    unsigned char bytes[2];
    if (end - at < 4 || !ec_unhex((struct ec_span){at, 4}, bytes, 2)) {
        return -1;
    }
    return bytes[0] << 8 | bytes[1];
}

/* The character of "\uXXXX" or a pair of them, and how many bytes of text it took; 0 = bad. */
static size_t unicode_escape(const char *at, const char *end, unsigned *ret_code)
{
    int first = end - at >= 6 ? hex4(at + 2, end) : -1;
    if (first <= 0 || (first >= 0xdc00 && first <= 0xdfff)) {
        return 0; /* also NUL: our texts end with one */
    }
    *ret_code = (unsigned)first;
    if (first < 0xd800 || first > 0xdfff) {
        return 6;
    }
    int second = end - at >= 12 && at[6] == '\\' && at[7] == 'u' ? hex4(at + 8, end) : -1;
    if (second < 0xdc00 || second > 0xdfff) {
        return 0;
    }
    *ret_code = 0x10000u + (((unsigned)first - 0xd800u) << 10) + ((unsigned)second - 0xdc00u);
    return 12;
}

static bool pass_escape(struct reader *r)
{
    unsigned code = 0;
    size_t len = 0;
    if (r->end - r->at >= 2) {
        len = r->at[1] == 'u' ? unicode_escape(r->at, r->end, &code)
                              : (r->at[1] && strchr("\"\\/bfnrt", r->at[1]) ? 2u : 0u);
    }
    if (len == 0) {
        return fail(r, "a text with a bad escape");
    }
    r->at += len;
    return true;
}

static bool end_text(struct reader *r, const char *begin, bool escaped)
{
    struct ec_node *node = add(r, EC_TAPE_TEXT, begin, (size_t)(r->at - begin));
    if (!node) {
        return false;
    }
    node->escaped = escaped;
    r->at++;
    return true;
}

/* One character, or an escape, that is not plain. */
static bool pass_unplain(struct reader *r, bool *escaped)
{
    if (*r->at == '\\') {
        *escaped = true;
        return pass_escape(r);
    }
    size_t len = (unsigned char)*r->at < 0x20
                     ? 0
                     : ec_utf8_len((struct ec_span){r->at, (size_t)(r->end - r->at)});
    if (len == 0) {
        return fail(r, "a text with a control character or bytes that are no UTF-8");
    }
    r->at += len;
    return true;
}

static inline bool read_text(struct reader *r)
{
    const char *begin = ++r->at;
    bool escaped = false;
    for (;;) {
        r->at += ec_plain_len(r->at, (size_t)(r->end - r->at));
        if (r->at == r->end) {
            return fail(r, "a text that does not end");
        }
        if (*r->at == '"') {
            return end_text(r, begin, escaped);
        }
        if (!pass_unplain(r, &escaped)) {
            return false;
        }
    }
}

/* ---- other values ---- */

static size_t pass_digits(struct reader *r)
{
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        r->at++;
    }
    return (size_t)(r->at - begin);
}

static bool read_number(struct reader *r)
{
    const char *begin = r->at;
    enum ec_tape_kind kind = EC_TAPE_INT;
    r->at += *r->at == '-';
    const char *first = r->at;
    size_t digits = pass_digits(r);
    bool good = digits == 1 || (digits > 1 && *first != '0');
    if (good && r->at < r->end && *r->at == '.') {
        kind = EC_TAPE_REAL;
        r->at++;
        good = pass_digits(r) > 0;
    }
    if (good && r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        kind = EC_TAPE_REAL;
        r->at++;
        r->at += r->at < r->end && (*r->at == '+' || *r->at == '-');
        good = pass_digits(r) > 0;
    }
    if (!good) {
        return fail(r, "a bad number");
    }
    return add(r, kind, begin, (size_t)(r->at - begin)) != NULL;
}

static bool read_word(struct reader *r)
{
    static const struct {
        const char *word;
        enum ec_tape_kind kind;
    } words[] = {{"true", EC_TAPE_TRUE}, {"false", EC_TAPE_FALSE}, {"null", EC_TAPE_NULL}};
    for (size_t i = 0; i < EC_LEN(words); i++) {
        size_t len = strlen(words[i].word);
        if ((size_t)(r->end - r->at) >= len && memcmp(r->at, words[i].word, len) == 0) {
            r->at += len;
            return add(r, words[i].kind, r->at - len, len) != NULL;
        }
    }
    return fail(r, "something that is no value");
}

/* ---- lists and objects ---- */

static bool read_name(struct reader *r)
{
    skip_space(r);
    if (r->at == r->end || *r->at != '"') {
        return fail(r, "an object whose member has no name");
    }
    if (!read_text(r)) {
        return false;
    }
    skip_space(r);
    if (r->at == r->end || *r->at != ':') {
        return fail(r, "a name without a colon");
    }
    r->at++;
    return true;
}

/* Opens a list or object; *ret_inside is false when it is empty and so closed already. */
static bool open_group(struct reader *r, bool *ret_inside)
{
    bool object = *r->at == '{';
    if (r->depth == EC_TAPE_DEPTH_MAX) {
        return fail(r, "lists and objects nested too deeply");
    }
    struct ec_node *node = add(r, object ? EC_TAPE_OBJECT : EC_TAPE_LIST, r->at, 0);
    if (!node) {
        return false;
    }
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == (object ? '}' : ']')) {
        r->at++;
        return true;
    }
    *ret_inside = true;
    r->open[r->depth++] = (uint32_t)(node - r->tape->nodes);
    return !object || read_name(r);
}

/* After a value: on to the next one, or out of what ends here. */
static bool after_value(struct reader *r, bool *ret_more)
{
    *ret_more = false;
    while (r->depth > 0) {
        struct ec_node *group = &r->tape->nodes[r->open[r->depth - 1]];
        bool object = group->kind == EC_TAPE_OBJECT;
        skip_space(r);
        if (r->at == r->end) {
            return fail(r, "a list or object that does not end");
        }
        char c = *r->at++;
        if (c == ',') {
            *ret_more = true;
            return !object || read_name(r);
        }
        if (c != (object ? '}' : ']')) {
            r->at--;
            return fail(r, "something where a comma or the end belongs");
        }
        group->next = r->tape->count;
        r->depth--;
    }
    skip_space(r);
    return r->at == r->end || fail(r, "more after its end");
}

static bool read_all(struct reader *r)
{
    for (bool more = true; more;) {
        skip_space(r);
        char c = r->at < r->end ? *r->at : 0;
        bool inside = false;
        bool good = c == '"'                             ? read_text(r)
                    : c == '{' || c == '['               ? open_group(r, &inside)
                    : c == '-' || (c >= '0' && c <= '9') ? read_number(r)
                                                         : read_word(r);
        if (!good || (!inside && !after_value(r, &more))) {
            return false;
        }
    }
    return true;
}

EC_RESULT ec_tape_read(struct ec_arena *arena, struct ec_span text, struct ec_tape *ret_tape)
{
    if (text.len > TEXT_MAX_BYTES) {
        return ec_reject_in(arena, "JSON of %zu bytes: at most 32 MiB is read", text.len);
    }
    struct ec_tape tape = {.text = text};
    struct reader r = {text.ptr, text.ptr + text.len, arena, &tape, .room = 64};
    r.room += (uint32_t)(text.len / 12 < FIRST_NODES_MAX ? text.len / 12 : FIRST_NODES_MAX);
    tape.nodes = ec_arena_try_raw(arena, r.room * sizeof *tape.nodes);
    if (!tape.nodes) {
        return ec_reject("JSON holds too many values");
    }
    if (!read_all(&r)) {
        size_t line = 1;
        const char *line_at = text.ptr;
        for (const char *c = text.ptr; c < r.at && c < r.end; c++) {
            if (*c == '\n') {
                line++;
                line_at = c + 1;
            }
        }
        return ec_reject_in(arena, "bad JSON at line %zu, column %zu: %s", line,
                            (size_t)(r.at - line_at) + 1, r.fault);
    }
    *ret_tape = tape;
    return ec_ok();
}

/* ---- readers ---- */

const struct ec_node *ec_tape_root(const struct ec_tape *tape)
{
    return tape->count > 0 ? tape->nodes : NULL;
}

bool ec_tape_is(const struct ec_node *node, enum ec_tape_kind kind)
{
    return node && node->kind == kind;
}

const struct ec_node *ec_tape_first(const struct ec_tape *tape, const struct ec_node *list)
{
    bool some = ec_tape_is(list, EC_TAPE_LIST) && list->next > (uint32_t)(list - tape->nodes) + 1;
    return some ? list + 1 : NULL;
}

const struct ec_node *ec_tape_next(const struct ec_tape *tape, const struct ec_node *list,
                                   const struct ec_node *item)
{
    return item->next < list->next ? &tape->nodes[item->next] : NULL;
}

size_t ec_tape_count(const struct ec_tape *tape, const struct ec_node *list)
{
    size_t count = 0;
    for (const struct ec_node *n = ec_tape_first(tape, list); n; n = ec_tape_next(tape, list, n)) {
        count++;
    }
    return count;
}

static const struct ec_node *member(const struct ec_tape *tape, const struct ec_node *object,
                                    const char *name, size_t len)
{
    const struct ec_node *found = NULL;
    const struct ec_node *end = &tape->nodes[object->next];
    for (const struct ec_node *key = object + 1; key < end; key = &tape->nodes[key[1].next]) {
        if (key->len == len && memcmp(tape->text.ptr + key->at, name, len) == 0) {
            if (found) {
                return NULL;
            }
            found = key + 1;
        }
    }
    return found;
}

static const struct ec_node *element(const struct ec_tape *tape, const struct ec_node *list,
                                     const char *name, size_t len)
{
    if (len == 0 || len > 9 || strspn(name, "0123456789") < len) {
        return NULL;
    }
    const struct ec_node *item = ec_tape_first(tape, list);
    for (unsigned long index = strtoul(name, NULL, 10); item && index > 0; index--) {
        item = ec_tape_next(tape, list, item);
    }
    return item;
}

const struct ec_node *ec_tape_at(const struct ec_tape *tape, const struct ec_node *from,
                                 const char *path)
{
    const struct ec_node *node = from;
    while (node && *path) {
        size_t len = strcspn(path, ".");
        node = node->kind == EC_TAPE_OBJECT ? member(tape, node, path, len)
               : node->kind == EC_TAPE_LIST ? element(tape, node, path, len)
                                            : NULL;
        path += len + (path[len] == '.');
    }
    return node;
}

static size_t put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* The text was checked when it was read; what it becomes is never longer than it was. */
static void unescape(struct ec_span raw, char *out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *at = raw.ptr, *end = raw.ptr + raw.len;
    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
        } else if (at[1] == 'u') {
            unsigned code = 0;
            at += unicode_escape(at, end, &code);
            out += put_utf8(out, code);
        } else {
            const char *simple = strchr(from, at[1]);
            *out++ = simple ? to[simple - from] : at[1];
            at += 2;
        }
    }
}

struct ec_span ec_tape_raw(const struct ec_tape *tape, const struct ec_node *node)
{
    return ec_tape_is(node, EC_TAPE_TEXT) ? (struct ec_span){tape->text.ptr + node->at, node->len}
                                          : (struct ec_span){"", 0};
}

/* How much of the text one character takes: an escape, a pair of them, or bytes of UTF-8. */
static uint32_t character_len(const char *at)
{
    unsigned char byte = (unsigned char)*at;
    if (byte == '\\') {
        bool pair = at[1] == 'u' && (at[2] == 'd' || at[2] == 'D') && at[3] > '7';
        return at[1] != 'u' ? 2 : pair ? 12 : 6;
    }
    return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

struct ec_node ec_tape_cut(const struct ec_tape *tape, const struct ec_node *node,
                           uint32_t max_bytes)
{
    struct ec_node cut = *node;
    uint32_t len = 0;
    if (node->len <= max_bytes) {
        return cut;
    }
    while (len < max_bytes) {
        uint32_t next = character_len(tape->text.ptr + node->at + len);
        if (next > max_bytes - len) {
            break;
        }
        len += next;
    }
    cut.len = len;
    return cut;
}

char *ec_tape_copy(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *node)
{
    if (!ec_tape_is(node, EC_TAPE_TEXT)) {
        return NULL;
    }
    char *copy = ec_arena_try(arena, (size_t)node->len + 1);
    if (copy && node->escaped) {
        unescape(ec_tape_raw(tape, node), copy);
    } else if (copy) {
        memcpy(copy, tape->text.ptr + node->at, node->len);
    }
    return copy;
}

char *ec_tape_text(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *from,
                   const char *path)
{
    char *text = ec_tape_copy(arena, tape, ec_tape_at(tape, from, path));
    return text ? text : ec_arena_strdup(arena, "");
}

int64_t ec_tape_int(const struct ec_tape *tape, const struct ec_node *from, const char *path,
                    int64_t otherwise)
{
    const struct ec_node *node = ec_tape_at(tape, from, path);
    if (!ec_tape_is(node, EC_TAPE_INT) || node->len > 18) {
        return otherwise; /* what is longer may not fit */
    }
    char digits[24] = "";
    memcpy(digits, tape->text.ptr + node->at, node->len);
    return strtoll(digits, NULL, 10);
}

bool ec_tape_bool(const struct ec_tape *tape, const struct ec_node *from, const char *path,
                  bool otherwise)
{
    const struct ec_node *node = ec_tape_at(tape, from, path);
    return ec_tape_is(node, EC_TAPE_TRUE) || (otherwise && !ec_tape_is(node, EC_TAPE_FALSE));
}
