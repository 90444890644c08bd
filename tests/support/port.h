/* Ports of this machine, for programs that a test starts. */
#pragma once

#include <stdbool.h>

int test_free_port(void); /* nobody listens on it now */
bool test_port_answers(int port);
