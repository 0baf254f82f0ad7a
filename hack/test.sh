#!/usr/bin/env bash
# Installs what is missing, builds, and runs every check and every test. Needs root.
#   hack/test.sh                 everything
#   hack/test.sh PART...         some of: check unit integration hard-way faults quickstart
# The last line says how many passed and failed; a check counts as one test. Exit code 1 when something failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/install-deps.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
all='check unit integration hard-way faults quickstart'
parts=${*:-$all}
for part in $parts; do
  case " $all " in *" $part "*) ;; *) die "there is no part $part; there are: $all" ;; esac
done
[ "$(id -u)" = 0 ] || die 'the tests make network namespaces and mounts: run them as root'

install_deps test
build

passed=0
failed=0
failures=()
reports=$(mktemp -d)
beside=
trap '[ -z "$beside" ] || kill "$beside"; rm -rf "$reports"' EXIT

# Runs a command as one test.
check() {
  say "" "== $*"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failures+=("$*")
  fi
}

# Runs a directory of tests by vitest, by a command if one is given: run_vitest NAME [COMMAND...]
run_vitest() {
  name=$1
  shift
  "$@" vitest run --reporter=default --reporter=json --outputFile.json="$reports/$name.json" "test/$name/"
  echo $? >"$reports/$name.status"
}

# Adds what became of it. What failed outside of a test (a file that does not load, a run that was killed) counts as one.
count_vitest() {
  counts=$(node -e '
    const [file, status] = process.argv.slice(1);
    let report = { numPassedTests: 0, numFailedTests: 0, testResults: [] };
    try { report = JSON.parse(require("fs").readFileSync(file, "utf8")); } catch {}
    const broken = report.testResults.filter(t => t.status === "failed" && !t.assertionResults.some(a => a.status === "failed"));
    const failed = report.numFailedTests + broken.length;
    console.log(report.numPassedTests, status !== "0" && failed === 0 ? 1 : failed);
  ' "$reports/$1.json" "$(cat "$reports/$1.status" 2>/dev/null)")
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  [ "${counts#* }" = 0 ] || failures+=("test/$1: ${counts#* } failed")
}

vitests() {
  say "" "== test/$1"
  run_vitest "$@"
  count_vitest "$1"
}

# The fault matrix mostly waits, for daemons to start and for deadlines to pass: it goes on beside the other parts, and
# is told when its turn comes.
begin_beside() {
  run_vitest "$1" hack/in-namespaces >"$reports/$1.log" 2>&1 &
  beside=$!
}
end_beside() {
  say "" "== test/$1"
  wait "$beside"
  beside=
  cat "$reports/$1.log"
  count_vitest "$1"
}

case " $parts " in *' faults '*) begin_beside faults ;; esac
for part in $parts; do
  case $part in
    check)
      check biome check
      check tsc --noEmit
      check depcruise src
      ;;
    unit) vitests unit ;;
    # In namespaces of their own they meet nothing of the host's, and whatever they might leave goes with them.
    integration | hard-way) vitests "$part" hack/in-namespaces ;;
    faults) end_beside faults ;;
    quickstart) check bash hack/quickstart.sh ;;
  esac
done

if [ ${#failures[@]} -gt 0 ]; then
  say "" 'failed:'
  printf '  %s\n' "${failures[@]}"
fi
say "" "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
