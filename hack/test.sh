#!/usr/bin/env bash
# Installs what is missing, builds, and runs every check and every test. Needs root.
#   hack/test.sh                 everything
#   hack/test.sh PART...         some of: check unit integration hard-way faults quickstart vm
# The last line says how many passed and failed; a check counts as one test. Exit code 1 when something failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/install-deps.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
all='check unit integration hard-way faults quickstart vm'
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

# Runs tests by vitest: run_vitest PART REPORT PATH...   (PATH: a directory or files)
# In namespaces of their own the tests meet nothing of the host's, and whatever they might leave goes with them.
run_vitest() {
  local part=$1 report=$2 within
  shift 2
  case $part in unit) within='' ;; *) within=hack/in-namespaces ;; esac
  $within vitest run --reporter=default --reporter=json --outputFile.json="$reports/$report.json" "$@"
  echo $? >"$reports/$report.status"
}

# Adds what became of a part. Files with failures have one more run, by themselves: a test that passes then was in the
# way of something else on the machine, and is named; a test that fails twice has failed. Where tests look for what happens
# seldom (hack/test-report.ts says where), a failure stands.
count_vitest() {
  local again counts
  mapfile -t again < <(tsx hack/test-report.ts files "$reports/$1.json")
  if [ ${#again[@]} -gt 0 ] && [ ${#again[@]} -le 10 ]; then
    say "" "== test/$1, once more: ${again[*]}"
    run_vitest "$1" "$1-again" "${again[@]}"
  fi
  counts=$(tsx hack/test-report.ts count "$reports/$1.json" "$(cat "$reports/$1.status" 2>/dev/null)" "$reports/$1-again.json" 2>"$reports/$1.failures")
  counts=${counts:-0 1}
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
}

vitests() {
  say "" "== test/$1"
  run_vitest "$1" "$1" "test/$1/"
}

# The fault matrix mostly waits, for daemons to start and for deadlines to pass: it goes on beside the other parts, and
# is told when its turn comes.
begin_beside() {
  run_vitest "$1" "$1" "test/$1/" >"$reports/$1.log" 2>&1 &
  beside=$!
}
end_beside() {
  say "" "== test/$1"
  wait "$beside"
  beside=
  cat "$reports/$1.log"
}

# The tests in virtual machines, which count themselves. They need an x86-64 machine, and nobody else at work on it.
run_vm() {
  local counts
  say "" '== hack/vm test'
  if [ "$(uname -m)" != x86_64 ]; then
    say "they are not run: the VM is of x86-64, and this machine is $(uname -m)"
    return
  fi
  hack/vm test --results "$reports/vm" 2> >(tee "$reports/vm.failures" >&2) | tee "$reports/vm.log"
  counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$reports/vm.log" | tail -n 1)
  counts=${counts:-0 1}
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
}

case " $parts " in *' faults '*) begin_beside faults ;; esac
for part in $parts; do
  case $part in
    check)
      check biome check
      check tsc --noEmit
      check depcruise src
      ;;
    unit | integration | hard-way) vitests "$part" ;;
    faults) end_beside faults ;;
    quickstart) check bash hack/quickstart.sh ;;
    vm) run_vm ;;
  esac
done
for part in $parts; do
  case $part in unit | integration | hard-way | faults) count_vitest "$part" ;; esac
done

if [ ${#failures[@]} -gt 0 ]; then
  say "" 'failed:'
  printf '  %s\n' "${failures[@]}"
fi
for part in $parts; do
  [ ! -s "$reports/$part.failures" ] || { say "" "test/$part"; cat "$reports/$part.failures"; }
done
say "" "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
