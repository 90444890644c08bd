#!/bin/bash
# The demo is the end-to-end test: tools/demo on ports and in a folder of its own, as TAP.
cd "$(dirname "$0")/../.." || exit 1
export TAP=1 KEEP='' NO_COLOR=1 ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-24000}
unset ENCLII_HOME
exec tools/demo
