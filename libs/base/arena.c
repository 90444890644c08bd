/* A chain of blocks with a bump pointer in the newest. What counts against the maximum is what was
 * asked for (rounded to 16 bytes), so that the limit means the same whatever the block sizes are.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define ALIGN_BYTES 16
#define FIRST_BLOCK_BYTES 4096
#define LARGEST_BLOCK_BYTES (size_t)(256 * 1024)
#define KEPT_SHARE 16 /* of the maximum, this part is not for what strangers choose */

struct block {
    struct block *next; /* older */
    size_t room_bytes;
    size_t used_bytes;
    alignas(ALIGN_BYTES) unsigned char bytes[];
};

struct ec_arena {
    struct block *newest;
    size_t max_bytes;
    size_t used_bytes;       /* sum of what was given out */
    size_t next_block_bytes; /* doubles up to LARGEST_BLOCK_BYTES */
};

struct ec_arena *ec_arena_new(size_t max_bytes)
{
    struct ec_arena *arena = ec_alloc(sizeof(*arena));
    arena->max_bytes = max_bytes;
    arena->next_block_bytes = FIRST_BLOCK_BYTES;
    return arena;
}

static void free_blocks(struct block *block)
{
    while (block != NULL) {
        struct block *older = block->next;
        free(block);
        block = older;
    }
}

void ec_arena_free(struct ec_arena *arena)
{
    if (arena != NULL) {
        free_blocks(arena->newest);
        free(arena);
    }
}

void ec_arena_freep(struct ec_arena **arena)
{
    ec_arena_free(*arena);
    *arena = NULL;
}

void ec_arena_reset(struct ec_arena *arena)
{
    if (arena->newest != NULL) {
        free_blocks(arena->newest->next);
        arena->newest->next = NULL;
        arena->newest->used_bytes = 0;
        if (arena->newest->room_bytes > LARGEST_BLOCK_BYTES) {
            /* One huge item must not be kept for the life of the arena. */
            free(arena->newest);
            arena->newest = NULL;
        }
    }
    arena->used_bytes = 0;
}

static void add_block(struct ec_arena *arena, size_t least_bytes)
{
    size_t room = arena->next_block_bytes > least_bytes ? arena->next_block_bytes : least_bytes;
    struct block *block = ec_grow(NULL, sizeof(*block) + room, 1);
    *block = (struct block){.next = arena->newest, .room_bytes = room};
    arena->newest = block;
    if (arena->next_block_bytes < LARGEST_BLOCK_BYTES) {
        arena->next_block_bytes *= 2;
    }
}

static size_t rounded_up(size_t size_bytes)
{
    size_t rounded = (size_bytes + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
    return rounded > 0 ? rounded : ALIGN_BYTES;
}

/* NULL when more than most_bytes would then be in use. */
static void *take(struct ec_arena *arena, size_t size_bytes, size_t most_bytes)
{
    if (size_bytes > most_bytes || arena->used_bytes > most_bytes) {
        return NULL;
    }
    size_t rounded = rounded_up(size_bytes);
    if (rounded > most_bytes - arena->used_bytes) {
        return NULL;
    }
    struct block *block = arena->newest;
    if (block == NULL || block->room_bytes - block->used_bytes < rounded) {
        add_block(arena, rounded);
        block = arena->newest;
    }
    void *memory = block->bytes + block->used_bytes;
    block->used_bytes += rounded;
    arena->used_bytes += rounded;
    return memory;
}

void *ec_arena_try_raw(struct ec_arena *arena, size_t size_bytes)
{
    return take(arena, size_bytes, arena->max_bytes - arena->max_bytes / KEPT_SHARE);
}

static void *zeroed(void *memory, size_t size_bytes)
{
    return memory ? memset(memory, 0, rounded_up(size_bytes)) : NULL;
}

void *ec_arena_try(struct ec_arena *arena, size_t size_bytes)
{
    return zeroed(ec_arena_try_raw(arena, size_bytes), size_bytes);
}

void *ec_arena_alloc(struct ec_arena *arena, size_t size_bytes)
{
    void *memory = zeroed(take(arena, size_bytes, arena->max_bytes), size_bytes);
    if (memory == NULL) {
        fprintf(stderr, "arena: %zu bytes asked with %zu of %zu in use: the arena is too small\n",
                size_bytes, arena->used_bytes, arena->max_bytes);
        abort();
    }
    return memory;
}

char *ec_arena_strdup(struct ec_arena *arena, const char *text)
{
    return text != NULL ? ec_arena_text(arena, ec_span_of(text)) : NULL;
}

char *ec_arena_text(struct ec_arena *arena, struct ec_span span)
{
    char *text = ec_arena_alloc(arena, span.len + 1);
    if (span.len > 0) {
        memcpy(text, span.ptr, span.len);
    }
    return text;
}

char *ec_arena_format(struct ec_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = ec_arena_vformat(arena, format, args);
    va_end(args);
    return text;
}

char *ec_arena_vformat(struct ec_arena *arena, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0) {
        abort(); /* a format that libc refuses is our bug */
    }
    char *text = ec_arena_alloc(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, args);
    return text;
}

struct ec_span ec_arena_copy(struct ec_arena *arena, struct ec_span span)
{
    return (struct ec_span){ec_arena_text(arena, span), span.len};
}

size_t ec_arena_used_bytes(const struct ec_arena *arena)
{
    return arena->used_bytes;
}
