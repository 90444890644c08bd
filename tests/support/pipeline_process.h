/* Programs of ours as processes of their own, of the same build as the test. They die with it. */
#pragma once

#include <sys/types.h>

#include "support/kafka.h"
#include "support/pg.h"

/* build/bin/<program> with these variables too: name, value, ..., NULL-ended. `log` gets its
 * output. */
pid_t test_program_start(const char *program, const char *const *env, const char *log);
/* pipeline, on the test's database and Kafka. */
pid_t test_pipeline_start(const struct test_pg *pg, const struct test_kafka *kafka,
                          const char *log);
