/* What a change of the page changes. */
#define PAGE "Welcome to the shop, version 1"
#define HEALTHY 1
