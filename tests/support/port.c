/* See port.h. */
#include "support/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Below the ports that the kernel gives to connections: one of those could take it in between. */
enum { FIRST_PORT = 20000, PORTS = 10000 };

int test_free_port(void)
{
    for (int i = 0; i < 100; i++) {
        uint16_t random;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
            abort();
        }
        struct sockaddr_in address = loopback(FIRST_PORT + random % PORTS);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool bound = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        close(fd);
        if (bound) {
            return ntohs(address.sin_port);
        }
    }
    abort();
}

bool test_port_answers(int port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return good;
}
