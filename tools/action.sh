#!/usr/bin/env bash
# What the GitHub Action runs: scans each file, with annotations, a summary and SARIF, and ends with the exit code of the worst scan.
#
# Reads   GRADSENTRY_DATA, GRADSENTRY_MODEL, GRADSENTRY_OPTIONS (the action's inputs: one item a line), RUNNER_TEMP
# Writes  exit-code, sarif and runs to the file in GITHUB_OUTPUT
set -euo pipefail
shopt -s globstar nullglob

lines() { # the lines of $1 that are not empty, without blanks around them
  sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' <<<"$1"
}

expand() { # sets found to the files that match the pattern $1
  local IFS= # blanks in the pattern do not split it
  found=($1)
}

mapfile -t items < <(lines "${GRADSENTRY_DATA:-}")
mapfile -t options < <(lines "${GRADSENTRY_OPTIONS:-}")
if [ -n "${GRADSENTRY_MODEL:-}" ]; then options+=(--model "$GRADSENTRY_MODEL"); fi

data=()
for item in "${items[@]}"; do
  if [ -e "$item" ] || [[ "$item" != *[\*\?\[]* ]]; then
    data+=("$item")
    continue
  fi
  expand "$item"
  if [ ${#found[@]} -eq 0 ]; then
    printf 'error: no file matches the pattern %q; check the input "data"\n' "$item" >&2
    exit 2
  fi
  data+=("${found[@]}")
done
if [ ${#data[@]} -eq 0 ]; then
  echo 'error: the input "data" is empty; give files, patterns, directories or Hub ids, one a line' >&2
  exit 2
fi

base=$(mktemp -d "${RUNNER_TEMP:-/tmp}/gradsentry.XXXXXX")
mkdir "$base/sarif" "$base/runs"
codes=" "
for number in "${!data[@]}"; do
  code=0
  gradsentry scan --annotate github --sarif "$base/sarif/$number.sarif" --out "$base/runs/$number" ${options[@]+"${options[@]}"} \
    -- "${data[$number]}" || code=$?
  codes+="$code "
done

worst=0
for code in 3 4 2 1; do # nothing scorable, suspects, an error, flagged rows: the last that occurs counts
  if [[ "$codes" == *" $code "* ]]; then worst=$code; fi
done
for code in $codes; do # killed, out of memory, interrupted
  if [ "$code" -gt 4 ]; then worst=$code; fi
done
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  printf 'exit-code=%s\nsarif=%s\nruns=%s\n' "$worst" "$base/sarif" "$base/runs" >>"$GITHUB_OUTPUT"
fi
exit "$worst"
