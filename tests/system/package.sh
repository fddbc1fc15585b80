#!/usr/bin/env bash
# Tests the installed Debian package in a disposable root: its files and their modes; that its configuration can be
# checked and edited; that an upgrade keeps configuration and state, that removing keeps both and purging neither; that
# manual pages and completions are valid.
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

# dpkg_inside ARGUMENT…: dpkg in the root; its output goes to `output`.
dpkg_inside() {
    inside dpkg "$@" > "$work/output" 2>&1 || fail "dpkg $*: $(cat "$work/output")"
}

# mode PATH EXPECTED: checks mode, owner and group.
mode() {
    local is
    is=$(inside stat -c '%a %U:%G' "$1") || fail "$1 is missing"
    [ "$is" = "$2" ] || fail "$1 is $is instead of $2"
}

installed() {
    dpkg_inside -i /package.deb
    grep -q 'latrod: not started yet; name a model' "$work/output" || fail "the first installation does not say what to do next: $(cat "$work/output")"
    [ -z "$(inside dpkg --verify latrod)" ] || fail "files differ from the package's: $(inside dpkg --verify latrod)"
    mode /usr/bin/latrod '755 root:root'
    mode $config '644 root:root'
    mode /usr/lib/systemd/system/latrod.service '644 root:root'
    mode /var/lib/latrod '750 latrod:latrod'
    mode /var/lib/latrod/models '750 latrod:latrod'
    mode /var/spool/latrod '2770 latrod:latrod'
    [ ! -e "$root/etc/systemd/system/latrod.service.d" ] || fail 'drop-ins are active although nobody asked for them'
    [ -z "$(find "$root/etc/systemd/system" -name 'latrod*.service')" ] || fail 'a service is enabled although nobody asked for it'
    [ "$(inside latrod --version)" = "latrod $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" ] || fail 'latrod --version prints a different version'
}

# validate: runs `latrod validate` on the configuration as the service's user.
validate() {
    inside setpriv --reuid=latrod --regid=latrod --init-groups latrod validate --config $config > "$work/output" 2>&1
}

configuration() {
    validate || fail "the package's own configuration is refused: $(cat "$work/output")"
    grep -q '^warning: model: /var/lib/latrod/models/model.gguf cannot be opened' "$work/output" || fail "validate does not say that the model is missing: $(cat "$work/output")"

    printf 'modle = "x"\n' > "$root$config"
    if validate; then fail 'validate accepts a key that does not exist'; fi
    grep -q "^$config:1: modle: .*did you mean model" "$work/output" || fail "validate does not explain the wrong key: $(cat "$work/output")"

    cp tests/fixtures/tiny.gguf "$root/var/lib/latrod/models/tiny.gguf"
    printf 'model = "/var/lib/latrod/models/tiny.gguf"\n\n[device]\nname = "edited"\n' > "$root$config"
    validate || fail "validate refuses the edited configuration: $(cat "$work/output")"
    if grep '^warning: model' "$work/output"; then fail 'validate does not find a model that exists'; fi
}

# Checks that the edited configuration, the model and the state are unchanged.
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
    # As in an unattended upgrade: nobody can answer questions.
    dpkg_inside -i /newer.deb < /dev/null
    # shellcheck disable=SC2016
    [ "$(inside dpkg-query -W -f '${Version}' latrod)" = 99.0 ] || fail 'the upgrade did not take place'
    kept 'the upgrade'
    dpkg_inside -r latrod
    [ ! -e "$root/usr/bin/latrod" ] || fail 'removing leaves the program behind'
    kept 'removing'
    dpkg_inside -i /newer.deb
    kept 'installing again'
    dpkg_inside -P latrod
    for path in /etc/latrod /var/lib/latrod /var/cache/latrod /usr/bin/latrod /usr/share/doc/latrod; do
        [ ! -e "$root$path" ] || fail "purging leaves $path behind: $(find "$root$path")"
    done
    grep -q '/var/spool/latrod is not empty and is kept' "$work/output" || fail "purging does not say that task files are kept: $(cat "$work/output")"
    [ -f "$root/var/spool/latrod/waiting.jsonl" ] || fail 'purging removes task files, which belong to whoever dropped them'
}

documents() {
    local page shell
    for page in "$root"/usr/share/man/man1/latrod*.1.gz; do
        inside env MANROFFOPT=-ww man --warnings -l "/usr/share/man/man1/$(basename "$page")" > "$work/page" 2> "$work/output" || fail "man cannot show $page: $(cat "$work/output")"
        [ ! -s "$work/output" ] || fail "man complains about $page: $(cat "$work/output")"
        grep -q NAME "$work/page" || fail "$page has no text"
    done
    inside bash -n /usr/share/bash-completion/completions/latrod || fail 'the completions for bash are invalid'
    inside zsh -n /usr/share/zsh/vendor-completions/_latrod || fail 'the completions for zsh are invalid'
    inside fish --no-execute /usr/share/fish/vendor_completions.d/latrod.fish || fail 'the completions for fish are invalid'
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
