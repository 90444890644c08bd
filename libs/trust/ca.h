/* A local certificate authority in a folder: "ca.key" (0600) and "ca.crt", made at first use, valid
 * ten years. In its last year ca.crt is made anew with the same key and name: certificates that
 * were issued hold under both, and who trusts the old one has a year to take the new one. A pair of
 * somebody else's authority is used as it is. No certificate outlives ca.crt. It issues
 * certificates for host names. Browsers that trust ca.crt trust them all, so the root may sign
 * leaves only (path length 0). For one machine; ACME does this job on the Internet. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"

#define EC_CA_DAYS 90
#define EC_CA_HOSTNAMES_MAX 100

struct ec_ca;

struct ec_issued {
    char *cert_pem;            /* the leaf, then the root: as servers send it */
    struct ec_secret *key_pem; /* PKCS#8; the caller frees it */
    char *serial_hex;
    int64_t not_before_unix_ms;
    int64_t not_after_unix_ms;
};

/* What a certificate says, for "is it still good?". */
struct ec_cert_info {
    int64_t not_before_unix_ms;
    int64_t not_after_unix_ms;
    char *serial_hex;
    char *issuer; /* common name */
};

/* Reads and writes files: for start-up. `dir` must exist. */
EC_RESULT ec_ca_open(struct ec_arena *arena, const char *dir, struct ec_ca **ret_ca);
bool ec_ca_renewed(const struct ec_ca *ca); /* ca.crt was made anew by ec_ca_open */
/* In its last year: opening it again renews it, if it is one of ours. */
bool ec_ca_aged(const struct ec_ca *ca);
void ec_ca_free(struct ec_ca *ca); /* accepts NULL */
void ec_ca_freep(struct ec_ca **ca);
const char *ec_ca_root_pem(const struct ec_ca *ca); /* borrowed until ec_ca_free */

/* A fresh key and a certificate of EC_CA_DAYS days for these names (lower-case A-labels, "*."
 * allowed in front). REJECT says which name is not one. About 0.2 ms. */
EC_RESULT ec_ca_issue(struct ec_arena *arena, const struct ec_ca *ca, const char *const *hostnames,
                      size_t count, struct ec_issued *ret_issued);
bool ec_hostname_valid(const char *hostname); /* as above, at most 253 bytes */

/* The first certificate of a PEM text. */
EC_RESULT ec_cert_read(struct ec_arena *arena, struct ec_span pem, struct ec_cert_info *ret_info);
bool ec_cert_covers(struct ec_span pem, const char *hostname);
/* Signed by this authority's root, with our root's key (not merely its name). */
bool ec_cert_issued_by(const struct ec_ca *ca, struct ec_span pem);
