/* The one error type. An error says what the caller must do next (its fate), not where it came
 * from: OK      go on RETRY   a dependency is in trouble; the same call may succeed later (events
 * are redelivered) REJECT  this input is bad and will stay bad (events go to the dead-letter topic,
 * HTTP answers 4xx) FATAL   we are broken; leave with a non-zero status and be restarted
 *
 * Errors are 16-byte values: no allocation, nothing to free, cannot be mistaken for an int.
 * `what` is a literal, or a string of an arena that outlives the error (ec_reject_in). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum ec_fate { EC_FATE_OK = 0, EC_FATE_RETRY, EC_FATE_REJECT, EC_FATE_FATAL };

struct ec_err {
    enum ec_fate fate;
    int sys;          /* errno, libuv or library code behind it; 0 when there is none */
    const char *what; /* for people; never NULL unless OK */
};

struct ec_arena;

/* Return types carry it: an ignored error does not compile. */
#define EC_RESULT __attribute__((warn_unused_result)) struct ec_err

static inline struct ec_err ec_ok(void)
{
    return (struct ec_err){EC_FATE_OK, 0, 0};
}

static inline struct ec_err ec_retry(int sys, const char *what)
{
    return (struct ec_err){EC_FATE_RETRY, sys, what};
}

static inline struct ec_err ec_reject(const char *what)
{
    return (struct ec_err){EC_FATE_REJECT, 0, what};
}

static inline struct ec_err ec_fatal(int sys, const char *what)
{
    return (struct ec_err){EC_FATE_FATAL, sys, what};
}

static inline bool ec_failed(struct ec_err err)
{
    return err.fate != EC_FATE_OK;
}

/* Same, with a formatted text that lives in (and as long as) the arena. */
struct ec_err ec_retry_in(struct ec_arena *arena, int sys, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
struct ec_err ec_reject_in(struct ec_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "ok", "retry", "reject", "fatal". */
const char *ec_fate_name(enum ec_fate fate);

/* The only control-flow macro: leave the function with the error, if it is one. */
#define EC_TRY(expr)                                                                               \
    do {                                                                                           \
        struct ec_err ec_try_err = (expr);                                                         \
        if (ec_failed(ec_try_err)) {                                                               \
            return ec_try_err;                                                                     \
        }                                                                                          \
    } while (0)

/* The only, greppable, way to drop an error on purpose; the call site says why in a comment. */
static inline void ec_ignore(struct ec_err err)
{
    (void)err;
}
