/* The parts of the error type that need an arena: formatted texts and the names of the fates. */
#include "base/err.h"

#include <stdarg.h>

#include "base/arena.h"

struct ec_err ec_retry_in(struct ec_arena *arena, int sys, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = ec_arena_vformat(arena, format, args);
    va_end(args);
    return ec_retry(sys, what);
}

struct ec_err ec_reject_in(struct ec_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = ec_arena_vformat(arena, format, args);
    va_end(args);
    return ec_reject(what);
}

const char *ec_fate_name(enum ec_fate fate)
{
    switch (fate) {
    case EC_FATE_OK:
        return "ok";
    case EC_FATE_RETRY:
        return "retry";
    case EC_FATE_REJECT:
        return "reject";
    case EC_FATE_FATAL:
        return "fatal";
    }
    return "unknown";
}
