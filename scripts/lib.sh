# Shared by the scripts beside it; sourced, never run. Bash 4.4 or newer, no tool but the daemons themselves.
#
# The scripts start Redis, nsqd and nsqlookupd of their own: on free ports of 127.0.0.1, with their data in a
# folder the caller names, remembered by pid. Whatever else runs on the machine (a system Redis on 6379, say) is
# neither used nor touched, and stop_all ends nothing that wasn't started here.
# shellcheck shell=bash

KS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KS_CACHE=$KS_ROOT/.cache
KS_NSQ_VERSION=1.3.0
KS_STARTED_AT=$SECONDS

# --- words ---------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
    warn "${0##*/}: $*"
    exit 1
}
# stage TEXT: a heading with the seconds since the script began.
KS_STAGES=()
stage() {
    printf '\n== [%4ds] %s\n' "$((SECONDS - KS_STARTED_AT))" "$*"
    KS_STAGES+=("$SECONDS $*")
}
# stage_times: how long each stage took.
stage_times() {
    local at next begun
    for ((at = 0; at + 1 < ${#KS_STAGES[@]}; at++)); do
        begun=${KS_STAGES[at]%% *}
        next=${KS_STAGES[at + 1]%% *}
        printf '%5ds  %s\n' "$((next - begun))" "${KS_STAGES[at]#* }"
    done
}
have() { command -v "$1" >/dev/null 2>&1; }
# usage: prints the comment at the top of the calling script, which is its help.
usage() { sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p;}' "$0"; }
wrong_use() {
    warn "${0##*/}: $*; see --help"
    exit 2
}

# --- waiting -------------------------------------------------------------------------------------------------

# wait_until SECONDS WHAT COMMAND...: tries the command every 50 ms until it succeeds; fails, saying WHAT, when
# the time is over.
wait_until() {
    local limit=$1 what=$2
    shift 2
    local deadline=$((SECONDS + limit))
    until "$@"; do
        if ((SECONDS >= deadline)); then
            warn "waited $limit s in vain for: $what"
            return 1
        fi
        sleep 0.05
    done
}

# port_open PORT: something accepts connections there.
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# http_ok PORT PATH: GET answers 200.
http_ok() {
    local status
    status=$(
        exec 2>/dev/null
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
        read -r -t 2 line <&3 && printf '%s' "$line"
    ) || return 1
    [[ $status == HTTP/1.?\ 200* ]]
}

# redis_ok PORT: PING answers PONG (not while it still loads its file).
redis_ok() {
    local answer
    answer=$(
        exec 2>/dev/null
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'PING\r\n' >&3
        read -r -t 2 line <&3 && printf '%s' "$line"
    ) || return 1
    [[ $answer == +PONG* ]]
}

# --- free ports ----------------------------------------------------------------------------------------------

declare -A KS_PORTS_GIVEN=()
# free_port VARIABLE: sets it to a port nobody listens on and this script hasn't handed out. Below the range the
# kernel takes for outgoing connections (32768 and up), so that none of those sits on it when a daemon restarts.
free_port() {
    local port _
    for _ in {1..200}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if [[ -z ${KS_PORTS_GIVEN[$port]:-} ]] && ! port_open "$port"; then
            KS_PORTS_GIVEN[$port]=1
            printf -v "$1" '%s' "$port"
            return 0
        fi
    done
    die "found no free port between 20000 and 32000"
}

# --- what must be there --------------------------------------------------------------------------------------

# as_root COMMAND...: runs it as root, if there is a way to without a question asked.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        return 1
    fi
}

# may_install WHAT: fails when KS_NO_INSTALL says that nothing is to be installed, built or downloaded.
may_install() {
    [[ -n ${KS_NO_INSTALL:-} ]] || return 0
    warn "$1: missing, and not installed because of --no-install"
    return 1
}

# apt_get PACKAGE...: installs with Debian's and Ubuntu's package manager; fails if there is none, or no right to.
KS_APT_UPDATED=
apt_get() {
    may_install "$*" || return 1
    have apt-get || return 1
    [[ $(id -u) == 0 ]] || have sudo || return 1
    if [[ -z $KS_APT_UPDATED ]]; then
        say "apt-get update"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q -o DPkg::Lock::Timeout=120 </dev/null >&2 ||
            warn "apt-get update failed; trying with the lists as they are"
        KS_APT_UPDATED=1
    fi
    say "apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2
}

# ensure_redis: finds redis-server or installs it; sets and exports KEEPSTEP_REDIS_BIN.
ensure_redis() {
    if [[ -z ${KEEPSTEP_REDIS_BIN:-} ]]; then
        if ! have redis-server && ! { apt_get redis-server && have redis-server; }; then
            die "redis-server (7 or newer) is missing and couldn't be installed. Install it with your system's
package manager (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install redis; macOS: brew install redis),
or set KEEPSTEP_REDIS_BIN to the program."
        fi
        KEEPSTEP_REDIS_BIN=$(command -v redis-server)
    fi
    [[ -x $KEEPSTEP_REDIS_BIN ]] || die "KEEPSTEP_REDIS_BIN=$KEEPSTEP_REDIS_BIN can't be run"
    local version
    version=$("$KEEPSTEP_REDIS_BIN" --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
    if [[ ! $version =~ ^([0-9]+)\. ]] || ((BASH_REMATCH[1] < 7)); then
        die "$KEEPSTEP_REDIS_BIN is version ${version:-unknown}; Keepstep needs Redis 7 or newer"
    fi
    export KEEPSTEP_REDIS_BIN
    say "redis-server $version: $KEEPSTEP_REDIS_BIN"
}

# ensure_faketime: finds libfaketime or installs it: tests set the clock of a Redis and of an edge by it, and of nothing else.
# Sets and exports KEEPSTEP_FAKETIME.
ensure_faketime() {
    local found=${KEEPSTEP_FAKETIME:-}
    [[ -n $found ]] || found=$(find_faketime)
    if [[ -z $found ]]; then
        apt_get libfaketime || true
        found=$(find_faketime)
    fi
    [[ -n $found && -e $found ]] || die "libfaketime is missing and couldn't be installed. Install it with your system's package
manager (Debian, Ubuntu: apt-get install libfaketime; Fedora: dnf install libfaketime), or set KEEPSTEP_FAKETIME to its
libfaketimeMT.so.1. scripts/test --embedded does without."
    KEEPSTEP_FAKETIME=$found
    export KEEPSTEP_FAKETIME
    say "libfaketime: $KEEPSTEP_FAKETIME"
}

# find_faketime: prints where it is, if it is.
find_faketime() {
    local candidate
    for candidate in /usr/lib/*/faketime /usr/lib/faketime /usr/lib64/faketime /usr/local/lib/faketime; do
        if [[ -e $candidate/libfaketimeMT.so.1 ]]; then
            printf '%s' "$candidate/libfaketimeMT.so.1"
            return 0
        fi
    done
}

# find_nsq NAME: prints where that daemon is: our own build, else one in PATH of the version we know.
find_nsq() {
    local candidate
    for candidate in "$KS_CACHE/bin/$1" "$(command -v "$1" || true)"; do
        if [[ -x $candidate && $("$candidate" --version 2>/dev/null) == *"v$KS_NSQ_VERSION "* ]]; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

# ensure_nsq: finds nsqd and nsqlookupd or builds them with Go into .cache/bin; sets and exports
# KEEPSTEP_NSQD_BIN and KEEPSTEP_NSQLOOKUPD_BIN.
ensure_nsq() {
    if [[ -z ${KEEPSTEP_NSQD_BIN:-} || -z ${KEEPSTEP_NSQLOOKUPD_BIN:-} ]]; then
        if ! find_nsq nsqd >/dev/null || ! find_nsq nsqlookupd >/dev/null; then
            build_nsq
        fi
        : "${KEEPSTEP_NSQD_BIN:=$(find_nsq nsqd)}"
        : "${KEEPSTEP_NSQLOOKUPD_BIN:=$(find_nsq nsqlookupd)}"
    fi
    [[ -x $KEEPSTEP_NSQD_BIN ]] || die "KEEPSTEP_NSQD_BIN=$KEEPSTEP_NSQD_BIN can't be run"
    [[ -x $KEEPSTEP_NSQLOOKUPD_BIN ]] || die "KEEPSTEP_NSQLOOKUPD_BIN=$KEEPSTEP_NSQLOOKUPD_BIN can't be run"
    export KEEPSTEP_NSQD_BIN KEEPSTEP_NSQLOOKUPD_BIN
    say "$("$KEEPSTEP_NSQD_BIN" --version): $KEEPSTEP_NSQD_BIN"
    say "$("$KEEPSTEP_NSQLOOKUPD_BIN" --version): $KEEPSTEP_NSQLOOKUPD_BIN"
}

# build_nsq: nsqd, nsqlookupd and nsqadmin from nsq/tools into .cache/bin, each in one step (mv), so that a build
# that was cut off leaves nothing half.
build_nsq() {
    local go=go tmp
    if ! have go && [[ -x /usr/local/go/bin/go ]]; then
        go=/usr/local/go/bin/go
    fi
    may_install "nsqd and nsqlookupd $KS_NSQ_VERSION" || die "scripts/setup builds them"
    have "$go" || die "nsqd and nsqlookupd $KS_NSQ_VERSION aren't there, and neither is Go to build them. Install Go 1.24
or newer (go.dev/doc/install; on macOS: brew install go), or set KEEPSTEP_NSQD_BIN and KEEPSTEP_NSQLOOKUPD_BIN to
the programs of NSQ's own release (nsq.io)."
    say "building nsqd, nsqlookupd and nsqadmin $KS_NSQ_VERSION with $("$go" version) ..."
    mkdir -p "$KS_CACHE/bin"
    tmp=$(mktemp -d "$KS_CACHE/bin/build.XXXXXX")
    if ! (cd "$KS_ROOT/nsq/tools" && "$go" build -mod=readonly -buildvcs=false -o "$tmp" tool </dev/null); then
        rm -rf "$tmp"
        die "Go couldn't build NSQ $KS_NSQ_VERSION (its words are above). It needs Go 1.24 or newer and its module proxy."
    fi
    mv -f "$tmp"/* "$KS_CACHE/bin/"
    rmdir "$tmp"
}

# ensure_haproxy: finds haproxy or installs it; sets and exports KEEPSTEP_HAPROXY_BIN.
ensure_haproxy() {
    local found=${KEEPSTEP_HAPROXY_BIN:-}
    if [[ -z $found ]]; then
        # Debian puts it where only root looks.
        found=$(command -v haproxy || { [[ -x /usr/sbin/haproxy ]] && echo /usr/sbin/haproxy; } || true)
        if [[ -z $found ]]; then
            apt_get haproxy || true
            found=$(command -v haproxy || { [[ -x /usr/sbin/haproxy ]] && echo /usr/sbin/haproxy; } || true)
        fi
    fi
    [[ -n $found && -x $found ]] || die "haproxy is missing and couldn't be installed. Install it with your system's package
manager, or set KEEPSTEP_HAPROXY_BIN to the program."
    KEEPSTEP_HAPROXY_BIN=$found
    export KEEPSTEP_HAPROXY_BIN
    say "$("$found" -v | head -n 1): $found"
}

# ensure_node: Node 20.12 or newer with npm; nothing installs it, because the system's may be too old.
ensure_node() {
    local version
    version=$(node --version 2>/dev/null || true)
    if [[ ! $version =~ ^v([0-9]+)\.([0-9]+)\. ]] || ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] < 2012)) || ! have npm; then
        die "Node 20.12 or newer with npm is missing (found: ${version:-none}): install it from nodejs.org or your system's
package manager. scripts/test --embedded does without."
    fi
    say "node $version: $(command -v node)"
}

# ensure_npm_packages FOLDER: what its package-lock.json names, exactly; again only when that has changed.
ensure_npm_packages() {
    local folder=$1 stamp=$1/node_modules/.installed-lock.json
    cmp -s "$folder/package-lock.json" "$stamp" 2>/dev/null && return 0
    may_install "npm packages of ${folder#"$KS_ROOT"/}" || die "scripts/setup gets them"
    say "npm ci in ${folder#"$KS_ROOT"/}"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2) ||
        die "npm ci failed in $folder: is the package registry reachable?"
    cp "$folder/package-lock.json" "$stamp"
}

# ensure_chromium: finds a Chromium or installs it; sets and exports KEEPSTEP_CHROMIUM.
ensure_chromium() {
    local name found=${KEEPSTEP_CHROMIUM:-}
    for name in chromium chromium-browser google-chrome; do
        [[ -n $found ]] || found=$(command -v "$name" || true)
    done
    if [[ -z $found ]]; then
        apt_get chromium fonts-dejavu-core || true
        found=$(command -v chromium || true)
    fi
    [[ -n $found && -x $found ]] || die "chromium is missing and couldn't be installed. Install it with your system's package
manager, or set KEEPSTEP_CHROMIUM to the program."
    KEEPSTEP_CHROMIUM=$found
    export KEEPSTEP_CHROMIUM
    say "$("$found" --version --no-sandbox 2>/dev/null | head -n 1): $found"
}

# ensure_examples: what the quick start's clients run with: Node 20.12 or newer, and Python with the package websockets, which goes
# into .cache/python if it is missing. Puts that in front of PATH.
ensure_examples() {
    [[ ! -x $KS_CACHE/python/bin/python3 ]] || PATH=$KS_CACHE/python/bin:$PATH
    if ! python3 -c 'import websockets.sync.client' 2>/dev/null; then
        may_install "the Python package websockets" || die "scripts/setup gets it"
        # Debian's python3 comes without what makes an environment.
        python3 -c 'import ensurepip' 2>/dev/null || apt_get python3 python3-venv || true
        { python3 -m venv "$KS_CACHE/python" && "$KS_CACHE/python/bin/python3" -m pip install -q 'websockets>=13' >&2; } ||
            die "Python 3 with the package websockets is needed for the quick start's Python, and couldn't be installed. Install both
(pip install websockets; on Debian and Ubuntu also: apt-get install python3-venv)."
        PATH=$KS_CACHE/python/bin:$PATH
    fi
    export PATH
    say "node $(node --version), $(python3 --version) with websockets"
}

# --- processes -----------------------------------------------------------------------------------------------

KS_PIDS=()
KS_NAMES=()
KS_LOGS=()

# start NAME LOG COMMAND...: starts it in the background, its output to LOG; sets STARTED_PID. In a session of
# its own where that can be had, so that ctrl-C reaches this script alone and the order of stopping is ours.
start() {
    local name=$1 log=$2
    shift 2
    if have setsid; then
        setsid "$@" >>"$log" 2>&1 </dev/null &
    else
        "$@" >>"$log" 2>&1 </dev/null &
    fi
    STARTED_PID=$!
    KS_PIDS+=("$STARTED_PID")
    KS_NAMES+=("$name")
    KS_LOGS+=("$log")
}

alive() { kill -0 "$1" 2>/dev/null; }
# ready_or_dead PID CHECK...: true when the check succeeds, and when there is no use in waiting for it.
ready_or_dead() {
    local pid=$1
    shift
    ! alive "$pid" || "$@"
}

# await_start SECONDS CHECK...: waits until what was started last is ready. 1 if it ended instead or the time is over.
await_start() {
    local limit=$1 last=$((${#KS_PIDS[@]} - 1))
    shift
    wait_until "$limit" "${KS_NAMES[last]} to be ready" ready_or_dead "${KS_PIDS[last]}" "$@" && alive "${KS_PIDS[last]}" && return 0
    warn "${KS_NAMES[last]} didn't start; the end of ${KS_LOGS[last]}:"
    tail -n 20 "${KS_LOGS[last]}" >&2 || true
    return 1
}

# start_redis NAME FOLDER PORT
start_redis() {
    mkdir -p "$2"
    # notify-keyspace-events stays as Redis has it: Keepstep must switch it on by itself.
    start "$1" "$2/redis.log" "$KEEPSTEP_REDIS_BIN" --port "$3" --bind 127.0.0.1 --dir "$2" --daemonize no \
        --appendonly yes --appendfsync always --save '' --maxmemory-policy noeviction
    await_start 30 redis_ok "$3"
}

# start_nsqlookupd NAME FOLDER TCP_PORT HTTP_PORT
start_nsqlookupd() {
    mkdir -p "$2"
    start "$1" "$2/nsqlookupd.log" "$KEEPSTEP_NSQLOOKUPD_BIN" --config="$KS_ROOT/nsq/conf/nsqlookupd.cfg" \
        --broadcast-address=127.0.0.1 --tcp-address="127.0.0.1:$3" --http-address="127.0.0.1:$4"
    await_start 15 http_ok "$4" /ping
}

# start_nsqd NAME FOLDER TCP_PORT HTTP_PORT NODE_ID LOOKUPD_TCP_PORT
start_nsqd() {
    mkdir -p "$2"
    start "$1" "$2/nsqd.log" "$KEEPSTEP_NSQD_BIN" --config="$KS_ROOT/nsq/conf/nsqd.cfg" --data-path="$2" --node-id="$5" \
        --broadcast-address=127.0.0.1 --tcp-address="127.0.0.1:$3" --http-address="127.0.0.1:$4" \
        --lookupd-tcp-address="127.0.0.1:$6"
    await_start 60 http_ok "$4" /ping
}

# stop_pid PID NAME SECONDS: SIGTERM, then SIGKILL when the time is over.
stop_pid() {
    alive "$1" || return 0
    kill -TERM "$1" 2>/dev/null || true
    # One that was frozen can't hear the TERM.
    kill -CONT "$1" 2>/dev/null || true
    local deadline=$((SECONDS + $3))
    while alive "$1"; do
        if ((SECONDS >= deadline)); then
            warn "$2 (pid $1) didn't stop within $3 s: killed"
            kill -KILL "$1" 2>/dev/null || true
            break
        fi
        sleep 0.05
    done
    wait "$1" 2>/dev/null || true
}

# stop_all [SECONDS]: everything `start` started, the last one first.
stop_all() {
    local i
    for ((i = ${#KS_PIDS[@]} - 1; i >= 0; i--)); do
        stop_pid "${KS_PIDS[i]}" "${KS_NAMES[i]}" "${1:-30}"
    done
    KS_PIDS=()
    KS_NAMES=()
    KS_LOGS=()
}

# temp_dir PREFIX: makes a folder below TMPDIR and prints it.
temp_dir() { mktemp -d "${TMPDIR:-/tmp}/$1.XXXXXX"; }

# planted_test NAME [CARGO-ARGS...]: writes a copy of the sources in which bugs can be planted (tests/planted), builds its test
# NAME with the simulation's features, and prints the path of the program. The server in target/debug stays the one that was
# built before: cargo would put the copy's there.
planted_test() {
    local name=$1 target=${CARGO_TARGET_DIR:-$KS_ROOT/target} path
    local server=$target/debug/keepstep
    shift
    mkdir -p "$target"
    {
        rustc --edition 2024 -o "$target/planter" "$KS_ROOT/tests/planted/main.rs" &&
            "$target/planter" --root "$KS_ROOT" --into "$target/planted"
    } >&2 || return 1
    [[ ! -f $server ]] || ln -f "$server" "$server.built"
    path=$(cd "$target/planted" && CARGO_TARGET_DIR=$target cargo test --locked "$@" --features simulation --test "$name" --no-run \
        --message-format=json | sed -n "s/.*\"executable\":\"\([^\"]*\/$name-[^\"]*\)\".*/\1/p" | tail -n 1) || true
    # (Two names of one file: mv would leave both.)
    if [[ $server.built -ef $server ]]; then rm -f "$server.built"; elif [[ -f $server.built ]]; then mv -f "$server.built" "$server"; fi
    say "$path"
}
