#!/usr/bin/env bash
# Run the tests under unusual settings: `bash tests/drills/settings.sh [arguments of pytest]`, from the root of the project.
#
#   other_file_system  TMPDIR on another file system than the temporary folder of tests
#   ordinary_user      as the user nobody, on a copy of the tree that nobody else may write (needs root; else as you are)
#   odd_folder         a copy of the tree in a folder with a space and an apostrophe
#   c_locale           LANG=C LC_ALL=C
#   few_files          at most 256 open files
#
# SETTINGS="c_locale few_files" chooses some, PYTHON=… the interpreter. Without arguments the whole suite runs.
set -u
root=$PWD
python=$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")
settings=${SETTINGS:-other_file_system ordinary_user odd_folder c_locale few_files}
[ $# -gt 0 ] || set -- -q -n 2 --dist worksteal
work=$(mktemp -d /tmp/clep-settings-XXXXXX)
chmod 755 "$work"
shm=$(mktemp -d /dev/shm/clep-settings-XXXXXX)
shown=$(mktemp -d /tmp/clep-settings-python-XXXXXX) # a mount point, so that it is never removed with its content
trap 'rm -rf "$work" "$shm"; rmdir "$shown"' EXIT
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1

copy_tree() { # FOLDER: the files that git knows or does not ignore
  mkdir -p "$1"
  git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "$1"
}

pytest_in() { # FOLDER ARGUMENTS…
  local folder=$1
  shift
  (cd "$folder" && PYTHONPATH=$folder "$python" -m pytest -p no:cacheprovider "$@")
}

run_other_file_system() {
  if [ "$(stat -c %d /dev/shm)" = "$(stat -c %d "$work")" ]; then
    echo "/dev/shm is on the same file system as /tmp"
    return 1
  fi
  TMPDIR=$shm pytest_in "$root" --basetemp "$work/base" "$@"
}

run_ordinary_user() {
  if [ "$(id -u)" != 0 ]; then
    pytest_in "$root" "$@"
    return
  fi
  copy_tree "$work/user/tree"
  mkdir "$work/user/tmp"
  chown -R 65534:65534 "$work/user"
  # In mounts of their own: an interpreter in the home folder of root, which nobody may enter, is shown at the same path.
  unshare --mount bash -c '
    set -e
    prefix=$1 work=$2 tree=$3 shown=$4
    shift 4
    case $prefix in
      "$HOME"/*)
        mount --bind "$prefix" "$shown"
        mount -t tmpfs -o mode=755 tmpfs "$HOME"
        mkdir -p "$prefix"
        mount --bind "$shown" "$prefix"
        ;;
    esac
    cd "$tree"
    export HOME=$work/user USER=nobody TMPDIR=$work/user/tmp PYTHONPATH=$tree
    exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
  ' bash "$("$python" -c 'import sys; print(sys.base_prefix)')" "$work" "$work/user/tree" "$shown" \
    "$python" -m pytest -p no:cacheprovider "$@"
}

run_odd_folder() {
  copy_tree "$work/it's a folder"
  pytest_in "$work/it's a folder" "$@"
}

run_c_locale() {
  LANG=C LC_ALL=C pytest_in "$root" "$@"
}

run_few_files() {
  (ulimit -n 256 && pytest_in "$root" "$@")
}

status=0 summary=
for setting in $settings; do
  echo "== $setting"
  if "run_$setting" "$@"; then
    summary+="$setting: passed"$'\n'
  else
    summary+="$setting: FAILED"$'\n'
    status=1
  fi
done
echo "$summary"
exit $status
