#!/usr/bin/env bash
# The program: histories that simulations wrote, sound, broken, in two files and damaged, the README's, and its exit codes.
# usage: check_test.sh CHECK SIMULATION README
set -uo pipefail
check=$PWD/$1 simulation=$PWD/$2 readme=$PWD/$3
cd "$TEST_TMPDIR" || exit 1
passed=0 failed=0

# expect NAME CODE PATTERN COMMAND...: the command ends with the code and prints a line that matches.
expect() {
  local name=$1 code=$2 pattern=$3 ended
  shift 3
  "$@" >printed 2>&1
  ended=$?
  if [ "$ended" = "$code" ] && grep -Eq -- "$pattern" printed; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  echo "FAILED: $name: $* ended with $ended, wanted $code and a line like $pattern:"
  head -20 printed
}

figures='[1-9][0-9]* transactions, [1-9][0-9]* commits, [1-9][0-9]* watch steps'
expect "a sound history is written" 0 '^1 seeds, 0 failed' "$simulation" --seed 2 --history sound.edn
expect "a sound history passes" 0 "^$figures, 0 violations$" "$check" sound.edn

grep -v ':op :log,' sound.edn >clients.edn
grep ':op :log,' sound.edn >log.edn
expect "the files of one history are read together" 0 "^$figures, 0 violations$" "$check" log.edn clients.edn
expect "a history without its log is refused" 1 '^lost-commit: ' "$check" clients.edn

expect "a daemon that forgets ids is seen" 1 '^FAILED' "$simulation" --planted forget_ids --seed 1 --history planted.edn
expect "its history is refused, by the rule's name" 1 '^id-twice: id .* is committed at' "$check" planted.edn
expect "and counted" 1 "^$figures, [1-9][0-9]* violations$" "$check" planted.edn

sed -n 's/^    {:op/{:op/p' "$readme" >example.edn
expect "the README's example is sound" 0 '^2 transactions, 2 commits, 3 watch steps, 0 violations$' "$check" example.edn
sed 's/:snapshot 2, :entries \[{:name "\/a", :value 2/:snapshot 2, :entries [{:name "\/a", :value 1/' example.edn >stale.edn
expect "and judged" 1 '^read-state: ' "$check" stale.edn
grep -v ':invoked 100' example.edn >part.edn
expect "a commit that nobody sent is seen" 1 '^unowned: version 1:' "$check" part.edn
echo '{:op :history}' >others.edn
expect "but not where others wrote too" 0 ', 0 violations$' "$check" others.edn part.edn
echo '{:op :history, :whole true}' >whole.edn
expect "whoever says so" 0 ', 0 violations$' "$check" others.edn whole.edn part.edn

{ head -2 sound.edn; echo '{:op :read, :snapshott 7}'; } >broken.edn
expect "a wrong key is named, by file and line" 2 '^check: broken.edn: line 3: .*snapshott' "$check" sound.edn broken.edn
{ head -1 sound.edn; echo; echo '{:op :read'; } >torn.edn
expect "a torn line is named" 2 '^check: torn.edn: line 3: ' "$check" torn.edn
expect "a file that is not there is named" 2 '^check: none.edn: No such file' "$check" none.edn
: >empty.edn
expect "an empty file is no history" 2 '^check: empty.edn: ' "$check" empty.edn
expect "nothing to read is wrong usage" 2 '^usage: check FILE' "$check"
expect "so is a flag" 2 '^usage: check FILE' "$check" --help

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
