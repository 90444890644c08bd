/* Stands in for `pipeline` in reconciler_test.sh (see support/drive.h): each line of stdin is
 * published, and each event of the reconciler and of `domain` is printed with the time since start.
 *
 *   desired KEY REVISION DEPLOYMENT RELEASE IMAGE HOST WEIGHTS STEP_MS SETTLED DEADLINE_MS REPLICAS
 * [PREV_RELEASE PREV_IMAGE] remove KEY        domain HOST        undomain HOST
 *   junk KEY        a record of enclii.desired that is no message */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/domain.pb-c.h"
#include "support/drive.h"

static void fill_release(Enclii__V1__DesiredRelease *release, Enclii__V1__RunSpec *run,
                         Enclii__V1__ProbeSpec *probe, char *const *word)
{
    enclii__v1__desired_release__init(release);
    enclii__v1__run_spec__init(run);
    enclii__v1__probe_spec__init(probe);
    static char path[] = "/healthz";
    probe->path = path;
    probe->deadline_ms = 5000;
    probe->timeout_ms = 1000;
    run->port = 8080;
    run->probe = probe;
    run->memory_max_bytes = 64 << 20;
    release->run = run;
    release->release_id = word[0];
    release->version = word[0] + strlen(word[0]) - 2;
    release->image = word[1];
}

static void send_desired(char **word, size_t count)
{
    Enclii__V1__Desired desired;
    Enclii__V1__ServiceRef service;
    Enclii__V1__EnvironmentRef environment;
    Enclii__V1__RolloutSpec rollout;
    Enclii__V1__RouteSpec route, *routes = &route;
    Enclii__V1__DesiredRelease release, previous;
    Enclii__V1__RunSpec run, previous_run;
    Enclii__V1__ProbeSpec probe, previous_probe;
    enclii__v1__desired__init(&desired);
    enclii__v1__service_ref__init(&service);
    enclii__v1__environment_ref__init(&environment);
    enclii__v1__rollout_spec__init(&rollout);
    enclii__v1__route_spec__init(&route);
    int32_t weights[8];
    char name[] = "shop", env_name[] = "production", project[] = "acme", target[] = "docker";
    for (char *at = strtok(word[7], ","); at != NULL && rollout.n_weights < 8;
         at = strtok(NULL, ",")) {
        weights[rollout.n_weights++] = atoi(at);
    }
    fill_release(&release, &run, &probe, word + 4);
    run.replicas = atoi(word[11]);
    if (count >= 14) {
        fill_release(&previous, &previous_run, &previous_probe, word + 12);
        desired.previous = &previous;
    }
    char *key = word[1];
    service.service_id = strndup(key, strcspn(key, ":"));
    service.service_name = name;
    service.project_slug = project;
    environment.environment_id = key + strcspn(key, ":") + 1;
    environment.name = env_name;
    rollout.weights = weights;
    rollout.step_ms = atoll(word[8]);
    route.hostname = word[6];
    route.tls = true;
    desired.revision = atoll(word[2]);
    desired.deployment_id = word[3];
    desired.service = &service;
    desired.environment = &environment;
    desired.target = target;
    desired.release = &release;
    desired.rollout = &rollout;
    desired.n_routes = 1;
    desired.routes = &routes;
    desired.settled = atoi(word[9]) == 1;
    desired.deadline_unix_ms = ec_unix_ms() + atoll(word[10]);
    drive_publish(EC_TOPIC_DESIRED, key, "dev.enclii.desired.v1", &desired.base);
    free(service.service_id);
}

static void send_domain(char *host)
{
    Enclii__V1__DomainDesired domain;
    enclii__v1__domain_desired__init(&domain);
    char issuer[] = "local";
    domain.hostname = host;
    domain.tls = true;
    domain.issuer = issuer;
    drive_publish(EC_TOPIC_DOMAINS, host, "dev.enclii.domain.desired.v1", &domain.base);
}

static bool on_command(char **word, size_t count)
{
    if (count >= 12 && strcmp(word[0], "desired") == 0) {
        send_desired(word, count);
    } else if (count == 2 && strcmp(word[0], "remove") == 0) {
        drive_publish(EC_TOPIC_DESIRED, word[1], "dev.enclii.desired.v1", NULL);
    } else if (count == 2 && strcmp(word[0], "junk") == 0) {
        drive_publish_raw(EC_TOPIC_DESIRED, word[1], "dev.enclii.desired.v1", EC_SPAN("\xff"));
    } else if (count == 2 && strcmp(word[0], "domain") == 0) {
        send_domain(word[1]);
    } else if (count == 2 && strcmp(word[0], "undomain") == 0) {
        drive_publish(EC_TOPIC_DOMAINS, word[1], "dev.enclii.domain.desired.v1", NULL);
    } else {
        return false;
    }
    return true;
}

static void print_steps(Enclii__V1__StepTime **steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        printf(" %s=%lldms", steps[i]->name, (long long)steps[i]->duration_ms);
    }
}

static void on_event(void *state, struct ec_event *ev)
{
    (void)state;
    const char *type = ec_event_type(ev);
    const void *body = ec_event_body(ev);
    printf("%lld %s", (long long)drive_ms(), type);
    if (strstr(type, "step") != NULL) {
        const Enclii__V1__DeploymentStepFinished *step = body;
        printf(" %s %s weight=%d %lldms", step->deployment_id, step->step->name, step->weight,
               (long long)step->step->duration_ms);
    } else if (strstr(type, "rolled_out") != NULL) {
        const Enclii__V1__DeploymentRolledOut *done = body;
        printf(" %s %s", done->deployment_id, done->n_urls ? done->urls[0] : "-");
        print_steps(done->steps, done->n_steps);
    } else if (strstr(type, "reverted") != NULL) {
        const Enclii__V1__DeploymentReverted *reverted = body;
        char *detail = reverted->detail;
        for (char *c = detail; *c != '\0'; c++) {
            *c = *c == '\n' ? '|' : *c;
        }
        printf(" %s reason=%s previous_serves=%d detail=%s", reverted->deployment_id,
               reverted->reason, reverted->previous_serves, detail);
    } else if (strstr(type, "status") != NULL) {
        const Enclii__V1__DeploymentStatus *status = body;
        printf(" %s ready=%d/%d %s", status->deployment_id, status->replicas_ready,
               status->replicas_desired, status->note);
    } else if (strstr(type, "domain.issued") != NULL) {
        const Enclii__V1__DomainIssued *issued = body;
        printf(" %s %s", issued->hostname, issued->fingerprint_sha256);
    } else if (strstr(type, "domain.failed") != NULL) {
        const Enclii__V1__DomainFailed *failed = body;
        printf(" %s %s %s", failed->hostname, failed->reason, failed->detail);
    }
    printf("\n");
}

int main(void)
{
    static const char *const events[] = {EC_TOPIC_DEPLOYMENT_EVENTS, EC_TOPIC_DOMAIN_EVENTS, NULL};
    static const char *const commands[] = {EC_TOPIC_DESIRED, EC_TOPIC_DOMAINS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.deployment.step.v1", &enclii__v1__deployment_step_finished__descriptor, NULL},
        {"dev.enclii.deployment.rolled_out.v1", &enclii__v1__deployment_rolled_out__descriptor,
         NULL},
        {"dev.enclii.deployment.reverted.v1", &enclii__v1__deployment_reverted__descriptor, NULL},
        {"dev.enclii.deployment.status.v1", &enclii__v1__deployment_status__descriptor, NULL},
        {"dev.enclii.domain.issued.v1", &enclii__v1__domain_issued__descriptor, NULL},
        {"dev.enclii.domain.failed.v1", &enclii__v1__domain_failed__descriptor, NULL},
    };
    return drive_main(&(struct drive_spec){.read = events,
                                           .write = commands,
                                           .routes = routes,
                                           .route_count = EC_LEN(routes),
                                           .on_command = on_command,
                                           .on_event = on_event});
}
