/* What a PostgreSQL error code means for the caller, by class (PostgreSQL manual, appendix A).
 * Pure. */
#include <string.h>

#include "base/mem.h"
#include "store/internal.h"

/* Longest prefix first: the first row that matches decides. */
static const struct {
    const char *prefix;
    enum ec_fate fate;
} fates[] = {
    {"40", EC_FATE_RETRY},     /* transaction rolled back: serialisation, deadlock */
    {"55P03", EC_FATE_RETRY},  /* lock not available within lock_timeout */
    {"55006", EC_FATE_RETRY},  /* object in use */
    {"57", EC_FATE_RETRY},     /* cancelled, shutting down, cannot connect now */
    {"08", EC_FATE_RETRY},     /* connection exceptions */
    {"53", EC_FATE_RETRY},     /* out of connections, memory, disk */
    {"58", EC_FATE_RETRY},     /* I/O errors of the server */
    {"25006", EC_FATE_RETRY},  /* read-only: we are still connected to a former primary */
    {"25P03", EC_FATE_RETRY},  /* idle in transaction for too long */
    {"26000", EC_FATE_RETRY},  /* prepared statement gone (a pooler in between) */
    {"22", EC_FATE_REJECT},    /* data exceptions */
    {"23", EC_FATE_REJECT},    /* constraint violations */
    {"44", EC_FATE_REJECT},    /* check option */
    {"54", EC_FATE_REJECT},    /* limits of the server: a text too long for its index */
    {"P0001", EC_FATE_REJECT}, /* raised by one of our functions */
};

enum ec_fate sqlstate_fate(const char *sqlstate)
{
    if (!sqlstate || !sqlstate[0]) {
        return EC_FATE_RETRY;
    }
    for (size_t i = 0; i < EC_LEN(fates); i++) {
        if (strncmp(sqlstate, fates[i].prefix, strlen(fates[i].prefix)) == 0) {
            return fates[i].fate;
        }
    }
    return EC_FATE_FATAL;
}

bool sqlstate_is_read_only(const char *sqlstate)
{
    return sqlstate && strcmp(sqlstate, "25006") == 0;
}

bool sqlstate_is_stale_plan(const char *sqlstate, const char *source_function)
{
    if (!sqlstate) {
        return false;
    }
    if (strcmp(sqlstate, "26000") == 0) {
        return true;
    }
    /* "cached plan must not change result type": a migration changed a table under our statement.
     */
    return strcmp(sqlstate, "0A000") == 0 && source_function &&
           strcmp(source_function, "RevalidateCachedQuery") == 0;
}
