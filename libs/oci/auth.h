/* Who we are to a registry: challenges of 401 answers (RFC 9110 §11.6.1), and passwords from a
 * Docker config file ({"auths":{"host":{"auth":base64("user:password")}}}). */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"

struct ec_challenge {
    bool bearer; /* else basic */
    const char *realm;
    const char *service; /* "" when absent, like the next two */
    const char *scope;
    const char *error;
};

/* The best challenge of one WWW-Authenticate value (Bearer before Basic); false when it has
 * neither, or more than 4 KiB. */
bool ec_challenge_parse(struct ec_arena *arena, const char *header, struct ec_challenge *ret);

/* Where to ask for a token: realm?service=...&scope=... */
char *ec_token_url(struct ec_arena *arena, const struct ec_challenge *challenge, const char *scope);

struct ec_docker_config; /* hosts and their passwords, read once */

/* A missing file means "no passwords". REJECT says what is wrong with the file. */
EC_RESULT ec_docker_config_read(struct ec_arena *arena, const char *path,
                                struct ec_docker_config **ret_config);
void ec_docker_config_free(struct ec_docker_config *config); /* accepts NULL */
/* "user:password" for this registry, borrowed; NULL when there is none. */
const struct ec_secret *ec_docker_config_find(const struct ec_docker_config *config,
                                              const char *host);
