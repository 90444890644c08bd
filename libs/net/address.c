/* The ranges are those of the IANA special-purpose address registries (RFC 6890 and its updates).
 * An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4) is judged by the IPv4 one, because
 * that is where the packets would go. */
#include "net/address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/span.h"

struct range4 {
    uint32_t first;
    uint8_t bits;
};

static const struct range4 not_public[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
    {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
    {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
};

static bool ipv4_public(uint32_t address)
{
    for (size_t i = 0; i < EC_LEN(not_public); i++) {
        uint32_t mask = 0xffffffffU << (32 - not_public[i].bits);
        if ((address & mask) == not_public[i].first) {
            return false;
        }
    }
    return true;
}

static uint32_t read_be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool ipv6_public(const uint8_t at[16])
{
    static const uint8_t zeros[12];
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(at, mapped, 12) == 0 || memcmp(at, nat64, 12) == 0 || memcmp(at, zeros, 12) == 0) {
        return ipv4_public(read_be32(at + 12));
    }
    if (at[0] == 0x20 && at[1] == 0x02) {
        return ipv4_public(read_be32(at + 2));
    }
    if (at[0] == 0x20 && at[1] == 0x01 && (at[2] < 2 || (at[2] == 0x0d && at[3] == 0xb8))) {
        return false; /* 2001::/23 protocol assignments (Teredo ...), 2001:db8::/32 documentation */
    }
    return (at[0] & 0xe0) == 0x20; /* 2000::/3 is all that is assigned for global unicast */
}

bool ec_address_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        return ipv4_public(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof(in6));
        return ipv6_public(in6.sin6_addr.s6_addr);
    }
    return false;
}

bool ec_host_loopback(const char *host)
{
    struct ec_span name = {host, strcspn(host, ":")};
    if (host[0] == '[') {
        return strncmp(host, "[::1]", 5) == 0 && (host[5] == '\0' || host[5] == ':');
    }
    if (ec_span_is(name, "localhost")) {
        return true;
    }
    /* "127.evil.example" is a name, not an address. */
    return ec_span_starts(name, "127.") && strspn(host, "0123456789.") == name.len;
}
