/* Memory that cannot fail: out of memory ends the process through one hook. At-least-once delivery
 * makes that safe, and no error path has to be written that no test could reach. */
#pragma once

#include <stddef.h>

#define EC_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Runs fn(&variable) when the variable leaves its scope. Always initialise on the same line. */
#define ec_cleanup(fn) __attribute__((cleanup(fn)))

/* Hands the pointer over: the variable becomes NULL, its ec_cleanup does nothing. */
#define EC_TAKE(pointer)                                                                           \
    (__extension__({                                                                               \
        __typeof__(pointer) ec_taken = (pointer);                                                  \
        (pointer) = NULL;                                                                          \
        ec_taken;                                                                                  \
    }))

#define EC_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

void *ec_alloc(size_t size_bytes);                            /* zeroed; free() it */
void *ec_grow(void *memory, size_t count, size_t item_bytes); /* realloc; overflow-checked */
char *ec_strdup(const char *text);
char *ec_strndup(const char *text, size_t len);
char *ec_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ec_freep(void *pointer_to_pointer); /* for ec_cleanup(ec_freep) */
