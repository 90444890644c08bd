/* One JSON object per line on stderr: {"time","level","service","event","message","trace",...}.
 * `event` is "noun.happened" and an API: people alert on it. Values are typed pairs, escaped here,
 * so no input can forge a line; a line is cut at EC_LOG_LINE_MAX_BYTES. Secrets cannot be passed.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define EC_LOG_LINE_MAX_BYTES 8192

enum ec_log_level { EC_LOG_DEBUG, EC_LOG_INFO, EC_LOG_WARN, EC_LOG_ERROR };

struct ec_log_pair {
    enum { EC_LOG_END = 0, EC_LOG_TEXT, EC_LOG_NUMBER } kind;
    const char *key;
    const char *text;
    int64_t number;
};

#define EC_T(key, value) ((struct ec_log_pair){EC_LOG_TEXT, (key), (value), 0})
#define EC_N(key, value) ((struct ec_log_pair){EC_LOG_NUMBER, (key), 0, (int64_t)(value)})

/* Set once at start, before any thread. */
void ec_log_setup(const char *service, enum ec_log_level least);
bool ec_log_level_parse(const char *text, enum ec_log_level *ret_level);

/* trace: a traceparent or NULL. Example:
 *   ec_log(EC_LOG_INFO, trace, "build.leased", "build given to a builder",
 *          EC_T("build", id), EC_N("attempt", 2));
 */
#define ec_log(level, trace, event, message, ...)                                                  \
    ec_log_write((level), (trace), (event), (message),                                             \
                 (const struct ec_log_pair[]){__VA_ARGS__ __VA_OPT__(, ){EC_LOG_END, 0, 0, 0}})
void ec_log_write(enum ec_log_level level, const char *trace, const char *event,
                  const char *message, const struct ec_log_pair *pairs);
/* The usual pairs of a failure. */
#define EC_ERR(err)                                                                                \
    EC_T("fate", ec_fate_name((err).fate)), EC_T("error", (err).what), EC_N("sys", (err).sys)
