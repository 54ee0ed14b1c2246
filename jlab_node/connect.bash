# jlab-remote: the login node's half of `ssh jlab+ALIAS`. Written by jlab-node; do not edit.
#
#   bash ~/.jlab/connect [--session=NAME] [--columns=N] [--port=N | --taken=N] [--sockets=DIR]
#       find the newest session (of that name), connect to its endpoint, carry bytes
#   bash ~/.jlab/connect --inside=FILE
#       the same for FILE's session alone, on its own node; exit code 69 if that is over
#   bash ~/.jlab/connect ... --relay=FILE
#       carry bytes between stdin, stdout and descriptor 3, which leads to FILE's session
#
# --columns: the laptop has a terminal of that width, so a line about the session is welcome.
# --tagged: status lines begin with [waiting], for `jlab-proxy open`; `jlab-node connect` heeds it.
# --sockets: where on the node its port for JupyterLab leads to.
#
# stdout carries ssh's bytes and nothing else. This is the fast path: a record, a node that answers.
# No Python and no scheduler here; whatever else there is to do or to explain is `jlab-node connect`.
# Options are single words and unknown ones are ignored: the laptop may be newer than this file.

readonly connect_timeout=3 banner_timeout=20 # seconds

relay() { # [BANNER]; ends when either side does
    [[ $1 ]] && printf '%s\n' "$1"
    # Not two cats and `wait -n`, which forgets one that ends just before it.
    {
        local stat
        cat >&3
        IFS=' ' read -ra stat </proc/self/stat # the fourth field: the parent
        [[ ${stat[3]} == "$$" ]] && kill -KILL $$ # else it has ended, and $$ may be somebody else
    } <&0 >/dev/null 2>&1 &
    exec cat <&3 3>&-
}

# Read a record into the variables below; fails unless it is whole and every value fits its pattern,
# as registry/record.py has them.
read_record() { # FILE
    local line key token='' number='^[1-9][0-9]{0,4}$' word='^[A-Za-z0-9][A-Za-z0-9._-]*$'
    local -A seen=()
    format='' name='' scheduler=local job_id=0 cluster='' node='' ssh_port='' nonce=''
    knock='' ends_at='' scheme=http base_url=/ user='' socket_dir=''
    [[ -f $1 && -O $1 ]] || return # where others can write a home, they may plant one
    while IFS= read -r line; do
        key=${line%%=*}
        [[ $line == *=* && ! ${seen["=$key"]} ]] || return
        seen["=$key"]=1
        case $key in
        format | name | scheduler | job_id | cluster | node | ssh_port | nonce | knock | ends_at | \
            scheme | base_url | user | socket_dir | token) [[ ${line#*=} ]] && printf -v "$key" %s "${line#*=}" || return ;;
        esac
    done 2>/dev/null <"$1" || return # it may be gone by now, or no file
    [[ ! $line && $token =~ ^[0-9a-f]{64}$ ]] && # else it was cut short
        [[ $format == 1 && $name =~ ^[a-z0-9][a-z0-9._-]{0,31}$ && $scheduler =~ ^[a-z]{1,16}$ ]] &&
        [[ $job_id =~ ^[A-Za-z0-9][][A-Za-z0-9._]*$ && ${#job_id} -le 64 ]] &&
        [[ $cluster == '' || ($cluster =~ $word && ${#cluster} -le 64) ]] && is_host "$node" &&
        [[ $ssh_port =~ $number && $ssh_port -le 65535 && $nonce =~ ^[0-9a-f]{32}$ ]] &&
        [[ $knock =~ ^([0-9a-f]{32})?$ && $ends_at =~ ^([1-9][0-9]{0,11})?$ ]] &&
        [[ $scheme =~ ^https?$ && $base_url =~ ^/([A-Za-z0-9._~%-]+/)*$ ]] &&
        [[ $socket_dir =~ ^(/[A-Za-z0-9._/-]{1,107})?$ ]]
}

is_host() { # NAME
    local part='[A-Za-z0-9_-]{1,63}'
    [[ $1 == [!_-]* && $1 =~ ^$part(\.$part)*$ && ${#1} -le 253 ]]
}

# Whether this machine belongs to the cluster of the record, which may be another with this home.
is_here() {
    local sites=''
    if [[ $scheduler == local ]]; then
        [[ $node == "$HOSTNAME" ]]
        return
    fi
    read -r sites 2>/dev/null <"$directory/sites/$HOSTNAME"
    [[ " $sites " == *" $scheduler:$cluster "* ]]
}

# Open descriptor 3 to the endpoint, if it is this session's: its first line proves it, and ours that
# we are the owner. What is still to be passed on is in `banner` then. Fails with 1 if nothing
# listens, with 2 if that is another program, with 3 if it says nothing.
open_endpoint() { # HOST PORT NONCE KNOCK
    local watchdog greeting status began=$SECONDS
    trap : USR1 # interrupts connect(2), which would otherwise wait for minutes
    # A read that never gets anything: unlike sleep, it is no process of its own to leave behind.
    # More than once: the first may come while the name is still being looked up.
    (until read -r -t "$connect_timeout" <> <(:); do kill -USR1 $$ || exit; done) \
        </dev/null >/dev/null 2>&1 &
    watchdog=$!
    { exec 3<>"/dev/tcp/$1/$2"; } 2>/dev/null
    status=$?
    # TCP_NODELAY, where there is a perl to ask for it: otherwise small packets wait for 40 ms.
    ((status)) || (perl -e 'setsockopt STDIN, 6, 1, 1' <&3 >/dev/null 2>&1 &)
    ((status)) || IFS= read -r -t "$connect_timeout" -n 64 -u 3 greeting
    # One that has just been forked has bash's handlers still, and would forget a SIGTERM.
    { kill -KILL "$watchdog"; wait "$watchdog"; } 2>/dev/null
    trap - USR1
    silent=$((status && SECONDS - began >= connect_timeout))
    ((status)) && return $((silent ? 3 : 1))
    [[ $greeting ]] || return 3
    [[ $greeting == "jlab $3"$'\r' ]] || return 2
    [[ -z $4 ]] || printf 'jlab %s\r\n' "$4" >&3
    IFS= read -r -t "$banner_timeout" -n 256 -u 3 banner && [[ $banner == SSH-* ]] || return 3
}

# What a step in the job or an ssh to the node runs, where the login node cannot connect itself.
enter() { # FILE
    local why code=1
    # shellcheck disable=SC2217 # what is called ls here may be a wrapper, and stdin is ssh's
    ls "$directory/sessions" >/dev/null 2>&1 </dev/null # makes NFS look again
    read_record "$directory/sessions/${1##*/}" || {
        echo "the session's record cannot be read on $HOSTNAME" >&2
        exit 1
    }
    open_endpoint 127.0.0.1 "$ssh_port" "$nonce" "$knock"
    case $? in
    0) relay "$banner" ;;
    1) why="nothing listens on port $ssh_port of $HOSTNAME" code=69 ;;
    2) why="port $ssh_port of $HOSTNAME belongs to another program" code=69 ;;
    *) why="port $ssh_port of $HOSTNAME does not answer" ;;
    esac
    [[ $banner == 'jlab-node: '* ]] && banner=${banner#jlab-node: } why=${banner%$'\r'}
    echo "$why" >&2
    exit "$code"
}

# One line for a person: session, node, time left, where to look.
announce() {
    local left='' url='' where=$node
    if [[ $ends_at ]]; then
        printf -v left '%(%s)T' -1
        left=$((ends_at > left ? (ends_at - left) / 60 : 0))
        left=", $((left / 60)) h $((left % 60)) min left"
    fi
    [[ $port ]] && url=", JupyterLab at $scheme://127.0.0.1:$port$base_url"
    [[ $taken ]] && url=" (127.0.0.1:$taken is taken already, perhaps by another ssh to it)"
    [[ $opened ]] && url=" (jlab-proxy open has 127.0.0.1:$taken, for another session)"
    [[ $opened == "$scheduler-$job_id-$name" ]] &&
        url=", JupyterLab at $scheme://127.0.0.1:$taken$base_url by jlab-proxy open (to log in: jlab-proxy url)"
    : "${sockets:=/tmp/jlab-${user//[!A-Za-z0-9._-]/_}}"
    [[ ! $url || $opened || ${socket_dir:-$sockets} == "$sockets" ]] ||
        url=' (JupyterLab is not where your computer looks for it: there, type jlab-proxy setup ALIAS)'
    [[ $scheduler == local ]] || where+=", $scheduler job $job_id"
    echo "jlab-node: session $name on $where$left$url" >&2
}

main() {
    local LC_ALL=C IFS=$'\n' argument session='' port='' taken='' columns='' established='' files
    local inside='' sockets='' opened='' user socket_dir
    local file host directory=${BASH_SOURCE[0]%/*} silent=0 banner=''
    local format name scheduler job_id cluster node ssh_port nonce knock
    local ends_at scheme base_url
    for argument; do
        case $argument in
        --session=*) session=${argument#*=} ;;
        --port=*) port=${argument#*=} ;;
        --taken=*) taken=${argument#*=} ;;
        --opened=*) opened=${argument#*=} ;;
        --columns=*) columns=${argument#*=} ;;
        --relay=*) established=${argument#*=} ;;
        --inside=*) inside=${argument#*=} ;;
        --sockets=*) sockets=${argument#*=} ;;
        esac
    done
    if [[ $established ]]; then
        [[ $columns ]] && read_record "$directory/sessions/${established##*/}" && announce
        relay
    fi
    [[ $inside ]] && enter "$inside"
    set -f # and split by $IFS, not by mapfile: that takes a byte at a time from a pipe
    # shellcheck disable=SC2207,SC2217
    files=($(ls -t "$directory/sessions" 2>/dev/null </dev/null))
    for file in "${files[@]}"; do
        [[ $file == *-"$session"* ]] || continue
        read_record "$directory/sessions/$file" || break
        [[ -z $session || $name == "$session" ]] || continue
        is_here || continue
        host=$node
        [[ $scheduler == local ]] && host=127.0.0.1
        open_endpoint "$host" "$ssh_port" "$nonce" "$knock" || break
        [[ $columns ]] && announce
        relay "$banner"
    done
    exec 3>&-
    ((silent)) && set -- "$@" "--tried=$file"
    exec sh "$directory/jlab-node" connect "$@"
}

main "$@"
