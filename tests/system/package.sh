#!/usr/bin/env bash
# Tests the installed Debian package in a throw-away root: what it brings, with which modes; that its configuration
# can be checked and edited; that an upgrade keeps configuration and state, that removing keeps both and purging
# neither; that manual pages and completions are understood.
#
#   tests/system/package.sh [DEB]   default: a package of the program in the target folder
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly program=package
# shellcheck source=tests/system/root.sh
. tests/system/root.sh
own_mounts "$@"

work=$(mktemp -d)
trap 'umount "$work/root" "$work/layer" 2> /dev/null || true; remove_groups; rm -rf "$work"' EXIT
install_tools
find_package "$work" "${1:-}"
make_root "$work"
readonly root=$work/root config=/etc/latrod/latrod.toml

inside() {
    "${spawn[@]}" --pipe "$@"
}

# dpkg WORDS…: dpkg in the root; what it says goes to `said`.
dpkg_inside() {
    inside dpkg "$@" > "$work/said" 2>&1 || fail "dpkg $*: $(cat "$work/said")"
}

# mode PATH WANTED: mode, owner and group.
mode() {
    local is
    is=$(inside stat -c '%a %U:%G' "$1") || fail "$1 is missing"
    [ "$is" = "$2" ] || fail "$1 is $is instead of $2"
}

installed() {
    dpkg_inside -i /package.deb
    grep -q 'latrod: not started yet; name a model' "$work/said" || fail "the first installation does not say what to do: $(cat "$work/said")"
    [ -z "$(inside dpkg --verify latrod)" ] || fail "files differ from the package's: $(inside dpkg --verify latrod)"
    mode /usr/bin/latrod '755 root:root'
    mode $config '644 root:root'
    mode /usr/lib/systemd/system/latrod.service '644 root:root'
    mode /var/lib/latrod '750 latrod:latrod'
    mode /var/lib/latrod/models '750 latrod:latrod'
    mode /var/spool/latrod '2770 latrod:latrod'
    [ ! -e "$root/etc/systemd/system/latrod.service.d" ] || fail 'drop-ins are active without being asked for'
    [ -z "$(find "$root/etc/systemd/system" -name latrod.service)" ] || fail 'the service is enabled without being asked for'
    [ "$(inside latrod --version)" = "latrod $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" ] || fail 'latrod --version says another version'
}

# validate: what `latrod validate` says of the configuration, as the service's user.
validate() {
    inside setpriv --reuid=latrod --regid=latrod --init-groups latrod validate --config $config > "$work/said" 2>&1
}

configuration() {
    validate || fail "the configuration that comes with the package is refused: $(cat "$work/said")"
    grep -q '^warning: model: /var/lib/latrod/models/model.gguf cannot be opened' "$work/said" || fail "validate does not say that the model is missing: $(cat "$work/said")"

    printf 'modle = "x"\n' > "$root$config"
    if validate; then fail 'validate accepts a key that does not exist'; fi
    grep -q "^$config:1: modle: .*did you mean model" "$work/said" || fail "validate does not explain the wrong key: $(cat "$work/said")"

    cp tests/fixtures/tiny.gguf "$root/var/lib/latrod/models/tiny.gguf"
    printf 'model = "/var/lib/latrod/models/tiny.gguf"\n\n[device]\nname = "edited"\n' > "$root$config"
    validate || fail "validate refuses the edited configuration: $(cat "$work/said")"
    if grep '^warning: model' "$work/said"; then fail 'validate misses a model that is there'; fi
}

# Whether the edited configuration, the model and the state are as they were left.
kept() {
    grep -q '^name = "edited"$' "$root$config" || fail "$1 loses the edited configuration"
    cmp -s tests/fixtures/tiny.gguf "$root/var/lib/latrod/models/tiny.gguf" || fail "$1 loses the model"
    [ "$(cat "$root/var/lib/latrod/state")" = state ] || fail "$1 loses the state"
    [ "$(cat "$root/var/spool/latrod/waiting.jsonl")" = waiting ] || fail "$1 loses a task file"
}

life() {
    printf 'state' > "$root/var/lib/latrod/state"
    printf 'waiting' > "$root/var/spool/latrod/waiting.jsonl"
    mkdir -p "$root/var/cache/latrod"
    cp "$(newer "$deb" "$work" 99.0)" "$root/newer.deb"
    # As with an unattended upgrade: nobody is there to answer.
    dpkg_inside -i /newer.deb < /dev/null
    # shellcheck disable=SC2016
    [ "$(inside dpkg-query -W -f '${Version}' latrod)" = 99.0 ] || fail 'the upgrade did not take place'
    kept 'the upgrade'
    dpkg_inside -r latrod
    [ ! -e "$root/usr/bin/latrod" ] || fail 'removing leaves the program'
    kept 'removing'
    dpkg_inside -i /newer.deb
    kept 'installing again'
    dpkg_inside -P latrod
    for path in /etc/latrod /var/lib/latrod /var/cache/latrod /usr/bin/latrod /usr/share/doc/latrod; do
        [ ! -e "$root$path" ] || fail "purging leaves $path: $(find "$root$path")"
    done
    grep -q '/var/spool/latrod is not empty and stays' "$work/said" || fail "purging does not say that task files stay: $(cat "$work/said")"
    [ -f "$root/var/spool/latrod/waiting.jsonl" ] || fail 'purging removes task files, which belong to those who dropped them'
}

documents() {
    local page shell
    for page in "$root"/usr/share/man/man1/latrod*.1.gz; do
        inside env MANROFFOPT=-ww man --warnings -l "/usr/share/man/man1/$(basename "$page")" > "$work/page" 2> "$work/said" || fail "man cannot show $page: $(cat "$work/said")"
        [ ! -s "$work/said" ] || fail "man complains of $page: $(cat "$work/said")"
        grep -q NAME "$work/page" || fail "$page has no text"
    done
    inside bash -n /usr/share/bash-completion/completions/latrod || fail 'bash does not understand its completions'
    inside zsh -n /usr/share/zsh/vendor-completions/_latrod || fail 'zsh does not understand its completions'
    inside fish --no-execute /usr/share/fish/vendor_completions.d/latrod.fish || fail 'fish does not understand its completions'
    # One real completion: what bash would offer after `latrod val`.
    # shellcheck disable=SC2016
    shell='. /usr/share/bash-completion/completions/latrod; COMP_WORDS=(latrod val); COMP_CWORD=1; _latrod latrod val latrod; printf "%s" "${COMPREPLY[*]}"'
    [ "$(inside bash -c "$shell")" = validate ] || fail "bash completes latrod val to $(inside bash -c "$shell")"
}

cp "$deb" "$root/package.deb"
for check in installed documents configuration life; do
    "$check"
    printf '%s: ok\n' "$check"
done
