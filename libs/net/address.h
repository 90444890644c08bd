/* Which addresses are of the public internet: the check behind every fetch to an address that a
 * user chose (webhook targets, git and issuer URLs). Pure. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* True for IPv4 and IPv6 addresses that are globally reachable unicast. Loopback, private,
 * link-local, carrier-grade NAT, multicast, documentation and reserved ranges, IPv4 addresses
 * embedded in IPv6 that are one of these, and every other address family, are not. */
bool ec_address_public(const struct sockaddr *address);
/* True when "host[:port]" can only be this machine: localhost, 127.0.0.0/8, [::1]. */
bool ec_host_loopback(const char *host);
