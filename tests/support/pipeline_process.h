/* A pipeline process of its own, on the test's database and Kafka. It dies with the test. */
#pragma once

#include <sys/types.h>

#include "support/kafka.h"
#include "support/pg.h"

/* `log` gets its output. The program is build/bin/enclii-pipeline of the same build as the test. */
pid_t test_pipeline_start(const struct test_pg *pg, const struct test_kafka *kafka,
                          const char *log);
