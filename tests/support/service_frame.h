/* The frame of a service (libs/service) as its parts see it, for a test program that has none: its
 * loop, its bus, and whether it is stopping. To be included by the one file of such a program,
 * after cmocka.h. */
#pragma once

#include "service/service.h"

static struct ec_loop *loop;
static struct ec_bus *bus;
static bool frame_stopping, frame_stopped;

struct ec_loop *ec_service_loop(struct ec_service *svc)
{
    (void)svc;
    return loop;
}

struct ec_bus *ec_service_bus(struct ec_service *svc)
{
    (void)svc;
    return bus;
}

bool ec_service_stopping(const struct ec_service *svc)
{
    (void)svc;
    return frame_stopping;
}

void ec_service_stopped(struct ec_service *svc)
{
    (void)svc;
    frame_stopped = true;
}

void ec_service_fail(struct ec_service *svc, struct ec_err err)
{
    (void)svc;
    fail_msg("%s", err.what);
}
