/* Allocation that cannot fail: every path that runs out of memory ends in out_of_memory, which says
 * so in one line and aborts, so that the supervisor restarts the process with a core to look at. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void out_of_memory(void)
{
    static const char line[] = "{\"level\":\"error\",\"event\":\"memory.exhausted\",\"message\":"
                               "\"out of memory, aborting\"}\n";
    ssize_t written = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)written; /* nothing better can be done */
    abort();
}

void *ec_alloc(size_t size_bytes)
{
    void *memory = calloc(1, size_bytes > 0 ? size_bytes : 1);
    if (memory == NULL) {
        out_of_memory();
    }
    return memory;
}

void *ec_grow(void *memory, size_t count, size_t item_bytes)
{
    size_t size_bytes = 0;
    if (__builtin_mul_overflow(count, item_bytes, &size_bytes)) {
        out_of_memory();
    }
    void *grown = realloc(memory, size_bytes > 0 ? size_bytes : 1);
    if (grown == NULL) {
        out_of_memory();
    }
    return grown;
}

char *ec_strdup(const char *text)
{
    return ec_strndup(text, strlen(text));
}

char *ec_strndup(const char *text, size_t len)
{
    size_t kept = strnlen(text, len);
    char *copy = ec_alloc(kept + 1);
    memcpy(copy, text, kept);
    return copy;
}

char *ec_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        out_of_memory();
    }
    return text;
}

void ec_freep(void *pointer_to_pointer)
{
    void **pointer = pointer_to_pointer;
    free(*pointer);
    *pointer = NULL;
}
