/* Borrowed bytes: a pointer and a length, never stored beyond the stated life of their owner. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct ec_span {
    const char *ptr;
    size_t len;
};

#define EC_SPAN(literal) ((struct ec_span){(literal), sizeof(literal) - 1})

static inline struct ec_span ec_span_of(const char *text)
{
    return (struct ec_span){text ? text : "", text ? strlen(text) : 0};
}

static inline bool ec_span_eq(struct ec_span a, struct ec_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool ec_span_is(struct ec_span a, const char *text)
{
    return ec_span_eq(a, ec_span_of(text));
}

static inline bool ec_span_starts(struct ec_span a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.len >= n && memcmp(a.ptr, prefix, n) == 0;
}

/* Equality of secrets: time depends on the length only. */
bool ec_span_eq_secret(struct ec_span a, struct ec_span b);
