#!/usr/bin/env bash
# The Python module builds, installs and imports: from an empty directory, so that it is not the source that is imported.
. "$(dirname "$0")/../lib.sh"

bash scripts/module.sh
cd "$BUILD" && "$PYTHON" -c 'import neuro_memory as nm; print("neuro_memory", nm.__version__, nm.__file__)'
