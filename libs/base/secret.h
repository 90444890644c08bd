/* A secret: bytes that no format function accepts and that are wiped when freed. Only ec_secret_use
 * gives them out, so that every use can be found by name. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"

struct ec_secret;

struct ec_secret *ec_secret_new(struct ec_span bytes); /* copies; wipe the source yourself */
void ec_secret_free(struct ec_secret *secret);         /* wipes; accepts NULL */
void ec_secret_freep(struct ec_secret **secret);
struct ec_span ec_secret_use(const struct ec_secret *secret); /* borrowed; never log or store it */
/* Reads a mounted secret file of at most 64 KiB; one trailing newline is dropped. */
EC_RESULT ec_secret_read(const char *path, struct ec_secret **ret_secret);
