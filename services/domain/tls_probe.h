/* Looks at the certificate a TLS server really serves for a name: one handshake with SNI on the
 * loop. The chain is not verified (the caller compares the fingerprint with the one it expects). */
#pragma once

#include "base/err.h"
#include "net/loop.h"

/* fingerprint: SHA-256 of the leaf, 64 hex digits; NULL on error. REJECT: the server knows no such
 * name. RETRY: not reachable, or no answer within deadline_ms. */
typedef void (*tls_probed_fn)(void *arg, struct ec_err err, const char *fingerprint);

/* address: "127.0.0.1:8443" (numeric). */
EC_RESULT tls_probe_start(struct ec_loop *loop, const char *address, const char *hostname,
                          uint32_t deadline_ms, tls_probed_fn done, void *arg);
