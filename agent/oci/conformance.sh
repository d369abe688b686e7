#!/bin/bash
# Runs a suite of others against an OCI runtime and prints a table: `make conformance SUITE=dir`.
#
#   conformance.sh SUITE RUNTIME [OUT] [BOARDS]
#
# SUITE is a checkout of opencontainers/runtime-tools (built with go 1.21 or newer, GO=path) or of youki (its `contest`,
# built with cargo). RUNTIME is an absolute path. What each program says is kept in OUT. With BOARDS, the program
# coracle-boards, what is about another layout of cgroups than this machine's runs in virtual boards too. Needs root.
set -euo pipefail

# A program of runtime-tools in the suite's folder. It is passed when it ends with 0 and says no "not ok". Counts in passed and all.
runtime_tools_program() {
  local program=$1 runtime=$2 out=$3 name code=0 verdict=FAIL
  name=$(basename "$program" .t)
  RUNTIME=$runtime timeout 120 "$program" > "$out/$name.out" 2> "$out/$name.err" || code=$?
  if [ $code = 0 ] && ! grep -q '^not ok' "$out/$name.out"; then verdict=pass; passed=$((passed + 1)); fi
  all=$((all + 1))
  printf '%-4s %-34s ok %-4s not ok %s\n' $verdict "$name" \
    "$(grep -c '^ok ' "$out/$name.out" || true)" "$(grep -c '^not ok' "$out/$name.out" || true)"
}

# Groups of contest, a process for each, since a panic ends the run.
contest_groups() {
  local contest=$1 inside=$2 runtime=$3 out=$4 group ok=0 bad=0 skipped=0 o n s
  shift 4
  # Some groups are for all runtimes but youki, or but runc.
  RUNTIME_KIND=$(basename "$runtime")
  export RUNTIME_KIND
  for group; do
    timeout 180 "$contest" run --runtime "$runtime" --runtimetest "$inside" -t "$group" \
      > "$out/$group.out" 2> "$out/$group.err" || true
    o=$(grep -cE ': ok$' "$out/$group.out" || true)
    n=$(grep -cE ': not ok' "$out/$group.out" || true)
    s=$(grep -cE 'skipped' "$out/$group.out" || true)
    grep -q '^# End group' "$out/$group.out" || n="$n, did not end"
    printf '%-34s ok %-3s skipped %-3s not ok %s\n' "$group" "$o" "$s" "$n"
    ok=$((ok + o)) bad=$((bad + ${n%%,*})) skipped=$((skipped + s))
  done
  echo "$ok ok, $bad not ok, $skipped skipped"
}

# What `run` does on a board, whose folder /suite has all of it. Distributions have these links on v1.
on_board() {
  cd /suite
  mkdir out
  local suite=$1 runtime=/suite/$2 controllers controller passed=0 all=0 program
  shift 2
  for controllers in cpu,cpuacct net_cls,net_prio; do
    [ -d "/sys/fs/cgroup/$controllers" ] || continue
    for controller in ${controllers/,/ }; do ln -s "$controllers" "/sys/fs/cgroup/$controller"; done
  done
  if [ "$suite" = contest ]; then
    contest_groups /suite/contest /suite/runtimetest "$runtime" out "$@"
  else
    for program; do runtime_tools_program "/suite/$program.t" "$runtime" out; done
    echo "$passed of $all pass"
  fi
}
if [ "${1-}" = --on-board ]; then
  shift
  # Lines that begin so are for whoever booted it.
  on_board "$@" 2>&1 | sed -u 's/^/suite: /'
  exit
fi

# What is mounted for the suites is for them alone.
[ "${1-}" = --inside ] || exec unshare --mount --propagation slave "$0" --inside "$@"
shift

me=$(realpath "$0") suite=$(realpath "$1") runtime=$2 out=${3:-$(mktemp -d)} boards=${4-}
out=$(realpath -m "$out")
mkdir -p "$out"

# Where a kernel has hugetlb in v1, and root all capabilities.
V1_PROGRAMS=(linux_cgroups_hugetlb linux_cgroups_relative_hugetlb process_capabilities)
V2_GROUPS=(cgroup_v2_cpu update exec exec_cpu_affinity process_capabilities)

# board LAYOUT SUITE FILES -- WHAT: boots one with FILES, and runs WHAT of the suite there.
board() {
  local layout=$1 name=$2 folder=$out/board-$1
  shift 2
  [ -n "$boards" ] || return 0
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$runtime" "$folder"
  cp "$me" "$folder/conformance.sh"
  while [ "$1" != -- ]; do cp "$1" "$folder"; shift; done
  shift
  printf '#!/bin/sh\nexec /suite/conformance.sh --on-board %s %s %s\n' "$name" "$(basename "$runtime")" "$*" > "$folder/run"
  chmod +x "$folder/run"
  printf '\nin a virtual board with cgroup %s:\n' "$layout"
  "$boards" suite "$layout" "$folder"
  echo "what they said is in $folder/out"
}
# A container must not find descriptors of this shell's caller (contest, fd_control).
for fd in /proc/self/fd/*; do
  n=${fd##*/}
  [ "$n" -le 2 ] || [ "$n" = 255 ] || eval "exec $n>&-" 2>/dev/null || true
done

# Controllers of v1 that the kernel has and nobody has mounted: runtime-tools wants them under their names.
own_hierarchies() {
  local controllers=() controller old cgroups
  for controller in net_cls net_prio; do
    if grep -qP "^$controller\t.*\t1$" /proc/cgroups && ! grep -qE " - cgroup .*[ ,]$controller(,|$)" /proc/self/mountinfo; then
      controllers+=("$controller")
    fi
  done
  if [ ${#controllers[@]} = 0 ] || [ "$(stat -f -c %T /sys/fs/cgroup)" != tmpfs ]; then return; fi
  cgroups=$(mktemp -d)
  mount -t tmpfs cgroups "$cgroups"
  for old in /sys/fs/cgroup/*; do
    mkdir "$cgroups/${old##*/}"
    mount --bind "$old" "$cgroups/${old##*/}"
  done
  for controller in "${controllers[@]}"; do
    mkdir "$cgroups/$controller"
    mount -t cgroup -o "$controller" cgroup "$cgroups/$controller" || rmdir "$cgroups/$controller"
  done
  mount --rbind "$cgroups" /sys/fs/cgroup
  umount --lazy --recursive "$cgroups"
  rmdir "$cgroups"
  # A hierarchy that is left while a group of it is still going stays in the kernel.
  # shellcheck disable=SC2064
  trap "leave_hierarchies ${controllers[*]}" EXIT
}

leave_hierarchies() {
  local controller
  for controller; do
    for _ in {1..50}; do
      if grep -qP "^$controller\t[0-9]+\t1\t" /proc/cgroups; then break; fi
      sleep 0.2
    done
    umount "/sys/fs/cgroup/$controller" || true
  done
}

runtime_tools() {
  cd "$suite"
  export GOFLAGS=-mod=vendor GOTOOLCHAIN=local
  local go=${GO:-go} source program passed=0 all=0 name elsewhere=()
  own_hierarchies
  [ -x runtimetest ] || CGO_ENABLED=0 "$go" build -tags "netgo osusergo" -o runtimetest ./cmd/runtimetest
  while read -r source; do
    program=${source%.go}.t
    [ -x "$program" ] || "$go" build -o "$program" "./$source"
    runtime_tools_program "$program" "$runtime" "$out"
  done < <(find validation -name '*.go' | grep -v util | sort)
  echo "$passed of $all pass; what they said is in $out"
  for name in "${V1_PROGRAMS[@]}"; do elsewhere+=("validation/$name/$name.t"); done
  board v1 runtime-tools runtimetest rootfs-*.tar.gz "${elsewhere[@]}" -- "${V1_PROGRAMS[@]}"
}

contest() {
  cd "$suite"
  # runtimetest is linked statically, because it runs inside a busybox image; the target is named so that build scripts are
  # not. contest would not survive that. Both are built each time, since one alone lacks features of the other's crates.
  local target=${CARGO_TARGET_DIR:-$suite/target}/conformance host contest inside groups
  export RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-stable}
  host=$(rustc -vV | sed -n 's/^host: //p')
  cd tests/contest
  CARGO_TARGET_DIR=$target cargo build --quiet --release -p contest -p runtimetest
  RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$target/static \
    cargo build --quiet --release -p contest -p runtimetest --target "$host"
  cd "$suite"
  contest=$target/release/contest inside=$target/static/$host/release/runtimetest
  cp -n tests/contest/contest/bundle.tar.gz . || true
  groups=$(grep -rhoE 'TestGroup::new\("[^"]+"|TestGroup::new\($' tests/contest/contest/src -A1 | grep -oE '"[^"]+"' | tr -d '"' | sort -u)
  # shellcheck disable=SC2086
  contest_groups "$contest" "$inside" "$runtime" "$out" lifecycle create $groups
  echo "what they said is in $out"
  board v2 contest "$contest" "$inside" bundle.tar.gz -- "${V2_GROUPS[@]}"
}

if [ -d "$suite/validation" ]; then
  runtime_tools
elif [ -d "$suite/tests/contest" ]; then
  contest
else
  echo "$suite is neither runtime-tools nor youki" >&2
  exit 1
fi
