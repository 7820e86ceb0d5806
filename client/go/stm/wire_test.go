package stm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"stmd.dev/client/go/internal/stmv1"
)

func TestAnOutcomeWordIsTheSameInAllLanguages(t *testing.T) {
	// As client/cpp/stm/outcome_word.cc prints it.
	id := &stmv1.CommitId{
		TransactionId: "01234567-89ab-cdef-0123-456789abcdef",
		Writer:        0xfeed,
		Seen:          &stmv1.Seen{Version: 42, Store: 0xbeef},
	}
	word := printOutcomeWord(id)
	if !strings.HasPrefix(word, "0123456789abcdef0123456789abcdef.000000000000feed.42.000000000000beef.74ae") {
		t.Fatal(word)
	}
	back, err := parseOutcomeWord(" " + word + "\n")
	if err != nil || back.GetTransactionId() != id.GetTransactionId() || back.GetWriter() != 0xfeed || back.GetSeen().GetVersion() != 42 ||
		back.GetSeen().GetStore() != 0xbeef ||
		!back.GetResend() {
		t.Fatal(back, err)
	}
	for _, wrong := range []string{"", "a.b.c.d.e", word + "0", "1" + word, strings.Replace(word, ".42.", ".43.", 1)} {
		if _, err := parseOutcomeWord(wrong); !errors.Is(err, ErrBadValue) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestNamesGoOutWithThePrefixAndComeBackWithoutIt(t *testing.T) {
	below := names{"/team-a"}
	for short, full := range map[string]string{"/a": "/team-a/a", "/": "/team-a/", "/.once/k": "/.once/team-a/k", "/.memory/r/s": "/.memory/team-a/r/s"} {
		if found := below.full(short); found != full {
			t.Errorf("%s: %s, want %s", short, found, full)
		}
		if found := below.short(full); found != short {
			t.Errorf("%s: %s, want %s", full, found, short)
		}
	}
	if found := below.short("/other"); found != "/other" {
		t.Error(found)
	}
}

func TestANameIsCheckedByTheDaemonsRules(t *testing.T) {
	for _, name := range []string{"/a", "/a/b", "/.memory/r", "/ü", "/a b"} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a", "/", "/a/", "//a", "/./a", "/a/..", "/\x00", "/\x7f", "/\u0085", "/\xff", "/" + strings.Repeat("a", 512),
		strings.Repeat("/a", 33)} {
		var wrong *Error
		if err := checkName(name); !errors.As(err, &wrong) || wrong.Reason != ReasonBadValue || wrong.Name != name {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := checkPrefix("/a/"); err != nil {
		t.Error(err)
	}
	if err := checkPrefix("/a"); !errors.Is(err, ErrBadValue) {
		t.Error(err)
	}
}

func TestAnOutagePausesLongerEachTimeAndIsOverAtItsLimit(t *testing.T) {
	out := outage{limit: time.Hour}
	if out.fail(errors.New("one")); out.pause(nil) != 0 {
		t.Error("the second try is not at once")
	}
	for range 20 {
		out.fail(errors.New("more"))
		if pause := out.pause(nil); pause < backoffMin/2 || pause > backoffMax {
			t.Error(pause)
		}
	}
	if out.over() {
		t.Error("over too early")
	}
	over := outage{limit: 0}
	if over.fail(errors.New("one")); !over.over() {
		t.Error("a limit of 0 is over at once")
	}
	never := outage{limit: -1}
	if never.fail(errors.New("one")); never.over() || !never.giveUpAt().IsZero() {
		t.Error("no limit is never over")
	}
}

func TestACallThatWasWellForASecondWasInNoOutage(t *testing.T) {
	out := outage{limit: time.Hour}
	out.fail(errors.New("one"))
	out.fail(errors.New("two"))
	out.began = time.Now().Add(-wasWellAfter)
	if out.fail(errors.New("three")); out.failures != 1 {
		t.Error(out.failures)
	}
}

func TestALeaseIsOverATenthOfItsTTLEarlyAndForGood(t *testing.T) {
	sent := bootTime()
	short := newLease("s", 20*time.Second, sent)
	if left := short.left(); left > 19*time.Second || left < 18*time.Second || short.over() {
		t.Error(left)
	}
	past := newLease("s", 10*time.Second, sent-9*time.Second)
	if !past.over() || past.ctx.Err() == nil {
		t.Error("it is believed in too long")
	}
	if past.answered(bootTime()); !past.over() || past.left() != 0 {
		t.Error("a late answer brought it back")
	}
}

type keptPoint struct{ X int64 }

func init() { Register[keptPoint]("kept.Point") }

func tagged(x int64, more ...MapEntry) Tagged {
	return Tagged{"kept.Point", append(Map{{Keyword("x"), x}}, more...)}
}

func TestFieldsThatATypeHasNoPlaceForAreWrittenBack(t *testing.T) {
	colour := MapEntry{Keyword("colour"), "red"}
	raw := mustEncode(t, []any{tagged(1, colour), tagged(2, MapEntry{Keyword("size"), int64(9)}), tagged(3)})
	points, lossy, err := decodeAs[[]keptPoint](plain, "/p", raw)
	if err != nil || !lossy {
		t.Fatal(points, lossy, err)
	}
	kept := keptFields{}
	kept.keep("/p", raw, mustEncode(t, points))
	written := func(name string, value any) string { return edn(kept.restore(name, mustEncode(t, value))) }
	if found, want := written("/p", []keptPoint{{10}, {2}, {3}}), edn(mustEncode(t, []any{tagged(10, colour),
		tagged(2, MapEntry{Keyword("size"), int64(9)}), tagged(3)})); found != want {
		t.Errorf("altered in place: %s, want %s", found, want)
	}
	if found, want := written("/other", keptPoint{1}), edn(mustEncode(t, tagged(1, colour))); found != want {
		t.Errorf("moved whole: %s, want %s", found, want)
	}
	if found, want := written("/p", []keptPoint{{2}, {7}}), edn(mustEncode(t, []any{tagged(2, MapEntry{Keyword("size"), int64(9)}),
		tagged(7)})); found != want {
		t.Errorf("moved to another place: %s, want %s", found, want)
	}
}

func TestReadAsAnyAValueOfAnotherVersionOfItsTypeIsWhole(t *testing.T) {
	for _, value := range []Tagged{tagged(1, MapEntry{Keyword("colour"), "red"}), {"kept.Point", Map{}}, {"kept.Point", int64(1)}} {
		back, err := plain.decodeUntyped("/p", mustEncode(t, value))
		if err != nil || edn(mustEncode(t, back)) != edn(mustEncode(t, value)) {
			t.Errorf("%v came back as %#v, %v", value, back, err)
		}
	}
}

func TestKeywordKeysAreStringsToGo(t *testing.T) {
	clojure := codec{keywordKeys: true}
	wire, err := clojure.encode(map[string]any{"name": "Bob", "tags": Map{{"a", int64(1)}}})
	if err != nil || edn(wire) != `{:name "Bob", :tags {:a 1}}` {
		t.Fatal(edn(wire), err)
	}
	back, _, err := decodeAs[map[string]any](clojure, "/m", wire)
	if err != nil || back["name"] != "Bob" {
		t.Fatal(back, err)
	}
	again, err := clojure.encode(back)
	if err != nil || edn(again) != edn(wire) {
		t.Errorf("%s, %v", edn(again), err)
	}
	both := mustEncode(t, Map{{"a", int64(1)}, {Keyword("a"), int64(2)}})
	if _, err := clojure.decodeUntyped("/m", both); !errors.Is(err, ErrBadValue) ||
		!strings.Contains(err.Error(), "/m") {
		t.Error(err)
	}
	for _, value := range []any{Map{{"a", int64(1)}, {Keyword("a"), int64(2)}}, map[any]int{"a": 1, Keyword("a"): 2}} {
		if _, err := clojure.encode(value); !errors.Is(err, ErrBadValue) {
			t.Error(value, err)
		}
	}
	if _, err := clojure.encode(map[string]int{"": 1}); !errors.Is(err, ErrBadValue) {
		t.Error(err)
	}
}

func TestAtTheTenthRunWithoutASleepThereIsOneWarningThatNamesTheEntry(t *testing.T) {
	var warnings []string
	client := &Client{options: connectConfig{warn: func(text string) { warnings = append(warnings, text) }}}
	runs := &transaction{client: client, config: transactConfigOf(nil), ctx: context.Background(), tx: &Tx{}}
	for run := 1; run <= 30; run++ {
		runs.run, runs.runsSinceSleep = run, run
		if again, err := runs.again([]ConflictCause{{Name: "/hot"}}, "", true); !again || err != nil {
			t.Fatal(again, err)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "10th") || !strings.Contains(warnings[0], "/hot") {
		t.Error(warnings)
	}
}
