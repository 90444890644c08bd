/* Kafka without TLS: on this machine only, whatever a name looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/common.h"

static bool allowed(const char *brokers, bool plaintext)
{
    const struct service_common common = {
        .brokers = brokers, .tls_ca = "", .kafka_plaintext = plaintext};
    return !ec_failed(service_check_brokers(&common));
}

static void plain_brokers_are_on_this_machine(void **state)
{
    (void)state;
    assert_true(allowed("127.0.0.1:9092", false));
    assert_true(allowed("localhost:9092,[::1]:9092,127.1.2.3:9093", false));
    assert_false(allowed("kafka.example:9092", false));
    assert_false(allowed("127.evil.example:9092", false));
    assert_false(allowed("localhost.example:9092", false));
    assert_false(allowed("127.0.0.1:9092,kafka.example:9092", false));
    assert_true(allowed("kafka.example:9092", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_brokers_are_on_this_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
