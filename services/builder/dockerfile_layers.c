/* What Buildah's layer cache must be told, because it does not see it: it knows a step by the text
 * of its instruction and of all before it, and so knows nothing of whose Dockerfile that is, nor of
 * what a RUN line mounts. */
#include "dockerfile.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"

#define MARKED_MAX ((size_t)16 * 1024 * 1024)

struct reader {
    struct ec_span text;
    size_t at;
    char escape; /* ends a line that goes on */
};

static struct ec_span trimmed(struct ec_span line)
{
    while (line.len > 0 && isspace((unsigned char)line.ptr[line.len - 1])) {
        line.len--;
    }
    while (line.len > 0 && isspace((unsigned char)line.ptr[0])) {
        line.ptr++;
        line.len--;
    }
    return line;
}

static struct ec_span take_line(struct reader *reader)
{
    const char *begin = reader->text.ptr + reader->at;
    size_t left = reader->text.len - reader->at;
    const char *newline = memchr(begin, '\n', left);
    size_t len = newline ? (size_t)(newline - begin) : left;
    reader->at += len + (newline != NULL);
    return trimmed((struct ec_span){begin, len});
}

static bool says_nothing(struct ec_span line)
{
    return line.len == 0 || line.ptr[0] == '#';
}

/* "# escape=`" is one of the comments before everything else. */
static char escape_of(struct ec_span text)
{
    struct reader reader = {text, 0, 0};
    while (reader.at < text.len) {
        struct ec_span line = take_line(&reader);
        if (line.len == 0 || line.ptr[0] != '#') {
            break;
        }
        struct ec_span word = trimmed((struct ec_span){line.ptr + 1, line.len - 1});
        const char *equal = memchr(word.ptr, '=', word.len);
        if (equal && strncasecmp(word.ptr, "escape", 6) == 0 && word.ptr[word.len - 1] == '`') {
            return '`';
        }
    }
    return '\\';
}

static bool goes_on(const struct reader *reader, struct ec_span line)
{
    return line.len > 0 && line.ptr[line.len - 1] == reader->escape;
}

/* With all lines that it goes on in. False at the end. */
static bool next_instruction(struct reader *reader, struct ec_span *ret)
{
    while (reader->at < reader->text.len) {
        size_t begin = reader->at;
        struct ec_span line = take_line(reader);
        if (says_nothing(line)) {
            continue;
        }
        bool more = goes_on(reader, line);
        while (more && reader->at < reader->text.len) {
            line = take_line(reader);
            more = says_nothing(line) || goes_on(reader, line);
        }
        *ret = (struct ec_span){reader->text.ptr + begin, reader->at - begin};
        return true;
    }
    return false;
}

static bool is_instruction(struct ec_span text, const char *name)
{
    struct ec_span word = trimmed(text);
    size_t len = strlen(name);
    return word.len > len && strncasecmp(word.ptr, name, len) == 0 &&
           !isalnum((unsigned char)word.ptr[len]);
}

const char *dockerfile_marked(struct ec_arena *arena, struct ec_span text, const char *mark)
{
    struct reader reader = {text, 0, escape_of(text)};
    struct ec_span instruction;
    size_t copied = 0;
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, MARKED_MAX);
    while (next_instruction(&reader, &instruction)) {
        if (is_instruction(instruction, "from")) {
            ec_buf_add(&out, text.ptr + copied, reader.at - copied);
            ec_buf_add_text(&out, text.ptr[reader.at - 1] == '\n' ? "" : "\n");
            ec_buf_addf(&out, "LABEL dev.enclii.cache=%s\n", mark);
            copied = reader.at;
        }
    }
    ec_buf_add(&out, text.ptr + copied, text.len - copied);
    return out.overflowed ? NULL : ec_arena_text(arena, ec_buf_span(&out));
}

/* An option list "type=cache,target=/x" of a mount whose content no commit and no image decides. */
static bool brings_nothing(struct ec_span options)
{
    static const char *const kinds[] = {"type=cache", "type=tmpfs", "type=secret", "type=ssh"};
    bool known = false;
    while (options.len > 0) {
        const char *comma = memchr(options.ptr, ',', options.len);
        struct ec_span one = {options.ptr, comma ? (size_t)(comma - options.ptr) : options.len};
        bool kind = false;
        for (size_t i = 0; i < EC_LEN(kinds); i++) {
            kind = kind || ec_span_is(one, kinds[i]);
        }
        known = known || kind;
        if ((ec_span_starts(one, "type=") && !kind) || ec_span_starts(one, "from=")) {
            return false;
        }
        size_t used = one.len + (comma != NULL);
        options = (struct ec_span){options.ptr + used, options.len - used};
    }
    return known;
}

static bool mounts(struct ec_span instruction)
{
    static const char flag[] = "--mount";
    for (size_t i = 0; i < instruction.len;) {
        size_t begin = i;
        while (i < instruction.len && !isspace((unsigned char)instruction.ptr[i])) {
            i++;
        }
        struct ec_span word = {instruction.ptr + begin, i - begin};
        if (ec_span_starts(word, flag)) {
            size_t used = EC_LEN(flag) - 1 + (word.len > EC_LEN(flag) - 1);
            struct ec_span options = {word.ptr + used, word.len - used};
            if (!brings_nothing(options)) {
                return true;
            }
        }
        i++;
    }
    return false;
}

bool dockerfile_mounts(struct ec_span text)
{
    struct reader reader = {text, 0, escape_of(text)};
    struct ec_span instruction;
    while (next_instruction(&reader, &instruction)) {
        if (is_instruction(instruction, "run") && mounts(instruction)) {
            return true;
        }
    }
    return false;
}
