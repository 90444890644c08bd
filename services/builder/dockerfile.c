/* Reads FROM and ARG lines only; the build engine is the judge of everything else. */
#include "dockerfile.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"

#define WORDS_MAX 8
#define ARGS_MAX 32
#define STAGES_MAX 32

struct parse {
    struct ec_arena *arena;
    const Enclii__V1__BuildSpec *spec;
    const char *arg_names[ARGS_MAX], *arg_values[ARGS_MAX];
    size_t arg_count;
    const char *stages[STAGES_MAX];
    size_t stage_count;
    const char **bases;
    size_t base_count;
    bool from_seen;
};

static size_t split_words(struct ec_arena *arena, struct ec_span line, const char *words[WORDS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < line.len && count < WORDS_MAX;) {
        while (i < line.len && isspace((unsigned char)line.ptr[i])) {
            i++;
        }
        size_t begin = i;
        while (i < line.len && !isspace((unsigned char)line.ptr[i])) {
            i++;
        }
        if (i > begin) {
            words[count++] = ec_arena_text(arena, (struct ec_span){line.ptr + begin, i - begin});
        }
    }
    return count;
}

static const char *value_of(const struct parse *parse, struct ec_span name)
{
    for (size_t i = 0; parse->spec && i < parse->spec->n_args; i++) {
        if (ec_span_is(name, parse->spec->args[i]->key)) {
            return parse->spec->args[i]->value;
        }
    }
    for (size_t i = 0; i < parse->arg_count; i++) {
        if (ec_span_is(name, parse->arg_names[i])) {
            return parse->arg_values[i];
        }
    }
    return "";
}

/* $NAME, ${NAME} and ${NAME:-default}. */
static const char *fill_in(const struct parse *parse, const char *text)
{
    struct ec_buf out;
    ec_buf_init(&out, 1024);
    for (const char *at = text; *at;) {
        if (*at != '$') {
            ec_buf_add(&out, at++, 1);
            continue;
        }
        bool braces = at[1] == '{';
        const char *name = at + (braces ? 2 : 1);
        size_t len = 0;
        while (isalnum((unsigned char)name[len]) || name[len] == '_') {
            len++;
        }
        const char *value = value_of(parse, (struct ec_span){name, len});
        const char *end = name + len;
        if (braces) {
            const char *close = strchrnul(end, '}');
            if (!value[0] && end[0] == ':' && end[1] == '-') {
                ec_buf_add(&out, end + 2, (size_t)(close - end - 2));
            }
            end = *close ? close + 1 : close;
        }
        ec_buf_add_text(&out, value);
        at = end;
    }
    const char *filled = ec_arena_text(parse->arena, ec_buf_span(&out));
    ec_buf_done(&out);
    return filled;
}

static bool listed(const char *const *list, size_t count, const char *text, bool any_case)
{
    for (size_t i = 0; i < count; i++) {
        if ((any_case ? strcasecmp(list[i], text) : strcmp(list[i], text)) == 0) {
            return true;
        }
    }
    return false;
}

static void on_arg(struct parse *parse, const char *word)
{
    const char *equal = strchr(word, '=');
    if (parse->from_seen || !equal || parse->arg_count == ARGS_MAX) {
        return;
    }
    const char *value = equal + 1;
    size_t len = strlen(value);
    bool quoted = len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0];
    struct ec_span name = {word, (size_t)(equal - word)};
    struct ec_span inner = {value + (quoted ? 1 : 0), len - (quoted ? 2 : 0)};
    parse->arg_names[parse->arg_count] = ec_arena_text(parse->arena, name);
    parse->arg_values[parse->arg_count++] = ec_arena_text(parse->arena, inner);
}

static void on_from(struct parse *parse, const char **words, size_t count)
{
    size_t at = 1;
    while (at < count && strncmp(words[at], "--", 2) == 0) {
        at++;
    }
    parse->from_seen = true;
    if (at == count) {
        return;
    }
    const char *reference = fill_in(parse, words[at]);
    if (reference[0] && strcmp(reference, "scratch") != 0 &&
        !listed(parse->stages, parse->stage_count, reference, true) &&
        !listed(parse->bases, parse->base_count, reference, false) &&
        parse->base_count < DOCKERFILE_BASES_MAX) {
        parse->bases[parse->base_count++] = reference;
    }
    if (at + 2 < count && strcasecmp(words[at + 1], "as") == 0 && parse->stage_count < STAGES_MAX) {
        parse->stages[parse->stage_count++] = words[at + 2];
    }
}

size_t dockerfile_bases(struct ec_arena *arena, struct ec_span text,
                        const Enclii__V1__BuildSpec *args,
                        const char *ret_bases[DOCKERFILE_BASES_MAX])
{
    struct parse parse = {.arena = arena, .spec = args, .bases = ret_bases};
    bool continued = false;
    for (size_t i = 0; i < text.len;) {
        const char *newline = memchr(text.ptr + i, '\n', text.len - i);
        size_t end = newline ? (size_t)(newline - text.ptr) : text.len;
        const char *words[WORDS_MAX];
        size_t count = split_words(arena, (struct ec_span){text.ptr + i, end - i}, words);
        if (!continued && count > 1 && strcasecmp(words[0], "from") == 0) {
            on_from(&parse, words, count);
        } else if (!continued && count > 1 && strcasecmp(words[0], "arg") == 0) {
            on_arg(&parse, words[1]);
        }
        bool comment = count > 0 && words[0][0] == '#';
        continued = end > i && !comment && text.ptr[end - 1] == '\\';
        i = end + 1;
    }
    return parse.base_count;
}
