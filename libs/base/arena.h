/* An arena: everything for one event, request or job comes from it and dies with it, so handlers
 * contain no free. It has a maximum; ec_arena_alloc aborts above it for our own data, while
 * ec_arena_try returns NULL for sizes that strangers choose (protobuf-c unpacks through it), and
 * leaves a sixteenth of the maximum: whatever they send, it can still be said why it is refused.
 * Not thread-safe; belongs to the loop thread. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "base/span.h"

struct ec_arena;

struct ec_arena *ec_arena_new(size_t max_bytes);
void ec_arena_free(struct ec_arena *arena); /* accepts NULL */
void ec_arena_freep(struct ec_arena **arena);
void ec_arena_reset(struct ec_arena *arena); /* everything from it is gone; keeps one block */

void *ec_arena_alloc(struct ec_arena *arena, size_t size_bytes); /* zeroed, 16-byte aligned */
void *ec_arena_try(struct ec_arena *arena, size_t size_bytes);   /* NULL above 15/16 of it */
/* The same without zeroing: for what is written whole before it is read. */
void *ec_arena_try_raw(struct ec_arena *arena, size_t size_bytes);
char *ec_arena_strdup(struct ec_arena *arena, const char *text);  /* NULL stays NULL */
char *ec_arena_text(struct ec_arena *arena, struct ec_span span); /* NUL-terminated copy */
char *ec_arena_format(struct ec_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char *ec_arena_vformat(struct ec_arena *arena, const char *format, va_list args);
struct ec_span ec_arena_copy(struct ec_arena *arena, struct ec_span span);
size_t ec_arena_used_bytes(const struct ec_arena *arena);
